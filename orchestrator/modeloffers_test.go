package orchestrator_test

import (
	"math"
	"slices"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// offered judges a new offer by everything that could have forbidden it.
func (m *model) offered(j *modelJob, old *orchestrator.Job, e *modelExec, was *orchestrator.Execution, a orchestrator.Attempt) {
	r, o := m.r, j.spec.Rollout
	r.stats.offers++
	e.met = true
	if !a.OfferedAt.Equal(r.wall) {
		r.fail("%s was offered at %v, which is not now", e.ID, a.OfferedAt)
	}
	if old.State != orchestrator.JobRunning {
		r.fail("%s is offered, but job %s is %q", e.ID, j.spec.Name, old.State)
	}
	if e.Wave > old.Wave {
		r.fail("%s of wave %d is offered, the job is at wave %d", e.ID, e.Wave, old.Wave)
	}
	if a.Attempt == was.Attempt && was.NotBefore.After(r.wall) {
		r.fail("%s is offered before %v", e.ID, was.NotBefore)
	}
	m.fits(j, e, a)
	m.inTime(j, e)
	e.phaseAt = r.wall
	if o == nil {
		return
	}
	if o.Action == orchestrator.ActionConfirm && o.ConfirmBy != orchestrator.ByProduct && !e.Confirmed {
		r.fail("%s is offered without anybody's agreement", e.ID)
	}
	if o.Action == orchestrator.ActionSoft {
		if e.deferUntil.IsZero() {
			e.deferUntil = r.wall.Add(time.Duration(o.DeferLimit))
		}
		e.soft = r.wall.Before(e.deferUntil)
	}
	if dev := m.device(e.Device); m.connectedOnly(j) && !dev.Online {
		r.fail("%s is offered to %s, which is not connected", e.ID, e.Device)
	}
	if o.Pace != nil {
		j.made = append(j.made, e)
	}
}

// device is what the books say of a device.
func (m *model) device(id string) orchestrator.Device {
	dev, err := m.r.reader.Device(ctx, id)
	if err != nil {
		m.r.fail("device %s: %v", id, err)
	}
	return dev
}

// running is the version that counts, "" if it is unknown.
func running(dev *orchestrator.Device, kind string) string {
	if slices.Contains(dev.Unconfirmed, kind) {
		return ""
	}
	return dev.Versions[kind]
}

// fits judges the image by the version that runs.
func (m *model) fits(j *modelJob, e *modelExec, a orchestrator.Attempt) {
	if j.job.IgnoreValidation || a.Attempt != e.Attempt {
		return
	}
	dev := m.device(e.Device)
	version, image := running(&dev, e.ImageType), m.images[e.Image]
	if e.State.Final() {
		return // the end may have brought another version
	}
	if image.MinVersion != "" && image.MinVersion != version {
		m.r.fail("%s is offered %s, which needs %q, and %s runs %q", e.ID, e.Image, image.MinVersion, e.Device, version)
	}
	goal := e.Version
	if e.Goal != "" {
		goal = e.Goal
	}
	if version == goal {
		m.r.fail("%s is offered to %s, which runs %s already", e.ID, e.Device, version)
	}
	if e.Goal == "" {
		return
	}
	if version == "" {
		m.r.fail("%s is offered to %s, of which it is not known what it runs", e.ID, e.Device)
	}
	if from, to := m.stepsTo(j, version), m.stepsTo(j, e.Version); to != from-1 {
		m.r.fail("%s leads %s from %q to %q, with %d steps to go after %d", e.ID, e.Device, version, e.Version, to, from)
	}
}

// stepsTo is how many images lead from a version to the job's, by growing the set
// of versions from which so many do.
func (m *model) stepsTo(j *modelJob, version string) int {
	links := append(slices.Clone(j.spec.Rollout.Via), j.spec.Image)
	near := map[string]bool{m.images[j.spec.Image].Version: true}
	for n := range len(links) + 1 {
		if near[version] {
			return n
		}
		for _, id := range links {
			if x := m.images[id]; near[x.Version] && x.MinVersion == "" {
				return n + 1
			}
		}
		grown := map[string]bool{}
		for _, id := range links {
			if x := m.images[id]; near[x.Version] {
				grown[x.MinVersion] = true
			}
		}
		for v := range grown {
			near[v] = true
		}
	}
	return math.MaxInt
}

// inTime judges an offer by start, end and windows.
func (m *model) inTime(j *modelJob, e *modelExec) {
	if why := m.closed(j, e); why != "" {
		m.r.fail("%s of job %s is offered to %s (zone %q), %s", e.ID, j.spec.Name, e.Device, e.zone, why)
	}
}

// closed says why nothing may be offered at this moment.
func (m *model) closed(j *modelJob, e *modelExec) string {
	o := j.spec.Rollout
	if o == nil || o.Schedule == nil {
		return ""
	}
	if o.Schedule.Start.After(m.r.wall) {
		return "before its start"
	}
	if !o.Schedule.End.IsZero() && !o.Schedule.End.After(m.r.wall) {
		return "after its end"
	}
	if open, _ := windowsOpen(o.Schedule.Windows, e.zone, m.r.wall); !open {
		return "outside its windows"
	}
	return ""
}

// connectedOnly says whether a job offers to connected devices only.
func (m *model) connectedOnly(j *modelJob) bool {
	o := j.spec.Rollout
	return m.r.opts.MaxInProgress > 0 || o != nil && (o.Pace != nil || o.Schedule != nil || o.Timeouts != nil && o.Timeouts.Answer > 0 || o.Action != "")
}

// rate is how many devices may be offered the image in a minute, 0 for any number.
func (j *modelJob) rate() int {
	p := j.spec.Rollout.Pace
	if p.Ramp == nil {
		return p.PerMinute
	}
	factor := p.Ramp.Factor
	if factor == 0 {
		factor = 2
	}
	r := float64(p.Ramp.Start)
	for range j.succeeded() / p.Ramp.After {
		if r *= factor; r > 1e6 {
			break
		}
	}
	if p.PerMinute > 0 {
		r = min(r, float64(p.PerMinute))
	}
	return max(1, int(r))
}

func (j *modelJob) succeeded() (n int) {
	for _, e := range j.execs {
		if e.State == schemas.StateSucceeded {
			n++
		}
	}
	return n
}

// paced judges the offers of an update by those of the minute before. rate is the
// one before the update: a success in it may count already.
func (m *model) paced(j *modelJob, rate int) {
	now := m.r.up
	if is := j.rate(); is == 0 || is > rate && rate > 0 {
		rate = is
	}
	for _, e := range j.made {
		j.offers = append(j.offers, modelOffer{at: now, rate: rate, groups: e.groups})
	}
	j.made, j.lastOffer = nil, m.r.wall
	for len(j.offers) > 0 && j.offers[0].at <= now-time.Minute {
		j.offers = j.offers[1:]
	}
	slack := 0
	for _, at := range m.r.backs {
		if at > now-time.Minute {
			slack++
		}
	}
	highest := 0
	for _, x := range j.offers {
		if x.rate == 0 {
			highest = math.MaxInt32
		}
		highest = max(highest, x.rate)
	}
	if n := len(j.offers); n > highest+slack {
		m.r.fail("job %s has made %d offers in a minute, %d are allowed", j.spec.Name, n, highest)
	}
	for _, g := range j.spec.Rollout.Pace.Groups {
		n := 0
		for _, x := range j.offers {
			if x.groups[g.Group] {
				n++
			}
		}
		if g.PerMinute > 0 && n > g.PerMinute+slack {
			m.r.fail("job %s has made %d offers in a minute in group %s, %d are allowed", j.spec.Name, n, g.Group, g.PerMinute)
		}
	}
}

// published judges what goes to a device: it is what the books say at this moment.
func (m *model) published(device string, o schemas.Offer) {
	for _, name := range m.names {
		j := m.jobs[name]
		e := j.execs[device]
		if e == nil || e.ID != o.Execution {
			continue
		}
		if e.Attempt != o.Attempt || !isOpen(e.State) {
			m.r.fail("%s is told of attempt %d of %s, which is at attempt %d and %s", device, o.Attempt, e.ID, e.Attempt, e.State)
		}
		if e.Version != o.Version || e.soft != (o.Action == schemas.ActionSoft) || !o.DeferUntil.Equal(e.deferUntil) && e.soft {
			m.r.fail("%s is told of version %s (%s until %v), the books say %s (soft %v until %v)", device, o.Version, o.Action, o.DeferUntil, e.Version, e.soft, e.deferUntil)
		}
		if e.State == schemas.StateOffered {
			m.inTime(j, e)
			if j.job.State == orchestrator.JobPaused {
				m.r.fail("%s is told of %s, whose job %s is paused", device, e.ID, name)
			}
		}
		m.r.stats.publications++
		return
	}
	m.r.fail("%s is told of %s, which no job has", device, o.Execution)
}

func isOpen(s schemas.State) bool { return s != schemas.StateQueued && !s.Final() }
