package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"davit/orchestrator"
	"davit/orchestrator/memstore"
	"davit/schemas"
)

// gated is a store whose updates can be held up, and that counts what they do.
type gated struct {
	orchestrator.Store
	gate    chan struct{} // an update takes one from it; nil lets all through
	updates int
	ops     map[string]int
	// refuse fails a write.
	refuse func(table orchestrator.Table, key []byte) error
}

func (g *gated) Update(ctx context.Context, fn func(orchestrator.Writer) error) error {
	if g.gate != nil {
		<-g.gate
	}
	return g.Store.Update(ctx, func(w orchestrator.Writer) error {
		g.updates++
		return fn(&gatedWriter{w, g})
	})
}

type gatedWriter struct {
	orchestrator.Writer
	store *gated
}

func (w *gatedWriter) count(op string, table orchestrator.Table) {
	if w.store.ops != nil {
		w.store.ops[op]++
		w.store.ops[op+" "+string(table)]++
	}
}

func (w *gatedWriter) Get(table orchestrator.Table, key []byte) ([]byte, error) {
	w.count("get", table)
	return w.Writer.Get(table, key)
}

func (w *gatedWriter) Scan(table orchestrator.Table, prefix, after []byte, fn func(k, v []byte) bool) error {
	w.count("scan", table)
	return w.Writer.Scan(table, prefix, after, fn)
}

func (w *gatedWriter) Put(table orchestrator.Table, key, value []byte) error {
	w.count("put", table)
	if w.store.refuse != nil {
		if err := w.store.refuse(table, key); err != nil {
			return err
		}
	}
	return w.Writer.Put(table, key, value)
}

func (w *gatedWriter) Delete(table orchestrator.Table, key []byte) error {
	w.count("delete", table)
	return w.Writer.Delete(table, key)
}

// gatedEnv has n devices that are offered an image.
func gatedEnv(t *testing.T, n int) (*env, *gated, []orchestrator.Execution) {
	store := &gated{Store: memstore.New()}
	e := newEnv(t, func(o *orchestrator.Options) { o.Store = store })
	ids := e.fleet(n)
	e.job("j", e.image("2", content(1000, 1)).ID, ids...)
	list, _, err := e.JobExecutions(ctx, "j", orchestrator.ExecutionFilter{}, orchestrator.Page{Limit: 1000})
	e.ok(err)
	return e, store, list
}

// crowd makes calls at the same time, the first of which waits at the store's gate
// until all others wait for their turn, and returns what each came to.
func crowd(store *gated, calls ...func() error) []error {
	store.gate = make(chan struct{})
	store.updates = 0
	errs := make([]error, len(calls))
	var all sync.WaitGroup
	for i, call := range calls {
		all.Go(func() { errs[i] = call() })
		synctest.Wait()
	}
	close(store.gate)
	all.Wait()
	store.gate = nil
	return errs
}

func reports(e *env, list []orchestrator.Execution, seq uint64, state schemas.State) []func() error {
	var calls []func() error
	for _, x := range list {
		calls = append(calls, func() error { return e.Status(ctx, x.Device, status(x, seq, state)) })
	}
	return calls
}

// Reports that come together are one transaction, after that of the first.
func TestReportsComeTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, store, list := gatedEnv(t, 65)
		defer e.checkClean()
		for i, err := range crowd(store, reports(e, list, 1, schemas.StateInstalling)...) {
			if err != nil {
				t.Errorf("report %d: %v", i, err)
			}
		}
		if store.updates != 2 {
			t.Errorf("%d transactions, want 2", store.updates)
		}
		for _, x := range list {
			if a, n := e.broker.lastAck(x.Device); n != 1 || a.Execution != x.ID || a.State != schemas.StateInstalling {
				t.Errorf("%s: %d acks, the last %+v", x.Device, n, a)
			}
		}
		if j := must[orchestrator.Job](t)(e.Job(ctx, "j")); j.Counts[schemas.StateInstalling] != 65 {
			t.Errorf("counts %v", j.Counts)
		}
	})
}

// What fails in a transaction fails for its caller only.
func TestOneFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, store, list := gatedEnv(t, 20)
		defer e.checkClean()
		calls := reports(e, list, 1, schemas.StateInstalling)
		for _, at := range []int{4, 11, 12, 19} {
			calls[at] = func() error { return e.Presence(ctx, "nobody", true) }
		}
		for i, err := range crowd(store, calls...) {
			switch i {
			case 4, 11, 12, 19:
				e.wants(err, orchestrator.ErrNotFound, `"nobody"`)
			default:
				e.ok(err)
				if _, n := e.broker.lastAck(list[i].Device); n != 1 {
					t.Errorf("%s has %d acks, want 1", list[i].Device, n)
				}
			}
		}
		if j := must[orchestrator.Job](t)(e.Job(ctx, "j")); j.Counts[schemas.StateInstalling] != 16 {
			t.Errorf("counts %v", j.Counts)
		}
	})
}

// What fails only when a transaction is written, for one job, leaves the reports of
// others alone.
func TestOneJobFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, store, _ := gatedEnv(t, 6)
		defer e.checkClean()
		m := e.image("3", content(1000, 3)).ID
		for _, x := range []string{"d000", "d001", "d002"} { // so that the second job has its turn
			e.ok(e.Status(ctx, x, status(e.execution("j", x), 1, schemas.StateSucceeded)))
		}
		e.job("bad", m, "d000", "d001", "d002")
		var calls []func() error
		for i := range 6 {
			job := []string{"bad", "j"}[i/3]
			calls = append(calls, reports(e, []orchestrator.Execution{e.execution(job, fmt.Sprintf("d%03d", i))}, 2, schemas.StateFailed)...)
		}
		calls = append([]func() error{func() error { return e.Presence(ctx, "d005", true) }}, calls...)
		broken := errors.New("broken")
		store.refuse = func(table orchestrator.Table, key []byte) error {
			if table == "job_history" && string(key) == "bad" {
				return broken
			}
			return nil
		}
		for i, err := range crowd(store, calls...) {
			if bad := 1 <= i && i <= 3; bad != errors.Is(err, broken) || !bad && err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		}
	})
}

// A caller that gives up while it waits leaves nothing behind; one whose
// transaction runs is answered.
func TestGivingUpAReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, store, list := gatedEnv(t, 4)
		defer e.checkClean()
		given, cancel := context.WithCancel(ctx)
		calls := reports(e, list, 1, schemas.StateInstalling)
		for _, i := range []int{0, 2} { // the first runs the transaction
			calls[i] = func() error { return e.Status(given, list[i].Device, status(list[i], 1, schemas.StateInstalling)) }
		}
		calls = append(calls, func() error { cancel(); return nil })
		errs := crowd(store, calls...)
		e.wants(errs[2], context.Canceled)
		for _, i := range []int{0, 1, 3} {
			e.ok(errs[i])
		}
		if x := e.execution("j", "d002"); x.State != schemas.StateOffered {
			t.Errorf("the report that was given up left %s", x.State)
		}
		e.wants(e.Status(given, "d002", status(list[2], 1, schemas.StateInstalling)), context.Canceled)
	})
}

// A panic goes on in the goroutine that runs the transaction; nobody waits for ever.
func TestPanicTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, store, list := gatedEnv(t, 4)
		defer e.checkClean()
		calls := reports(e, list, 1, schemas.StateInstalling)
		second := calls[1]
		calls[1] = func() (err error) {
			defer func() {
				if recover() == nil {
					t.Error("no panic in the goroutine that runs the transaction")
				}
			}()
			return second()
		}
		store.refuse = func(_ orchestrator.Table, key []byte) error {
			if string(key) == list[3].ID {
				panic("wanted")
			}
			return nil
		}
		errs := crowd(store, calls...)
		e.ok(errs[0])
		for _, err := range errs[2:] {
			if err == nil || !strings.Contains(err.Error(), "panicked") {
				t.Errorf("error %v", err)
			}
		}
		store.refuse = nil
		for _, call := range reports(e, list, 1, schemas.StateInstalling) {
			e.ok(call())
		}
	})
}

// Reports that come fast gather for some milliseconds, after a transaction during which
// many came; few do not wait for more, and a lone one never does.
func TestReportsGather(t *testing.T) {
	for _, c := range []struct {
		name          string
		during, after int           // how many come during the first transaction, and after it, one each 310 µs
		updates       int           // of the store
		at            time.Duration // when the last one that came during it has its answer
	}{
		{"alone", 0, 0, 1, 0},
		{"few", 7, 20, 22, 0},
		{"many, and then none", 8, 0, 2, 4 * time.Millisecond},
		{"many, and some more", 8, 14, 2, 8 * time.Millisecond},
		{"many without end", 8, 105, 30, 24 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, store, list := gatedEnv(t, 1+c.during+c.after)
				calls := reports(e, list, 1, schemas.StateInstalling)
				store.gate, store.updates = make(chan struct{}), 0
				var all sync.WaitGroup
				began := time.Now()
				var answered atomic.Int64 // the last of the first ones
				for i := range 1 + c.during {
					all.Go(func() {
						e.ok(calls[i]())
						answered.Store(int64(time.Since(began)))
					})
					synctest.Wait()
				}
				close(store.gate)
				for i := range c.after {
					time.Sleep(310 * time.Microsecond)
					all.Go(func() { e.ok(calls[1+c.during+i]()) })
				}
				all.Wait()
				if at := time.Duration(answered.Load()); store.updates != c.updates || at != c.at {
					t.Errorf("%d updates, the last of the first ones after %v; want %d and %v", store.updates, at, c.updates, c.at)
				}
			})
		})
	}
}

// TestStoreOperationsOfAReport guards what a report costs the store when 64 come
// together: what executions share is paid once.
func TestStoreOperationsOfAReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, store, list := gatedEnv(t, 65)
		for _, err := range crowd(store, reports(e, list, 1, schemas.StateInstalling)...) {
			e.ok(err)
		}
		store.ops = map[string]int{}
		for _, err := range crowd(store, reports(e, list, 2, schemas.StateInstalling)...) {
			e.ok(err)
		}
		// By the first alone and the 64 others: each has its record and its place in the
		// job's changes.
		for op, most := range map[string]int{"get": 65 + 2*8, "scan": 0, "put": 65*2 + 2*8, "delete": 65 + 2*4} {
			if store.ops[op] > most {
				t.Errorf("%d times %s, at most %d wanted: %v", store.ops[op], op, most, store.ops)
			}
		}
	})
}

// TestAllocationsOfAReport guards the garbage of a report that changes nothing but
// bytes.
func TestAllocationsOfAReport(t *testing.T) {
	e, _, list := gatedEnv(t, 1)
	seq := uint64(0)
	n := testing.AllocsPerRun(200, func() {
		seq++
		e.ok(e.Status(ctx, list[0].Device, status(list[0], seq, schemas.StateInstalling)))
	})
	t.Logf("%.0f allocations", n)
	if n > 150 {
		t.Errorf("%.0f allocations, at most 150 wanted", n)
	}
}
