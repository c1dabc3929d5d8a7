package orchestrator_test

import (
	"maps"
	"math"
	"slices"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// triedAgain judges whether an attempt that ended without success is followed by
// another one at once.
func (m *model) triedAgain(j *modelJob, old *orchestrator.Job, e *modelExec, a orchestrator.Attempt, again bool) {
	policy := m.policy(j, a.Cause)
	wants, wait := policy != nil && !slices.Contains([]schemas.Cause{schemas.CauseAlready, schemas.CauseSize, schemas.CauseSignature, schemas.CauseMinVersion, schemas.CauseCanceled}, a.Cause), time.Duration(0)
	var jitter float64
	if wants {
		attempts, backoff := 3, orchestrator.Backoff{First: orchestrator.Duration(time.Minute), Factor: 2, Max: orchestrator.Duration(time.Hour), Jitter: 0.2}
		if policy.Attempts > 0 {
			attempts = policy.Attempts
		}
		if n := policy.Causes[a.Cause].Attempts; n > 0 {
			attempts = n
		}
		if b := policy.Backoff; b != nil {
			backoff.First, backoff.Max = b.First, b.Max
			if b.Factor > 0 {
				backoff.Factor = b.Factor
			}
			if b.Jitter > 0 {
				backoff.Jitter = b.Jitter
			}
		}
		wants = e.tries < attempts && (policy.Budget == 0 || j.retries < policy.Budget)
		each := float64(backoff.First)
		for range e.tries - 1 {
			each = min(each*backoff.Factor, float64(backoff.Max))
		}
		wait, jitter = time.Duration(each), backoff.Jitter
	}
	ended := old.State == orchestrator.JobCanceled || old.State == orchestrator.JobCompleted || m.pastEnd(j)
	if again && (!wants || ended) {
		m.r.fail("%s ended with %s after %d tries and is tried again; %d retries of the job so far", e.ID, a.Cause, e.tries, j.retries)
	}
	stopped := j.wasOver || j.job.State == orchestrator.JobCanceled || j.job.State == orchestrator.JobCompleted
	if !again && wants && !ended && !stopped {
		m.r.fail("%s ended with %s after %d tries and is not tried again; %d retries of the job so far", e.ID, a.Cause, e.tries, j.retries)
	}
	if !again {
		return
	}
	j.retries++
	m.r.stats.retries++
	if a.Attempt+1 != e.Attempt || e.State != schemas.StateQueued {
		return
	}
	waits := e.NotBefore.Sub(m.r.wall)
	if lo, hi := float64(wait)*(1-jitter), float64(wait)*(1+jitter); float64(waits) < lo-1 || float64(waits) > hi+1 {
		m.r.fail("%s waits %v after %d tries, which is not %v give or take %v", e.ID, waits, e.tries, wait, jitter)
	}
}

func (m *model) policy(j *modelJob, cause schemas.Cause) *orchestrator.RetryPolicy {
	o := j.spec.Rollout
	switch {
	case o == nil:
		return nil
	case o.Retry == nil && o.Continuous && cause == schemas.CauseBoot:
		return &orchestrator.RetryPolicy{}
	}
	return o.Retry
}

func (m *model) pastEnd(j *modelJob) bool {
	o := j.spec.Rollout
	return o != nil && o.Schedule != nil && !o.Schedule.End.IsZero() && !o.Schedule.End.After(m.r.wall)
}

// phaseOf numbers the parts of an update that have a time limit of their own.
func phaseOf(s schemas.State) int {
	return map[schemas.State]int{
		schemas.StateOffered: 1, schemas.StateAccepted: 2, schemas.StateDownloading: 2, schemas.StateDownloaded: 3, schemas.StateInstalling: 3, schemas.StateBooting: 4,
	}[s]
}

// deadline reckons until when an execution may stay as it is.
func (m *model) deadline(j *modelJob, e *modelExec, was *orchestrator.Execution, same bool) {
	if same && phaseOf(was.State) != phaseOf(e.State) {
		e.phaseAt = m.r.wall
	}
	var due time.Time
	limit := func(at time.Time, d orchestrator.Duration) {
		if d > 0 && (due.IsZero() || at.Add(time.Duration(d)).Before(due)) {
			due = at.Add(time.Duration(d))
		}
	}
	switch o := j.spec.Rollout; {
	case e.State == schemas.StateQueued:
		due = e.NotBefore
	case e.State.Final() || o == nil:
	default:
		if e.State == schemas.StateOffered && e.soft {
			due = e.deferUntil
		}
		t := o.Timeouts
		if t == nil {
			break
		}
		load := t.Load
		if load > 0 && t.LoadRate > 0 {
			load += orchestrator.Duration(float64(e.BytesTotal) / float64(t.LoadRate) * float64(time.Second))
		}
		boot := t.Boot + t.Version
		switch { // the rig's device types say nothing of their host MCUs
		case t.Boot == 0 && t.Version > 0:
			boot += orchestrator.Duration(5 * time.Minute)
		case t.Version == 0 && t.Boot > 0:
			boot += orchestrator.Duration(time.Minute)
		}
		limit(e.phaseAt, []orchestrator.Duration{0, t.Answer, t.Download, load, boot}[phaseOf(e.State)])
		limit(e.OfferedAt, t.Total)
	}
	if !e.DueAt.Equal(due) {
		m.r.fail("%s is %s and due at %v, it should be at %v", e.ID, e.State, e.DueAt, due)
	}
}

// believed is how far ahead of the clock an execution may have changed last.
const believed = 5 * time.Minute

// setBack moves the times of an execution in the books that changed last at a time that is
// still to come: as much is left from now on as there was then of what had begun by that
// clock, and what waits waits on for as long.
func (m *model) setBack(j *modelJob, e *modelExec) {
	ahead := e.UpdatedAt.Sub(m.r.wall)
	if ahead <= believed {
		return
	}
	m.r.stats.moved++
	began := e.deferUntil
	if o := j.spec.Rollout; o != nil {
		began = began.Add(-time.Duration(o.DeferLimit))
	}
	if began.After(m.r.wall) {
		e.deferUntil = e.deferUntil.Add(-ahead)
	}
	for _, at := range []*time.Time{&e.OfferedAt, &e.phaseAt, &e.EndedAt, &e.NotBefore} {
		if at.After(m.r.wall) {
			*at = at.Add(-ahead)
		}
	}
}

// judge looks at a job after an update.
func (m *model) judge(j *modelJob, old *orchestrator.Job) {
	m.recount(j)
	m.transition(j, old)
	m.stopped(j)
	m.waves(j, old)
	if o := j.spec.Rollout; o != nil && o.Pace != nil {
		open, groups := 0, map[string]int{}
		for _, e := range j.execs {
			if isOpen(e.State) {
				open++
				for g, in := range e.groups {
					if in {
						groups[g]++
					}
				}
			}
		}
		if n := o.Pace.MaxInProgress; n > 0 && open > n {
			m.r.fail("job %s has %d devices in progress, %d are allowed", j.spec.Name, open, n)
		}
		for _, g := range o.Pace.Groups {
			if g.MaxInProgress > 0 && groups[g.Group] > g.MaxInProgress {
				m.r.fail("job %s has %d devices in progress in group %s, %d are allowed", j.spec.Name, groups[g.Group], g.Group, g.MaxInProgress)
			}
		}
	}
}

// judgeAll looks at all jobs together.
func (m *model) judgeAll() {
	busy, open := map[string]string{}, 0
	for _, name := range m.names {
		for device, e := range m.jobs[name].execs {
			if !isOpen(e.State) {
				continue
			}
			open++
			if other := busy[device]; other != "" {
				m.r.fail("%s has %s and %s in progress", device, other, e.ID)
			}
			busy[device] = e.ID
		}
	}
	if n := m.r.opts.MaxInProgress; n > 0 && open > n {
		m.r.fail("%d devices are in progress, %d are allowed", open, n)
	}
	m.r.stats.inProgress = max(m.r.stats.inProgress, open)
}

// recount compares all counters of a job with its executions.
func (m *model) recount(j *modelJob) {
	counts, causes, open := map[schemas.State]int{}, map[schemas.Cause]int{}, 0
	waves := make([][5]int, len(j.job.Waves)+1)
	for _, e := range j.execs {
		counts[e.State]++
		if e.Cause != schemas.CauseNone {
			causes[e.Cause]++
		}
		k := 2
		switch {
		case e.State == schemas.StateQueued:
			k = 0
		case isOpen(e.State):
			k = 1
			open++
		case e.State == schemas.StateCanceled:
			k = 4
		case e.State != schemas.StateSucceeded:
			k = 3
		}
		waves[e.Wave][k]++
	}
	for _, s := range schemas.States() {
		if j.job.Counts[s] != counts[s] {
			m.r.fail("job %s counts %d devices %s, there are %d", j.spec.Name, j.job.Counts[s], s, counts[s])
		}
	}
	if !maps.Equal(j.job.Causes, causes) || j.job.InProgress != open || j.job.Retries != j.retries {
		m.r.fail("job %s counts %v, %d in progress, %d retries; there are %v, %d, %d", j.spec.Name, j.job.Causes, j.job.InProgress, j.job.Retries, causes, open, j.retries)
	}
	for i, w := range j.job.Waves {
		if is := [5]int{w.Queued, w.InProgress, w.Succeeded, w.Failed, w.Canceled}; is != waves[i+1] {
			m.r.fail("wave %d of job %s counts %v, there are %v", i+1, j.spec.Name, is, waves[i+1])
		}
	}
}

// broken says whether outcomes break a rule, with what was forgiven.
func broken(rule *orchestrator.StopRule, now, base modelOutcomes) bool {
	failed := 0
	for cause, n := range now.failing {
		if len(rule.Causes) == 0 || slices.Contains(rule.Causes, cause) {
			failed += max(0, n-base.failing[cause])
		}
	}
	sample := max(now.sample-base.sample, failed)
	switch {
	case failed == 0:
		return false
	case rule.Count > 0 && failed >= rule.Count:
		return true
	}
	return rule.Percent > 0 && sample >= rule.MinSample && float64(failed)*100 >= rule.Percent*float64(sample)-1e-9
}

// ruleBroken says whether a rule of one of some actions is broken as it stands.
func (j *modelJob) ruleBroken(actions ...orchestrator.StopAction) bool {
	if j.spec.Rollout == nil {
		return false
	}
	for i := range j.spec.Rollout.Stop {
		rule := &j.spec.Rollout.Stop[i]
		if !slices.Contains(actions, rule.Action) {
			continue
		}
		if rule.Over != orchestrator.OverWave || len(j.job.Waves) == 0 {
			if broken(rule, j.outcomes(0), j.base) {
				return true
			}
			continue
		}
		for w := range j.job.Waves {
			var base modelOutcomes
			if len(j.waveBase) > 0 {
				base = j.waveBase[w]
			}
			if broken(rule, j.outcomes(w+1), base) {
				return true
			}
		}
	}
	return false
}

// stopped holds a job against its stop rules: the update that breaks one stops it.
func (m *model) stopped(j *modelJob) {
	if !j.fresh {
		return
	}
	if j.job.State == orchestrator.JobRunning && j.ruleBroken("", orchestrator.StopPause) {
		m.r.fail("job %s is running, though a rule is broken that pauses it: %+v", j.spec.Name, j.outcomes(0))
	}
	if (j.job.State == orchestrator.JobRunning || j.job.State == orchestrator.JobPaused) && j.ruleBroken(orchestrator.StopAbort, orchestrator.StopRecall) {
		m.r.fail("job %s is %s, though a rule is broken that aborts it: %+v", j.spec.Name, j.job.State, j.outcomes(0))
	}
}

// transition judges a change of the job's state.
func (m *model) transition(j *modelJob, old *orchestrator.Job) {
	is, was := j.job.State, old.State
	asked := m.asked[j.spec.Name]
	if was == is {
		return
	}
	m.r.logf("  job %s: %s -> %s %s", j.spec.Name, was, is, j.job.Reason)
	m.r.stats.states[is]++
	fits := false
	switch is {
	case orchestrator.JobDraft:
		fits = was == ""
	case orchestrator.JobRunning:
		fits = was == "" && j.spec.Start || was == orchestrator.JobDraft && asked == "start" || was == orchestrator.JobPaused && asked == "resume" || was == orchestrator.JobCompleted && asked == "retry"
		if was == orchestrator.JobPaused {
			j.base = j.outcomes(0)
			j.waveBase = nil
			for w := range j.job.Waves {
				j.waveBase = append(j.waveBase, j.outcomes(w+1))
			}
		}
	case orchestrator.JobPaused:
		itself := j.job.Reason != "" && (j.ruleBroken("", orchestrator.StopPause) || m.stuck(j))
		fits = was == orchestrator.JobRunning && (asked == "pause" && j.job.Reason == "" || itself)
		if itself {
			m.r.stats.stops++
		}
	case orchestrator.JobCanceled:
		itself := j.job.Reason != "" && j.ruleBroken(orchestrator.StopAbort, orchestrator.StopRecall)
		fits = asked == "cancel" || itself && was != orchestrator.JobCompleted
		if itself {
			m.r.stats.stops++
		}
	case orchestrator.JobCompleted:
		fits = was == orchestrator.JobRunning || was == orchestrator.JobPaused
		for _, e := range j.execs {
			fits = fits && e.State.Final()
		}
		if j.continuous() && !m.pastEnd(j) && !j.wasOver {
			fits = false
		}
	}
	if !fits {
		m.r.fail("job %s went from %q to %s (%s), which nothing accounts for", j.spec.Name, was, is, j.job.Reason)
	}
}

// needed is how many devices of a wave have to succeed, and enough says whether
// they have.
func (m *model) needed(j *modelJob, wave int) (needed, base, failed int, enough bool) {
	spec := j.spec.Rollout.Waves[wave-1]
	succeeded, queued := 0, 0
	counted := 0
	for _, e := range j.execs {
		if e.Wave != wave {
			continue
		}
		switch {
		case e.State == schemas.StateCanceled:
			continue
		case e.State == schemas.StateSucceeded:
			succeeded++
		case e.State == schemas.StateQueued:
			queued++
		case e.State.Final():
			failed++
		}
		counted++
		if e.met || spec.Of != orchestrator.OfOnline {
			base++
		}
	}
	// Devices that have no execution yet belong to it as well.
	w := j.job.Waves[wave-1]
	if more := w.Devices - w.Canceled - counted; spec.Of != orchestrator.OfOnline {
		base += more
	}
	part := spec.Success
	if part == 0 {
		part = 100
	}
	needed = int(math.Ceil(float64(base)*part/100 - 1e-9))
	enough = succeeded >= needed && (spec.Of != orchestrator.OfOnline || base > 0)
	if w.Devices-w.Canceled <= 0 {
		enough = true
	}
	return needed, base, failed, enough
}

// stuck says whether the job's present wave cannot come to enough successes.
func (m *model) stuck(j *modelJob) bool {
	n := j.job.Wave
	if n == 0 || n == len(j.job.Waves) {
		return false
	}
	needed, base, failed, _ := m.needed(j, n)
	return failed > 0 && base-failed < needed
}

// waves holds the release of waves against what the devices of the ones before
// have come to.
func (m *model) waves(j *modelJob, old *orchestrator.Job) {
	if len(j.job.Waves) == 0 || j.job.Wave == 0 {
		return
	}
	for len(j.reached) < len(j.job.Waves) {
		j.reached = append(j.reached, modelTime{up: -1})
	}
	for w := 1; w <= j.job.Wave; w++ {
		_, _, _, enough := m.needed(j, w)
		if at := &j.reached[w-1]; !enough {
			at.up = -1
		} else if at.up < 0 {
			*at = modelTime{m.r.wall, m.r.up}
		}
	}
	if old.State == orchestrator.JobDraft || old.State == "" {
		return
	}
	if j.job.Wave < old.Wave {
		m.r.fail("job %s went back from wave %d to %d", j.spec.Name, old.Wave, j.job.Wave)
	}
	for w := old.Wave; w < j.job.Wave; w++ {
		m.r.stats.waves++
		if m.asked[j.spec.Name] == "force" {
			continue
		}
		spec, next := j.spec.Rollout.Waves[w-1], j.spec.Rollout.Waves[w]
		at := j.reached[w-1]
		if at.up < 0 {
			m.r.fail("job %s released wave %d, though wave %d has not come to enough successes", j.spec.Name, w+1, w)
		}
		if m.r.up-at.up < time.Duration(spec.Soak) {
			m.r.fail("job %s released wave %d %v after wave %d had come to enough successes, it soaks %v", j.spec.Name, w+1, m.r.up-at.up, w, spec.Soak)
		}
		if _, may := j.approved[w+1]; next.Approve && !may {
			m.r.fail("job %s released wave %d, which nobody has approved", j.spec.Name, w+1)
		}
	}
}
