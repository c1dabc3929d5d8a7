package rehearsal

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"davit/orchestrator"
	"davit/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

const hour = orchestrator.Duration(time.Hour)

// config is a play with n devices; change what is to be different.
func config(n int, change ...func(*Config)) Config {
	c := Config{Fleet: DefaultFleet(), Until: 30 * 24 * time.Hour, Rollout: &orchestrator.Rollout{}}
	c.Fleet.Devices = n
	for _, f := range change {
		f(&c)
	}
	return c
}

// played plays and holds what is true of every play.
func played(t *testing.T, c Config, observe ...func(*world, *orchestrator.Job)) *Result {
	t.Helper()
	var of *world
	last := 0
	r, err := play(ctx, c, func(w *world, job *orchestrator.Job) {
		of = w
		sum := 0
		for _, n := range job.Counts {
			sum += n
		}
		if sum != c.Fleet.Devices {
			t.Errorf("after %v: the counts %v are those of %d devices, want %d", w.at, job.Counts, sum, c.Fleet.Devices)
		}
		for _, v := range job.Waves {
			if v.Number > job.Wave && v.InProgress+v.Succeeded+v.Failed > 0 {
				t.Errorf("after %v: %d devices of wave %d were offered the image and wave %d is the last one released", w.at, v.InProgress, v.Number, job.Wave)
			}
		}
		if job.State != orchestrator.JobRunning && job.InProgress > last {
			t.Errorf("after %v: the job is %s and %d devices are in progress, %d before", w.at, job.State, job.InProgress, last)
		}
		last = job.InProgress
		for _, f := range observe {
			f(w, job)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := of.service.Check(ctx)
	if err != nil || !report.OK() {
		t.Errorf("check: %v %v", err, report.Violations)
	}
	if end := r.Curve[len(r.Curve)-1]; end.Succeeded != r.Counts[schemas.StateSucceeded] {
		t.Errorf("the curve ends with %d successes, the job with %d", end.Succeeded, r.Counts[schemas.StateSucceeded])
	}
	return r
}

// badForB is an image that does not boot on a part of the hardware, and a plan.
func badForB(c *Config) {
	c.Fleet.Labels = []Label{{"rev", []Share{{"A", 0.7}, {"B", 0.3}}}}
	c.Fleet.Faults = []Fault{{Cause: schemas.CauseBoot, Chance: 1, Label: "rev", Value: "B"}, {Cause: schemas.CauseNetwork, Chance: 0.05}}
	c.Rollout = &orchestrator.Rollout{
		Waves: []orchestrator.Wave{{Percent: 10, Success: 95, Of: orchestrator.OfOnline, Soak: 24 * hour}, {Percent: 30, Soak: 24 * hour}, {Percent: 100}},
		Stop:  []orchestrator.StopRule{{Causes: []schemas.Cause{schemas.CauseBoot}, Percent: 5, MinSample: 10, Action: orchestrator.StopAbort, RollBack: "img-before"}},
		Retry: &orchestrator.RetryPolicy{},
		Pace:  &orchestrator.Pace{MaxInProgress: 20},
	}
}

func TestSameSeedPlaysTheSame(t *testing.T) {
	text := func(seed uint64) string {
		c := config(80, badForB)
		c.Fleet.Seed = seed
		c.Rollout.Stop = nil
		b, err := json.Marshal(played(t, c))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if one, two := text(1), text(1); one != two {
		t.Errorf("two plays with one seed differ:\n%s\n%s", one, two)
	}
	if text(1) == text(2) {
		t.Error("two seeds play the same")
	}
}

// TestBadImageIsCaughtInTheFirstWave: the rules and waves of the service keep an image
// that fails on a part of the hardware from all but a few devices.
func TestBadImageIsCaughtInTheFirstWave(t *testing.T) {
	r := played(t, config(300, badForB))
	if r.State != orchestrator.JobCanceled || !strings.Contains(r.Reason, "the limit is 5 %") {
		t.Errorf("the job is %s: %s", r.State, r.Reason)
	}
	for i, v := range r.Waves {
		if caught := v.Booted > 0; caught != (i == 0) {
			t.Errorf("%d devices of wave %d booted the image", v.Booted, v.Number)
		}
	}
	back := r.RollBack
	if back == nil || back.State != orchestrator.JobCompleted || back.Devices != r.Counts[schemas.StateSucceeded] {
		t.Errorf("rolled back: %+v, %d devices had succeeded", back, r.Counts[schemas.StateSucceeded])
	}
	without := config(300, badForB)
	without.Rollout = &orchestrator.Rollout{Retry: without.Rollout.Retry}
	all := played(t, without)
	if all.Harmed+all.Counts[schemas.StateSucceeded] != 300 {
		t.Errorf("%d devices have succeeded, and the image does not boot on %d of 300", all.Counts[schemas.StateSucceeded], all.Harmed)
	}
	if all.Harmed < 60 || all.Harmed > 120 || r.Harmed == 0 || r.Harmed > 20 {
		t.Errorf("harmed: %d with the plan, %d without", r.Harmed, all.Harmed)
	}
}

// TestLimitsHold: never more in progress than allowed, in the job and in a group, and
// nothing newly offered outside of a window.
func TestLimitsHold(t *testing.T) {
	c := config(120, func(c *Config) {
		c.Fleet.Labels = []Label{{"zone", []Share{{"Europe/Berlin", 0.5}, {"America/New_York", 0.5}}}}
		c.Fleet.Faults = []Fault{{Cause: schemas.CauseFlash, Chance: 0.2}, {Cause: schemas.CauseTimeout, Chance: 0.1}}
		c.Rollout.Retry = &orchestrator.RetryPolicy{}
		c.Rollout.Pace = &orchestrator.Pace{MaxInProgress: 7, PerMinute: 5}
		c.Rollout.Schedule = &orchestrator.Schedule{Windows: []orchestrator.Window{{Cron: "0 1 * * *", Duration: 2 * hour}}, DeviceZone: "zone"}
	})
	open := func(at time.Time) bool {
		for _, l := range c.Fleet.Labels[0].Values {
			zone, err := time.LoadLocation(l.Value)
			if err != nil {
				t.Fatal(err)
			}
			if h := at.In(zone).Hour(); h == 1 || h == 2 {
				return true
			}
		}
		return false
	}
	last, grown := 0, 0
	r := played(t, c, func(w *world, job *orchestrator.Job) {
		if job.InProgress > 7 {
			t.Errorf("after %v: %d devices are in progress", w.at, job.InProgress)
		}
		if job.InProgress > last {
			grown++
			if !open(w.now()) {
				t.Errorf("at %v the image is offered, and no window is open", w.now())
			}
		}
		last = job.InProgress
	})
	if r.State != orchestrator.JobCompleted || r.MostInProgress != 7 || grown == 0 || r.Retries == 0 {
		t.Errorf("the job is %s; %d in progress at most, %d retries", r.State, r.MostInProgress, r.Retries)
	}
}

// TestEveryKindOfActionComesToItsEnd: people do what the job waits for, after their
// time.
func TestEveryKindOfActionComesToItsEnd(t *testing.T) {
	waves := []orchestrator.Wave{{Devices: []string{"pump-1", "pump-2"}}, {Group: "lab", Approve: true}, {Percent: 100, Approve: true}}
	for name, test := range map[string]struct {
		change func(*orchestrator.Rollout)
		least  time.Duration
	}{
		"install":  {func(*orchestrator.Rollout) {}, 0},
		"soft":     {func(r *orchestrator.Rollout) { r.Action, r.DeferLimit = orchestrator.ActionSoft, hour }, 0},
		"download": {func(r *orchestrator.Rollout) { r.Action = orchestrator.ActionDownload }, 3 * time.Hour},
		"confirm":  {func(r *orchestrator.Rollout) { r.Action = orchestrator.ActionConfirm }, 3 * time.Hour},
		"product": {func(r *orchestrator.Rollout) {
			r.Action, r.ConfirmBy = orchestrator.ActionConfirm, orchestrator.ByProduct
		}, 0},
		"approve": {func(r *orchestrator.Rollout) { r.Waves = waves }, 6 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(40, func(c *Config) { c.People, c.Fleet.Groups = 3*time.Hour, []Group{{"lab", 0.2}} })
			test.change(c.Rollout)
			r := played(t, c)
			if r.State != orchestrator.JobCompleted || r.Counts[schemas.StateSucceeded] != 40 || r.Booted != 40 || r.Harmed != 0 {
				t.Errorf("the job is %s: %v, %d booted", r.State, r.Counts, r.Booted)
			}
			if d := time.Duration(r.Duration); d < test.least {
				t.Errorf("it took %v, and people alone take %v", d, test.least)
			}
			if want := 40 * c.Fleet.Size; r.Bytes < want-100 || r.Bytes > want+100 { // parts of downloads are rounded
				t.Errorf("%d bytes were downloaded, want %d", r.Bytes, want)
			}
		})
	}
}

// TestFaults: devices fail with the cause that they are given, as the end that goes
// with it.
func TestFaults(t *testing.T) {
	ends := map[schemas.Cause]schemas.State{schemas.CauseRejected: schemas.StateRejected, schemas.CauseSize: schemas.StateRejected, schemas.CauseTimeout: schemas.StateTimedOut}
	for _, cause := range Causes() {
		r := played(t, config(10, func(c *Config) { c.Fleet.Faults = []Fault{{Cause: cause, Chance: 1}} }))
		end := ends[cause]
		if end == "" {
			end = schemas.StateFailed
		}
		if r.Counts[end] != 10 || r.Causes[cause] != 10 {
			t.Errorf("cause %s: %v, %v", cause, r.Counts, r.Causes)
		}
		want := 0
		if cause == schemas.CauseBoot {
			want = 10
		}
		if r.Booted != want || r.Harmed != want {
			t.Errorf("cause %s: %d booted, %d harmed, want %d", cause, r.Booted, r.Harmed, want)
		}
	}
}

// TestFallBacks: devices that return to the version before are no success, and are
// waited for.
func TestFallBacks(t *testing.T) {
	r := played(t, config(30, func(c *Config) { c.Fleet.FallBacks = []Fault{{Chance: 1}} }))
	if r.Counts[schemas.StateFailed] != 30 || r.Causes[schemas.CauseBoot] != 30 || r.Harmed != 30 {
		t.Errorf("%v, %v, %d harmed", r.Counts, r.Causes, r.Harmed)
	}
}

// TestPlayEndsBeforeTheJob: at its time, when a rule has paused the job, and when the
// context ends.
func TestPlayEndsBeforeTheJob(t *testing.T) {
	r := played(t, config(30, func(c *Config) { c.Until = time.Minute }))
	if r.State != orchestrator.JobRunning || time.Duration(r.Duration) != time.Minute || r.Log[len(r.Log)-1].Event != EventEnd {
		t.Errorf("the job is %s after %v: %v", r.State, time.Duration(r.Duration), r.Log)
	}
	r = played(t, config(30, func(c *Config) {
		c.Fleet.Faults = []Fault{{Cause: schemas.CauseChecksum, Chance: 1}}
		c.Rollout.Pace = &orchestrator.Pace{MaxInProgress: 5}
		c.Rollout.Stop = []orchestrator.StopRule{{Count: 3}}
	}))
	if r.State != orchestrator.JobPaused || r.Counts[queued] < 20 || !strings.Contains(r.Reason, "3 of 3 devices failed") {
		t.Errorf("the job is %s (%s): %v", r.State, r.Reason, r.Counts)
	}
	ended, cancel := context.WithCancel(ctx)
	if _, err := play(ended, config(30), func(*world, *orchestrator.Job) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestPathIsPlayedStepByStep: every device goes over all versions of the path in their
// order, whatever goes wrong on the way, and one that falls back runs the last of them.
func TestPathIsPlayedStepByStep(t *testing.T) {
	path := []string{oldVersion, "1.1.0", "1.2.0", newVersion}
	over := func(c *Config) {
		c.Fleet.Size = 10_000
		c.Rollout.Via = []string{"img-a", "img-b"}
		c.Rollout.Pace = &orchestrator.Pace{MaxInProgress: 5}
		c.Rollout.Retry = &orchestrator.RetryPolicy{Attempts: 50}
	}
	at := map[string]int{}
	steps := func(w *world, _ *orchestrator.Job) {
		for _, d := range w.devices {
			if n := slices.Index(path, d.version); n != at[d.id] && n != at[d.id]+1 {
				t.Errorf("%s comes from %s to %s", d.id, path[at[d.id]], d.version)
			} else {
				at[d.id] = n
			}
		}
	}
	r := played(t, config(40, over), steps)
	if r.State != orchestrator.JobCompleted || r.Counts[schemas.StateSucceeded] != 40 || r.Booted != 40 || r.Bytes != 3*40*10_000 || r.MostInProgress > 5 {
		t.Errorf("%s: %v, %d booted the job's image, %d bytes, %d in progress", r.State, r.Counts, r.Booted, r.Bytes, r.MostInProgress)
	}
	clear(at)
	r = played(t, config(40, over, func(c *Config) {
		c.Fleet.Online, c.Fleet.OnlineFor = 0.5, 3*time.Minute
		c.Fleet.Faults = []Fault{{Cause: schemas.CauseNetwork, Chance: 0.2}, {Cause: schemas.CauseFlash, Chance: 0.2}, {Cause: schemas.CauseBoot, Chance: 0.2}}
	}), steps)
	if r.State != orchestrator.JobCompleted || r.Counts[schemas.StateSucceeded] != 40 || r.Retries == 0 {
		t.Errorf("with faults %s: %v after %d retries", r.State, r.Counts, r.Retries)
	}
	var fleet []*device
	r = played(t, config(10, over, func(c *Config) {
		c.Fleet.FallBacks = []Fault{{Chance: 1}}
		c.Rollout.Retry = nil
	}), func(w *world, _ *orchestrator.Job) { fleet = w.devices })
	if r.Harmed != 10 {
		t.Errorf("%d of 10 devices have fallen back", r.Harmed)
	}
	for _, d := range fleet {
		if d.version != "1.2.0" {
			t.Errorf("%s has fallen back to %s", d.id, d.version)
		}
	}
}

func TestPlayRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no devices":   {func(c *Config) { c.Fleet.Devices = 0 }, "0 devices"},
		"never there":  {func(c *Config) { c.Fleet.Online = 0 }, "connected"},
		"no bandwidth": {func(c *Config) { c.Fleet.Bandwidth = 0 }, "1 byte per second"},
		"size":         {func(c *Config) { c.Fleet.Size = 1 << 30 }, "allowed are 1 to"},
		"no time":      {func(c *Config) { c.Until = 0 }, "1s or more"},
		"chance":       {func(c *Config) { c.Fleet.Faults = []Fault{{Cause: schemas.CauseBoot, Chance: 2}} }, "0 to 1"},
		"cause":        {func(c *Config) { c.Fleet.Faults = []Fault{{Cause: schemas.CauseStorage}} }, "storage"},
		"label":        {func(c *Config) { c.Fleet.Labels = []Label{{"a", []Share{{"x", 0.7}, {"y", 0.7}}}} }, "more than all"},
		"via":          {func(c *Config) { c.Rollout.Via = []string{"img-1", "img-1"} }, "rollout/via/1"},
		"wave's group": {func(c *Config) { c.Rollout.Waves = []orchestrator.Wave{{Group: "lab"}} }, "group lab"},
		"pace's group": {func(c *Config) {
			c.Rollout.Pace = &orchestrator.Pace{Groups: []orchestrator.GroupPace{{Group: "cell"}}}
		}, "group cell"},
		"named devices": {func(c *Config) { c.Rollout.Waves = []orchestrator.Wave{{Devices: []string{"a", "b", "c"}}} }, "names 3 devices"},
		"the service":   {func(c *Config) { c.Rollout.Waves = []orchestrator.Wave{{Percent: 30}, {Percent: 20}} }, "waves"},
	} {
		if _, err := Play(ctx, config(2, test.change)); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: error %v does not say %q", name, err, test.says)
		}
	}
	var field *orchestrator.FieldError
	_, err := Play(ctx, config(2, func(c *Config) { c.Rollout.Waves = []orchestrator.Wave{{Percent: 30}, {Percent: 20}} }))
	if !errors.As(err, &field) || !strings.HasPrefix(field.Field, "rollout/waves/1") {
		t.Errorf("error %v does not name its field", err)
	}
}
