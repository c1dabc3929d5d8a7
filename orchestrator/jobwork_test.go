package orchestrator_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"davit/orchestrator"
	"davit/orchestrator/memstore"
	"davit/orchestrator/storetest"
	"davit/schemas"
)

// TestWorkThatChangesOnTheWay asks things of a job faster than they are done,
// with failures and restarts in between, and then lets Run finish. Whatever was
// asked for last is what is true of every execution.
func TestWorkThatChangesOnTheWay(t *testing.T) {
	const devices = 40
	fleet := memstore.New()
	base := newEnv(t, func(o *orchestrator.Options) { o.Store = fleet })
	base.fleet(devices)
	m := base.image("2", content(10, 1))
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			w := &rush{rt: rt, retried: map[string]int{}, ended: map[string]int{}}
			w.env = newEnv(t, func(o *orchestrator.Options) {
				o.Store, o.Blobs, o.JobBatch = &storetest.Faulty{Store: fleet.Clone(), Next: w.next}, base.blobs, 2
			})
			var ids []string
			for i := range devices {
				ids = append(ids, fmt.Sprintf("d%03d", i))
			}
			e := w.env
			e.job("j", m.ID, ids...)
			if every := rapid.IntRange(0, 3).Draw(rt, "failed"); every > 0 {
				w.finish()
				w.report(schemas.StateFailed, every)
			}
			for range rapid.IntRange(1, 12).Draw(rt, "steps") {
				w.step()
			}
			w.checkClean()
			w.finish()
			w.compare()
		})
	})
}

// rush asks a lot of one job.
type rush struct {
	*env
	rt      *rapid.T
	left    int // updates until one fails, if it is not 0
	fault   storetest.Fault
	retried map[string]int // the attempt that has to be reached at least, by device
	ended   map[string]int // the attempt that failed since the last request to retry, which stays the last one
}

func (w *rush) next() storetest.Fault {
	if w.left > 0 {
		if w.left--; w.left == 0 {
			return w.fault
		}
	}
	return storetest.FaultNone
}

func (w *rush) step() {
	defer func() { w.left = 0 }()
	switch kind := rapid.IntRange(0, 8).Draw(w.rt, "kind"); kind {
	case 0, 1, 2, 3:
		w.left = max(0, rapid.IntRange(-8, 6).Draw(w.rt, "left"))
		w.fault = storetest.Fault(rapid.IntRange(1, 2).Draw(w.rt, "fault"))
		action := []string{"pause", "resume", "retry", "listed"}[kind]
		failed := w.failed()
		var err error
		if action == "listed" {
			failed = failed[:len(failed)/2]
			r := orchestrator.RetryRequest{}
			for _, x := range failed {
				r.Devices = append(r.Devices, x.Device)
			}
			if len(failed) == 0 {
				return
			}
			_, err = w.RetryJob(ctx, "j", r)
		} else {
			_, err = w.control(action, "j")
		}
		if action == "retry" || action == "listed" {
			for _, x := range failed {
				delete(w.ended, x.Device)
				if err == nil {
					w.retried[x.Device] = x.Attempt + 1
				}
			}
		}
	case 4:
		if rapid.IntRange(0, 3).Draw(w.rt, "cancel") == 0 {
			_, _ = w.CancelJob(ctx, "j", orchestrator.CancelRequest{}) // it may be completed
		}
	case 5:
		w.restart()
	case 8:
		w.finish()
	default:
		state := rapid.SampledFrom([]schemas.State{schemas.StateAccepted, schemas.StateFailed, schemas.StateFailed, schemas.StateSucceeded}).Draw(w.rt, "state")
		w.report(state, rapid.IntRange(1, 5).Draw(w.rt, "every"))
	}
}

// finish restarts the service and lets Run do what is left to do.
func (w *rush) finish() {
	w.restart()
	w.start()
	synctest.Wait()
	w.stop()
	w.checkClean()
}

// report lets each so manieth device say something of what it is offered.
func (w *rush) report(state schemas.State, every int) {
	list, _, err := w.JobExecutions(ctx, "j", orchestrator.ExecutionFilter{States: []schemas.State{schemas.StateOffered, schemas.StateAccepted}}, orchestrator.Page{Limit: 1000})
	w.ok(err)
	for i, x := range list {
		if i%every == 0 {
			w.ok(w.Status(ctx, x.Device, status(x, x.Seq+1, state)))
			if state == schemas.StateFailed {
				w.ended[x.Device] = x.Attempt
			}
		}
	}
}

func (w *rush) failed() []orchestrator.Execution {
	list, _, err := w.JobExecutions(ctx, "j", orchestrator.ExecutionFilter{States: []schemas.State{schemas.StateFailed}}, orchestrator.Page{Limit: 1000})
	w.ok(err)
	return list
}

// compare holds every execution against the job's state.
func (w *rush) compare() {
	j := must[orchestrator.Job](w.t)(w.Job(ctx, "j"))
	list, _, err := w.JobExecutions(ctx, "j", orchestrator.ExecutionFilter{}, orchestrator.Page{Limit: 1000})
	w.ok(err)
	if j.State != orchestrator.JobCanceled && len(list) != j.Targets {
		w.rt.Fatalf("%d of %d targets became executions", len(list), j.Targets)
	}
	for _, x := range list {
		o, offered := w.broker.offer(x.Device)
		open := x.State == schemas.StateOffered || x.State == schemas.StateAccepted
		if open != offered || offered && o.Attempt != x.Attempt {
			w.rt.Fatalf("%s is %s at attempt %d, the broker holds %+v", x.Device, x.State, x.Attempt, o)
		}
		wrong := false
		switch j.State {
		case orchestrator.JobRunning:
			wrong = x.State == schemas.StateQueued
		case orchestrator.JobPaused:
			wrong = x.State == schemas.StateOffered
		default:
			wrong = !x.State.Final()
		}
		if wrong {
			w.rt.Fatalf("the job is %s, %s is %s", j.State, x.Device, x.State)
		}
		if j.State != orchestrator.JobCanceled && x.Attempt < w.retried[x.Device] {
			w.rt.Fatalf("%s is at attempt %d, although %d was promised", x.Device, x.Attempt, w.retried[x.Device])
		}
		if last := w.ended[x.Device]; last != 0 && (x.Attempt != last || x.State != schemas.StateFailed) {
			w.rt.Fatalf("%s is %s at attempt %d, although attempt %d failed after the last request to retry", x.Device, x.State, x.Attempt, last)
		}
	}
}

// TestRetryInTheMiddleOfARetry asks once more after the first devices have
// failed again: what the first request has passed is tried again too.
func TestRetryInTheMiddleOfARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, func(o *orchestrator.Options) { o.JobBatch = 2 })
		defer e.checkClean()
		ids := e.fleet(20)
		e.job("j", e.image("2", content(10, 1)).ID, ids...)
		w := &rush{env: e, ended: map[string]int{}}
		w.finish()
		w.report(schemas.StateFailed, 1)
		for attempt := 2; attempt <= 3; attempt++ {
			j := must[orchestrator.Job](t)(e.RetryJob(ctx, "j", orchestrator.RetryRequest{}))
			if j.Counts[schemas.StateOffered] != 8 || e.execution("j", "d000").Attempt != attempt {
				t.Fatalf("request %d: %v", attempt-1, j.Counts)
			}
			if attempt == 2 {
				w.report(schemas.StateFailed, 1)
			}
		}
		w.finish()
		for i, id := range ids {
			if x := e.execution("j", id); x.State != schemas.StateOffered || x.Attempt != []int{2, 3}[min(1, max(0, 8-i))] {
				t.Errorf("%s is %s at attempt %d", id, x.State, x.Attempt)
			}
		}
	})
}

// Ids of executions are unique, fit everywhere and sort by their making.
func TestExecutionIDs(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	seen := map[string]bool{}
	last := ""
	for i := range 4 {
		for j, id := range orchestrator.ExecutionIDs(at.Add(time.Duration(i)*time.Second), 5000) {
			if err := (&schemas.Ack{V: schemas.Version, Execution: id, Attempt: 1, Seq: 1, State: schemas.StateAccepted}).Validate(); err != nil {
				t.Fatal(err)
			}
			if seen[id] || id <= last {
				t.Fatalf("id %d of second %d is %s, the one before %s", j, i, id, last)
			}
			seen[id], last = true, id
		}
	}
	if a, b := orchestrator.ExecutionIDs(at, 1)[0], orchestrator.ExecutionIDs(at, 1)[0]; a[:10] != b[:10] || a == b {
		t.Errorf("two transactions of one second made %s and %s", a, b)
	}
	// The number runs over: another beginning is drawn.
	if ids := orchestrator.ExecutionIDs(at, 1<<20+1); ids[0] == ids[1<<20] {
		t.Errorf("%s twice", ids[0])
	}
}
