package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"davit/orchestrator"
	"davit/orchestrator/memstore"
	"davit/orchestrator/storetest"
	"davit/schemas"
)

// TestWorkSurvivesCrashes lets the store fail at each transaction of everything
// that is asked of a job in turn, kept or not: the next process finishes what was begun.
func TestWorkSurvivesCrashes(t *testing.T) {
	const devices = 41 // three parts
	fleet := memstore.New()
	base := newEnv(t, func(o *orchestrator.Options) { o.Store, o.JobBatch = fleet, 16 })
	ids := base.fleet(devices)
	m := base.image("2", content(10, 1))
	must[orchestrator.Job](t)(base.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: m.ID, Devices: ids}))
	for _, fault := range []storetest.Fault{storetest.FaultLost, storetest.FaultAfter} {
		for at := range 4 {
			t.Run(fmt.Sprintf("fault %d at update %d", fault, at), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := &crashes{devices: devices, fault: fault, at: at}
					c.env = newEnv(t, func(o *orchestrator.Options) {
						o.Store, o.Blobs, o.JobBatch = &storetest.Faulty{Store: fleet.Clone(), Next: c.next}, base.blobs, 16
					})
					c.phase("start", orchestrator.JobRunning, schemas.StateOffered, 1)
					c.phase("pause", orchestrator.JobPaused, schemas.StateQueued, 2)
					c.phase("resume", orchestrator.JobRunning, schemas.StateOffered, 2)
					for _, id := range ids {
						c.ok(c.Status(ctx, id, status(c.execution("j", id), 1, schemas.StateFailed)))
					}
					c.phase("retry", orchestrator.JobRunning, schemas.StateOffered, 3)
					c.phase("cancel", orchestrator.JobCanceled, schemas.StateCanceled, 3)
				})
			})
		}
	}
}

// crashes lets the store of an env fail from one update on, as a full disk does.
type crashes struct {
	*env
	devices, at, updates int
	fault                storetest.Fault
	armed                bool
}

func (c *crashes) next() storetest.Fault {
	if !c.armed {
		return storetest.FaultNone
	}
	if c.updates++; c.updates > c.at {
		return c.fault
	}
	return storetest.FaultNone
}

// phase asks something of the job, which fails on the way. After a crash it is
// asked for again: everything then is as if it had been asked for once.
func (c *crashes) phase(action string, job orchestrator.JobState, state schemas.State, attempt int) {
	c.t.Helper()
	c.armed, c.updates = true, 0
	_, err := c.control(action, "j")
	c.wants(err, storetest.ErrInjected)
	c.armed = false
	c.checkClean()
	c.restart()
	c.start()
	synctest.Wait()
	if _, err := c.control(action, "j"); err != nil && action != "retry" { // which has nothing left to retry if the first request was kept
		c.t.Fatal(err)
	}
	synctest.Wait()
	c.stop()
	j := must[orchestrator.Job](c.t)(c.Job(ctx, "j"))
	offers := 0
	if state == schemas.StateOffered {
		offers = c.devices
	}
	if j.State != job || j.Counts[state] != c.devices || len(c.broker.retained()) != offers {
		c.t.Fatalf("after %s: %s %v, %d offers", action, j.State, j.Counts, len(c.broker.retained()))
	}
	list, _, err := c.JobExecutions(ctx, "j", orchestrator.ExecutionFilter{}, orchestrator.Page{Limit: 1000})
	c.ok(err)
	for _, x := range list {
		if o, ok := c.broker.offer(x.Device); x.Attempt != attempt || ok && o.Attempt != attempt {
			c.t.Fatalf("after %s: attempt %d on %s, offered %d; want %d", action, x.Attempt, x.Device, o.Attempt, attempt)
		}
	}
	c.checkClean()
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
		var updates atomic.Int32
		updates.Store(1 << 20)
		e := newEnv(t, func(o *orchestrator.Options) {
			o.Store = &storetest.Faulty{Store: o.Store, Next: func() storetest.Fault {
				if updates.Add(-1) == 0 {
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
		updates.Store(2)                                // the second update from here, which makes the executions
		if _, err := e.StartJob(ctx, "j"); err != nil { // none if Run was faster to make them
			e.wants(err, storetest.ErrInjected)
		}
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
	tells  map[string]schemas.State // what acks told of attempts
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
	switch w.draw("step", 13) {
	case 10, 11, 12:
		w.fault.Store(int32(w.draw("fault", 3)))
		action := []string{"pause", "resume", "retry"}[w.draw("action", 3)]
		if _, err := w.control(action, fmt.Sprintf("j%d", w.draw("job", w.jobs+1))); !errors.Is(err, orchestrator.ErrNotFound) {
			w.tolerate(err)
		}
	case 0:
		w.fault.Store(int32(w.draw("fault", 3)))
		w.newJob()
	case 1:
		_, err := w.CancelJob(ctx, fmt.Sprintf("j%d", w.draw("job", w.jobs+1)), orchestrator.CancelRequest{})
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
		if a, _ := w.broker.lastAck(device); !a.Superseded {
			w.tells[fmt.Sprintf("%s#%d", a.Execution, a.Attempt)] = a.State
		}
	}
}

func (w *walk) check() {
	r, err := w.Check(ctx)
	if err != nil || !r.OK() {
		w.t.Fatalf("check: %v, %v", err, r.Violations)
	}
	for attempt, told := range w.tells {
		id, number, _ := strings.Cut(attempt, "#")
		x, err := w.Execution(ctx, id)
		if err == nil && fmt.Sprint(x.Attempt) != number {
			if told != schemas.StateSucceeded && told != schemas.StateCanceled {
				continue
			}
			// A device that reports another version after its success has fallen back,
			// which is an attempt of its own: the success stays in the history.
			if told == schemas.StateSucceeded && slices.ContainsFunc(x.History, func(a orchestrator.Attempt) bool {
				return fmt.Sprint(a.Attempt) == number && a.State == told
			}) {
				continue
			}
			w.t.Fatalf("execution %s is at attempt %d, a device was told that attempt %s is %s", id, x.Attempt, number, told)
		}
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
			if o := offers[device]; o.Execution != x.ID || o.Attempt != x.Attempt {
				w.t.Fatalf("%s is offered %q, attempt %d, the store says %s, attempt %d", device, o.Execution, o.Attempt, x.ID, x.Attempt)
			}
			if j, err := w.Job(ctx, x.Job); err != nil || x.State == schemas.StateOffered && j.State == orchestrator.JobPaused {
				w.t.Fatalf("%s is offered %s of job %s, which is paused (%v)", device, x.ID, x.Job, err)
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
