package orchestrator_test

import (
	"errors"
	"time"

	"davit/orchestrator"
	"davit/orchestrator/storetest"
	"davit/schemas"
)

// modelStep is a kind of step, with how often it comes.
type modelStep struct {
	name   string
	weight int
	do     func(*modelRig)
}

// modelSteps are what can happen, with what each is for in the statistics.
var modelSteps = []modelStep{
	{"devices go on", 40, (*modelRig).devicesAct},
	{"time passes", 16, (*modelRig).timePasses},
	{"the service works", 8, (*modelRig).someWork},
	{"a connection comes or goes", 7, (*modelRig).flip},
	{"a device says hello, or is reset", 5, (*modelRig).helloOrReset},
	{"a host MCU falls back", 2, (*modelRig).fallBack},
	{"a late report", 4, (*modelRig).lateReport},
	{"people ask something of a job", 10, (*modelRig).people},
	{"a job is created", 3, (*modelRig).maybeJob},
	{"devices, labels and groups are edited", 3, (*modelRig).edit},
	{"the service crashes", 2, (*modelRig).crash},
	{"the store fails", 4, (*modelRig).storeFails},
	{"the broker fails", 1, func(r *modelRig) { r.refusals = 1 + r.n(3) }},
	{"the clock jumps", 1, (*modelRig).clockJumps},
}

// step does one thing, and mostly has the service do what follows from it.
func (r *modelRig) step() {
	total := 0
	for _, s := range modelSteps {
		total += s.weight
	}
	at := r.n(total)
	for _, s := range modelSteps {
		if at -= s.weight; at < 0 {
			r.logf("step %d: %s", r.stats.steps, s.name)
			r.stats.steps++
			r.stats.kinds[s.name]++
			s.do(r)
			break
		}
	}
	if r.chance(3) {
		r.settle()
	} else if r.chance(2) {
		r.someWork()
	}
	if r.stats.steps%25 == 0 {
		r.check()
	}
}

func (r *modelRig) devicesAct() {
	for range 1 + r.n(6) {
		d := pick(r, r.all())
		for range 1 + r.n(4) {
			d.act()
		}
	}
}

func (r *modelRig) timePasses() {
	d := pick(r, []time.Duration{time.Millisecond, time.Second, 10 * time.Second, time.Minute, time.Minute, 5 * time.Minute, 20 * time.Minute, time.Hour, 6 * time.Hour})
	if !r.next.IsZero() && r.next.After(r.wall) && r.chance(2) {
		d = r.next.Sub(r.wall) // to the very moment
		if r.chance(4) && d > 1 {
			d--
		}
	}
	r.pass(min(d, 48*time.Hour))
}

// someWork has the service do a part of what is due.
func (r *modelRig) someWork() {
	if r.chance(2) {
		next, err := r.Advance(ctx)
		if r.tolerate("advance", err) {
			r.next = next
		}
	}
	r.publish(r.n(4))
}

// fallBack has a host MCU run again what it ran before an update.
func (r *modelRig) fallBack() {
	var able []*module
	for _, d := range r.all() {
		if len(d.before) > 0 {
			able = append(able, d)
		}
	}
	if len(able) > 0 {
		pick(r, able).fallBack()
	}
}

func (r *modelRig) flip() {
	d := pick(r, r.all())
	if d.connected && r.chance(2) {
		d.disconnect()
	} else if !d.connected {
		d.connect()
	}
}

func (r *modelRig) helloOrReset() {
	d := pick(r, r.all())
	if d.connected {
		d.says = !r.chance(4)
		d.hello()
	}
}

func (r *modelRig) lateReport() {
	d := pick(r, r.all())
	if len(d.said) > 0 && d.connected {
		r.tolerate("late report", r.Status(ctx, d.id, pick(r, d.said)))
	}
}

func (r *modelRig) storeFails() {
	for range 1 + r.n(3) {
		r.faults = append(r.faults, storetest.Fault(r.n(3)))
	}
	for range 1 + r.n(3) {
		pick(r, r.all()).act()
	}
	if r.chance(3) {
		r.someWork()
	}
}

func (r *modelRig) clockJumps() {
	d := pick(r, []time.Duration{-time.Hour, -time.Hour, time.Hour, -10 * time.Second})
	r.logf("the clock is set by %v", d)
	r.stats.jumps++
	r.pass(d)
}

func (r *modelRig) maybeJob() {
	open := 0
	for _, name := range r.m.names {
		if s := r.m.jobs[name].job.State; s == orchestrator.JobDraft || s == orchestrator.JobRunning || s == orchestrator.JobPaused {
			open++
		}
	}
	if open < 4 && len(r.m.names) < 12 {
		r.newJob()
	}
}

// people asks something of a job, with a failure of the store now and then.
func (r *modelRig) people() {
	if len(r.m.names) == 0 {
		return
	}
	if r.chance(5) {
		r.faults = []storetest.Fault{storetest.Fault(r.n(3)), storetest.Fault(r.n(3))}
	}
	j := r.m.jobs[pick(r, r.m.names)]
	r.ask(j, pick(r, []string{"start", "pause", "resume", "resume", "resume", "approve", "approve", "force", "cancel", "retry", "retry", "install", "install", "confirm", "confirm"}))
	r.faults = nil
}

// ask does what people can ask of a job; that it does not fit is no failure.
func (r *modelRig) ask(j *modelJob, what string) {
	name := j.spec.Name
	r.logf("%s %s", what, name)
	r.m.asked[name] = what
	defer delete(r.m.asked, name)
	var devices orchestrator.DevicesRequest
	if r.chance(2) && !r.healthy {
		for _, d := range sortedKeys(j.execs) {
			if r.chance(3) {
				devices.Devices = append(devices.Devices, d)
			}
		}
	}
	var err error
	switch what {
	case "start":
		_, err = r.StartJob(ctx, name)
	case "pause":
		_, err = r.PauseJob(ctx, name)
	case "resume":
		_, err = r.ResumeJob(ctx, name)
	case "approve", "force":
		wave := j.job.Wave + 1
		sure := j.approved[wave]
		if what == "approve" {
			j.approved[wave] = sure
		}
		_, err = r.ApproveWave(ctx, name, orchestrator.ApproveRequest{Wave: max(wave, 2), Force: what == "force"})
		switch {
		case what == "force":
		case err == nil:
			j.approved[wave] = true
		case !errors.Is(err, storetest.ErrInjected) && !sure:
			delete(j.approved, wave)
		}
	case "cancel":
		_, err = r.CancelJob(ctx, name, orchestrator.CancelRequest{Finish: r.chance(2)})
	case "retry":
		j.handRetries = true
		_, err = r.RetryJob(ctx, name, orchestrator.RetryRequest(devices))
	case "install":
		_, err = r.InstallJob(ctx, name, devices)
	case "confirm":
		_, err = r.ConfirmJob(ctx, name, devices)
	}
	r.tolerate(what, err, orchestrator.ErrConflict, orchestrator.ErrInvalid)
	r.stats.asked[what]++
}

// edit changes what jobs were made from.
func (r *modelRig) edit() {
	switch r.n(4) {
	case 0:
		r.createDevice()
	case 1:
		d := pick(r, r.all())
		labels := r.labels()
		before := d.labels
		d.labels = labels // the update itself may bring the device to a continuous job
		_, err := r.UpdateDevice(ctx, d.id, orchestrator.DevicePatch{Labels: &labels})
		if !r.tolerate("edit labels", err) {
			if now := r.m.device(d.id); now.Labels["site"] == before["site"] && now.Labels["tz"] == before["tz"] {
				d.labels = before
			}
		}
	case 2:
		devices := r.some(1 + r.n(len(r.ids)/2))
		_, err := r.UpdateGroup(ctx, pick(r, []string{"g0", "g1"}), orchestrator.GroupPatch{Devices: &devices})
		r.tolerate("edit group", err)
	case 3:
		r.deleteDevice(pick(r, r.ids))
	}
}

func (r *modelRig) deleteDevice(id string) {
	for _, g := range []string{"g0", "g1"} {
		if r.members(g)[id] {
			return
		}
	}
	if len(r.ids) < 6 {
		return
	}
	err := r.DeleteDevice(ctx, id)
	r.tolerate("delete device", err, orchestrator.ErrConflict)
	if _, gone := r.reader.Device(ctx, id); gone == nil {
		return
	}
	r.stats.deleted++
	delete(r.devices, id)
	r.ids = remove(r.ids, id)
}

func remove(list []string, s string) (out []string) {
	for _, x := range list {
		if x != s {
			out = append(out, x)
		}
	}
	return out
}

// heal lets everything come right: every device is connected and well, people
// agree to all, and time passes. All jobs then come to an end, but continuous ones
// without end.
func (r *modelRig) heal() {
	r.logf("everything heals")
	r.healthy, r.faults, r.refusals = true, nil, 0
	for _, d := range r.all() {
		d.says = true
		d.connect()
	}
	begun := r.up
	for round := 0; ; round++ {
		for _, d := range r.all() {
			for range 12 {
				d.act()
			}
		}
		r.settle()
		left := r.agree()
		if left == 0 && r.idle() {
			break
		}
		if r.up-begun > 60*24*time.Hour || round > 4000 {
			r.fail("jobs do not come to an end: %d are left after %v", left, r.up-begun)
		}
		switch wait := r.next.Sub(r.wall); {
		case !r.idle():
			r.pass(time.Second)
		case wait > 0 && wait < 24*time.Hour:
			r.pass(wait)
		default:
			r.pass(time.Hour)
		}
	}
	r.agreeOnVersions()
	r.check()
}

// agree does what jobs wait for people to do, and counts those that have not ended.
func (r *modelRig) agree() (left int) {
	for _, name := range r.m.names {
		j := r.m.jobs[name]
		queued := j.job.Counts[schemas.StateQueued] > 0
		switch j.job.State {
		case orchestrator.JobDraft:
			r.ask(j, "start")
		case orchestrator.JobPaused:
			r.ask(j, "resume")
			if r.m.stuck(j) {
				r.ask(j, "force")
			}
		case orchestrator.JobRunning:
			if o := j.spec.Rollout; o != nil && queued {
				switch o.Action {
				case orchestrator.ActionDownload:
					r.ask(j, "install")
				case orchestrator.ActionConfirm:
					r.ask(j, "confirm")
				}
			}
			if n := j.job.Wave; n > 0 && n < len(j.job.Waves) && j.job.Waves[n].State == orchestrator.WaveApproval {
				r.ask(j, "approve")
			} else if r.idle() && r.m.stuck(j) {
				r.ask(j, "force") // everybody has seen by now that it cannot be reached
			}
		default:
			continue
		}
		if !j.continuous() || queued || j.job.InProgress > 0 {
			left++
		}
	}
	return left
}

// idle says whether no device has anything to do.
func (r *modelRig) idle() bool {
	for _, d := range r.devices {
		if d.work != nil || len(d.pending) > 0 {
			return false
		}
	}
	return len(r.offers) == 0
}

// agreeOnVersions compares what the host MCUs run with the books.
func (r *modelRig) agreeOnVersions() {
	for _, d := range r.all() {
		dev := r.m.device(d.id)
		for kind, version := range d.running() {
			if dev.Versions[kind] != version || running(&dev, kind) != version {
				r.fail("%s runs %s %s, the books say %s", d.id, kind, version, dev.Versions[kind])
			}
		}
	}
}
