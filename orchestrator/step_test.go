package orchestrator_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

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
	retry := report("a", 1, schemas.StateAccepted)
	retry.Status.Attempt = 2

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
		{"report of another attempt", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, retry}, "a=offered ", "superseded(offered) "},
		{"report of an unknown execution", nil, []orchestrator.Event{report("x", 1, schemas.StateAccepted)}, "", "superseded(canceled) "},
		{"cancel of a waiting one", nil, []orchestrator.Event{q{tracked("a", 1, "2")}, q{tracked("b", 2, "3")}, orchestrator.Cancel{Execution: "b"}},
			"a=offered b=canceled ", "change(b) "},
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

// eventGen draws events about five executions, of two image types and few
// versions, so that they meet each other often.
func eventGen() *rapid.Generator[orchestrator.Event] {
	ids := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
	versions := rapid.SampledFrom([]string{"", "1", "2", "3"})
	types := []string{"app", "bootloader"}
	return rapid.Custom(func(t *rapid.T) orchestrator.Event {
		id := ids.Draw(t, "id")
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0, 1:
			x := tracked(id, uint64(id[0]), rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "version"))
			x.ImageType = rapid.SampledFrom(types).Draw(t, "type")
			x.MinVersion = versions.Draw(t, "min")
			x.IgnoreValidation = rapid.Bool().Draw(t, "ignore")
			return orchestrator.Queue{Execution: x}
		case 2:
			return orchestrator.Heard{
				Versions:  map[string]string{rapid.SampledFrom(types).Draw(t, "type"): versions.Draw(t, "version")},
				Execution: rapid.SampledFrom([]string{"", id}).Draw(t, "execution"), Attempt: 1,
			}
		case 3:
			return orchestrator.Cancel{Execution: id}
		}
		r := report(id, uint64(rapid.IntRange(1, 12).Draw(t, "seq")), rapid.SampledFrom(schemas.States()[2:]).Draw(t, "state"))
		r.Status.Attempt = rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(t, "attempt")
		r.Status.BytesDone = uint64(rapid.IntRange(0, 1100).Draw(t, "bytes"))
		r.Status.HostVersion = versions.Draw(t, "host version")
		if r.Status.State == schemas.StateSucceeded && r.Status.HostVersion == "" {
			r.Status.HostVersion = "1"
		}
		return r
	})
}

// world is a device's aggregate on disk and its offer topic at the broker. An
// announcement is carried out as the outbox does it: what the topic should say
// is asked for afresh, and nothing else is published until a withdrawal is noted.
type world struct {
	state       orchestrator.State
	topic       string // the execution offered; "" is cleared
	due         bool   // an announcement waits to be carried out
	withdrawing bool   // the topic was cleared, which is still to be noted
}

func (w *world) happen(e orchestrator.Event) {
	var effects []orchestrator.Effect
	w.state, effects = orchestrator.Step(w.state, e, epoch)
	for _, e := range effects {
		switch e.(type) {
		case orchestrator.Offer, orchestrator.Withdraw:
			w.due = true
		}
	}
}

// perform carries out one step of what is due.
func (w *world) perform() {
	switch {
	case w.withdrawing:
		w.withdrawing = false
		w.happen(orchestrator.Withdrawn{})
	case w.due:
		w.due = false
		_, effects := orchestrator.Step(w.state, orchestrator.Resync{}, epoch)
		for _, e := range effects {
			switch e := e.(type) {
			case orchestrator.Offer:
				w.topic = e.Execution.ID
			case orchestrator.Withdraw:
				w.topic, w.withdrawing = "", true
			}
		}
	}
}

// crash loses what is due; the new process asks for it where an offer is noted.
func (w *world) crash() {
	w.withdrawing = false
	w.due = w.state.Retained
}

func (w *world) settle() {
	for w.due || w.withdrawing {
		w.perform()
	}
}

func (w *world) check(t *rapid.T) {
	var open []string
	for _, e := range w.state.Executions {
		if e.State != schemas.StateQueued && !e.State.Final() {
			open = append(open, e.ID)
		}
	}
	if len(open) > 1 {
		t.Fatalf("%v are offered at a time", open)
	}
	if len(open) == 1 && !w.state.Retained {
		t.Fatalf("%v is offered and the offer is not noted", open)
	}
	if w.topic != "" && !w.state.Retained {
		t.Fatalf("the topic holds %s, and nothing says so", w.topic)
	}
	if !slices.IsSortedFunc(w.state.Executions, func(a, b orchestrator.Tracked) int { return int(a.Order) - int(b.Order) }) {
		t.Fatal("executions are out of order")
	}
}

// TestCrashesChangeNothing carries out the same events twice: undisturbed,
// and with crashes after any number of steps and events delivered again, as a
// device repeats what was not acknowledged. Both come to the same end.
func TestCrashesChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(eventGen(), 1, 40).Draw(t, "events")
		calm, rough := &world{}, &world{}
		for _, e := range events {
			calm.happen(e)
			calm.settle()
			rough.happen(e)
			for range rapid.IntRange(0, 3).Draw(t, "performed") {
				rough.perform()
			}
			if rapid.IntRange(0, 3).Draw(t, "crash") == 0 {
				rough.crash()
			}
			if _, ok := e.(orchestrator.Heard); !ok && rapid.Bool().Draw(t, "repeat") {
				rough.happen(e)
			}
			calm.check(t)
			rough.check(t)
		}
		calm.settle()
		rough.crash()
		rough.settle()
		if calm.topic != rough.topic || !reflect.DeepEqual(calm.state, rough.state) {
			t.Fatalf("undisturbed: topic %q, %+v\nwith crashes: topic %q, %+v", calm.topic, calm.state, rough.topic, rough.state)
		}
		current := ""
		for _, e := range rough.state.Executions {
			if e.State != schemas.StateQueued && !e.State.Final() {
				current = e.ID
			}
		}
		if rough.topic != current {
			t.Fatalf("the topic holds %q, offered is %q", rough.topic, current)
		}
	})
}

// TestStatesOnlyMoveForward watches every execution over random events:
// ranks never fall, an end is final, what changed is said, and the input state
// is left alone.
func TestStatesOnlyMoveForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s orchestrator.State
		for _, e := range rapid.SliceOfN(eventGen(), 1, 60).Draw(t, "events") {
			before := fmt.Sprintf("%+v", s)
			next, effects := orchestrator.Step(s, e, epoch)
			if again := fmt.Sprintf("%+v", s); again != before {
				t.Fatalf("Step changed its input:\n%s\n%s", before, again)
			}
			told := map[string]orchestrator.Tracked{}
			for _, f := range effects {
				if c, ok := f.(orchestrator.Changed); ok {
					told[c.To.ID] = c.To
				}
			}
			for _, x := range next.Executions {
				i := slices.IndexFunc(s.Executions, func(y orchestrator.Tracked) bool { return y.ID == x.ID })
				if i >= 0 {
					old := s.Executions[i]
					if x.State.Rank() < old.State.Rank() || old.State.Final() && !reflect.DeepEqual(x, old) {
						t.Fatalf("%s went from %+v to %+v", x.ID, old, x)
					}
					if reflect.DeepEqual(x, old) {
						continue
					}
				}
				if !reflect.DeepEqual(told[x.ID], x) {
					t.Fatalf("%s changed to %+v, told was %+v", x.ID, x, told[x.ID])
				}
			}
			s = next
		}
	})
}
