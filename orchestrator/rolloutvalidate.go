package orchestrator

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"davit/schemas"
)

// Limits of rollouts, as they stand in the API's schema too.
const (
	maxWaves       = 50
	maxWaveDevices = 1000
	maxStopRules   = 32
	maxPaceGroups  = 16
	maxWindows     = 16
	maxVia         = 16
	maxPriority    = 100
	maxAttempts    = 100
	maxRolloutText = 64
)

// validate checks everything about a rollout that can be told without the store.
func (r *Rollout) validate() error {
	if r == nil {
		return nil
	}
	return firstOf(
		func() error { return checkText("rollout/seed", r.Seed, maxRolloutText, false) },
		r.validateAction, // stop rules depend on it
		r.validateWaves,
		r.validateStop,
		r.Pace.validate,
		r.Schedule.validate,
		r.Timeouts.validate,
		r.Retry.validate,
		func() error { return distinct("rollout/via", r.Via, maxVia) },
	)
}

// firstOf does the checks in order and returns the first error.
func firstOf(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// oneOf refuses a value that is not in the list; the empty one stands for the
// default.
func oneOf[T ~string](field string, v T, allowed ...T) error {
	if v == "" || slices.Contains(allowed, v) {
		return nil
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	return invalidField(field, "%q is not known; allowed are %s", v, strings.Join(names, ", "))
}

// checkRange refuses numbers outside of a range, and what is no number.
func checkRange(field string, v, low, high float64) error {
	if v >= low && v <= high {
		return nil
	}
	return invalidField(field, "%v; allowed are %v to %v", v, low, high)
}

// notNegative refuses numbers below 0, of which a limit of nothing could be meant.
func notNegative[T ~int | ~int64](field string, v T) error {
	if v >= 0 {
		return nil
	}
	return invalidField(field, "%v is negative", v)
}

func tooMany(field string, n, limit int) error {
	if n <= limit {
		return nil
	}
	return invalidField(field, "%d entries, at most %d are allowed", n, limit)
}

// wavesCheck is what a wave is checked against: the waves before it.
type wavesCheck struct {
	names, groups, devices map[string]int // number of the wave that has it
	percent                float64        // how far the waves before it go
}

func (r *Rollout) validateWaves() error {
	if err := tooMany("rollout/waves", len(r.Waves), maxWaves); err != nil {
		return err
	}
	c := wavesCheck{map[string]int{}, map[string]int{}, map[string]int{}, 0}
	for i := range r.Waves {
		w, field := &r.Waves[i], element("rollout/waves", i)
		if err := firstOf(
			func() error { return c.name(field, w, i, r.lastHashed()) },
			func() error { return c.takes(field, w, i) },
			func() error { return c.explicit(field, w, i) },
			func() error { return checkRange(field+"/success", w.Success, 0, 100) },
			func() error { return oneOf(field+"/of", w.Of, OfAll, OfOnline) },
			func() error { return notNegative(field+"/soak", w.Soak) },
		); err != nil {
			return err
		}
		if w.Approve && i == 0 {
			return invalidField(field+"/approve", "the first wave begins when somebody starts the job; leave approve out, or create the job without start")
		}
	}
	return nil
}

// name checks what a wave is called. The name of the rest is kept for it, so
// that the rollout of one job can be used for another.
func (c *wavesCheck) name(field string, w *Wave, i, last int) error {
	if err := checkText(field+"/name", w.Name, maxRolloutText, false); err != nil {
		return err
	}
	name := w.name(i + 1)
	if name == restWave && (i != last || w.Percent != 100) {
		return invalidField(field+"/name", "%q is the name of the wave that takes the devices which are left; name this one otherwise", name)
	}
	if other := c.names[name]; other != 0 {
		return invalidField(field+"/name", "waves %d and %d have the same name, %q", other, i+1, name)
	}
	c.names[name] = i + 1
	return nil
}

// takes checks that a wave says in exactly one way which devices it has, and
// that some are left for it.
func (c *wavesCheck) takes(field string, w *Wave, i int) error {
	ways := 0
	for _, is := range []bool{len(w.Devices) > 0, w.Group != "", w.Percent != 0, w.Count != 0} {
		if is {
			ways++
		}
	}
	switch {
	case w.Count < 0:
		return notNegative(field+"/count", w.Count)
	case ways == 0:
		return invalidField(field, "wave %d does not say which devices it has; set one of devices, group, percent (more than 0) and count", i+1)
	case ways > 1:
		return invalidField(field, "wave %d says in %d ways which devices it has; set one of devices, group, percent and count", i+1, ways)
	case w.explicit():
		return nil
	case c.percent == 100:
		return invalidField(field, "nothing is left for wave %d: a wave before it goes up to 100 %%", i+1)
	case w.Count > 0:
		return nil
	case !(w.Percent > 0 && w.Percent <= 100):
		return invalidField(field+"/percent", "%v; allowed is more than 0, up to 100", w.Percent)
	case w.Percent <= c.percent:
		return invalidField(field+"/percent", "wave %d goes up to %v %% and a wave before it up to %v %%; each percentage includes those before: 5, 25, 100", i+1, w.Percent, c.percent)
	}
	c.percent = w.Percent
	return nil
}

// explicit checks that no device and no group is named twice.
func (c *wavesCheck) explicit(field string, w *Wave, i int) error {
	if w.Group != "" {
		if err := checkID(field+"/group", w.Group); err != nil {
			return err
		}
		if other := c.groups[w.Group]; other != 0 {
			return invalidField(field+"/group", "wave %d has the devices of group %q already", other, w.Group)
		}
		c.groups[w.Group] = i + 1
	}
	if err := distinct(field+"/devices", w.Devices, maxWaveDevices); err != nil {
		return err
	}
	for j, id := range w.Devices {
		if other := c.devices[id]; other != 0 {
			return invalidField(element(field+"/devices", j), "wave %d has %q already", other, id)
		}
		c.devices[id] = i + 1
	}
	return nil
}

func (r *Rollout) validateStop() error {
	if err := tooMany("rollout/stop", len(r.Stop), maxStopRules); err != nil {
		return err
	}
	for i := range r.Stop {
		s, field := &r.Stop[i], element("rollout/stop", i)
		if err := firstOf(
			func() error { return s.validateLimits(field) },
			func() error { return s.validateCauses(field, r.Action) },
			func() error { return oneOf(field+"/over", s.Over, OverJob, OverWave) },
			func() error { return oneOf(field+"/action", s.Action, StopPause, StopAbort, StopRecall) },
		); err != nil {
			return err
		}
		if s.Over == OverWave && len(r.Waves) == 0 {
			return invalidField(field+"/over", "the rollout has no waves; leave it out, or say job")
		}
		if s.RollBack == "" {
			continue
		}
		if s.Action != StopAbort && s.Action != StopRecall {
			return invalidField(field+"/roll_back", "a job that is paused may go on; set action to abort or recall")
		}
		if err := checkID(field+"/roll_back", s.RollBack); err != nil {
			return err
		}
	}
	return nil
}

func (s *StopRule) validateLimits(field string) error {
	switch {
	case s.Count < 0:
		return notNegative(field+"/count", s.Count)
	case s.MinSample < 0:
		return notNegative(field+"/min_sample", s.MinSample)
	case s.Count == 0 && s.Percent == 0:
		return invalidField(field, "the rule has no limit; set count, percent (more than 0) or both")
	case s.Percent != 0 && !(s.Percent > 0 && s.Percent <= 100):
		return invalidField(field+"/percent", "%v; allowed is more than 0, up to 100", s.Percent)
	case s.MinSample > 0 && s.Percent == 0:
		return invalidField(field+"/min_sample", "it is from how many devices on percent counts; set percent, or leave it out")
	}
	return nil
}

func (s *StopRule) validateCauses(field string, action ActionKind) error {
	for j, c := range s.Causes {
		at := element(field+"/causes", j)
		switch {
		case c == schemas.CauseNone || !c.Valid():
			return unknownCause(at, c)
		case c == schemas.CauseCanceled:
			return invalidField(at, "who cancels an execution does so on purpose; that never counts as a failure")
		case c == schemas.CauseDeferred && action != ActionSoft:
			return invalidField(at, "only devices that may put the update off can put it off for too long; set action to soft, or leave the cause out")
		case slices.Index(s.Causes, c) < j:
			return invalidField(at, "%q is named twice", c)
		}
	}
	return nil
}

func unknownCause(field string, c schemas.Cause) error {
	names := make([]string, 0, len(schemas.Causes()))
	for _, known := range schemas.Causes() {
		names = append(names, string(known))
	}
	return invalidField(field, "%q is not a cause; there are %s", c, strings.Join(names, ", "))
}

func (p *Pace) validate() error {
	const field = "rollout/pace"
	if p == nil {
		return nil
	}
	if p.MaxInProgress == 0 && p.PerMinute == 0 && p.Ramp == nil && len(p.Groups) == 0 {
		return invalidField(field, "the pace has no limit; set max_in_progress, per_minute, ramp or groups, or leave it out")
	}
	if err := firstOf(
		func() error { return notNegative(field+"/max_in_progress", p.MaxInProgress) },
		func() error { return notNegative(field+"/per_minute", p.PerMinute) },
		func() error { return p.Ramp.validate(field+"/ramp", p.PerMinute) },
		func() error { return tooMany(field+"/groups", len(p.Groups), maxPaceGroups) },
	); err != nil {
		return err
	}
	for i := range p.Groups {
		g, at := &p.Groups[i], element(field+"/groups", i)
		if err := firstOf(
			func() error { return checkID(at+"/group", g.Group) },
			func() error { return notNegative(at+"/max_in_progress", g.MaxInProgress) },
			func() error { return notNegative(at+"/per_minute", g.PerMinute) },
		); err != nil {
			return err
		}
		if g.MaxInProgress == 0 && g.PerMinute == 0 {
			return invalidField(at, "group %q has no limit; set max_in_progress or per_minute", g.Group)
		}
		if first := slices.IndexFunc(p.Groups, func(o GroupPace) bool { return o.Group == g.Group }); first < i {
			return invalidField(at+"/group", "group %q has a pace already, the one at %d", g.Group, first)
		}
	}
	return nil
}

func (r *Ramp) validate(field string, perMinute int) error {
	switch {
	case r == nil:
		return nil
	case r.Start < 1:
		return invalidField(field+"/start", "%d; it is how many devices a minute the job begins with, 1 or more", r.Start)
	case perMinute > 0 && r.Start > perMinute:
		return invalidField(field+"/start", "%d devices a minute to begin with are more than per_minute allows, which is %d", r.Start, perMinute)
	case r.Factor != 0 && !(r.Factor > 1 && !math.IsInf(r.Factor, 1)):
		return invalidField(field+"/factor", "%v does not make it faster; allowed is more than 1", r.Factor)
	case r.After < 1:
		return invalidField(field+"/after", "%d; it is after how many more successes the rate grows, 1 or more", r.After)
	}
	return nil
}

func (s *Schedule) validate() error {
	const field = "rollout/schedule"
	if s == nil {
		return nil
	}
	if err := tooMany(field+"/windows", len(s.Windows), maxWindows); err != nil {
		return err
	}
	if _, err := compileWindows(s.Windows); err != nil {
		return err
	}
	switch {
	case !s.End.IsZero() && !s.End.After(s.Start):
		return invalidField(field+"/end", "it ends at %s, and starts at %s", s.End.Format(time.RFC3339), s.Start.Format(time.RFC3339))
	case s.Recall && len(s.Windows) == 0:
		return invalidField(field+"/recall", "it is about what happens when the windows close, and there are none; set windows, or leave it out")
	case s.DeviceZone != "" && len(s.Windows) == 0:
		return invalidField(field+"/device_zone", "it names the label with the zone in which the windows are read, and there are none; set windows, or leave it out")
	case s.DeviceZone != "":
		return checkID(field+"/device_zone", s.DeviceZone)
	}
	return nil
}

func (t *Timeouts) validate() error {
	const field = "rollout/timeouts"
	if t == nil {
		return nil
	}
	for _, p := range []struct {
		name     string
		d, limit Duration
	}{
		{"answer", t.Answer, math.MaxInt64}, {"download", t.Download, math.MaxInt64}, {"load", t.Load, math.MaxInt64}, {"total", t.Total, math.MaxInt64},
		{"boot", t.Boot, Duration(maxHostTime)}, {"version", t.Version, Duration(maxHostTime)},
	} {
		if p.d < 0 || p.d > p.limit {
			return invalidField(field+"/"+p.name, "%v; allowed are 0 to %v", time.Duration(p.d), time.Duration(p.limit))
		}
		if t.Total > 0 && p.d > t.Total {
			return invalidField(field+"/total", "%v in all are less than %s alone may take, which is %v", time.Duration(t.Total), p.name, time.Duration(p.d))
		}
	}
	if t.LoadRate < 0 {
		return notNegative(field+"/load_rate", t.LoadRate)
	}
	if t.LoadRate > 0 && t.Load == 0 {
		return invalidField(field+"/load_rate", "it adds to load, and without load there is no limit to add to; set load as well")
	}
	return nil
}

func (p *RetryPolicy) validate() error {
	const field = "rollout/retry"
	if p == nil {
		return nil
	}
	if err := firstOf(
		func() error { return checkRange(field+"/attempts", float64(p.Attempts), 0, maxAttempts) },
		func() error { return p.Backoff.validate(field + "/backoff") },
		func() error { return notNegative(field+"/budget", p.Budget) },
	); err != nil {
		return err
	}
	for _, c := range slices.Sorted(maps.Keys(p.Causes)) {
		r, at := p.Causes[c], field+"/causes/"+string(c)
		if c == schemas.CauseNone || !c.Valid() {
			return unknownCause(field+"/causes", c)
		}
		if err := checkRange(at+"/attempts", float64(r.Attempts), 0, maxAttempts); err != nil {
			return err
		}
		if !retriable(c) && (r.Attempts != 1 || r.Backoff != nil) {
			return invalidField(at, "another try cannot help when an update ended with %s, so that none is made; leave it out", c)
		}
		if err := r.Backoff.validate(at + "/backoff"); err != nil {
			return err
		}
	}
	return nil
}

// validate checks the waits as they will be, where some are left out.
func (b *Backoff) validate(field string) error {
	if b == nil {
		return nil
	}
	switch {
	case b.First < 0:
		return notNegative(field+"/first", b.First)
	case b.Max < 0:
		return notNegative(field+"/max", b.Max)
	case b.Max > 0 && b.Max < b.First:
		return invalidField(field+"/max", "the longest wait, %v, is shorter than the first, %v", time.Duration(b.Max), time.Duration(b.First))
	case b.Factor != 0 && !(b.Factor >= 1 && !math.IsInf(b.Factor, 1)):
		return invalidField(field+"/factor", "%v makes each wait shorter than the one before; allowed is 1 or more", b.Factor)
	}
	return checkRange(field+"/jitter", b.Jitter, 0, 1)
}

func (r *Rollout) validateAction() error {
	if err := firstOf(
		func() error { return checkRange("rollout/priority", float64(r.Priority), -maxPriority, maxPriority) },
		func() error {
			return oneOf("rollout/action", r.Action, ActionInstall, ActionSoft, ActionConfirm, ActionDownload)
		},
		func() error { return oneOf("rollout/confirm_by", r.ConfirmBy, ByPerson, ByProduct) },
		func() error { return oneOf("rollout/stream", r.Stream, StreamAuto, StreamAlways, StreamNever) },
		func() error { return notNegative("rollout/defer_limit", r.DeferLimit) },
	); err != nil {
		return err
	}
	switch {
	case r.Action == ActionSoft && r.DeferLimit == 0:
		return invalidField("rollout/defer_limit", "with soft, devices may put the update off, and nothing says for how long; set it to how long after the first offer")
	case r.Action != ActionSoft && r.DeferLimit != 0:
		return invalidField("rollout/defer_limit", "only with soft may devices put the update off; set action to soft, or leave it out")
	case r.Action != ActionConfirm && r.ConfirmBy != "":
		return invalidField("rollout/confirm_by", "nobody has to agree; set action to confirm, or leave it out")
	}
	return nil
}

// validateRollout checks what a job and its rollout say of one another.
func (n *NewJob) validateRollout() error {
	r := n.Rollout
	if r == nil {
		return nil
	}
	if err := r.validate(); err != nil {
		return err
	}
	if !n.IgnoreValidation {
		return nil
	}
	if len(r.Via) > 0 {
		return invalidField("rollout/via", "devices are led by min versions, which ignore_validation is to ignore; leave one of them out")
	}
	for i := range r.Stop {
		if j := slices.Index(r.Stop[i].Causes, schemas.CauseMinVersion); j >= 0 {
			return invalidField(fmt.Sprintf("rollout/stop/%d/causes/%d", i, j), "no device fails by the min version, because of ignore_validation; leave the cause out")
		}
	}
	return nil
}
