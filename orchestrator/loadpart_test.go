package orchestrator_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"davit/orchestrator"
	"davit/schemas"
)

// TestPartOfAnAggregateIsEnough has the rules decide with and without what waits
// behind an execution that is under way: as long as that one goes on, both come to
// the same, and otherwise the part alone says so.
func TestPartOfAnAggregateIsEnough(t *testing.T) {
	decided := 0
	rapid.Check(t, func(t *rapid.T) {
		var s orchestrator.State
		for _, h := range happenings(60).Draw(t, "events") {
			s = h.on(s)
			if q, ok := h.event.(orchestrator.Queue); ok {
				q.Execution.Priority = rapid.IntRange(0, 2).Draw(t, "priority")
				h.event = q
			}
			now := clockGen.Draw(t, "now")
			next, effects := orchestrator.Step(s, h.event, now)
			if part, ok := withoutWaiting(s, h.event); ok {
				after, did := orchestrator.Step(part, h.event, now)
				same := current(part) == current(after)
				if same != (current(s) == current(next)) {
					t.Fatalf("%+v: of the part %q goes on as %q, of all %q as %q", h.event, current(part), current(after), current(s), current(next))
				}
				if same && (!reflect.DeepEqual(did, effects) || !reflect.DeepEqual(after.Versions, next.Versions) || after.Retained != next.Retained || !slices.Equal(after.Waiting, next.Waiting)) {
					t.Fatalf("%+v: the part leads to %+v with %q waiting, all to %+v with %q", h.event, did, after.Waiting, effects, next.Waiting)
				}
				decided++
			}
			s = next
		}
	})
	if decided == 0 {
		t.Fatal("nothing was ever left out")
	}
}

// clockGen draws times of a clock that is set back now and then.
var clockGen = rapid.SampledFrom([]time.Time{epoch, epoch, epoch, epoch.Add(-time.Hour), epoch.Add(time.Hour)})

func current(s orchestrator.State) string {
	for _, x := range s.Executions {
		if x.State != schemas.StateQueued && !x.State.Final() {
			return attemptOf(x)
		}
	}
	return ""
}

// withoutWaiting is the aggregate as it is read for an event, false if that is all.
func withoutWaiting(s orchestrator.State, ev orchestrator.Event) (orchestrator.State, bool) {
	i := slices.IndexFunc(s.Executions, func(x orchestrator.Tracked) bool { return attemptOf(x) == current(s) })
	if i < 0 || !orchestrator.Lasting(ev) {
		return s, false
	}
	named := ""
	switch e := ev.(type) {
	case orchestrator.Reported:
		named = e.Status.Execution
	case orchestrator.Queue:
		named = e.Execution.ID // a new one always has a new id
	}
	n, than := len(s.Executions), s.Executions[i].Priority
	s.Executions = slices.DeleteFunc(slices.Clone(s.Executions), func(x orchestrator.Tracked) bool {
		return x.State == schemas.StateQueued && x.ID != named && x.Priority <= than
	})
	return s, len(s.Executions) < n
}

// TestTurnOf compares what is read of a stored record for its turn with what the
// record says.
func TestTurnOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := &orchestrator.ExecutionRecord{}
		fill(t, reflect.ValueOf(rec).Elem())
		if rapid.Bool().Draw(t, "waits") {
			rec.State = schemas.StateQueued
		}
		rec.Detail = rapid.SampledFrom([]string{"", `,"state":"queued","cause":"",`, `x,"priority":7,`, `\`, `"}]`, `{[`}).Draw(t, "detail")
		b, err := json.Marshal(rec)
		if err != nil {
			t.Skip(err) // a time that JSON cannot hold
		}
		packed, ok := orchestrator.PackExecution(rec)
		if !ok {
			t.Fatalf("%s is not packed", b)
		}
		for _, stored := range [][]byte{b, packed} {
			state, priority, ok := orchestrator.TurnOf(stored)
			if ok && (state != rec.State || priority != rec.Priority) || !ok && rec.State == schemas.StateQueued {
				t.Fatalf("%q, %d, %v of %q", state, priority, ok, stored)
			}
		}
		if n := rapid.IntRange(0, len(b)-1).Draw(t, "cut"); n > 0 {
			if _, _, ok := orchestrator.TurnOf(b[:n]); ok {
				t.Fatalf("half a record is taken for a whole one: %s", b[:n])
			}
		}
	})
}
