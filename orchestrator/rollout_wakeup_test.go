package orchestrator_test

import (
	"testing"
	"time"

	"davit/orchestrator"
	"davit/orchestrator/storetest"
	"davit/schemas"
)

// What the model (rollout_model_test.go) has found, each in its shortest form.

// TestReadyLater has devices become ready when their job has no room, and nothing
// else happens to the job: it is woken all the same.
func TestReadyLater(t *testing.T) {
	t.Run("the pace", func(t *testing.T) {
		r := newRig(t, 2)
		r.ok(r.Presence(ctx, "d001", false))
		r.rollOut("j", orchestrator.Rollout{Pace: &orchestrator.Pace{PerMinute: 1}})
		r.ok(r.Presence(ctx, "d001", true))
		r.stands("j", "1 queued, 1 offered")
		r.pass(time.Minute)
		r.stands("j", "2 offered")
	})
	t.Run("the limit of all jobs", func(t *testing.T) {
		r := newRig(t, 2, func(o *orchestrator.Options) { o.MaxInProgress = 1 })
		r.rollOut("other", orchestrator.Rollout{}, func(n *orchestrator.NewJob) { n.Devices = []string{"d000"} })
		r.ok(r.Presence(ctx, "d001", false))
		r.rollOut("j", orchestrator.Rollout{}, func(n *orchestrator.NewJob) { n.Devices = []string{"d001"} })
		r.ok(r.Presence(ctx, "d001", true))
		r.succeed("other")
		r.stands("j", "1 offered")
	})
}

// TestLateReport has devices report, late, on what has ended: what waits on them is
// judged by what they are, and stays ready.
func TestLateReport(t *testing.T) {
	r := newRig(t, 3)
	r.rollOut("old", orchestrator.Rollout{})
	r.reports("old", schemas.StateFailed, r.ids...)
	r.rollOut("j", orchestrator.Rollout{Pace: &orchestrator.Pace{MaxInProgress: 1}})
	r.stands("j", "2 queued, 1 offered")
	for _, id := range r.ids {
		r.ok(r.Status(ctx, id, status(r.execution("old", id), 9, schemas.StateDownloading)))
	}
	r.succeed("j")
	r.succeed("j")
	r.stands("j", "1 offered, 2 succeeded")
}

// TestNothingAfterTheEnd has a device come when the end has passed, before the
// service has looked at the clock.
func TestNothingAfterTheEnd(t *testing.T) {
	r := newRig(t, 2)
	r.ok(r.Presence(ctx, "d001", false))
	r.rollOut("j", orchestrator.Rollout{Retry: &orchestrator.RetryPolicy{}, Timeouts: &orchestrator.Timeouts{Total: hour},
		Schedule: &orchestrator.Schedule{End: epoch.Add(time.Hour)}})
	r.reports("j", schemas.StateInstalling, "d000")
	r.now = r.now.Add(time.Hour)
	r.ok(r.Presence(ctx, "d001", true))
	r.stands("j", "1 queued, 1 installing")
	r.turn()
	if j := r.stands("j", "1 timed_out, 1 canceled"); j.State != orchestrator.JobCompleted {
		t.Errorf("the job is %s", j.State)
	}
	_, err := r.RetryJob(ctx, "j", orchestrator.RetryRequest{})
	r.wants(err, orchestrator.ErrConflict, "its end has passed")
}

// TestStandingOfferAtTheEnd has a broker lose what it retained, and the service
// repeat it before it has looked at the clock: not what the end has taken back.
func TestStandingOfferAtTheEnd(t *testing.T) {
	r := newRig(t, 1)
	r.rollOut("j", orchestrator.Rollout{Schedule: &orchestrator.Schedule{End: epoch.Add(time.Hour)}})
	r.now = r.now.Add(time.Hour)
	r.restart()
	r.ok(r.Republish(ctx))
	for {
		device, _, err := orchestrator.PublishNext(ctx, r.Service)
		r.ok(err)
		if device == "" {
			break
		}
	}
	if len(r.broker.retained()) > 0 {
		t.Errorf("published after the end: %v", r.broker.retained())
	}
	r.stands("j", "1 canceled")
}

// TestStepOfAnEndedJob has a device come to a version on the way after its job was
// canceled: that is no success.
func TestStepOfAnEndedJob(t *testing.T) {
	r := newRig(t, 1)
	step := r.image("1.5", content(20, 1), func(n *orchestrator.NewImage) { n.MinVersion = "1" })
	last := r.image("2.0", content(30, 1), func(n *orchestrator.NewImage) { n.MinVersion = "1.5" })
	r.rollOut("j", orchestrator.Rollout{Via: []string{step.ID}}, func(n *orchestrator.NewJob) { n.Image = last.ID })
	r.reports("j", schemas.StateInstalling, "d000")
	must[orchestrator.Job](t)(r.CancelJob(ctx, "j", orchestrator.CancelRequest{Finish: true}))
	r.reports("j", schemas.StateSucceeded, "d000")
	r.stands("j", "1 canceled")
	x := r.execution("j", "d000")
	if len(x.History) != 1 || x.History[0].State != schemas.StateSucceeded || x.History[0].Version != "1.5" {
		t.Errorf("its history is %+v", x.History)
	}
	if j := must[orchestrator.Job](t)(r.Job(ctx, "j")); j.CompletedAt.IsZero() {
		t.Errorf("the job has not ended: %+v", j)
	}
}

// TestWaitsForAnEndedJob has devices come to where they would wait for a command, or
// until they are asked again, after their job was canceled.
func TestWaitsForAnEndedJob(t *testing.T) {
	for name, c := range map[string]struct {
		plan orchestrator.Rollout
		says schemas.Status
		ends string
	}{
		"downloaded": {orchestrator.Rollout{Action: orchestrator.ActionDownload}, schemas.Status{State: schemas.StateDownloaded}, "1 canceled"},
		"put off": {orchestrator.Rollout{Action: orchestrator.ActionSoft, DeferLimit: hour},
			schemas.Status{State: schemas.StateRejected, Cause: schemas.CauseDeferred, DeferS: 60}, "1 rejected"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1)
			r.rollOut("j", c.plan)
			r.reports("j", schemas.StateAccepted, "d000")
			must[orchestrator.Job](t)(r.CancelJob(ctx, "j", orchestrator.CancelRequest{Finish: true}))
			r.stands("j", "1 accepted")
			x := r.execution("j", "d000")
			s := c.says
			s.V, s.Execution, s.Attempt, s.Seq = schemas.Version, x.ID, x.Attempt, 9
			r.ok(r.Status(ctx, "d000", s))
			if j := r.stands("j", c.ends); j.CompletedAt.IsZero() {
				t.Error("the job has not ended")
			}
			if a, _ := r.broker.lastAck("d000"); a.State != s.State || a.Superseded {
				t.Errorf("acknowledged as %+v", a)
			}
		})
	}
}

// TestWindowOfAPausedJob closes the windows of a job that is paused: what devices
// have accepted is taken back as from one that runs.
func TestWindowOfAPausedJob(t *testing.T) {
	r := newRig(t, 1)
	r.now = epoch.Truncate(time.Hour)
	r.rollOut("j", orchestrator.Rollout{Schedule: &orchestrator.Schedule{Recall: true,
		Windows: []orchestrator.Window{{Cron: "0 * * * *", Duration: 10 * minute}}}})
	r.reports("j", schemas.StateDownloading, "d000")
	must[orchestrator.Job](t)(r.PauseJob(ctx, "j"))
	r.stands("j", "1 downloading")
	r.pass(10 * time.Minute)
	r.stands("j", "1 queued")
	if h := r.execution("j", "d000").History; len(h) != 1 || h[0].Detail != "the offer was withdrawn because the window closed" {
		t.Errorf("its history is %+v", h)
	}
}

// TestClockSetBackUnseen sets the clock back while no process runs, and with a
// store that fails at the moment at which it is noticed.
func TestClockSetBackUnseen(t *testing.T) {
	fail := false
	r := newRig(t, 1, func(o *orchestrator.Options) {
		o.Store = &storetest.Faulty{Store: o.Store, Next: func() storetest.Fault {
			if fail {
				return storetest.FaultLost
			}
			return storetest.FaultNone
		}}
	})
	r.rollOut("j", orchestrator.Rollout{Schedule: &orchestrator.Schedule{Windows: []orchestrator.Window{{Cron: "30 * * * *", Duration: 10 * minute}}}})
	opens := epoch.Add(90 * time.Minute).Truncate(time.Hour).Add(30 * time.Minute)
	r.now = opens.Add(-time.Second)
	if next := r.turn(); !next.Equal(opens) {
		t.Fatalf("the window opens at %v, the next timer is at %v", opens, next)
	}
	r.now = r.now.Add(-time.Hour)
	r.restart()
	if next := r.turn(); !next.Equal(opens.Add(-time.Hour)) {
		t.Errorf("after a restart the next timer is at %v", next)
	}
	r.now = r.now.Add(-time.Hour)
	fail = true
	_, err := r.Advance(ctx)
	r.wants(err, storetest.ErrInjected)
	fail = false
	if next := r.turn(); !next.Equal(opens.Add(-2 * time.Hour)) {
		t.Errorf("after a failure the next timer is at %v", next)
	}
}
