package orchestrator_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

func TestMaxInProgress(t *testing.T) {
	r := newRig(t, 20)
	r.rollOut("j", orchestrator.Rollout{Pace: &orchestrator.Pace{MaxInProgress: 4}})
	r.stands("j", "16 queued, 4 offered")
	r.reports("j", schemas.StateInstalling, r.in("j", schemas.StateOffered)...)
	r.stands("j", "16 queued, 4 installing")
	r.reports("j", schemas.StateFailed, r.in("j", schemas.StateInstalling)[:3]...)
	r.stands("j", "13 queued, 3 offered, 1 installing, 3 failed")
	for range 20 {
		r.reports("j", schemas.StateSucceeded, r.in("j", schemas.StateOffered)...)
		r.reports("j", schemas.StateSucceeded, r.in("j", schemas.StateInstalling)...)
	}
	if j := r.stands("j", "17 succeeded, 3 failed"); j.State != orchestrator.JobCompleted {
		t.Errorf("the job is %s", j.State)
	}
}

// TestAbsentDevicesTakeNoPlace offers to those that are there, and to the others
// when they come.
func TestAbsentDevicesTakeNoPlace(t *testing.T) {
	r := newRig(t, 6)
	for _, id := range r.ids[:4] {
		r.ok(r.Presence(ctx, id, false))
	}
	r.rollOut("j", orchestrator.Rollout{Pace: &orchestrator.Pace{MaxInProgress: 2}})
	if got := r.in("j", schemas.StateOffered); !slices.Equal(got, r.ids[4:]) {
		t.Fatalf("offered to %v", got)
	}
	r.ok(r.Presence(ctx, "d000", true))
	r.stands("j", "4 queued, 2 offered")
	r.reports("j", schemas.StateSucceeded, "d005")
	if got := r.in("j", schemas.StateOffered); !slices.Equal(got, []string{"d000", "d004"}) {
		t.Errorf("then offered to %v", got)
	}
	r.ok(r.Presence(ctx, "d001", true))
	r.ok(r.Presence(ctx, "d001", false)) // it was ready and is gone
	r.succeed("j")
	r.stands("j", "3 queued, 3 succeeded")
	r.restart()
	r.start()
	r.stop()
	r.turn()
	r.stands("j", "3 queued, 3 succeeded")
}

func TestRate(t *testing.T) {
	r := newRig(t, 40)
	r.rollOut("j", orchestrator.Rollout{Pace: &orchestrator.Pace{PerMinute: 6, Ramp: &orchestrator.Ramp{Start: 2, After: 4}}})
	began := r.now
	var offers []time.Time
	seen := map[string]bool{}
	look := func() {
		for _, id := range r.in("j", schemas.StateOffered) {
			if !seen[id] {
				seen[id] = true
				offers = append(offers, r.now)
			}
			r.says("j", id, schemas.StateSucceeded, "")
		}
	}
	for r.now.Sub(began) < 10*time.Minute && len(offers) < 40 {
		look()
		next := r.turn()
		if next.IsZero() {
			break
		}
		r.now = next
		r.turn()
	}
	look()
	for i := range offers {
		n := 0
		for _, at := range offers {
			if d := at.Sub(offers[i]); d >= 0 && d < time.Minute {
				n++
			}
		}
		if n > 6 {
			t.Errorf("%d offers in the minute from %v", n, offers[i].Sub(began))
		}
	}
	first := 0
	for _, at := range offers {
		if at.Sub(began) < time.Minute {
			first++
		}
	}
	if first > 2 || len(offers) < 35 {
		t.Errorf("%d offers in the first minute, %d in ten", first, len(offers))
	}
}

func TestGroupPace(t *testing.T) {
	r := newRig(t, 12)
	must[orchestrator.Group](t)(r.CreateGroup(ctx, orchestrator.NewGroup{ID: "slow", Devices: r.ids[:6]}))
	r.rollOut("j", orchestrator.Rollout{Pace: &orchestrator.Pace{MaxInProgress: 5, Groups: []orchestrator.GroupPace{{Group: "slow", MaxInProgress: 1}}}})
	for range 20 {
		slow := 0
		offered := r.in("j", schemas.StateOffered)
		for _, id := range offered {
			if slices.Contains(r.ids[:6], id) {
				slow++
			}
		}
		if slow > 1 || len(offered) > 5 {
			t.Fatalf("offered to %v", offered)
		}
		r.succeed("j")
	}
	r.stands("j", "12 succeeded")
}

// TestSharedPlaces divides the service's limit fairly, whoever came first.
func TestSharedPlaces(t *testing.T) {
	r := newRig(t, 30, func(o *orchestrator.Options) { o.MaxInProgress = 6 })
	job := func(name string, devices []string) {
		must[orchestrator.Job](t)(r.CreateJob(ctx, orchestrator.NewJob{Name: name, Image: r.img.ID, Devices: devices, Start: true}))
		r.turn()
	}
	job("a", r.ids[:14])
	if n := len(r.in("a", schemas.StateOffered)); n != 6 {
		t.Fatalf("the first job alone has %d places", n)
	}
	job("b", r.ids[14:24])
	job("c", r.ids[24:])
	for round := range 12 {
		for _, name := range []string{"a", "b", "c"} {
			if ids := r.in(name, schemas.StateOffered); len(ids) > 0 {
				r.reports(name, schemas.StateSucceeded, ids[0])
			}
		}
		total, least := 0, 100
		for _, name := range []string{"a", "b", "c"} {
			j := must[orchestrator.Job](t)(r.Job(ctx, name))
			total += j.InProgress
			if j.Counts[schemas.StateQueued] > 0 {
				least = min(least, j.InProgress)
			}
		}
		if total > 6 {
			t.Fatalf("%d in progress", total)
		}
		if least == 0 && round > 1 { // by then enough places have become free
			t.Errorf("a job with waiting devices has no place")
		}
	}
	for range 30 {
		for _, name := range []string{"a", "b", "c"} {
			r.succeed(name)
		}
	}
	for i, n := range []int{14, 10, 6} {
		r.stands(string(rune('a'+i)), fmt.Sprintf("%d succeeded", n))
	}
}

// TestPriority lets the job of the higher priority have a device first, and says
// so where it takes an offer back for it.
func TestPriority(t *testing.T) {
	r := newRig(t, 2)
	urgent := r.image("3", content(11, 1))
	r.rollOut("j", orchestrator.Rollout{})
	r.reports("j", schemas.StateAccepted, "d001")
	r.rollOut("urgent", orchestrator.Rollout{Priority: 10}, func(n *orchestrator.NewJob) { n.Image = urgent.ID })
	if got := r.in("urgent", schemas.StateOffered); !slices.Equal(got, []string{"d000"}) {
		t.Errorf("the urgent job is offered to %v", got)
	}
	x := r.execution("j", "d000")
	if x.State != schemas.StateQueued || x.History[0].Detail != "the offer was withdrawn for job urgent, which has a higher priority" {
		t.Errorf("superseded as %+v", x)
	}
	r.reports("urgent", schemas.StateSucceeded, "d000")
	r.stands("j", "1 offered, 1 accepted")
	r.reports("j", schemas.StateSucceeded, "d000", "d001")
	r.stands("urgent", "1 offered, 1 succeeded")
}

// TestMakesWayAtOnce: an offer that nobody has accepted is taken back in the moment in
// which a job of a higher priority may offer, whatever that one waited for; what was
// accepted goes on.
func TestMakesWayAtOnce(t *testing.T) {
	const hour = orchestrator.Duration(time.Hour)
	for name, c := range map[string]struct {
		urgent orchestrator.Rollout
		hold   func(r *rig) // before the other job
		lets   func(r *rig) // the urgent job offer
	}{
		"its start comes": {
			urgent: orchestrator.Rollout{Schedule: &orchestrator.Schedule{Start: epoch.Add(time.Hour)}},
			lets:   func(r *rig) { r.pass(time.Hour) },
		},
		"its window opens": {
			urgent: orchestrator.Rollout{Schedule: &orchestrator.Schedule{Windows: []orchestrator.Window{
				{Cron: epoch.Add(time.Hour).Format("4 15 * * *"), Duration: hour}}}},
			lets: func(r *rig) { r.pass(time.Hour) },
		},
		"its wave begins": {
			urgent: orchestrator.Rollout{Waves: []orchestrator.Wave{{Devices: []string{"d000"}}, {Percent: 100}}},
			lets:   func(r *rig) { r.reports("urgent", schemas.StateSucceeded, "d000") },
		},
		"it has room": {
			urgent: orchestrator.Rollout{Pace: &orchestrator.Pace{MaxInProgress: 1}},
			hold:   func(r *rig) { r.reports("urgent", schemas.StateAccepted, r.in("urgent", schemas.StateOffered)...) },
			lets:   func(r *rig) { r.reports("urgent", schemas.StateSucceeded, r.in("urgent", schemas.StateAccepted)...) },
		},
		"its rate lets one through": {
			urgent: orchestrator.Rollout{Pace: &orchestrator.Pace{PerMinute: 1}},
			lets:   func(r *rig) { r.pass(time.Minute + time.Minute/10) },
		},
		"it goes on after a pause": {
			hold: func(r *rig) { must[orchestrator.Job](r.t)(r.PauseJob(ctx, "urgent")) },
			lets: func(r *rig) { must[orchestrator.Job](r.t)(r.ResumeJob(ctx, "urgent")) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3)
			urgent := r.image("3", content(11, 1))
			c.urgent.Priority = 10
			r.rollOut("urgent", c.urgent, func(n *orchestrator.NewJob) { n.Image = urgent.ID })
			if c.hold != nil {
				c.hold(r)
				r.turn()
			}
			r.rollOut("j", orchestrator.Rollout{})
			stands := r.in("j", schemas.StateOffered)
			accepts := stands[len(stands)-1]
			r.reports("j", schemas.StateAccepted, accepts)
			for _, id := range stands { // a report that does not count lets everything wait as it does
				late := status(r.execution("j", id), 1, schemas.StateDownloading)
				late.Attempt++
				r.ok(r.Status(ctx, id, late))
			}
			c.lets(r)
			r.turn()
			if len(stands) < 2 {
				t.Fatalf("only %v are offered the other job", stands)
			}
			for _, id := range stands[:len(stands)-1] {
				x, u := r.execution("j", id), r.execution("urgent", id)
				if x.State != schemas.StateQueued || x.History[0].Detail != "the offer was withdrawn for job urgent, which has a higher priority" || u.State != schemas.StateOffered {
					t.Errorf("%s is %s, the urgent one %s: %+v", id, x.State, u.State, x.History)
				}
			}
			if x, u := r.execution("j", accepts), r.execution("urgent", accepts); x.State != schemas.StateAccepted || u.State != schemas.StateQueued {
				t.Errorf("what %s has accepted is %s, the urgent one is %s", accepts, x.State, u.State)
			}
			r.checkClean()
		})
	}
}
