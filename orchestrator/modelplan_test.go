package orchestrator_test

import (
	"encoding/json"
	"fmt"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// minutes draws a duration of so many minutes.
func (r *modelRig) minutes(from, to int) orchestrator.Duration {
	return orchestrator.Duration(time.Duration(from+r.n(to-from+1)) * time.Minute)
}

// newJob creates a job with a random rollout.
func (r *modelRig) newJob() {
	image := pick(r, r.base.images)
	n := orchestrator.NewJob{Name: fmt.Sprintf("j%d", len(r.m.jobs)+1), Image: image.ID, IgnoreValidation: r.chance(6), Start: !r.chance(5)}
	for _, id := range r.some(3 + r.n(len(r.ids))) {
		if image.ImageType == "app" || r.devices[id].typ == "pump" {
			n.Devices = append(n.Devices, id)
		}
	}
	if len(n.Devices) == 0 {
		return
	}
	if image.ImageType == "app" && r.chance(3) {
		n.Groups = []string{fmt.Sprintf("g%d", r.n(3))}
	}
	if !r.chance(8) {
		n.Rollout = r.rollout(&n, image)
	}
	r.logf("job %s", inJSON(n))
	r.m.expect(n)
	_, err := r.CreateJob(ctx, n)
	if !r.tolerate("create job", err, orchestrator.ErrInvalid) {
		r.stats.refused++
	} else {
		r.stats.jobs++
	}
	r.m.forgetMissing()
}

func inJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// rollout draws how a job reaches its devices. Each part is there in some jobs.
func (r *modelRig) rollout(n *orchestrator.NewJob, image orchestrator.Image) *orchestrator.Rollout {
	o := &orchestrator.Rollout{Priority: pick(r, []int{0, 0, 5, -3}), Continuous: r.chance(5)}
	if r.chance(2) {
		o.Seed = fmt.Sprint(r.n(100))
	}
	if r.chance(2) {
		o.Waves = r.waves(n)
	}
	if r.chance(2) {
		for range 1 + r.n(3) {
			o.Stop = append(o.Stop, r.stopRule(image, len(o.Waves) > 0))
		}
	}
	if r.chance(2) {
		o.Pace = r.pace()
	}
	if r.chance(3) {
		o.Schedule = r.schedule()
	}
	if r.chance(2) {
		o.Timeouts = r.timeouts()
	}
	if !r.chance(3) {
		o.Retry = r.retry()
	}
	r.action(o)
	if image.ImageType == "app" && image.MinVersion != "" && r.chance(2) && !n.IgnoreValidation {
		r.chain(o, image)
	}
	return o
}

func (r *modelRig) waves(n *orchestrator.NewJob) (waves []orchestrator.Wave) {
	percent := 0.0
	for i := range 1 + r.n(4) {
		var w orchestrator.Wave
		switch {
		case i == 0 && r.chance(3):
			w.Devices = n.Devices[:1+r.n(min(3, len(n.Devices)))]
		case i < 2 && r.chance(5) && len(n.Groups) > 0:
			w.Group = n.Groups[0]
		case percent == 0 && r.chance(3):
			w.Count = 1 + r.n(2)
		default:
			percent += float64(20 + r.n(25))
			w.Percent = min(percent, 100)
		}
		w.Success = pick(r, []float64{0, 50, 80, 100})
		w.Of = pick(r, []orchestrator.WaveBasis{"", orchestrator.OfAll, orchestrator.OfOnline})
		if r.chance(2) {
			w.Soak = r.minutes(1, 90)
		}
		w.Approve = i > 0 && r.chance(3)
		waves = append(waves, w)
		if percent >= 100 {
			break
		}
	}
	return waves
}

func (r *modelRig) stopRule(image orchestrator.Image, waves bool) orchestrator.StopRule {
	s := orchestrator.StopRule{Action: pick(r, []orchestrator.StopAction{"", orchestrator.StopPause, orchestrator.StopPause, orchestrator.StopAbort, orchestrator.StopRecall})}
	if r.chance(2) {
		s.Count = 1 + r.n(4)
	} else {
		s.Percent, s.MinSample = float64(10+r.n(80)), r.n(5)
	}
	if r.chance(3) {
		s.Causes = pick(r, [][]schemas.Cause{{schemas.CauseBoot}, {schemas.CauseNetwork, schemas.CauseSerial}, {schemas.CauseTimeout, schemas.CauseRejected}})
	}
	if waves && r.chance(2) {
		s.Over = orchestrator.OverWave
	}
	if s.Action == orchestrator.StopAbort || s.Action == orchestrator.StopRecall {
		if back := r.base.images[0]; image.ImageType == back.ImageType && image.Version != back.Version && r.chance(2) {
			s.RollBack = back.ID
		}
	}
	return s
}

func (r *modelRig) pace() *orchestrator.Pace {
	p := &orchestrator.Pace{}
	if !r.chance(3) {
		p.MaxInProgress = 1 + r.n(5)
	}
	if r.chance(2) {
		p.PerMinute = pick(r, []int{1, 2, 5, 60, 100})
	}
	if r.chance(3) {
		p.Ramp = &orchestrator.Ramp{Start: 1 + r.n(2), Factor: pick(r, []float64{0, 1.5, 3}), After: 1 + r.n(3)}
		if p.PerMinute > 0 && p.PerMinute <= p.Ramp.Start {
			p.PerMinute = 20
		}
	}
	for _, g := range []string{"g0", "g1", "g2"}[:r.n(3)] {
		limit := orchestrator.GroupPace{Group: g, MaxInProgress: 1 + r.n(3)}
		if r.chance(3) {
			limit.PerMinute = 1 + r.n(3)
		}
		p.Groups = append(p.Groups, limit)
	}
	if p.MaxInProgress == 0 && p.PerMinute == 0 && p.Ramp == nil && len(p.Groups) == 0 {
		p.MaxInProgress = 2
	}
	return p
}

// modelWindows are the windows of schedules; windows_model_test.go says by itself
// when they are open.
var modelWindows = []orchestrator.Window{
	{Cron: "0 1 * * *", Duration: orchestrator.Duration(3 * time.Hour)},
	{Cron: "30 2 * * *", Duration: orchestrator.Duration(90 * time.Minute)},
	{Cron: "*/20 * * * *", Duration: orchestrator.Duration(7 * time.Minute)},
	{Cron: "15 22 * * mon-fri", Duration: orchestrator.Duration(5 * time.Hour)},
	{Cron: "0 0,12 * * *", Duration: orchestrator.Duration(time.Hour)},
}

func (r *modelRig) schedule() *orchestrator.Schedule {
	s := &orchestrator.Schedule{Recall: r.chance(3)}
	if r.chance(3) {
		s.Start = r.wall.Add(time.Duration(r.minutes(1, 300)))
	}
	if r.chance(3) {
		s.End = r.wall.Add(time.Duration(r.minutes(400, 3000)))
	}
	for range r.n(3) {
		w := pick(r, modelWindows)
		w.Zone = pick(r, []string{"", "Europe/Berlin", "America/New_York", "UTC"})
		s.Windows = append(s.Windows, w)
	}
	if len(s.Windows) > 0 && r.chance(2) {
		s.DeviceZone = "tz"
	}
	if s.Start.IsZero() && s.End.IsZero() && len(s.Windows) == 0 {
		s.Start = r.wall.Add(time.Hour)
	}
	if len(s.Windows) == 0 {
		s.Recall = false
	}
	return s
}

func (r *modelRig) timeouts() *orchestrator.Timeouts {
	t := &orchestrator.Timeouts{}
	for _, d := range []*orchestrator.Duration{&t.Answer, &t.Download, &t.Load, &t.Boot, &t.Version} {
		if r.chance(2) {
			*d = r.minutes(2, 90)
		}
	}
	if r.chance(2) {
		t.Total = r.minutes(91, 240)
	}
	if t.Load > 0 && r.chance(2) {
		t.LoadRate = 100 // which is 100 s for an image of the rig
	}
	if *t == (orchestrator.Timeouts{}) {
		t.Answer = r.minutes(2, 60)
	}
	return t
}

func (r *modelRig) retry() *orchestrator.RetryPolicy {
	p := &orchestrator.RetryPolicy{Attempts: r.n(5)}
	if r.chance(2) {
		p.Backoff = &orchestrator.Backoff{First: r.minutes(1, 10), Factor: pick(r, []float64{0, 1, 3}), Max: r.minutes(20, 60), Jitter: pick(r, []float64{0, 0.5})}
	}
	if r.chance(2) {
		p.Causes = map[schemas.Cause]orchestrator.CauseRetry{pick(r, []schemas.Cause{schemas.CauseNetwork, schemas.CauseBoot, schemas.CauseTimeout}): {Attempts: 1 + r.n(4)}}
	}
	if r.chance(3) {
		p.Budget = 1 + r.n(6)
	}
	return p
}

func (r *modelRig) action(o *orchestrator.Rollout) {
	switch r.n(6) {
	case 0:
		o.Action, o.DeferLimit = orchestrator.ActionSoft, r.minutes(10, 200)
	case 1:
		o.Action = orchestrator.ActionDownload
	case 2:
		o.Action, o.ConfirmBy = orchestrator.ActionConfirm, pick(r, []orchestrator.ConfirmBy{"", orchestrator.ByPerson, orchestrator.ByProduct})
	}
}

// chain leads the devices of a job over the images that come before its own.
func (r *modelRig) chain(o *orchestrator.Rollout, image orchestrator.Image) {
	before := map[string][]int{"1.5": {0}, "2.0": {0, 1}, "3.0": {0, 1, 2}}
	for _, i := range before[image.Version] {
		o.Via = append(o.Via, r.base.images[i].ID)
	}
}
