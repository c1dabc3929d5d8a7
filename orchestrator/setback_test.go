package orchestrator_test

import (
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"davit/orchestrator"
	"davit/orchestrator/memstore"
	"davit/schemas"
)

// TestDeadlineWithAClockSetBack: the running service sees that its clock was set back by a
// day, by itself, and what is under way is over after its limit and not a day later. So does
// one that was started anew, at a time at which no device says anything.
func TestDeadlineWithAClockSetBack(t *testing.T) {
	for name, restarts := range map[string]bool{"while it runs": false, "while it does not run": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var back atomic.Int64
				e := newEnv(t, func(o *orchestrator.Options) {
					o.Now = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
				})
				defer e.checkClean()
				ids := e.fleet(2)
				e.start()
				defer func() { e.stop() }()
				img := e.image("2", content(10, 1))
				job := func(name, device string, plan orchestrator.Rollout) {
					must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: name, Image: img.ID, Devices: []string{device}, Rollout: &plan, Start: true}))
				}
				job("limit", ids[0], orchestrator.Rollout{Timeouts: &orchestrator.Timeouts{Download: 2 * hour}})
				job("wait", ids[1], orchestrator.Rollout{Retry: &orchestrator.RetryPolicy{Backoff: &orchestrator.Backoff{First: 2 * hour, Jitter: 1e-9}}})
				synctest.Wait()
				e.ok(e.Status(ctx, ids[0], status(e.execution("limit", ids[0]), 1, schemas.StateDownloading)))
				failed := status(e.execution("wait", ids[1]), 1, schemas.StateFailed)
				failed.Cause = schemas.CauseSerial
				e.ok(e.Status(ctx, ids[1], failed))
				synctest.Wait()
				if restarts {
					e.stop()
				}
				back.Store(int64(day))
				if restarts {
					e.restart()
					e.start()
				}
				stand := func(want map[string]schemas.State) {
					t.Helper()
					synctest.Wait()
					if got := map[string]schemas.State{"limit": e.execution("limit", ids[0]).State, "wait": e.execution("wait", ids[1]).State}; !maps.Equal(got, want) {
						t.Errorf("after the clock was set back: %v, want %v", got, want)
					}
				}
				time.Sleep(2*time.Hour - 5*time.Second)
				stand(map[string]schemas.State{"limit": schemas.StateDownloading, "wait": schemas.StateQueued})
				time.Sleep(2 * time.Minute)
				stand(map[string]schemas.State{"limit": schemas.StateTimedOut, "wait": schemas.StateOffered})
			})
		})
	}
}

// TestClockSetBackMovesAll: the executions of many devices are moved in bounded parts, those
// that wait on a device that is at work on another one too, whatever fails meanwhile.
func TestClockSetBackMovesAll(t *testing.T) {
	const devices, batch = 60, 4
	store := &gated{Store: memstore.New()}
	r := newRig(t, devices, func(o *orchestrator.Options) { o.Store, o.JobBatch = store, batch })
	r.rollOut("first", orchestrator.Rollout{Retry: &orchestrator.RetryPolicy{Backoff: &orchestrator.Backoff{First: 3 * hour, Jitter: 1e-9}}})
	for _, id := range r.ids {
		r.says("first", id, schemas.StateFailed, schemas.CauseSerial)
	}
	r.rollOut("second", orchestrator.Rollout{Timeouts: &orchestrator.Timeouts{Answer: 2 * hour}})
	r.stands("first", "60 queued")
	r.stands("second", "60 offered")
	r.pass(10 * time.Minute)
	r.now = r.now.Add(-day)
	r.says("second", r.ids[7], schemas.StateDownloading, "") // before the service looks at its clock

	part, parts, left := map[int]int{}, 0, 3
	broken := errors.New("no room on the disk")
	store.refuse = func(table orchestrator.Table, _ []byte) error {
		if table != "executions" {
			return nil
		}
		if part[store.updates]++; part[store.updates] == 1 {
			parts++
		}
		if parts == 5 && left > 0 {
			left--
			parts--
			return broken
		}
		return nil
	}
	for left > 0 {
		if _, err := r.Advance(ctx); !errors.Is(err, broken) {
			t.Fatalf("the store fails, Advance says %v", err)
		}
		r.restart()
	}
	r.turn()
	store.refuse = nil
	if most := slices.Max(slices.Collect(maps.Values(part))); most > 2*batch+2 || parts < 2*devices/(2*batch+2) {
		t.Errorf("%d executions in one update, %d updates; a part is %d devices", most, parts, batch)
	}
	for _, id := range r.ids {
		if x := r.execution("first", id); x.NotBefore.Sub(r.now).Round(time.Second) != 3*time.Hour || !x.DueAt.Equal(x.NotBefore) {
			t.Errorf("%s waits for %v", id, x.NotBefore.Sub(r.now))
		}
		if x := r.execution("second", id); id != r.ids[7] && (x.DueAt.Sub(r.now) != 2*time.Hour || x.UpdatedAt.After(r.now)) {
			t.Errorf("%s has %v to answer, it changed %v ago", id, x.DueAt.Sub(r.now), r.now.Sub(x.UpdatedAt))
		}
	}
	r.pass(2 * time.Hour)
	r.stands("second", "1 downloading, 59 timed_out")
}

// TestOffersAreSaidAgainWithAClockSetBack: what is said again is moved first, in one step,
// whatever else waits for the device.
func TestOffersAreSaidAgainWithAClockSetBack(t *testing.T) {
	r := newRig(t, 1)
	soft := orchestrator.Rollout{Action: orchestrator.ActionSoft, DeferLimit: 3 * hour}
	r.rollOut("first", soft)
	r.rollOut("second", soft)
	r.now = r.now.Add(-day)
	r.ok(r.Republish(ctx))
	for n := 0; ; n++ {
		device, _, err := orchestrator.PublishNext(ctx, r.Service)
		r.ok(err)
		if device == "" {
			break
		}
		if n == 5 {
			t.Fatal("publishing comes to no end")
		}
	}
	if o, _ := r.broker.offer(r.ids[0]); o.DeferUntil.Sub(r.now) != 3*time.Hour {
		t.Errorf("the device may put it off for %v", o.DeferUntil.Sub(r.now))
	}
}

// TestClockAtStart: a start looks at no execution unless the clock was set back.
func TestClockAtStart(t *testing.T) {
	for _, c := range []struct {
		back time.Duration
		read int
	}{{-day, 0}, {0, 0}, {4 * time.Minute, 0}, {day, 50}} {
		store := &gated{Store: memstore.New(), ops: map[string]int{}}
		r := newRig(t, 50, func(o *orchestrator.Options) { o.Store = store })
		r.rollOut("j", orchestrator.Rollout{Timeouts: &orchestrator.Timeouts{Answer: 48 * hour}})
		r.now = epoch.Add(-c.back)
		r.restart()
		for again := range 2 {
			clear(store.ops)
			r.turn()
			if reads := store.ops["get executions"]; reads > 0 != (c.read > 0 && again == 0) || reads < c.read*(1-again) {
				t.Errorf("set back by %v: %d executions were read at start %d", c.back, reads, again+1)
			}
			r.restart()
		}
	}
}

// TestClockSetBackLittleByLittle: what is too little to be followed adds up.
func TestClockSetBackLittleByLittle(t *testing.T) {
	r := newRig(t, 1)
	r.rollOut("j", orchestrator.Rollout{Timeouts: &orchestrator.Timeouts{Answer: hour}})
	for range 3 {
		r.now = r.now.Add(-2 * time.Minute)
		r.turn()
	}
	if x := r.execution("j", r.ids[0]); x.DueAt.Sub(r.now) != time.Hour {
		t.Errorf("%v to answer", x.DueAt.Sub(r.now))
	}
}

// TestTimesThatPeopleNamedStay: start and end of a job are when people said, whatever
// happens to the clock.
func TestTimesThatPeopleNamedStay(t *testing.T) {
	r := newRig(t, 2)
	start, end := epoch.Add(2*time.Hour), epoch.Add(5*time.Hour)
	r.rollOut("j", orchestrator.Rollout{Schedule: &orchestrator.Schedule{Start: start, End: end}, Timeouts: &orchestrator.Timeouts{Answer: 48 * hour}})
	r.now = epoch.Add(-day)
	r.restart()
	r.pass(start.Sub(r.now) - time.Second)
	r.stands("j", "2 queued")
	r.pass(time.Second)
	r.stands("j", "2 offered")
	r.now = r.now.Add(-time.Hour) // before the start again
	r.turn()
	r.stands("j", "2 queued")
	r.pass(end.Sub(r.now) - time.Second)
	r.stands("j", "2 offered")
	r.pass(time.Second)
	r.stands("j", "2 canceled")
}
