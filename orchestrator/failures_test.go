package orchestrator_test

import (
	"fmt"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/orchestrator/memstore"
	"davit/schemas"
)

// lastFailures are those of an Activity, as job/device.
func (e *env) lastFailures() []string {
	e.t.Helper()
	a := must[orchestrator.Activity](e.t)(e.Activity(ctx))
	names := []string{}
	for i, f := range a.Failures {
		if f.At.IsZero() || f.Execution == "" || i > 0 && f.At.After(a.Failures[i-1].At) {
			e.t.Errorf("failure %d: %+v", i, f)
		}
		names = append(names, f.Job+"/"+f.Device)
	}
	return names
}

// TestLastFailuresAreThoseOfTheRecords: over a restart, without those that are tried again,
// canceled or deleted, at most ten and the latest first.
func TestLastFailuresAreThoseOfTheRecords(t *testing.T) {
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	e := newEnv(t, func(o *orchestrator.Options) { o.Now = func() time.Time { return now } })
	want := func(names ...string) {
		t.Helper()
		if got := e.lastFailures(); fmt.Sprint(got) != fmt.Sprint(names) {
			t.Errorf("the last failures are %v, want %v", got, names)
		}
	}
	want()
	ids := e.fleet(13)
	e.job("j", e.image("1.1", content(100, 1)).ID, ids...)
	end := func(id string, seq uint64, state schemas.State) {
		t.Helper()
		now = now.Add(time.Second)
		st := status(e.execution("j", id), seq, state)
		e.ok(e.Status(ctx, id, st))
	}
	end("d000", 1, schemas.StateRejected)
	end("d001", 1, schemas.StateFailed)
	e.restart()
	want("j/d001", "j/d000")
	for _, id := range ids[2:12] {
		end(id, 1, schemas.StateFailed)
	}
	e.restart()
	want("j/d011", "j/d010", "j/d009", "j/d008", "j/d007", "j/d006", "j/d005", "j/d004", "j/d003", "j/d002")
	must[orchestrator.Job](t)(e.RetryJob(ctx, "j", orchestrator.RetryRequest{Devices: []string{"d011"}}))
	for more := true; more; {
		more = must[bool](t)(orchestrator.Work(ctx, e.Service, "j"))
	}
	want("j/d010", "j/d009", "j/d008", "j/d007", "j/d006", "j/d005", "j/d004", "j/d003", "j/d002", "j/d001")
	end("d011", 1, schemas.StateTimedOut)
	if got := e.lastFailures(); got[0] != "j/d011" {
		t.Errorf("the last failures are %v", got)
	}
	must[orchestrator.Job](t)(e.CancelJob(ctx, "j", orchestrator.CancelRequest{}))
	for more := true; more; {
		more = must[bool](t)(orchestrator.Work(ctx, e.Service, "j"))
	}
	if got := e.lastFailures(); got[0] != "j/d011" {
		t.Errorf("with a canceled execution the last failures are %v", got)
	}
	e.checkClean()
}

// TestActivityCostsTheSameForAnyFleet: what is read of each table for few and for many
// devices that failed.
func TestActivityCostsTheSameForAnyFleet(t *testing.T) {
	var reads []map[orchestrator.Table]int
	for _, n := range []int{20, 500} {
		store := &countingStore{Store: memstore.New()}
		e := newEnv(t, func(o *orchestrator.Options) { o.Store = store })
		ids := e.fleet(n)
		e.job("j", e.image("1.1", content(100, 1)).ID, ids...)
		for _, id := range ids {
			e.ok(e.Status(ctx, id, status(e.execution("j", id), 1, schemas.StateFailed)))
		}
		store.tables = map[orchestrator.Table]int{}
		if got := e.lastFailures(); len(got) != 10 {
			t.Errorf("%d failures of %d devices", len(got), n)
		}
		reads = append(reads, store.tables)
	}
	if fmt.Sprint(reads[0]) != fmt.Sprint(reads[1]) || reads[0]["executions_failed"] != 10 || reads[0]["executions"] != 10 {
		t.Errorf("reads %v", reads)
	}
}
