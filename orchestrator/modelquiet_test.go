package orchestrator_test

import (
	"math"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// quiet asks, when the service has nothing left to do, why nothing more happens:
// each execution that waits needs a reason, and where that ends by itself, a timer.
func (m *model) quiet() {
	m.r.stats.quiet++
	devices := map[string]orchestrator.Device{}
	busy := map[string]*modelExec{}
	open := 0
	for _, name := range m.names {
		for id, e := range m.jobs[name].execs {
			if isOpen(e.State) {
				busy[id] = e
				open++
			}
		}
	}
	for _, id := range m.r.ids {
		m.standing(id, busy[id])
	}
	for _, name := range m.names {
		j := m.jobs[name]
		m.ended4good(j)
		for _, device := range sortedKeys(j.execs) {
			e := j.execs[device]
			// The store may know of the clock from a minute before.
			if !e.DueAt.IsZero() && e.UpdatedAt.After(m.r.wall.Add(believed+time.Minute)) {
				m.r.fail("%s waits until %v and has changed last at %v, which is still to come", e.ID, e.DueAt, e.UpdatedAt)
			}
			switch {
			case isOpen(e.State):
				m.mayStand(j, e)
			case e.State == schemas.StateQueued:
				if _, known := devices[device]; !known {
					devices[device] = m.device(device)
				}
				dev := devices[device]
				why := m.reason(j, e, &dev, busy, open)
				m.r.stats.reasons[why]++
				if why == "" {
					m.r.fail("nothing holds back %s of job %s on %s (wave %d of %d), and it is not offered; the next timer is at %v", e.ID, name, device, e.Wave, j.job.Wave, m.r.next)
				}
			}
		}
		m.waveGoesOn(j)
	}
}

// standing compares an offer topic with what is in progress.
func (m *model) standing(device string, e *modelExec) {
	o, some := m.r.offers[device]
	switch {
	case some != (e != nil):
		m.r.fail("%s has the offer %q on its topic, in progress is %v", device, o.Execution, e)
	case some && (o.Execution != e.ID || o.Attempt != e.Attempt):
		m.r.fail("%s has the offer %s/%d on its topic, in progress is %s/%d", device, o.Execution, o.Attempt, e.ID, e.Attempt)
	}
}

// mayStand judges what is in progress.
func (m *model) mayStand(j *modelJob, e *modelExec) {
	if !e.DueAt.IsZero() && !e.DueAt.After(m.r.wall) {
		m.r.fail("%s is still %s, its time was over at %v", e.ID, e.State, e.DueAt)
	}
	if !e.DueAt.IsZero() {
		m.timer(e.DueAt, e.ID+" times out")
	}
	o := j.spec.Rollout
	begun := e.State != schemas.StateOffered
	if begun && (o == nil || o.Schedule == nil || !o.Schedule.Recall || e.State == schemas.StateInstalling || e.State == schemas.StateBooting) {
		return
	}
	if !begun && j.job.State != orchestrator.JobRunning {
		m.r.fail("%s stands offered, its job %s is %s", e.ID, j.spec.Name, j.job.State)
	}
	if why := m.closed(j, e); why != "" && !(begun && m.pastEnd(j)) && j.job.State != orchestrator.JobCanceled {
		m.r.fail("%s stands %s to %s, %s", e.ID, e.State, e.Device, why)
	}
}

// ended4good judges jobs that have ended, and those that should have.
func (m *model) ended4good(j *modelJob) {
	left, waiting := 0, 0
	for _, e := range j.execs {
		if !e.State.Final() {
			left++
			if !isOpen(e.State) || e.State == schemas.StateOffered {
				waiting++
			}
		}
	}
	switch s := j.job.State; {
	case s == orchestrator.JobCompleted && left > 0:
		m.r.fail("job %s is completed, %d of its devices are not", j.spec.Name, left)
	case s == orchestrator.JobCanceled && waiting > 0:
		m.r.fail("job %s is canceled, %d of its devices wait", j.spec.Name, waiting)
	case s != orchestrator.JobRunning && s != orchestrator.JobPaused:
	case m.pastEnd(j) && waiting > 0:
		m.r.fail("job %s is past its end, %d of its devices wait", j.spec.Name, waiting)
	case left == 0 && (!j.continuous() || m.pastEnd(j)):
		m.r.fail("job %s is %s, all of its %d devices have ended", j.spec.Name, s, len(j.execs))
	}
	if j.job.State != orchestrator.JobDraft && j.job.State != orchestrator.JobCanceled && !j.continuous() && len(j.execs) < j.job.Targets {
		gone := j.job.Targets - len(j.execs)
		if gone > m.r.stats.deleted {
			m.r.fail("job %s has %d executions for %d devices", j.spec.Name, len(j.execs), j.job.Targets)
		}
	}
}

// timer fails the schedule unless the service wakes up by then.
func (m *model) timer(at time.Time, what string) {
	if m.r.next.IsZero() || m.r.next.After(at) {
		m.r.fail("the next timer is at %v, but at %v %s", m.r.next, at, what)
	}
}

// reason names what holds an execution back that is queued, "" if nothing does.
func (m *model) reason(j *modelJob, e *modelExec, dev *orchestrator.Device, busy map[string]*modelExec, open int) string {
	o := j.spec.Rollout
	switch {
	case j.job.State != orchestrator.JobRunning:
		return "the job is " + string(j.job.State)
	case e.NotBefore.After(m.r.wall):
		m.timer(e.NotBefore, e.ID+" is to be tried again")
		return "backoff"
	case m.connectedOnly(j) && !dev.Online:
		return "the device is not connected"
	case e.Downloaded:
		return "the command to install"
	case o != nil && o.Action == orchestrator.ActionConfirm && o.ConfirmBy != orchestrator.ByProduct && !e.Confirmed:
		return "a person's agreement"
	case e.Wave > j.job.Wave:
		return "its wave"
	case o != nil && o.Schedule != nil && m.closed(j, e) != "":
		if o.Schedule.Start.After(m.r.wall) {
			m.timer(o.Schedule.Start, j.spec.Name+" starts")
			return "the start"
		}
		if _, next := windowsOpen(o.Schedule.Windows, e.zone, m.r.wall); !next.IsZero() {
			m.timer(next, "a window of "+j.spec.Name+" opens")
		}
		return "a window"
	case busy[dev.ID] != nil && !m.makesWay(j, e, busy[dev.ID]):
		return "the device is busy"
	case busy[dev.ID] != nil && m.unfit(j, e, dev):
		return "the device is busy, and is not in need of it as it stands"
	case m.unknown(j, e, dev):
		return "the version that runs"
	case m.r.opts.MaxInProgress > 0 && open >= m.r.opts.MaxInProgress:
		return "the limit of all jobs"
	}
	return m.noRoom(j, e)
}

// makesWay says whether what is in progress on a device would be taken back for an
// execution: its offer stands, and its job has a lower priority.
func (m *model) makesWay(j *modelJob, e, with *modelExec) bool {
	for _, name := range m.names {
		if m.jobs[name].execs[e.Device] == with {
			return with.State == schemas.StateOffered && j.priority() > m.jobs[name].priority()
		}
	}
	return false
}

func (j *modelJob) priority() int {
	if j.spec.Rollout == nil {
		return 0
	}
	return j.spec.Rollout.Priority
}

// unfit says whether a device that runs a known version would not be offered an
// execution: it has come to the version already, or the image does not fit.
func (m *model) unfit(j *modelJob, e *modelExec, dev *orchestrator.Device) bool {
	version := running(dev, e.ImageType)
	switch {
	case j.job.IgnoreValidation || version == "":
		return false
	case e.Goal != "":
		n := m.stepsTo(j, version)
		return n == 0 || n == math.MaxInt
	}
	need := m.images[e.Image].MinVersion
	return version == e.Version || need != "" && need != version
}

// unknown says whether it is not known what a device runs, and that matters to it,
// or to one that waits before it.
func (m *model) unknown(j *modelJob, e *modelExec, dev *orchestrator.Device) bool {
	if running(dev, e.ImageType) != "" {
		return false
	}
	for _, name := range m.names {
		other := m.jobs[name].execs[dev.ID]
		if other == nil || m.jobs[name].priority() < j.priority() || other.State != schemas.StateQueued || other.ImageType != e.ImageType || m.jobs[name].job.IgnoreValidation {
			continue
		}
		if m.images[other.Image].MinVersion != "" || other.Goal != "" {
			return true
		}
	}
	return false
}

// noRoom says which limit of the job leaves no room.
func (m *model) noRoom(j *modelJob, e *modelExec) string {
	if j.spec.Rollout == nil || j.spec.Rollout.Pace == nil {
		return ""
	}
	p := j.spec.Rollout.Pace
	open, groups := 0, map[string]int{}
	for _, x := range j.execs {
		if isOpen(x.State) {
			open++
			for g, in := range x.groups {
				if in {
					groups[g]++
				}
			}
		}
	}
	if p.MaxInProgress > 0 && open >= p.MaxInProgress {
		return "the job's limit"
	}
	rated := j.rate() > 0
	for _, g := range p.Groups {
		if e.groups[g.Group] && g.MaxInProgress > 0 && groups[g.Group] >= g.MaxInProgress {
			return "a group's limit"
		}
		rated = rated || e.groups[g.Group] && g.PerMinute > 0
	}
	recent := len(j.offers) > 0 && j.offers[len(j.offers)-1].at > m.r.up-time.Minute
	recent = recent || len(m.r.backs) > 0 && m.r.backs[len(m.r.backs)-1] > m.r.up-2*time.Minute
	// A clock that is set back and comes again to where it was.
	recent = recent || m.r.wall.Sub(j.lastOffer).Abs() < 2*time.Minute // what the limiter believes
	if rated && recent {
		m.timer(m.r.wall.Add(2*time.Minute), "the pace of "+j.spec.Name+" lets another device through")
		return "the job's pace"
	}
	return ""
}

// waveGoesOn asks why the next wave does not begin.
func (m *model) waveGoesOn(j *modelJob) {
	n := j.job.Wave
	if j.job.State != orchestrator.JobRunning || n == 0 || n >= len(j.job.Waves) || m.pastEnd(j) || j.wasOver {
		return
	}
	spec, next := j.spec.Rollout.Waves[n-1], j.spec.Rollout.Waves[n]
	if _, _, _, enough := m.needed(j, n); !enough || spec.Of == orchestrator.OfOnline {
		return
	}
	at := j.job.Waves[n-1].ReachedAt
	until := at.Add(time.Duration(spec.Soak))
	switch {
	case at.IsZero() || at.After(m.r.wall):
		m.r.fail("wave %d of job %s has come to enough successes, which it says was at %v", n, j.spec.Name, at)
	case until.After(m.r.wall):
		m.timer(until, "a wave of "+j.spec.Name+" has soaked")
	case !next.Approve || j.approved[n+1]:
		m.r.fail("wave %d of job %s has soaked, and wave %d does not begin", n, j.spec.Name, n+1)
	case j.job.Waves[n].State != orchestrator.WaveApproval:
		m.r.fail("wave %d of job %s waits for somebody to approve it, it says that it is %s", n+1, j.spec.Name, j.job.Waves[n].State)
	}
}
