package orchestrator_test

import (
	"testing"
	"time"

	"davit/internal/clock"
	"davit/orchestrator"
	"davit/schemas"
)

// moment is what happens at a time of the clock, from epoch on.
type moment struct {
	at    time.Duration
	event orchestrator.Event
}

// TestClockSetBackInStep: what changed last at a time that is still to come waits for as
// long from now on as there was left of it then.
func TestClockSetBackInStep(t *testing.T) {
	const day = 24 * time.Hour
	type x = orchestrator.Tracked
	queue := orchestrator.Queue{Execution: tracked("a", 1, "2")}
	settle := orchestrator.Settle{}
	limits := orchestrator.Rollout{Timeouts: &orchestrator.Timeouts{Answer: hour, Download: 2 * hour, Total: 72 * hour}}
	failed := report("a", 1, schemas.StateFailed)
	for _, c := range []struct {
		name    string
		plan    orchestrator.Rollout
		happens []moment
		effects string // of the last
		dueAt   time.Duration
		field   func(x) time.Time
		want    time.Duration
	}{
		{"an offer that is not answered", limits, []moment{{0, queue}, {-day, settle}}, "change(a) ", -day + time.Hour, func(e x) time.Time { return e.OfferedAt }, -day},
		{"some time after", limits, []moment{{0, queue}, {-day + 20*time.Minute, settle}}, "change(a) ", -day + 80*time.Minute, func(e x) time.Time { return e.PhaseAt }, -day + 20*time.Minute},
		{"by no more than NTP", limits, []moment{{0, queue}, {-clock.Slack, settle}}, "", time.Hour, func(e x) time.Time { return e.UpdatedAt }, 0},
		{"by a little more", limits, []moment{{0, queue}, {-clock.Slack - 1, settle}}, "change(a) ", -clock.Slack - 1 + time.Hour, func(e x) time.Time { return e.UpdatedAt }, -clock.Slack - 1},
		{"with what else happens then", limits, []moment{{0, queue}, {-day, report("a", 1, schemas.StateDownloading)}}, "change(a) change(a) ack(downloading) ", -day + 2*time.Hour,
			func(e x) time.Time { return e.OfferedAt }, -day},
		{"progress within a phase", limits, []moment{{0, queue}, {10 * time.Minute, report("a", 1, schemas.StateDownloading)}, {40 * time.Minute, report("a", 2, schemas.StateDownloading)}, {-day, settle}},
			"change(a) ", -day + 90*time.Minute, func(e x) time.Time { return e.PhaseAt }, -day - 30*time.Minute},
		{"the clock was ahead for an hour only", limits, []moment{{0, queue}, {50 * time.Minute, report("a", 1, schemas.StateDownloading)}, {71 * time.Hour, report("a", 2, schemas.StateInstalling)}, {time.Hour, settle}},
			"change(a) ", 72 * time.Hour, func(e x) time.Time { return e.OfferedAt }, 0},
		{"the wait before another try", orchestrator.Rollout{Retry: &orchestrator.RetryPolicy{Backoff: &orchestrator.Backoff{First: hour, Jitter: 1e-9}}},
			[]moment{{0, queue}, {time.Minute, failed}, {-day, settle}}, "change(a) ", -day + time.Hour, func(e x) time.Time { return e.NotBefore }, -day + time.Hour},
		{"it is over at once where it was", orchestrator.Rollout{Retry: &orchestrator.RetryPolicy{Backoff: &orchestrator.Backoff{First: hour, Jitter: 1e-9}}},
			[]moment{{0, queue}, {time.Minute, failed}, {-day, settle}, {-day + 2*time.Hour, orchestrator.Due{Execution: "a"}}}, "change(a) change(a) offer(a) ", 0, func(e x) time.Time { return e.OfferedAt }, -day + 2*time.Hour},
		{"an offer that may be put off", orchestrator.Rollout{Action: orchestrator.ActionSoft, DeferLimit: 3 * hour}, []moment{{0, queue}, {-day, settle}}, "change(a) offer(a) ", -day + 3*time.Hour,
			func(e x) time.Time { return e.DeferUntil }, -day + 3*time.Hour},
		{"one that began before the clock was ahead", orchestrator.Rollout{Action: orchestrator.ActionSoft, DeferLimit: 72 * hour},
			[]moment{{0, queue}, {day, orchestrator.Confirm{Execution: "a"}}, {time.Hour, settle}}, "change(a) offer(a) ", 72 * time.Hour, func(e x) time.Time { return e.DeferUntil }, 72 * time.Hour},
		{"what has ended waits for nothing and is not written", limits, []moment{{0, queue}, {time.Minute, failed}, {-day, settle}}, "", 0, func(e x) time.Time { return e.UpdatedAt }, time.Minute},
		{"and is tried again as it is", orchestrator.Rollout{Action: orchestrator.ActionSoft, DeferLimit: 3 * hour}, []moment{{0, queue}, {time.Hour, failed}, {-day, orchestrator.Retry{Execution: "a", Attempt: 1}}},
			"change(a) change(a) offer(a) ", -day + 2*time.Hour, func(e x) time.Time { return e.History[0].EndedAt }, -day},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := orchestrator.State{Device: "d", Online: true, Jobs: map[string]*orchestrator.JobView{"job-a": {Plan: &c.plan}}}
			var effects []orchestrator.Effect
			for _, h := range c.happens {
				s, effects = orchestrator.Step(s, h.event, epoch.Add(h.at))
			}
			if got := kinds(effects); got != c.effects {
				t.Errorf("effects %q, want %q", got, c.effects)
			}
			e := s.Executions[0]
			if since := e.DueAt.Sub(epoch).Round(time.Second); c.dueAt != 0 && since != c.dueAt.Round(time.Second) || c.dueAt == 0 && !e.DueAt.IsZero() {
				t.Errorf("due after %v (%v), want %v", since, e.DueAt, c.dueAt)
			}
			if got := c.field(e); got.Sub(epoch).Round(time.Second) != c.want.Round(time.Second) {
				t.Errorf("the time is %v, want %v", got.Sub(epoch), c.want)
			}
		})
	}
}

// TestClockSetBackAndOthersOfTheDevice: what waits for the device is moved when it is its
// turn, or when something is said of it, and the same step again finds nothing to move.
func TestClockSetBackAndOthersOfTheDevice(t *testing.T) {
	s := orchestrator.State{Device: "d", Online: true, Jobs: map[string]*orchestrator.JobView{}}
	for _, id := range []string{"a", "b", "c"} {
		s.Jobs["job-"+id] = &orchestrator.JobView{Plan: &orchestrator.Rollout{Timeouts: &orchestrator.Timeouts{Answer: hour}}}
		s, _ = orchestrator.Step(s, orchestrator.Queue{Execution: tracked(id, uint64(id[0]), "2"+id)}, epoch)
	}
	back := epoch.Add(-time.Hour)
	for _, c := range []struct {
		event   orchestrator.Event
		effects string
	}{
		{orchestrator.Settle{}, "change(a) "},
		{orchestrator.Settle{}, ""},
		{orchestrator.Due{Execution: "b"}, "change(b) "},
		{orchestrator.Due{Execution: "b"}, ""},
		{report("a", 1, schemas.StateFailed), "change(a) ack(failed) change(c) change(b) offer(b) "},
		{orchestrator.Settle{}, ""},
	} {
		var effects []orchestrator.Effect
		if s, effects = orchestrator.Step(s, c.event, back); kinds(effects) != c.effects {
			t.Errorf("%T: %q, want %q", c.event, kinds(effects), c.effects)
		}
	}
}
