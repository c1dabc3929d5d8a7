package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"davit/orchestrator"
	"davit/orchestrator/memstore"
	"davit/orchestrator/storetest"
	"davit/schemas"
)

// TestStartAndCancelSurviveCrashes lets the store fail at each transaction of
// a job's start and then of its cancellation, kept or not: the next process
// finishes what was begun.
func TestStartAndCancelSurviveCrashes(t *testing.T) {
	const devices = 41 // three parts
	fleet := memstore.New()
	base := newEnv(t, func(o *orchestrator.Options) { o.Store, o.JobBatch = fleet, 16 })
	ids := base.fleet(devices)
	m := base.image("2", content(10, 1))
	must[orchestrator.Job](t)(base.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: m.ID, Devices: ids}))
	for _, fault := range []storetest.Fault{storetest.FaultLost, storetest.FaultAfter} {
		for at := range 4 {
			t.Run(fmt.Sprintf("fault %d at update %d", fault, at), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { crashDuringWork(t, fleet.Clone(), base.blobs, devices, fault, at) })
			})
		}
	}
}

func crashDuringWork(t *testing.T, fleet orchestrator.Store, blobs orchestrator.Blobs, devices int, fault storetest.Fault, at int) {
	updates, armed := 0, false
	store := &storetest.Faulty{Store: fleet, Next: func() storetest.Fault {
		if !armed {
			return storetest.FaultNone
		}
		updates++
		if updates > at {
			return fault // from here on everything fails, as a full disk does
		}
		return storetest.FaultNone
	}}
	e := newEnv(t, func(o *orchestrator.Options) { o.Store, o.Blobs, o.JobBatch = store, blobs, 16 })

	armed = true
	_, err := e.StartJob(ctx, "j")
	e.wants(err, storetest.ErrInjected)
	armed, updates = false, 0
	e.checkClean()
	e.restart()
	e.start()
	must[orchestrator.Job](t)(e.StartJob(ctx, "j")) // the operator tries again
	synctest.Wait()
	j := must[orchestrator.Job](t)(e.Job(ctx, "j"))
	if j.State != orchestrator.JobRunning || j.Counts[schemas.StateOffered] != devices || len(e.broker.retained()) != devices {
		t.Fatalf("after the start: %s %v, %d offers", j.State, j.Counts, len(e.broker.retained()))
	}
	e.stop()

	armed = true
	_, err = e.CancelJob(ctx, "j")
	e.wants(err, storetest.ErrInjected)
	armed = false
	e.checkClean()
	e.restart()
	e.start()
	must[orchestrator.Job](t)(e.CancelJob(ctx, "j"))
	synctest.Wait()
	e.stop()
	j = must[orchestrator.Job](t)(e.Job(ctx, "j"))
	if j.State != orchestrator.JobCanceled || j.Counts[schemas.StateCanceled] != devices || len(e.broker.retained()) != 0 {
		t.Fatalf("after the cancellation: %s %v, %d offers", j.State, j.Counts, len(e.broker.retained()))
	}
	e.checkClean()
}

// TestRunFinishesWork leaves a start in the middle and asks nobody again.
func TestRunFinishesWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, func(o *orchestrator.Options) { o.JobBatch = 16 })
		ids := e.fleet(60)
		m := e.image("2", content(10, 1))
		must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: m.ID, Devices: ids}))
		ended, cancel := context.WithCancel(ctx)
		updates := 0
		e.opts.Store = &storetest.Faulty{Store: e.store, Next: func() storetest.Fault {
			if updates++; updates == 2 {
				cancel()
			}
			return storetest.FaultNone
		}}
		e.restart()
		_, err := e.StartJob(ended, "j") // the caller goes away after the first transaction
		e.wants(err, context.Canceled)
		e.opts.Store = e.store
		e.restart()
		e.start()
		synctest.Wait()
		e.stop()
		if j := must[orchestrator.Job](t)(e.Job(ctx, "j")); j.Counts[schemas.StateOffered] != 60 {
			t.Errorf("the start was not finished: %v", j.Counts)
		}
		e.checkClean()
	})
}

// TestFailedButKept lets an update fail that was kept, and asks nothing again:
// what it decided is carried out all the same.
func TestFailedButKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		updates := 0
		e := newEnv(t, func(o *orchestrator.Options) {
			o.Store = &storetest.Faulty{Store: o.Store, Next: func() storetest.Fault {
				if updates++; updates == 0 {
					return storetest.FaultAfter
				}
				return storetest.FaultNone
			}}
		})
		e.fleet(10)
		m := e.image("2", content(10, 1))
		must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: m.ID, Devices: []string{"d000", "d001"}}))
		e.start()
		defer func() { e.stop() }()
		updates = -2 // the second update from here, which makes the executions
		_, err := e.StartJob(ctx, "j")
		e.wants(err, storetest.ErrInjected)
		synctest.Wait()
		if n := len(e.broker.retained()); n != 2 {
			t.Errorf("%d offers, want 2", n)
		}
	})
}

// walk is a random walk of people, devices, failures and restarts over one
// service. The harness is the oracle: after each step the store is consistent,
// and at the end every offer topic says what the store says.
type walk struct {
	*env
	t      *rapid.T
	fault  atomic.Int32 // of the next update
	jobs   int
	images []string
	tells  map[string]schemas.State // what acks told of executions
}

func (w *walk) tolerate(err error) {
	for _, kind := range []error{nil, storetest.ErrInjected, orchestrator.ErrConflict, orchestrator.ErrExists} {
		if errors.Is(err, kind) {
			return
		}
	}
	w.t.Fatalf("unexpected error: %v", err)
}

func (w *walk) device() string { return fmt.Sprintf("d%03d", w.draw("device", 4)) }

func (w *walk) draw(label string, n int) int { return rapid.IntRange(0, n-1).Draw(w.t, label) }

func (w *walk) step() {
	switch w.draw("step", 10) {
	case 0:
		w.fault.Store(int32(w.draw("fault", 3)))
		w.newJob()
	case 1:
		_, err := w.CancelJob(ctx, fmt.Sprintf("j%d", w.draw("job", w.jobs+1)))
		if !errors.Is(err, orchestrator.ErrNotFound) {
			w.tolerate(err)
		}
	case 2:
		w.fault.Store(int32(w.draw("fault", 3)))
		version := map[string]string{"oem_host_version": fmt.Sprint(w.draw("version", 4))}
		w.tolerate(w.Hello(ctx, w.device(), schemas.Hello{V: 1, HostVersions: version}))
	case 3:
		w.fault.Store(int32(w.draw("fault", 3)))
		w.tolerate(w.Presence(ctx, w.device(), w.draw("online", 2) == 0))
	case 4:
		w.stop()
		w.fault.Store(0)
		w.restart()
		w.start()
	default:
		w.report()
	}
	w.fault.Store(0)
}

func (w *walk) newJob() {
	var ids []string
	for i := range 4 {
		if w.draw("targeted", 2) == 0 {
			ids = append(ids, fmt.Sprintf("d%03d", i))
		}
	}
	if len(ids) == 0 {
		return
	}
	w.jobs++
	_, err := w.CreateJob(ctx, orchestrator.NewJob{
		Name: fmt.Sprintf("j%d", w.jobs), Image: w.images[w.draw("image", len(w.images))], Devices: ids,
		IgnoreValidation: w.draw("ignore", 3) == 0, Start: w.draw("start", 4) > 0,
	})
	w.tolerate(err)
}

// report lets a device report on what it is offered. An answer that is an ack
// must never be taken back.
func (w *walk) report() {
	device := w.device()
	o, ok := w.broker.offer(device)
	if !ok {
		return
	}
	reportable := schemas.States()[2:]
	s := schemas.Status{V: 1, Execution: o.Execution, Attempt: o.Attempt, Seq: uint64(1 + w.draw("seq", 9)),
		State: reportable[w.draw("state", len(reportable))]}
	if s.State == schemas.StateSucceeded {
		s.HostVersion = o.Version
	} else if s.State.Final() {
		s.Cause = schemas.CauseFlash
	}
	w.fault.Store(int32(w.draw("fault", 3)))
	err := w.Status(ctx, device, s)
	w.tolerate(err)
	if err == nil {
		a, _ := w.broker.lastAck(device)
		w.tells[a.Execution] = a.State
	}
}

func (w *walk) check() {
	r, err := w.Check(ctx)
	if err != nil || !r.OK() {
		w.t.Fatalf("check: %v, %v", err, r.Violations)
	}
	for id, told := range w.tells {
		x, err := w.Execution(ctx, id)
		if err != nil || x.State.Rank() < told.Rank() || told.Final() && x.State != told {
			w.t.Fatalf("execution %s is %s (%v), a device was told %s", id, x.State, err, told)
		}
	}
}

// end restarts once more and compares every offer topic with the store.
func (w *walk) end() {
	w.stop()
	w.restart()
	w.start()
	synctest.Wait()
	offers := w.broker.retained()
	open := 0
	for i := range 4 {
		device := fmt.Sprintf("d%03d", i)
		list, _, err := w.DeviceExecutions(ctx, device, orchestrator.Page{Limit: 1000})
		w.ok(err)
		for _, x := range list {
			if x.State == schemas.StateQueued || x.State.Final() {
				continue
			}
			open++
			if offers[device].Execution != x.ID {
				w.t.Fatalf("%s is offered %q, the store says %s", device, offers[device].Execution, x.ID)
			}
		}
	}
	if open != len(offers) {
		w.t.Fatalf("%d offers are retained, %d executions are under way", len(offers), open)
	}
}

func TestRandomWalkWithFailures(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			w := &walk{t: rt, tells: map[string]schemas.State{}}
			store := &storetest.Faulty{Store: memstore.New()}
			// One update of the step fails; what runs beside it may be the one.
			store.Next = func() storetest.Fault { return storetest.Fault(w.fault.Swap(0)) }
			w.env = newEnv(t, func(o *orchestrator.Options) { o.Store = store })
			w.fleet(4)
			for _, v := range []string{"1", "2", "3"} {
				w.images = append(w.images, w.image(v, content(10, 1), func(n *orchestrator.NewImage) {
					if v == "3" {
						n.MinVersion = "2"
					}
				}).ID)
			}
			w.start()
			defer func() { w.stop() }()
			for range rapid.IntRange(1, 25).Draw(rt, "steps") {
				w.step()
				synctest.Wait()
				w.check()
			}
			w.end()
		})
	})
}
