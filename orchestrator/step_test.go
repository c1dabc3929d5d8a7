package orchestrator_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func tracked(id string, order uint64, version string) orchestrator.Tracked {
	return orchestrator.Tracked{
		Execution: orchestrator.Execution{ID: id, Job: "job-" + id, Device: "d", Image: "img-" + id, ImageType: "app", Version: version, BytesTotal: 1000},
		Order:     order,
	}
}

func report(id string, seq uint64, state schemas.State) orchestrator.Reported {
	s := schemas.Status{V: schemas.Version, Execution: id, Attempt: 1, Seq: seq, State: state}
	if state.Final() && state != schemas.StateSucceeded {
		s.Cause = schemas.CauseSerial
	}
	return orchestrator.Reported{Status: s}
}

// run applies events in turn and returns the state and the effects of the
// last one.
func run(t *testing.T, s orchestrator.State, events ...orchestrator.Event) (orchestrator.State, []orchestrator.Effect) {
	t.Helper()
	var effects []orchestrator.Effect
	for _, e := range events {
		s, effects = orchestrator.Step(s, e, epoch)
	}
	return s, effects
}

func states(s orchestrator.State) string {
	out := ""
	for _, e := range s.Executions {
		out += fmt.Sprintf("%s=%s ", e.ID, e.State)
	}
	return out
}

// kinds names effects in short: offer(a), withdraw, ack(state) or
// ack(state,superseded), and change(a).
func kinds(effects []orchestrator.Effect) string {
	out := ""
	for _, e := range effects {
		switch e := e.(type) {
		case orchestrator.Offer:
			out += "offer(" + e.Execution.ID + ") "
		case orchestrator.Withdraw:
			out += "withdraw "
		case orchestrator.Acknowledge:
			if e.Ack.Superseded {
				out += "superseded(" + string(e.Ack.State) + ") "
			} else {
				out += "ack(" + string(e.Ack.State) + ") "
			}
		case orchestrator.Changed:
			out += "change(" + e.To.ID + ") "
		}
	}
	return out
}

func TestRules(t *testing.T) {
	type q = orchestrator.Queue
	type again = orchestrator.Retry
	type h = orchestrator.Heard
	app := func(v string) map[string]string { return map[string]string{"app": v} }
	needs := func(x orchestrator.Tracked, min string) orchestrator.Tracked { x.MinVersion = min; return x }
	force := func(x orchestrator.Tracked) orchestrator.Tracked { x.IgnoreValidation = true; return x }
	boot := tracked("b", 2, "9")
	boot.ImageType = "bootloader"
	done := report("a", 9, schemas.StateSucceeded)
	done.Status.HostVersion = "2"
	wrong := done
	wrong.Status.HostVersion = "1"
	second := report("a", 1, schemas.StateAccepted)
	second.Status.Attempt = 2

	for _, c := range []struct {
		name     string
		versions map[string]string
		events   []orchestrator.Event
		states   string
		effects  string // of the last event
	}{
		{"first is offered", nil, []orchestrator.Event{q{tracked("a", 1, "2")}},
			"a=offered ", "change(a) change(a) offer(a) "},
		{"second waits", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, q{tracked("b", 2, "3")}},
			"a=offered b=queued ", "change(b) "},
		{"next is offered when one ends", nil,
			[]orchestrator.Event{q{tracked("a", 1, "2")}, q{tracked("b", 2, "3")}, report("a", 1, schemas.StateFailed)},
			"a=failed b=offered ", "change(a) ack(failed) change(b) offer(b) "},
		{"withdrawn when the last ends", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, done},
			"a=succeeded ", "change(a) ack(succeeded) withdraw "},
		{"success needs the version", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, wrong},
			"a=failed ", "change(a) ack(failed) withdraw "},
		{"running already", app("2"), []orchestrator.Event{q{tracked("a", 1, "2")}},
			"a=succeeded ", "change(a) change(a) "},
		{"running already, forced", app("2"), []orchestrator.Event{q{force(tracked("a", 1, "2"))}},
			"a=offered ", "change(a) change(a) offer(a) "},
		{"min version agrees", app("1"), []orchestrator.Event{q{needs(tracked("a", 1, "2"), "1")}},
			"a=offered ", "change(a) change(a) offer(a) "},
		{"min version is exact", app("1.1"), []orchestrator.Event{q{needs(tracked("a", 1, "2"), "1")}},
			"a=rejected ", "change(a) change(a) "},
		{"min version is ignored", app("1.1"), []orchestrator.Event{q{force(needs(tracked("a", 1, "2"), "1"))}},
			"a=offered ", "change(a) change(a) offer(a) "},
		{"min version waits for a hello", nil, []orchestrator.Event{q{needs(tracked("a", 1, "2"), "1")}},
			"a=queued ", "change(a) "},
		{"and is judged by it", nil, []orchestrator.Event{q{needs(tracked("a", 1, "2"), "1")}, h{Versions: app("1")}},
			"a=offered ", "change(a) offer(a) "},
		{"and is refused by it", nil, []orchestrator.Event{q{needs(tracked("a", 1, "2"), "1")}, h{Versions: app("0")}},
			"a=rejected ", "change(a) "},
		{"who waits holds back its image type", nil, []orchestrator.Event{q{needs(tracked("a", 1, "2"), "1")}, q{tracked("c", 3, "3")}},
			"a=queued c=queued ", "change(c) "},
		{"but no other", nil, []orchestrator.Event{q{needs(tracked("a", 1, "2"), "1")}, q{boot}},
			"a=queued b=offered ", "change(b) change(b) offer(b) "},
		{"hello with the version succeeds", nil,
			[]orchestrator.Event{q{tracked("a", 1, "2")}, report("a", 1, schemas.StateInstalling), h{Versions: app("2"), Execution: "a", Attempt: 1}},
			"a=succeeded ", "change(a) withdraw "},
		{"unless forced", nil, []orchestrator.Event{q{force(tracked("a", 1, "2"))}, h{Versions: app("2"), Execution: "a", Attempt: 1}},
			"a=offered ", ""},
		{"hello of an idle device gets the offer again", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, h{}},
			"a=offered ", "offer(a) "},
		{"hello of a device at work does not", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, h{Execution: "a", Attempt: 1}},
			"a=offered ", ""},
		{"hello with an ended execution clears it", nil, []orchestrator.Event{h{Execution: "gone", Attempt: 1}}, "", "withdraw "},
		{"repeated report", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, report("a", 3, schemas.StateDownloading), report("a", 3, schemas.StateDownloading)},
			"a=downloading ", "ack(downloading) "},
		{"late report", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, report("a", 3, schemas.StateInstalling), report("a", 2, schemas.StateDownloading)},
			"a=installing ", "ack(installing) "},
		{"report after the end", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, orchestrator.Cancel{Execution: "a"}, done},
			"a=canceled ", "ack(canceled) "},
		{"report of what was not offered", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, q{tracked("b", 2, "3")}, report("b", 1, schemas.StateAccepted)},
			"a=offered b=queued ", "ack(queued) "},
		{"report of another attempt", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, second}, "a=offered ", "superseded(offered) "},
		{"report of an unknown execution", nil, []orchestrator.Event{report("x", 1, schemas.StateAccepted)}, "", "superseded(canceled) "},
		{"cancel of a waiting one", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, q{tracked("b", 2, "3")}, orchestrator.Cancel{Execution: "b"}},
			"a=offered b=canceled ", "change(b) "},
		{"retry of a failed one", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, report("a", 1, schemas.StateFailed), again{"a", 1}},
			"a=offered ", "change(a) change(a) offer(a) "},
		{"its second attempt is heard", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, report("a", 1, schemas.StateFailed), again{"a", 1}, second},
			"a=accepted ", "change(a) ack(accepted) "},
		{"its first one no longer", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, report("a", 1, schemas.StateFailed), again{"a", 1}, report("a", 1, schemas.StateFailed)},
			"a=offered ", "superseded(offered) "},
		{"retry waits for its turn", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, report("a", 1, schemas.StateFailed), q{tracked("b", 2, "3")}, again{"a", 1}},
			"a=queued b=offered ", "change(a) "},
		{"retry repeated", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, report("a", 1, schemas.StateFailed), again{"a", 1}, again{"a", 1}},
			"a=offered ", ""},
		{"retry is judged by the rules", app("0"), []orchestrator.Event{q{needs(tracked("a", 1, "2"), "1")}, again{"a", 1}},
			"a=rejected ", "change(a) change(a) "},
		{"retry of what succeeded", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, done, again{"a", 1}}, "a=succeeded ", ""},
		{"retry of what was canceled", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, orchestrator.Cancel{Execution: "a"}, again{"a", 1}}, "a=canceled ", ""},
		{"retry of what has not ended", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, again{"a", 1}}, "a=offered ", ""},
		{"resync says the offer again", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, orchestrator.Resync{}}, "a=offered ", "offer(a) "},
		{"resync withdraws until that is noted", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, done, orchestrator.Resync{}}, "a=succeeded ", "withdraw "},
		{"and then says nothing", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, done, orchestrator.Withdrawn{}, orchestrator.Resync{}}, "a=succeeded ", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, effects := run(t, orchestrator.State{Device: "d", Versions: c.versions}, c.events...)
			if states(s) != c.states {
				t.Errorf("states %q, want %q", states(s), c.states)
			}
			if kinds(effects) != c.effects {
				t.Errorf("effects %q, want %q", kinds(effects), c.effects)
			}
		})
	}
}

func TestRulesOfPausedJobs(t *testing.T) {
	type q = orchestrator.Queue
	a, b := q{tracked("a", 1, "2")}, q{tracked("b", 2, "3")}
	needy := a
	needy.Execution.MinVersion = "1"
	for _, c := range []struct {
		name    string
		before  []orchestrator.Event
		paused  []string
		event   orchestrator.Event
		states  string
		effects string
	}{
		{"an offer is taken back", []orchestrator.Event{a}, []string{"job-a"}, orchestrator.Settle{}, "a=queued ", "change(a) withdraw "},
		{"and another job's made", []orchestrator.Event{a, b}, []string{"job-a"}, orchestrator.Settle{}, "a=queued b=offered ", "change(a) change(b) offer(b) "},
		{"unless that is paused too", []orchestrator.Event{a, b}, []string{"job-a", "job-b"}, orchestrator.Settle{}, "a=queued b=queued ", "change(a) withdraw "},
		{"what was accepted goes on", []orchestrator.Event{a, report("a", 1, schemas.StateAccepted)}, []string{"job-a"}, orchestrator.Settle{}, "a=accepted ", ""},
		{"what is being accepted as well", []orchestrator.Event{a}, []string{"job-a"}, report("a", 1, schemas.StateAccepted), "a=accepted ", "change(a) ack(accepted) "},
		{"nothing new is offered", nil, []string{"job-a"}, a, "a=queued ", "change(a) "},
		{"nor held back", []orchestrator.Event{needy}, []string{"job-a"}, b, "a=queued b=offered ", "change(b) change(b) offer(b) "},
		{"a retry waits", []orchestrator.Event{a, report("a", 1, schemas.StateFailed)}, []string{"job-a"}, orchestrator.Retry{Execution: "a", Attempt: 1}, "a=queued ", "change(a) "},
		{"a cancellation does not", []orchestrator.Event{a}, []string{"job-a"}, orchestrator.Cancel{Execution: "a"}, "a=canceled ", "change(a) withdraw "},
		{"a hello takes it back too", []orchestrator.Event{a}, []string{"job-a"}, orchestrator.Heard{}, "a=queued ", "change(a) withdraw "},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := run(t, orchestrator.State{Device: "d"}, c.before...)
			s.Jobs = paused(c.paused...)
			s, effects := run(t, s, c.event)
			if states(s) != c.states {
				t.Errorf("states %q, want %q", states(s), c.states)
			}
			if kinds(effects) != c.effects {
				t.Errorf("effects %q, want %q", kinds(effects), c.effects)
			}
			again, effects := run(t, s, orchestrator.Settle{})
			if !reflect.DeepEqual(again, s) || len(effects) > 0 {
				t.Errorf("settled twice: %q, %q", states(again), kinds(effects))
			}
		})
	}
}

// paused are the views of jobs that are paused.
func paused(jobs ...string) map[string]*orchestrator.JobView {
	views := map[string]*orchestrator.JobView{}
	for _, job := range jobs {
		views[job] = &orchestrator.JobView{Paused: true}
	}
	return views
}

func TestAttempts(t *testing.T) {
	s, _ := run(t, orchestrator.State{}, orchestrator.Queue{Execution: tracked("a", 1, "2")})
	for attempt := 1; attempt <= 12; attempt++ {
		r := report("a", 40, schemas.StateFailed)
		r.Status.Attempt, r.Status.Code, r.Status.Detail, r.Status.BytesDone, r.Status.HostVersion = attempt, 14, "bad sum", 700, "1"
		s, _ = run(t, s, r, orchestrator.Retry{Execution: "a", Attempt: attempt})
		e := s.Executions[0]
		if e.State != schemas.StateOffered || e.Attempt != attempt+1 || e.Seq != 0 || e.BytesDone != 0 || e.Cause != "" || e.Code != 0 ||
			e.Detail != "" || e.HostVersion != "" || !e.EndedAt.IsZero() || !e.OfferedAt.Equal(epoch) {
			t.Fatalf("attempt %d begins as %+v", attempt+1, e)
		}
		want := orchestrator.Attempt{Attempt: attempt, State: schemas.StateFailed, Cause: schemas.CauseSerial, Code: 14, Detail: "bad sum",
			BytesDone: 700, HostVersion: "1", OfferedAt: epoch, EndedAt: epoch}
		if got := e.History[len(e.History)-1]; got != want || len(e.History) != min(attempt, 10) {
			t.Fatalf("after attempt %d the history is %+v", attempt, e.History)
		}
	}
	s.Jobs = paused("job-a")
	s, _ = run(t, s, orchestrator.Settle{})
	e := s.Executions[0]
	if last := e.History[9]; e.Attempt != 14 || last.Attempt != 13 || last.State != schemas.StateQueued || last.Cause != "" || e.History[0].Attempt != 4 {
		t.Errorf("taken back: %+v", e)
	}
}

func TestReportFields(t *testing.T) {
	s, _ := run(t, orchestrator.State{}, orchestrator.Queue{Execution: tracked("a", 1, "2")})
	r := report("a", 1, schemas.StateDownloading)
	r.Status.BytesDone = 5000
	s, _ = run(t, s, r)
	if got := s.Executions[0].BytesDone; got != 1000 {
		t.Errorf("bytes done %d, want them cut to the image's 1000", got)
	}
	r = report("a", 2, schemas.StateInstalling)
	s, _ = run(t, s, r)
	if got := s.Executions[0].BytesDone; got != 0 {
		t.Errorf("bytes done %d at the begin of installing, want 0", got)
	}
	r = report("a", 3, schemas.StateInstalling)
	r.Status.BytesDone = 700
	s, _ = run(t, s, r)
	r = report("a", 4, schemas.StateFailed)
	r.Status.Code, r.Status.Detail, r.Status.HostVersion = 14, "bad sum", "1"
	s, _ = run(t, s, r)
	e := s.Executions[0]
	if e.BytesDone != 700 || e.Code != 14 || e.Detail != "bad sum" || e.Cause != schemas.CauseSerial || e.HostVersion != "1" || e.Seq != 4 || !e.EndedAt.Equal(epoch) {
		t.Errorf("execution ended as %+v", e)
	}
	if s.Versions["app"] != "1" {
		t.Errorf("versions %v, want the reported one kept", s.Versions)
	}
}

// TestWhatWaitsForAnOffer: while an execution is offered, those of a higher priority
// wait for their jobs, and none does once it was accepted. One that waits for a version
// to be reported holds back its image type: nothing is taken back for what it holds back.
func TestWhatWaitsForAnOffer(t *testing.T) {
	of := func(x orchestrator.Tracked, priority int) orchestrator.Queue {
		x.Priority = priority
		return orchestrator.Queue{Execution: x}
	}
	needs, paused := of(tracked("needs", 2, "3"), 10), of(tracked("paused", 4, "b"), 7)
	needs.Execution.MinVersion, paused.Execution.ImageType = "1", "boot"
	lower := of(tracked("lower", 5, "b"), -1)
	lower.Execution.Job = paused.Execution.Job
	jobs := map[string]*orchestrator.JobView{paused.Execution.Job: {Paused: true}}
	s, effects := run(t, orchestrator.State{Jobs: jobs}, of(tracked("a", 1, "2"), 0), needs, of(tracked("held", 3, "4"), 5), paused, lower)
	if got, want := states(s), "needs=queued paused=queued held=queued a=offered lower=queued "; got != want {
		t.Errorf("states %q, want %q: %s", got, want, kinds(effects))
	}
	if !slices.Equal(s.Waiting, []string{"paused"}) {
		t.Errorf("%q wait for their jobs, want the paused one", s.Waiting)
	}
	accepted, _ := run(t, s, report("a", 1, schemas.StateAccepted))
	if len(accepted.Waiting) != 0 {
		t.Errorf("%q wait for their jobs on a device that has accepted another", accepted.Waiting)
	}
	s, _ = run(t, s, orchestrator.Heard{Versions: map[string]string{"app": "1"}})
	if got, want := states(s), "needs=offered paused=queued held=queued a=queued lower=queued "; got != want || s.Executions[3].History[0].Detail != "the offer was withdrawn for job job-needs, which has a higher priority" {
		t.Errorf("states %q, want %q: %+v", got, want, s.Executions[3].History)
	}
	if len(s.Waiting) != 0 {
		t.Errorf("%q wait for their jobs, of lower priority than what is offered", s.Waiting)
	}
}

// TestStepRequiresSignatures: what is not signed, or was signed for too short a time, is
// ended before it is offered, whatever else it would be.
func TestStepRequiresSignatures(t *testing.T) {
	now := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		until time.Time
		state schemas.State
		says  string
	}{
		{"signed", now.Add(time.Second), schemas.StateOffered, ""},
		{"at its end", now, schemas.StateRejected, "expired at 2027-03-01T12:00:00Z"},
		{"not signed", time.Time{}, schemas.StateRejected, "no manifest whose signatures the service has verified"},
	} {
		for _, ignore := range []bool{false, true} {
			x := tracked("e1", 1, "2")
			x.IgnoreValidation = ignore
			s := orchestrator.State{Device: "d", RequireSignature: true, SignedUntil: map[string]time.Time{x.Image: c.until}}
			s, _ = orchestrator.Step(s, orchestrator.Queue{Execution: x}, now)
			got := s.Executions[0]
			if got.State != c.state || !strings.Contains(got.Detail, c.says) || (c.state == schemas.StateRejected) != (got.Cause == schemas.CauseSignature) {
				t.Errorf("%s, ignore validation %v: %+v", c.name, ignore, got)
			}
		}
		// A job that is full would have it wait otherwise.
		x := tracked("e1", 1, "2")
		s := orchestrator.State{Device: "d", RequireSignature: true, SignedUntil: map[string]time.Time{x.Image: c.until}, Jobs: map[string]*orchestrator.JobView{x.Job: {Full: true}}}
		s, _ = orchestrator.Step(s, orchestrator.Queue{Execution: x}, now)
		if want := map[bool]schemas.State{true: schemas.StateQueued, false: c.state}[c.state == schemas.StateOffered]; s.Executions[0].State != want {
			t.Errorf("%s, in a full job: %s, want %s", c.name, s.Executions[0].State, want)
		}
	}
}
