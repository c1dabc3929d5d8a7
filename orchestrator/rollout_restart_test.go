package orchestrator_test

import (
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// TestRestartResumesTimers has another process take over just before each kind of
// timer: it knows the moment, and what is due then happens then and not before.
func TestRestartResumesTimers(t *testing.T) {
	begin := epoch.Truncate(time.Hour)
	for _, c := range []struct {
		name   string
		plan   orchestrator.Rollout
		do     func(*rig)
		lasts  time.Duration // from the start of the job; 0 for when the retry is due
		before string
		after  string
	}{
		{"soak", orchestrator.Rollout{Waves: []orchestrator.Wave{{Count: 1, Soak: hour}, {Percent: 100}}},
			func(r *rig) { r.succeed("j") }, time.Hour, "1 queued, 1 succeeded", "1 offered, 1 succeeded"},
		{"backoff", orchestrator.Rollout{Retry: &orchestrator.RetryPolicy{Backoff: &orchestrator.Backoff{First: 10 * minute}}},
			func(r *rig) { r.reports("j", schemas.StateFailed, "d000") }, 0, "1 queued, 1 offered", "2 offered"},
		{"a window opens", orchestrator.Rollout{Schedule: &orchestrator.Schedule{Windows: []orchestrator.Window{{Cron: "30 * * * *", Duration: 10 * minute}}}},
			func(*rig) {}, 30 * time.Minute, "2 queued", "2 offered"},
		{"a window closes", orchestrator.Rollout{Schedule: &orchestrator.Schedule{Windows: []orchestrator.Window{{Cron: "0 * * * *", Duration: 10 * minute}}}},
			func(*rig) {}, 10 * time.Minute, "2 offered", "2 queued"},
		{"start", orchestrator.Rollout{Schedule: &orchestrator.Schedule{Start: begin.Add(time.Hour)}},
			func(*rig) {}, time.Hour, "2 queued", "2 offered"},
		{"end", orchestrator.Rollout{Schedule: &orchestrator.Schedule{End: begin.Add(time.Hour)}},
			func(r *rig) { r.reports("j", schemas.StateBooting, "d000") }, time.Hour, "1 offered, 1 booting", "1 booting, 1 canceled"},
		{"pace", orchestrator.Rollout{Pace: &orchestrator.Pace{PerMinute: 1}},
			func(*rig) {}, time.Minute, "1 queued, 1 offered", "2 offered"},
		{"timeout of the load", orchestrator.Rollout{Timeouts: &orchestrator.Timeouts{Load: 3 * minute, LoadRate: 1}},
			func(r *rig) { r.reports("j", schemas.StateInstalling, r.ids...) }, 3*time.Minute + 10*time.Second, "2 installing", "2 timed_out"},
		{"timeout of the whole", orchestrator.Rollout{Timeouts: &orchestrator.Timeouts{Total: hour}},
			func(r *rig) { r.reports("j", schemas.StateBooting, "d001") }, time.Hour, "1 offered, 1 booting", "2 timed_out"},
		{"time to put it off", orchestrator.Rollout{Action: orchestrator.ActionSoft, DeferLimit: hour},
			func(r *rig) {
				for _, id := range r.ids {
					s := status(r.execution("j", id), 1, schemas.StateRejected)
					s.Cause, s.DeferS = schemas.CauseDeferred, 86400
					r.ok(r.Status(ctx, id, s))
				}
			}, time.Hour, "2 queued", "2 offered"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, 2)
			r.now = begin
			r.rollOut("j", c.plan)
			c.do(r)
			r.stands("j", c.before)
			if c.lasts == 0 {
				c.lasts = r.execution("j", "d000").NotBefore.Sub(begin)
			}
			for _, early := range []time.Duration{c.lasts / 2, time.Nanosecond, 0} {
				r.now = begin.Add(c.lasts - early)
				r.restart()
				next := r.turn()
				if early > 0 && !next.Equal(begin.Add(c.lasts)) {
					t.Fatalf("after a restart %v before, the next timer is at %v, want %v", early, next, begin.Add(c.lasts))
				}
				if early > 0 {
					r.stands("j", c.before)
				}
			}
			r.stands("j", c.after)
		})
	}
}

// TestMissedTimers has everything fall due while no process runs.
func TestMissedTimers(t *testing.T) {
	r := newRig(t, 3)
	r.rollOut("j", orchestrator.Rollout{
		Waves: []orchestrator.Wave{{Count: 1, Soak: hour}, {Count: 1}, {Percent: 100}}, Timeouts: &orchestrator.Timeouts{Total: hour},
		Retry: &orchestrator.RetryPolicy{Attempts: 2, Backoff: &orchestrator.Backoff{First: minute, Jitter: 0.1}}})
	r.succeed("j")
	r.now = r.now.Add(24 * time.Hour)
	r.restart()
	r.turn()
	r.stands("j", "1 queued, 1 offered, 1 succeeded")
	r.now = r.now.Add(24 * time.Hour) // the second wave's device has been silent, and has waited for its retry since
	r.restart()
	r.turn()
	r.stands("j", "2 queued, 1 succeeded")
	r.pass(2 * time.Minute)
	r.stands("j", "1 queued, 1 offered, 1 succeeded")
}

// TestClocksOfThePeople goes through the nights in which clocks change, and over a
// leap second: a window that is read on the wall opens once, at its moment, and
// stays open for its real time.
func TestClocksOfThePeople(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct{ name, zone, cron, from, opens, closes string }{
		{"clock set forward", "Europe/Berlin", "30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z", "2026-03-29T03:30:00Z"},
		{"clock set back", "Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"},
		{"open while it is set forward", "America/New_York", "0 1 * * *", "2026-03-07T12:00:00Z", "2026-03-08T06:00:00Z", "2026-03-08T08:00:00Z"},
		{"a change of half an hour", "Australia/Lord_Howe", "0 2 * * *", "2026-04-04T00:00:00Z", "2026-04-04T15:30:00Z", "2026-04-04T17:30:00Z"},
		{"leap second", "UTC", "0 0 * * *", "2016-12-31T12:00:00Z", "2017-01-01T00:00:00Z", "2017-01-01T02:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, 2)
			r.now = at(c.from)
			r.rollOut("j", orchestrator.Rollout{Schedule: &orchestrator.Schedule{
				Windows: []orchestrator.Window{{Cron: c.cron, Duration: 2 * hour, Zone: c.zone}}}})
			r.pass(at(c.opens).Sub(r.now) - time.Nanosecond)
			r.stands("j", "2 queued")
			r.pass(time.Nanosecond)
			r.stands("j", "2 offered")
			r.reports("j", schemas.StateAccepted, "d000")
			if c.name == "leap second" { // the clock shows the last second twice
				r.now = r.now.Add(-time.Second)
				r.turn()
				r.pass(time.Second)
			}
			r.pass(at(c.closes).Sub(r.now) - time.Nanosecond)
			r.stands("j", "1 offered, 1 accepted")
			r.pass(time.Nanosecond)
			r.stands("j", "1 queued, 1 accepted") // what was accepted finishes
		})
	}
}
