package orchestrator_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"davit/orchestrator"
	"davit/schemas"
)

// happening is an event, before which a job may be paused or go on.
type happening struct {
	pause, resume string
	event         orchestrator.Event
}

// on returns the state as the event finds it.
func (h happening) on(s orchestrator.State) orchestrator.State {
	s.Jobs = maps.Clone(s.Jobs)
	switch {
	case h.pause != "" && s.Jobs == nil:
		s.Jobs = paused(h.pause)
	case h.pause != "":
		s.Jobs[h.pause] = &orchestrator.JobView{Paused: true}
	case h.resume != "":
		delete(s.Jobs, h.resume)
	}
	return s
}

// repeatable says whether the event may be delivered again. A hello may not have
// been heard twice; and a device reports of what it was offered only, which an
// execution may come to be in the step that takes another one back.
func (h happening) repeatable() bool {
	switch h.event.(type) {
	case orchestrator.Heard:
		return false
	case orchestrator.Reported:
		return h.pause == ""
	}
	return true
}

// happenings draws events, and now and then that a job is paused or goes on.
func happenings(n int) *rapid.Generator[[]happening] {
	events := eventGen()
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) happening {
		job := "job-" + rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "job")
		switch rapid.IntRange(0, 11).Draw(t, "happening") {
		case 0:
			return happening{pause: job, event: orchestrator.Settle{}}
		case 1:
			return happening{resume: job, event: orchestrator.Settle{}}
		case 2:
			return happening{pause: job, event: events.Draw(t, "event")} // before the pass has come by
		}
		return happening{event: events.Draw(t, "event")}
	}), 1, n)
}

// eventGen draws events about five executions, of two image types and few
// versions, so that they meet each other often.
func eventGen() *rapid.Generator[orchestrator.Event] {
	ids := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
	versions := rapid.SampledFrom([]string{"", "1", "2", "3"})
	types := []string{"app", "bootloader"}
	return rapid.Custom(func(t *rapid.T) orchestrator.Event {
		id := ids.Draw(t, "id")
		switch rapid.IntRange(0, 11).Draw(t, "kind") {
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
		case 4, 5:
			return orchestrator.Retry{Execution: id, Attempt: rapid.IntRange(1, 3).Draw(t, "attempt")}
		}
		r := report(id, uint64(rapid.IntRange(1, 12).Draw(t, "seq")), rapid.SampledFrom(schemas.States()[2:]).Draw(t, "state"))
		r.Status.Attempt = rapid.SampledFrom([]int{1, 1, 1, 2, 2, 3}).Draw(t, "attempt")
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
	topic       string // the execution and attempt offered; "" is cleared
	due         bool   // an announcement waits to be carried out
	withdrawing bool   // the topic was cleared, which is still to be noted
}

func (w *world) happen(h happening) {
	var effects []orchestrator.Effect
	w.state, effects = orchestrator.Step(h.on(w.state), h.event, epoch)
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
		w.happen(happening{event: orchestrator.Withdrawn{}})
	case w.due:
		w.due = false
		_, effects := orchestrator.Step(w.state, orchestrator.Resync{}, epoch)
		for _, e := range effects {
			switch e := e.(type) {
			case orchestrator.Offer:
				w.topic = attemptOf(e.Execution)
			case orchestrator.Withdraw:
				w.topic, w.withdrawing = "", true
			}
		}
	}
}

func attemptOf(e orchestrator.Tracked) string { return fmt.Sprintf("%s#%d", e.ID, e.Attempt) }

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
		events := happenings(40).Draw(t, "events")
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
			if e.repeatable() && rapid.Bool().Draw(t, "repeat") {
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
				current = attemptOf(e)
			}
		}
		if rough.topic != current {
			t.Fatalf("the topic holds %q, offered is %q", rough.topic, current)
		}
	})
}

// TestStatesOnlyMoveForward watches every execution over random events:
// within an attempt ranks never fall and an end is final, a new attempt begins only where
// one may, what changed is said, and the input state is left alone.
func TestStatesOnlyMoveForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s orchestrator.State
		for _, h := range happenings(60).Draw(t, "events") {
			s = h.on(s)
			before := fmt.Sprintf("%+v", s)
			next, effects := orchestrator.Step(s, h.event, epoch)
			if again := fmt.Sprintf("%+v", s); again != before {
				t.Fatalf("Step changed its input:\n%s\n%s", before, again)
			}
			told := map[string]orchestrator.Tracked{}
			for _, f := range effects {
				if c, ok := f.(orchestrator.Changed); ok {
					told[c.To.ID] = *c.To
				}
			}
			for _, x := range next.Executions {
				i := slices.IndexFunc(s.Executions, func(y orchestrator.Tracked) bool { return y.ID == x.ID })
				if i >= 0 {
					old := s.Executions[i]
					if !follows(old, x, s.Jobs) {
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

// follows says whether an execution may go from one state to the other in one step.
func follows(old, x orchestrator.Tracked, jobs map[string]*orchestrator.JobView) bool {
	paused := map[string]bool{}
	for job := range jobs {
		paused[job] = true
	}
	if x.Attempt == old.Attempt {
		return x.State.Rank() >= old.State.Rank() && (!old.State.Final() || reflect.DeepEqual(x, old))
	}
	if x.Attempt != old.Attempt+1 || len(x.History) == 0 || x.Seq != 0 || x.BytesDone != 0 {
		return false
	}
	last := x.History[len(x.History)-1]
	if last.Attempt != old.Attempt || paused[old.Job] && x.State != schemas.StateQueued && old.State != schemas.StateSucceeded {
		return false
	}
	switch old.State {
	case schemas.StateFailed, schemas.StateRejected, schemas.StateTimedOut:
		return last.State == old.State && last.Cause == old.Cause
	case schemas.StateSucceeded: // it fell back
		return last.State == old.State && x.State == schemas.StateFailed && x.Cause == schemas.CauseBoot
	case schemas.StateQueued, schemas.StateOffered: // queued if it was offered and taken back at once
		return paused[old.Job] && last.State == schemas.StateQueued
	}
	return false
}
