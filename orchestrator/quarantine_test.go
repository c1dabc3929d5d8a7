package orchestrator_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"davit/orchestrator"
	"davit/schemas"
)

// A device in quarantine loses what it was offered or works on, in whatever state it is,
// is offered nothing, fetches nothing, and comes back to all of it when it is released.
func TestQuarantine(t *testing.T) {
	for _, state := range []schemas.State{schemas.StateOffered, schemas.StateDownloading, schemas.StateDownloaded, schemas.StateInstalling, schemas.StateBooting} {
		t.Run(string(state), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t)
				defer e.checkClean()
				e.fleet(2)
				e.start()
				defer func() { e.stop() }()
				m := e.image("2", content(1000, 1))
				e.job("j", m.ID, "d000", "d001")
				x := e.execution("j", "d000")
				if state != schemas.StateOffered {
					e.ok(e.Status(ctx, "d000", status(x, 1, state)))
				}
				e.ok(e.ask("d000", fetch(m, 100, schemas.Range{Length: 100})))

				d := must[orchestrator.Device](t)(e.QuarantineDevice(ctx, "d000", "stolen"))
				if d.QuarantinedAt.IsZero() || d.QuarantineReason != "stolen" {
					t.Errorf("the record is %+v", d)
				}
				if ids := must[[]string](t)(e.Quarantined(ctx)); !slices.Equal(ids, []string{"d000"}) {
					t.Errorf("in quarantine: %v", ids)
				}
				if f := must[orchestrator.FleetSummary](t)(e.Fleet(ctx)); f.Quarantined != 1 {
					t.Errorf("%d are counted", f.Quarantined)
				}
				x = e.execution("j", "d000")
				if x.State != schemas.StateQueued || x.Attempt != 2 || !strings.Contains(x.History[0].Detail, "quarantine") {
					t.Errorf("the execution is %+v", x)
				}
				synctest.Wait()
				if _, stands := e.broker.offer("d000"); stands {
					t.Error("the offer stands")
				}
				e.wants(e.ask("d000", fetch(m, 100, schemas.Range{Length: 100})), orchestrator.ErrConflict, "no execution under way")

				// Nothing that it says changes that, and neither does another job, or a retry.
				e.ok(e.Status(ctx, "d000", status(x, 9, schemas.StateSucceeded)))
				e.ok(e.Hello(ctx, "d000", schemas.Hello{V: schemas.Version, Module: "esp", Dialect: "ayla", MaxChunk: 1024}))
				e.job("more", m.ID, "d000")
				e.stop()
				e.restart()
				e.start()
				for _, job := range []string{"j", "more"} {
					if s := e.execution(job, "d000").State; s != schemas.StateQueued {
						t.Errorf("in quarantine, job %s is %s", job, s)
					}
				}
				if s := e.execution("j", "d001").State; s != schemas.StateOffered {
					t.Errorf("the other device is %s", s)
				}

				d = must[orchestrator.Device](t)(e.ReleaseDevice(ctx, "d000"))
				if !d.QuarantinedAt.IsZero() || d.QuarantineReason != "" {
					t.Errorf("the record is %+v", d)
				}
				if s := e.execution("j", "d000").State; s != schemas.StateOffered {
					t.Errorf("released, it is %s", s)
				}
			})
		})
	}
}

func TestQuarantineIsRecorded(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	e := newEnv(t, func(o *orchestrator.Options) { o.Now = func() time.Time { return now } })
	e.fleet(1)
	since := now
	for _, reason := range []string{"", "stolen", "stolen"} { // the last changes nothing
		d := must[orchestrator.Device](t)(e.QuarantineDevice(ctx, "d000", reason))
		if !d.QuarantinedAt.Equal(since) || d.QuarantineReason != reason {
			t.Errorf("with %q the record is %+v", reason, d)
		}
		now = now.Add(time.Hour)
	}
	must[orchestrator.Device](t)(e.ReleaseDevice(ctx, "d000"))
	must[orchestrator.Device](t)(e.ReleaseDevice(ctx, "d000"))
	if got := e.audited(orchestrator.KindDevice, "d000"); !slices.Equal(got, []string{"release", "quarantine", "quarantine", "create"}) {
		t.Errorf("the audit log has %v", got)
	}
	for _, bad := range []string{strings.Repeat("x", 257), "two\nlines", "\xff"} {
		_, err := e.QuarantineDevice(ctx, "d000", bad)
		e.inField(err, "reason")
	}
	_, err := e.QuarantineDevice(ctx, "none", "")
	e.wants(err, orchestrator.ErrNotFound, "none")
	_, err = e.ReleaseDevice(ctx, "none")
	e.wants(err, orchestrator.ErrNotFound, "none")
	e.checkClean()
}

// Whatever has happened and happens, nothing is under way on a device in quarantine after
// a step, nothing stands on its offer topic, and no offer is made.
func TestNothingIsUnderWayInQuarantine(t *testing.T) {
	took := 0
	rapid.Check(t, func(t *rapid.T) {
		var s orchestrator.State
		for _, h := range happenings(60).Draw(t, "events") {
			s = h.on(s)
			if rapid.IntRange(0, 4).Draw(t, "turn") == 0 {
				s.Quarantined = !s.Quarantined
			}
			open := current(s)
			next, effects := orchestrator.Step(s, h.event, epoch)
			if s.Quarantined {
				if current(next) != "" {
					t.Fatalf("%+v leaves %s under way", h.event, current(next))
				}
				for _, e := range effects {
					if o, ok := e.(orchestrator.Offer); ok {
						t.Fatalf("%+v offers %+v", h.event, o)
					}
				}
				if open != "" {
					took++
				}
			}
			s = next
		}
	})
	if took == 0 {
		t.Fatal("nothing was ever taken back")
	}
}
