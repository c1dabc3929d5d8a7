package orchestrator

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"davit/schemas"
)

// goodRollout uses everything that does not exclude something else.
func goodRollout() *Rollout {
	m := Duration(time.Minute)
	return &Rollout{
		Seed: "spring",
		Waves: []Wave{
			{Name: "canary", Devices: []string{"d1", "d2"}, Soak: m, Of: OfOnline},
			{Group: "lab", Success: 90},
			{Percent: 5, Approve: true}, {Count: 10}, {Percent: 100},
		},
		Stop: []StopRule{
			{Count: 3}, {Percent: 2.5, MinSample: 20, Over: OverWave, Action: StopAbort, RollBack: "img-old"},
			{Causes: []schemas.Cause{schemas.CauseBoot, schemas.CauseDeferred, schemas.CauseMinVersion}, Count: 1, Percent: 1, Over: OverJob, Action: StopRecall},
		},
		Pace: &Pace{MaxInProgress: 10, PerMinute: 60, Ramp: &Ramp{Start: 60, Factor: 1.5, After: 1}, Groups: []GroupPace{{Group: "a", PerMinute: 1}, {Group: "b", MaxInProgress: 1}}},
		Schedule: &Schedule{
			Start: noon, End: noon.Add(time.Hour), Windows: []Window{window("0 1 * * *", time.Hour, "Europe/Berlin")}, DeviceZone: "zone", Recall: true,
		},
		Timeouts: &Timeouts{Answer: m, Download: m, Load: m, LoadRate: 900, Boot: m, Version: m, Total: 9 * m},
		Retry: &RetryPolicy{Attempts: 5, Backoff: &Backoff{First: m, Factor: 1, Max: m, Jitter: 1}, Budget: 100, Causes: map[schemas.Cause]CauseRetry{
			schemas.CauseBoot: {Attempts: 1}, schemas.CauseSize: {Attempts: 1}, schemas.CauseNetwork: {Attempts: 100, Backoff: &Backoff{Max: m}},
		}},
		Continuous: true, Priority: -100, Action: ActionSoft, DeferLimit: m, Via: []string{"img-a", "img-b"},
	}
}

func TestGoodRollout(t *testing.T) {
	for name, r := range map[string]*Rollout{"none": nil, "empty": {}, "full": goodRollout()} {
		if err := r.validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := goodRollout()
	r.complete() // what a job shows can be used for another one
	if err := r.validate(); err != nil {
		t.Errorf("complete: %v", err)
	}
	n := NewJob{Image: "img-x", Devices: []string{"d1"}, Rollout: goodRollout()}
	if err := n.validate(); err != nil {
		t.Error(err)
	}
}

func TestWrongRollouts(t *testing.T) {
	m := Duration(time.Minute)
	for _, c := range []struct {
		field, words string
		edit         func(*Rollout)
	}{
		{"seed", "at most 64", func(r *Rollout) { r.Seed = strings.Repeat("s", 65) }},
		{"seed", "control character", func(r *Rollout) { r.Seed = "a\x00b" }},
		{"waves", "at most 50", func(r *Rollout) { r.Waves = make([]Wave, 51) }},
		{"waves/3", "does not say which devices", func(r *Rollout) { r.Waves[3] = Wave{} }},
		{"waves/1", "in 2 ways", func(r *Rollout) { r.Waves[1].Percent = 5 }},
		{"waves/0", "in 4 ways", func(r *Rollout) { r.Waves[0] = Wave{Devices: []string{"a"}, Group: "g", Percent: 1, Count: 1} }},
		{"waves/2/percent", "up to 100", func(r *Rollout) { r.Waves[2].Percent = 101 }},
		{"waves/2/percent", "up to 100", func(r *Rollout) { r.Waves[2].Percent = -1 }},
		{"waves/2/percent", "up to 100", func(r *Rollout) { r.Waves[2].Percent = math.NaN() }},
		{"waves/3/count", "negative", func(r *Rollout) { r.Waves[3].Count = -1 }},
		{"waves/4/percent", "wave 5 goes up to 5 % and a wave before it up to 5 %", func(r *Rollout) { r.Waves[4].Percent = 5 }},
		{"waves/4/percent", "includes those before", func(r *Rollout) { r.Waves[4].Percent = 4 }},
		{"waves/3", "nothing is left for wave 4", func(r *Rollout) { r.Waves[2].Percent = 100 }},
		{"waves/2/name", "waves 1 and 3", func(r *Rollout) { r.Waves[2].Name = "canary" }},
		{"waves/1/name", "waves 1 and 2", func(r *Rollout) { r.Waves[0].Name = "wave 2" }},
		{"waves/2/name", "devices which are left", func(r *Rollout) { r.Waves[2].Name = "rest" }},
		{"waves/0/name", "at most 64", func(r *Rollout) { r.Waves[0].Name = strings.Repeat("n", 65) }},
		{"waves/0/devices/1", "named twice", func(r *Rollout) { r.Waves[0].Devices = []string{"a", "a"} }},
		{"waves/0/devices/1", "", func(r *Rollout) { r.Waves[0].Devices = []string{"a", "/"} }},
		{"waves/0/devices", "at most 1000", func(r *Rollout) { r.Waves[0].Devices = make([]string, 1001) }},
		{"waves/1/devices/1", `wave 1 has "d2" already`, func(r *Rollout) { r.Waves[1] = Wave{Devices: []string{"d3", "d2"}} }},
		{"waves/1/group", "", func(r *Rollout) { r.Waves[1].Group = "../x" }},
		{"waves/3/group", `wave 2 has the devices of group "lab"`, func(r *Rollout) { r.Waves[3] = Wave{Group: "lab"} }},
		{"waves/1/success", "0 to 100", func(r *Rollout) { r.Waves[1].Success = 100.5 }},
		{"waves/1/success", "0 to 100", func(r *Rollout) { r.Waves[1].Success = -1 }},
		{"waves/1/of", "all, online", func(r *Rollout) { r.Waves[1].Of = "most" }},
		{"waves/1/soak", "negative", func(r *Rollout) { r.Waves[1].Soak = -1 }},
		{"waves/0/approve", "first wave", func(r *Rollout) { r.Waves[0].Approve = true }},
		{"stop", "at most 32", func(r *Rollout) { r.Stop = make([]StopRule, 33) }},
		{"stop/0", "no limit", func(r *Rollout) { r.Stop[0] = StopRule{} }},
		{"stop/0/count", "negative", func(r *Rollout) { r.Stop[0].Count = -1 }},
		{"stop/1/percent", "up to 100", func(r *Rollout) { r.Stop[1].Percent = 100.1 }},
		{"stop/1/percent", "up to 100", func(r *Rollout) { r.Stop[1].Percent = -2 }},
		{"stop/0/min_sample", "set percent", func(r *Rollout) { r.Stop[0].MinSample = 2 }},
		{"stop/1/min_sample", "negative", func(r *Rollout) { r.Stop[1].MinSample = -2 }},
		{"stop/0/causes/0", "not a cause; there are network, serial", func(r *Rollout) { r.Stop[0].Causes = []schemas.Cause{"bad luck"} }},
		{"stop/0/causes/0", "not a cause", func(r *Rollout) { r.Stop[0].Causes = []schemas.Cause{""} }},
		{"stop/0/causes/0", "on purpose", func(r *Rollout) { r.Stop[0].Causes = []schemas.Cause{schemas.CauseCanceled} }},
		{"stop/0/causes/1", "named twice", func(r *Rollout) { r.Stop[0].Causes = []schemas.Cause{schemas.CauseBoot, schemas.CauseBoot} }},
		{"stop/2/causes/1", "set action to soft", func(r *Rollout) { r.Action, r.DeferLimit = "", 0 }},
		{"stop/0/over", "job, wave", func(r *Rollout) { r.Stop[0].Over = "fleet" }},
		{"stop/1/over", "no waves", func(r *Rollout) { r.Waves = nil }},
		{"stop/0/action", "pause, abort, recall", func(r *Rollout) { r.Stop[0].Action = "explode" }},
		{"stop/0/roll_back", "may go on", func(r *Rollout) { r.Stop[0].RollBack = "img-old" }},
		{"stop/1/roll_back", "", func(r *Rollout) { r.Stop[1].RollBack = "../x" }},
		{"pace", "has no limit", func(r *Rollout) { r.Pace = &Pace{} }},
		{"pace/max_in_progress", "negative", func(r *Rollout) { r.Pace.MaxInProgress = -1 }},
		{"pace/per_minute", "negative", func(r *Rollout) { r.Pace.PerMinute = -1 }},
		{"pace/ramp/start", "more than per_minute", func(r *Rollout) { r.Pace.Ramp.Start = 61 }},
		{"pace/ramp/start", "1 or more", func(r *Rollout) { r.Pace.Ramp.Start = 0 }},
		{"pace/ramp/factor", "more than 1", func(r *Rollout) { r.Pace.Ramp.Factor = 1 }},
		{"pace/ramp/factor", "more than 1", func(r *Rollout) { r.Pace.Ramp.Factor = math.Inf(1) }},
		{"pace/ramp/after", "1 or more", func(r *Rollout) { r.Pace.Ramp.After = 0 }},
		{"pace/groups", "at most 16", func(r *Rollout) { r.Pace.Groups = make([]GroupPace, 17) }},
		{"pace/groups/0", "no limit", func(r *Rollout) { r.Pace.Groups[0].PerMinute = 0 }},
		{"pace/groups/0/per_minute", "negative", func(r *Rollout) { r.Pace.Groups[0].PerMinute = -1 }},
		{"pace/groups/1/max_in_progress", "negative", func(r *Rollout) { r.Pace.Groups[1].MaxInProgress = -1 }},
		{"pace/groups/1/group", "has a pace already", func(r *Rollout) { r.Pace.Groups[1].Group = "a" }},
		{"pace/groups/1/group", "", func(r *Rollout) { r.Pace.Groups[1].Group = "" }},
		{"schedule/end", "it ends at", func(r *Rollout) { r.Schedule.End = noon }},
		{"schedule/windows", "at most 16", func(r *Rollout) { r.Schedule.Windows = make([]Window, 17) }},
		{"schedule/windows/0/cron", "never opens", func(r *Rollout) { r.Schedule.Windows[0].Cron = "0 0 30 2 *" }},
		{"schedule/recall", "there are none", func(r *Rollout) { r.Schedule.Windows, r.Schedule.DeviceZone = nil, "" }},
		{"schedule/device_zone", "there are none", func(r *Rollout) { r.Schedule.Windows, r.Schedule.Recall = nil, false }},
		{"schedule/device_zone", "", func(r *Rollout) { r.Schedule.DeviceZone = "a b" }},
		{"timeouts/answer", "allowed are 0 to", func(r *Rollout) { r.Timeouts.Answer = -1 }},
		{"timeouts/boot", "168h", func(r *Rollout) { r.Timeouts.Boot, r.Timeouts.Total = Duration(169*time.Hour), 0 }},
		{"timeouts/total", "less than version alone", func(r *Rollout) { r.Timeouts.Version = 10 * m }},
		{"timeouts/total", "less than load alone", func(r *Rollout) { r.Timeouts.Load = 10 * m }},
		{"timeouts/load_rate", "set load", func(r *Rollout) { r.Timeouts.Load = 0 }},
		{"timeouts/load_rate", "negative", func(r *Rollout) { r.Timeouts.LoadRate = -1 }},
		{"retry/attempts", "0 to 100", func(r *Rollout) { r.Retry.Attempts = 101 }},
		{"retry/budget", "negative", func(r *Rollout) { r.Retry.Budget = -1 }},
		{"retry/backoff/factor", "1 or more", func(r *Rollout) { r.Retry.Backoff.Factor = 0.5 }},
		{"retry/backoff/max", "shorter than the first", func(r *Rollout) { r.Retry.Backoff.Max = 1 }},
		{"retry/backoff/max", "negative", func(r *Rollout) { r.Retry.Backoff.Max = -1 }},
		{"retry/backoff/first", "negative", func(r *Rollout) { r.Retry.Backoff.First = -1 }},
		{"retry/backoff/jitter", "0 to 1", func(r *Rollout) { r.Retry.Backoff.Jitter = 1.5 }},
		{"retry/causes", "not a cause", func(r *Rollout) { r.Retry.Causes["bad luck"] = CauseRetry{Attempts: 1} }},
		{"retry/causes/size", "cannot help", func(r *Rollout) { r.Retry.Causes[schemas.CauseSize] = CauseRetry{Attempts: 2} }},
		{"retry/causes/boot/attempts", "0 to 100", func(r *Rollout) { r.Retry.Causes[schemas.CauseBoot] = CauseRetry{Attempts: -1} }},
		{"retry/causes/network/backoff/jitter", "0 to 1", func(r *Rollout) { r.Retry.Causes[schemas.CauseNetwork].Backoff.Jitter = -1 }},
		{"priority", "-100 to 100", func(r *Rollout) { r.Priority = 101 }},
		{"action", "install, soft, confirm, download", func(r *Rollout) { r.Action = "ask" }},
		{"defer_limit", "for how long", func(r *Rollout) { r.DeferLimit = 0 }},
		{"defer_limit", "only with soft", func(r *Rollout) { r.Action, r.Stop = ActionConfirm, nil }},
		{"defer_limit", "negative", func(r *Rollout) { r.DeferLimit = -1 }},
		{"confirm_by", "nobody has to agree", func(r *Rollout) { r.ConfirmBy = ByPerson }},
		{"confirm_by", "person, product", func(r *Rollout) { r.ConfirmBy = "committee" }},
		{"via/1", "named twice", func(r *Rollout) { r.Via[1] = "img-a" }},
		{"via", "at most 16", func(r *Rollout) { r.Via = make([]string, 17) }},
	} {
		r := goodRollout()
		c.edit(r)
		err := r.validate()
		var f *FieldError
		if !errors.As(err, &f) || !errors.Is(err, ErrInvalid) || f.Field != "rollout/"+c.field || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%v, want rollout/%s: %s", err, c.field, c.words)
		}
		if strings.Contains(fmt.Sprint(err), "%!") {
			t.Errorf("badly made: %v", err)
		}
	}
}

func TestRolloutAndIgnoreValidation(t *testing.T) {
	for field, r := range map[string]*Rollout{
		"rollout/via":             {Via: []string{"img-a"}},
		"rollout/stop/0/causes/0": {Stop: []StopRule{{Count: 1, Causes: []schemas.Cause{schemas.CauseMinVersion}}}},
		"rollout/pace":            {Pace: &Pace{}},
	} {
		n := NewJob{Image: "img-x", Devices: []string{"d1"}, Rollout: r, IgnoreValidation: true}
		var f *FieldError
		if err := n.validate(); !errors.As(err, &f) || f.Field != field {
			t.Errorf("%v, want %s", err, field)
		}
	}
}
