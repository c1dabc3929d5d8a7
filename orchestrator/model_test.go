package orchestrator_test

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// model is the reference for rollouts: plain books of what the service says of its
// jobs after each update of its store, kept and judged without any of its code.
type model struct {
	r         *modelRig
	jobs      map[string]*modelJob
	names     []string
	asked     map[string]string // job: what a person asks of it at this moment
	reporting string            // the execution that a device reports on at this moment
	images    map[string]orchestrator.Image
}

// modelJob is a job as the service showed it last, and what the model counts of it.
type modelJob struct {
	spec  orchestrator.NewJob
	job   orchestrator.Job // empty until it is there
	rev   uint64
	execs map[string]*modelExec // by device
	// named are the members that groups had when the job was created.
	named     map[string]map[string]bool
	offers    []modelOffer
	made      []*modelExec  // offers of this update
	lastOffer time.Time     // by the wall clock
	base      modelOutcomes // what stop rules leave out, since a person let it go on
	waveBase  []modelOutcomes
	reached   []modelTime // of each wave, since when enough have succeeded
	// approved are waves that may begin: yes if they have to once their time has come,
	// false if the answer to the approval was lost.
	approved    map[int]bool
	retries     int
	handRetries bool // a person has asked for retries that may still be carried out
	wasOver     bool // its end had passed before the clock was set back
	fresh       bool // its outcomes changed in this update
}

// modelTime is a moment, by the wall clock and by all that it went forward.
type modelTime struct {
	wall time.Time
	up   time.Duration
}

// modelOffer is an offer that was made, with the rates that held by then.
type modelOffer struct {
	at     time.Duration
	rate   int
	groups map[string]bool
}

// modelExec is an execution with what the model knows of it.
type modelExec struct {
	orchestrator.Execution
	zone       string
	groups     map[string]bool // the job's pace groups
	tries      int
	ended      bool
	failing    schemas.Cause
	met        bool
	phaseAt    time.Time
	deferUntil time.Time
	soft       bool // it is offered so
}

// modelOutcomes are the ends of a job's devices.
type modelOutcomes struct {
	sample  int
	failing map[schemas.Cause]int
}

func newModel(r *modelRig) *model {
	m := &model{r: r, jobs: map[string]*modelJob{}, asked: map[string]string{}, images: map[string]orchestrator.Image{}}
	for _, x := range r.base.images {
		m.images[x.ID] = x
	}
	return m
}

// expect has the model look out for a job that is about to be created.
func (m *model) expect(n orchestrator.NewJob) {
	j := &modelJob{spec: n, execs: map[string]*modelExec{}, approved: map[int]bool{}, named: map[string]map[string]bool{}}
	for _, g := range []string{"g0", "g1", "g2"} {
		j.named[g] = m.r.members(g)
	}
	if n.Rollout != nil {
		own := *n.Rollout
		own.Waves = completeWaves(own.Waves)
		j.spec.Rollout = &own
	}
	m.jobs[n.Name] = j
	m.names = append(m.names, n.Name)
}

// forgetMissing forgets the last job if it was refused.
func (m *model) forgetMissing() {
	last := m.names[len(m.names)-1]
	if m.jobs[last].rev == 0 {
		delete(m.jobs, last)
		m.names = m.names[:len(m.names)-1]
	}
}

// completeWaves adds a wave for devices that the others leave out.
func completeWaves(waves []orchestrator.Wave) []orchestrator.Wave {
	if len(waves) == 0 {
		return nil
	}
	out := slices.Clone(waves)
	for _, w := range slices.Backward(out) {
		if len(w.Devices) > 0 || w.Group != "" {
			continue
		}
		if w.Percent == 100 {
			return out
		}
		break
	}
	return append(out, orchestrator.Wave{Name: "rest", Percent: 100})
}

// waveOf says which wave each device of a job belongs to.
func (j *modelJob) waveOf() map[string]int {
	devices := map[string]bool{}
	for _, d := range j.spec.Devices {
		devices[d] = true
	}
	for _, g := range j.spec.Groups {
		maps.Copy(devices, j.named[g])
	}
	out := map[string]int{}
	if j.spec.Rollout == nil || len(j.spec.Rollout.Waves) == 0 {
		return out
	}
	waves := j.spec.Rollout.Waves
	for i, w := range waves {
		for _, d := range sortedKeys(devices) {
			if out[d] == 0 && (slices.Contains(w.Devices, d) || w.Group != "" && j.named[w.Group][d]) {
				out[d] = i + 1
			}
		}
	}
	var free []string
	for _, d := range sortedKeys(devices) {
		if out[d] == 0 {
			free = append(free, d)
		}
	}
	seed := cmp.Or(j.spec.Rollout.Seed, j.spec.Name)
	rank := func(d string) uint64 {
		sum := sha256.Sum256([]byte(seed + "\x00" + d))
		return binary.BigEndian.Uint64(sum[:])
	}
	slices.SortFunc(free, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	for i, d := range free {
		taken := 0
		for w, wave := range waves {
			switch {
			case wave.Count > 0:
				taken += wave.Count
			case wave.Percent > 0:
				taken = int(math.Ceil(float64(len(free))*wave.Percent/100 - 1e-9))
			default:
				continue
			}
			if i < taken {
				out[d] = w + 1
				break
			}
		}
	}
	return out
}

// committed looks at what an update of the store changed.
func (m *model) committed() {
	m.r.stats.commits++
	before := map[string]orchestrator.Job{}
	for i := 0; i < len(m.names); i++ { // a roll-back job may come in between
		j := m.jobs[m.names[i]]
		c, err := m.r.reader.Changes(ctx, m.names[i], j.rev, 0)
		if errors.Is(err, orchestrator.ErrNotFound) && j.rev == 0 {
			continue
		}
		if err != nil {
			m.r.fail("changes of %s: %v", m.names[i], err)
		}
		if j.fresh = false; c.Rev == j.rev {
			continue
		}
		old := j.job
		rate := 0
		if j.spec.Rollout != nil && j.spec.Rollout.Pace != nil {
			rate = j.rate()
		}
		before[m.names[i]] = old
		j.rev, j.job = c.Rev, c.Job
		slices.SortStableFunc(c.Executions, func(a, b orchestrator.Execution) int { return a.UpdatedAt.Compare(b.UpdatedAt) })
		for k := range c.Executions {
			m.changed(j, &old, &c.Executions[k])
		}
		if len(j.made) > 0 {
			m.paced(j, rate)
		}
		if name := j.job.RollBackJob; name != "" && m.jobs[name] == nil {
			m.expectRollBack(j, name)
		}
	}
	for _, name := range sortedKeys(before) {
		old := before[name]
		m.judge(m.jobs[name], &old)
	}
	if len(before) > 0 {
		m.judgeAll()
	}
}

// expectRollBack has the model look at a job that the service made for one that a
// rule has stopped: it tries again as that one, in its times, and is otherwise plain.
func (m *model) expectRollBack(of *modelJob, name string) {
	if _, err := m.r.reader.Job(ctx, name); err != nil {
		return // there was nothing to bring back
	}
	n := orchestrator.NewJob{Name: name, Start: true}
	if o := of.spec.Rollout; o.Retry != nil || o.Timeouts != nil {
		n.Rollout = &orchestrator.Rollout{Retry: o.Retry, Timeouts: o.Timeouts, Priority: o.Priority}
	}
	m.expect(n)
	m.r.stats.rollBacks++
}

// changed takes an execution's new record.
func (m *model) changed(j *modelJob, old *orchestrator.Job, x *orchestrator.Execution) {
	e := j.execs[x.Device]
	if e == nil {
		e = m.joins(j, x)
		j.execs[x.Device] = e
	}
	if e.ID != x.ID {
		m.r.fail("job %s has executions %s and %s on %s", x.Job, e.ID, x.ID, x.Device)
	}
	m.setBack(j, e)
	was := e.Execution
	if x.Attempt < was.Attempt {
		m.r.fail("%s went from attempt %d to %d", x.ID, was.Attempt, x.Attempt)
	}
	m.r.logf("  %s of %s on %s: %s/%d -> %s/%d %s wave %d, %s", x.ID, x.Job, x.Device, was.State, was.Attempt, x.State, x.Attempt, x.Cause, x.Wave, x.Detail)
	e.Execution = *x
	if x.UpdatedAt.After(m.r.wall.Add(believed)) {
		m.r.fail("%s has changed, it says at %v, which is still to come", x.ID, x.UpdatedAt)
	}
	if waits := x.State == schemas.StateQueued && was.State == x.State && was.Attempt == x.Attempt && !x.NotBefore.IsZero(); waits && !x.NotBefore.Equal(was.NotBefore) {
		m.r.fail("%s waits until %v, and before until %v", x.ID, x.NotBefore, was.NotBefore)
	}
	for _, a := range attemptsBetween(&was, x) {
		m.attempt(j, old, e, &was, a)
	}
}

// attemptsBetween are the attempts that an execution has gone through from one
// record to another, the present one at the end.
func attemptsBetween(was, is *orchestrator.Execution) (list []orchestrator.Attempt) {
	for _, a := range is.History {
		if a.Attempt >= was.Attempt {
			list = append(list, a)
		}
	}
	return append(list, orchestrator.Attempt{
		Attempt: is.Attempt, Version: is.Version, State: is.State, Cause: is.Cause, HostVersion: is.HostVersion, OfferedAt: is.OfferedAt, EndedAt: is.EndedAt,
	})
}

// attempt takes one of them.
func (m *model) attempt(j *modelJob, old *orchestrator.Job, e *modelExec, was *orchestrator.Execution, a orchestrator.Attempt) {
	same := a.Attempt == was.Attempt
	last := a.Attempt == e.Attempt
	if !same {
		e.phaseAt, e.soft = time.Time{}, false
	}
	if !a.OfferedAt.IsZero() && !(same && was.OfferedAt.Equal(a.OfferedAt)) {
		m.offered(j, old, e, was, a)
	}
	over := a.State.Final() && !(same && was.State.Final())
	if over {
		m.ended(j, e, a)
	}
	if same && was.State.Final() && !last {
		m.begunAnew(j, e, was)
	} else if over && (a.State == schemas.StateRejected || a.State == schemas.StateFailed || a.State == schemas.StateTimedOut) {
		m.triedAgain(j, old, e, a, !last)
	}
	if last {
		m.deadline(j, e, was, same)
	}
}

// begunAnew is an execution that had ended and has another attempt.
func (m *model) begunAnew(j *modelJob, e *modelExec, was *orchestrator.Execution) {
	switch was.State {
	case schemas.StateCanceled:
		m.r.fail("%s was canceled and has another attempt", e.ID)
	case schemas.StateSucceeded:
		if m.r.wall.Sub(was.EndedAt) >= 24*time.Hour {
			e.tries = 0
		}
	default:
		again := j.continuous() && was.State == schemas.StateRejected && was.Cause == schemas.CauseMinVersion
		if !j.handRetries && !again {
			m.r.fail("%s ended %s (%s) before, and has another attempt that nobody asked for", e.ID, was.State, was.Cause)
		}
		e.tries = 0
	}
}

// ended counts the end of an attempt.
func (m *model) ended(j *modelJob, e *modelExec, a orchestrator.Attempt) {
	goal := cmp.Or(e.Goal, e.Version)
	version := a.Version
	if version == "" || a.Attempt != e.Attempt && version == "" {
		version = goal
	}
	if a.State == schemas.StateCanceled || a.State == schemas.StateSucceeded && version != goal {
		return
	}
	e.ended, e.met, e.failing = true, true, a.Cause
	j.fresh = true
	if a.State != schemas.StateSucceeded {
		e.tries++
	}
	m.r.stats.ends[a.State]++
}

func (j *modelJob) continuous() bool { return j.spec.Rollout != nil && j.spec.Rollout.Continuous }

// joins is an execution that is new.
func (m *model) joins(j *modelJob, x *orchestrator.Execution) *modelExec {
	e := &modelExec{groups: map[string]bool{}}
	e.ID, e.Device, e.Attempt, e.State = x.ID, x.Device, 1, schemas.StateQueued
	o := j.spec.Rollout
	if o == nil {
		return e
	}
	if o.Pace != nil {
		for _, g := range o.Pace.Groups {
			e.groups[g.Group] = m.r.members(g.Group)[x.Device]
		}
	}
	if o.Schedule != nil && o.Schedule.DeviceZone != "" {
		zone := m.r.devices[x.Device].labels[o.Schedule.DeviceZone]
		if _, err := time.LoadLocation(zone); err == nil {
			e.zone = zone
		}
	}
	if want, known := j.waveOf()[x.Device]; known && x.Wave != want {
		m.r.fail("%s of job %s is in wave %d, it belongs to %d", x.Device, j.spec.Name, x.Wave, want)
	}
	return e
}

// outcomes recounts how the devices of a wave stand, 0 for the whole job.
func (j *modelJob) outcomes(wave int) modelOutcomes {
	o := modelOutcomes{failing: map[schemas.Cause]int{}}
	for _, e := range j.execs {
		if wave > 0 && e.Wave != wave || !e.ended {
			continue
		}
		o.sample++
		if e.failing != schemas.CauseNone {
			o.failing[e.failing]++
		}
	}
	return o
}
