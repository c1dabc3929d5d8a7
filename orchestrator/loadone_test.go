package orchestrator_test

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"davit/orchestrator"
	"davit/schemas"
)

// TestReportOnWhatIsAcceptedConcernsNoOther steps such reports with the whole device
// and with the execution alone, as the service does: the effects are the same, and
// nothing else changes.
func TestReportOnWhatIsAcceptedConcernsNoOther(t *testing.T) {
	open := rapid.SampledFrom(slices.DeleteFunc(schemas.States(), func(s schemas.State) bool { return s.Final() || s == schemas.StateQueued }))
	alone := 0
	rapid.Check(t, func(t *rapid.T) {
		var s orchestrator.State
		for _, h := range happenings(20).Draw(t, "before") {
			s, _ = orchestrator.Step(h.on(s), h.event, epoch)
		}
		x := tracked("z", rapid.Uint64Range(1, 200).Draw(t, "order"), "2")
		x.State, x.Attempt, x.Seq, x.UpdatedAt = open.Draw(t, "state"), 2, 5, epoch
		x.Action = rapid.SampledFrom([]orchestrator.ActionKind{"", orchestrator.ActionSoft, orchestrator.ActionDownload}).Draw(t, "action")
		x.Priority = rapid.IntRange(-1, 1).Draw(t, "priority")
		s.Executions = slices.DeleteFunc(s.Executions, func(o orchestrator.Tracked) bool { return o.State != schemas.StateQueued && !o.State.Final() })
		if x.State == schemas.StateOffered { // only if nothing else waits
			s.Executions = slices.DeleteFunc(s.Executions, func(o orchestrator.Tracked) bool { return !o.State.Final() })
		}
		s.Executions = append(s.Executions, x)
		slices.SortFunc(s.Executions, func(a, b orchestrator.Tracked) int {
			return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Order, b.Order))
		})
		s.Retained = true
		if rapid.Bool().Draw(t, "pause") {
			s.Jobs = paused(x.Job)
		}
		ev := orchestrator.Reported{Status: schemas.Status{V: schemas.Version, Execution: x.ID, State: open.Draw(t, "reported"),
			Attempt: rapid.IntRange(1, 3).Draw(t, "attempt"), Seq: rapid.Uint64Range(1, 9).Draw(t, "seq"), BytesDone: 7}}
		if !orchestrator.GoesOn(&x, &ev.Status) {
			return
		}
		alone++
		now := clockGen.Draw(t, "now")
		next, effects := orchestrator.Step(s, ev, now)
		one := orchestrator.State{Device: s.Device, Executions: []orchestrator.Tracked{x}, Retained: true, Jobs: s.Jobs}
		nextOne, effectsOne := orchestrator.Step(one, ev, now)
		if !reflect.DeepEqual(effects, effectsOne) {
			t.Fatalf("alone %+v, among all %+v", effectsOne, effects)
		}
		want := slices.Clone(s.Executions)
		want[slices.IndexFunc(want, func(o orchestrator.Tracked) bool { return o.ID == x.ID })] = nextOne.Executions[0]
		if !reflect.DeepEqual(next.Executions, want) || next.Retained != s.Retained || len(next.Waiting) != 0 || !maps.Equal(next.Versions, s.Versions) {
			t.Fatalf("after %+v\n%+v, want\n%+v", ev, next, want)
		}
	})
	if alone == 0 {
		t.Fatal("no report concerned its execution alone")
	}
}
