package orchestrator

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"time"

	"davit/internal/trace"
	"davit/schemas"
)

// outcome is what a committed transaction leaves to be done.
type outcome struct {
	acks    []schemas.Ack
	changes []stateChange
	resync  []string        // devices whose offer topic has to be brought up to date
	again   []string        // the same, where what stands is only to be said again
	jobs    map[string]bool // jobs whose revision grew
	events  bool            // something changed that the feed tells
	work    bool            // a job has something left to do
	wake    time.Time       // the earliest timer that was set
	stops   []stopped       // what the service did to jobs by itself
	waves   int             // how many were released
	spans   []trace.Span    // that have ended
	started []startedJob
	// fetchers are the devices whose executions were written: what they may fetch has
	// to be read anew.
	fetchers map[string]bool
}

// wakeAt notes that a timer was set.
func (o *outcome) wakeAt(at time.Time) {
	if !at.IsZero() && (o.wake.IsZero() || at.Before(o.wake)) {
		o.wake = at
	}
}

// txn is one run of an update's function. It gathers the changes of the small
// records that many executions share, so that they are written once.
type txn struct {
	Writer
	now      time.Time
	batch    int // executions that a part of a job's work may touch
	out      outcome
	progress map[string]*progressPair
	history  map[string]*historyRecord
	totals   totals
	counted  bool // totals have changed
	actor    Actor
	idem     *idempotent     // set by once
	rev      revisions       // feed.go
	counts   map[string]int  // counters.go: what to add to which
	touched  map[string]bool // feed.go: kind and id of records that changed
	unsound  bool            // flush failed
	scratch  scratch         // records.go: of put
	ids      executionIDs    // executionid.go
	random   func() uint64
	plans    *plans
	tracer   *trace.Tracer
	told     map[string]trace.Carried // with messages, by device
	verifier *verifier                // the service's keys when it began
	limit    int                      // Options.MaxInProgress
	fair     bool                     // places of that limit are being shared out
	views    map[string]*JobView      // of jobs, until they change
	gone     int                      // executions that are not ready any more
	noted    int64                    // metaClock as it is known, 0 if it is not
	matchers map[string]*matcher      // by the text of their query
}

func newTxn(ctx context.Context, w Writer, now time.Time) *txn {
	return &txn{
		Writer: w, now: now.UTC(), progress: map[string]*progressPair{}, actor: ActorOf(ctx),
		counts: map[string]int{}, touched: map[string]bool{}, views: map[string]*JobView{}, plans: newPlans(), random: random, verifier: &verifier{},
	}
}

// progressPair is a job's progress as it was and as it is, nil if nobody was to
// change it. moved says that what
// follows from its counts, its state or the time is to be found anew.
type progressPair struct {
	before, now *progressRecord
	moved       bool
}

// commit runs fn in one update of the store. After a commit it does what the
// outcome asks for, but for acknowledgements, which it leaves to the caller.
// When the store fails it is not known what became of the update, so the offer
// topics concerned are checked against the store all the same.
func (s *Service) commit(ctx context.Context, fn func(*txn) error) (outcome, error) {
	var t *txn
	err := s.store.Update(ctx, func(w Writer) error {
		t = newTxn(ctx, w, s.now())
		t.batch, t.random, t.plans, t.limit = s.jobBatch, s.random, s.plans, s.maxInProgress
		t.verifier, t.tracer, t.noted = s.verifier.Load(), s.tracer, s.noted.Load()
		if err := fn(t); err != nil {
			return err
		}
		err := t.flush()
		t.unsound = err != nil
		return err
	})
	if t == nil {
		return outcome{}, err
	}
	s.grants.drop(t.out.fetchers)
	for _, d := range t.out.resync {
		s.outbox.mark(d)
	}
	for _, d := range t.out.again {
		s.outbox.markRepeat(d)
	}
	if t.out.work {
		s.kickJobs()
	}
	s.timerSet(t.out.wake)
	s.saw(t.now)
	for j := range t.out.jobs {
		s.watch.notify(j)
	}
	if t.out.events {
		s.watch.notify(anyJob)
	}
	if err != nil {
		return outcome{}, err
	}
	s.noted.Store(t.noted)
	s.tell(t.out.changes)
	s.tellStops(t.out.stops)
	s.metrics.released(t.out.waves)
	s.tellTraces(ctx, &t.out)
	return t.out, nil
}

// job returns the job's progress for changing; flush writes it.
func (t *txn) job(name string) (*progressRecord, error) {
	pair, err := t.pair(name)
	if err != nil {
		return nil, err
	}
	if pair.now == nil {
		pair.now = pair.before.copied()
	}
	return pair.now, nil
}

// jobNow returns the job's progress as the transaction has left it so far, for
// looking at.
func (t *txn) jobNow(name string) (*progressRecord, error) {
	pair, err := t.pair(name)
	if err != nil {
		return nil, err
	}
	if pair.now == nil {
		return pair.before, nil
	}
	return pair.now, nil
}

func (t *txn) pair(name string) (*progressPair, error) {
	if pair := t.progress[name]; pair != nil {
		return pair, nil
	}
	before, err := need[progressRecord](t, "job", name)
	if err != nil {
		return nil, err
	}
	pair := &progressPair{before: before}
	t.progress[name] = pair
	return pair, nil
}

// plan returns the plan of a job.
func (t *txn) plan(job string) (*plan, error) { return t.plans.of(t, job) }

// deviceType returns a device type, to be looked at only.
func (t *txn) deviceType(id string) (*DeviceType, error) {
	return recall[DeviceType](t.plans.types, t, "device type", id)
}

// viewOf returns what the rules know of a job at this moment of the transaction.
func (t *txn) viewOf(job string) (*JobView, error) {
	if v := t.views[job]; v != nil {
		return v, nil
	}
	p, err := t.jobNow(job)
	if err != nil {
		return nil, err
	}
	pl, err := t.plan(job)
	if err != nil {
		return nil, err
	}
	left, err := t.left()
	if err != nil {
		return nil, err
	}
	v := p.view(pl, left, t.now)
	t.views[job] = v
	return v, nil
}

// flush brings the jobs up to date that have changed and writes what the
// transaction gathered.
func (t *txn) flush() error {
	for _, name := range slices.Sorted(maps.Keys(t.progress)) {
		p := t.progress[name]
		if p.now == nil && !p.moved {
			continue // it was only looked at
		}
		if p.now == nil {
			p.now = p.before.copied()
		}
		if p.moved {
			was := p.now.copied()
			if err := t.look(p.now); err != nil {
				return err
			}
			if !reflect.DeepEqual(was, p.now) {
				if err := t.bump(p.now); err != nil {
					return err
				}
			}
		}
		if p.now.Rev == p.before.Rev {
			continue
		}
		t.out.waves += p.now.Wave - p.before.Wave
		t.out.work = t.out.work || len(p.now.Work) > 0 || p.now.Starved
		if !p.now.WakeAt.Equal(p.before.WakeAt) {
			t.out.wakeAt(p.now.WakeAt)
		}
		// Its own revision, after those of its executions.
		if err := t.bump(p.now); err != nil {
			return err
		}
		if err := put(t, p.before, p.now); err != nil {
			return err
		}
		if t.out.jobs == nil {
			t.out.jobs = map[string]bool{}
		}
		t.out.jobs[name] = true
	}
	if t.counted {
		if err := writeTotals(t, t.totals); err != nil {
			return err
		}
	}
	return t.flushRest()
}

// flushRest writes what does not depend on jobs.
func (t *txn) flushRest() error {
	if err := t.flushHistory(); err != nil {
		return err
	}
	if err := t.flushCounters(); err != nil {
		return err
	}
	if err := t.flushIdempotency(); err != nil {
		return err
	}
	if err := t.flushClock(); err != nil {
		return err
	}
	return t.flushRevisions()
}

// step applies an event to a device's aggregate and writes the new state; dev
// may be nil as for load, and is otherwise the device as it is stored.
func (t *txn) step(device string, dev *Device, ev Event) error {
	st, records, whole, err := t.loadPart(device, dev, ev)
	if err != nil {
		return err
	}
	next, effects, err := t.decide(&st, dev, ev)
	if err == nil && !whole && st.currentID() != next.currentID() {
		if st, records, err = t.loadAll(device, dev, ev); err == nil {
			next, effects, err = t.decide(&st, dev, ev)
		}
	}
	if err != nil {
		return err
	}
	if dev == nil && (!next.accepted() || next.currentID() != st.currentID()) {
		// Others have their turn, or wait for it, which depends on the device.
		// Reports on what it has accepted do without.
		if dev, err = find[Device](t, device); err != nil {
			return err
		}
		if dev != nil {
			return t.step(device, dev, ev)
		}
	}
	if dev != nil && !maps.Equal(dev.confirmed(), next.Versions) {
		changed := dev.reporting(next.Versions)
		if err := put(t, dev, &changed); err != nil {
			return err
		}
	}
	if err := t.mark(device, st.Retained, next.Retained); err != nil {
		return err
	}
	if err := t.keep(device, records, effects); err != nil {
		return err
	}
	return t.keepReady(&st, &next)
}

// decide asks the rules, with what they may have to know of jobs and of the device's
// type.
func (t *txn) decide(st *State, dev *Device, ev Event) (next State, effects []Effect, err error) {
	var queued []string
	if e, ok := ev.(Queue); ok {
		queued = []string{e.Execution.Job}
	}
	st.Jobs = t.scratch.jobs
	if err := st.see(t.viewOf, queued...); err != nil {
		return State{}, nil, err
	}
	if st.Host, err = t.hostTimes(st); err != nil {
		return State{}, nil, err
	}
	if err := t.signatures(st, dev, ev); err != nil {
		return State{}, nil, err
	}
	t.scratch.jobs = st.Jobs
	next, effects = stepIn(&t.scratch.step, *st, ev, t.now)
	return next, effects, nil
}

// hostTimes are what the device's type says of its host MCU, if a job asks.
func (t *txn) hostTimes(st *State) (HostTimes, error) {
	for _, v := range st.Jobs {
		if v.Plan == nil || !v.Plan.Timeouts.half() {
			continue
		}
		dev, err := find[Device](t, st.Device)
		if err != nil || dev == nil {
			return HostTimes{}, err
		}
		dt, err := find[DeviceType](t, dev.Type)
		return dt.hostTimes(), err
	}
	return HostTimes{}, nil
}

// mark keeps the durable marker of devices whose offer topic is in use.
func (t *txn) mark(device string, before, now bool) error {
	switch {
	case before == now:
		return nil
	case now:
		return t.Put(tableOffers, keyOf(device), keyOf(device))
	}
	return t.Delete(tableOffers, keyOf(device))
}

// rewritten is an execution as it is stored, nil if it is not, and as it is to be.
type rewritten struct{ stored, now *executionRecord }

// keep writes the changed executions and notes the other effects. One that changes
// twice in one step, as a new one does that is offered at once, is written once.
func (t *txn) keep(device string, records map[string]*executionRecord, effects []Effect) error {
	t.scratch.lent = 0 // the records of the step before are written
	var few [2]rewritten
	changed := few[:0]
	for _, e := range effects {
		switch e := e.(type) {
		case Changed:
			old := records[e.To.ID]
			rec, err := t.change(old, &e)
			if err != nil {
				return err
			}
			records[e.To.ID] = rec
			if i := slices.IndexFunc(changed, func(r rewritten) bool { return r.now == old }); i >= 0 {
				changed[i].now = rec
			} else {
				changed = append(changed, rewritten{old, rec})
			}
		case Acknowledge:
			t.out.acks = append(t.out.acks, e.Ack)
		case Offer:
			if e.Again {
				t.out.again = append(t.out.again, device)
			} else {
				t.out.resync = append(t.out.resync, device)
			}
		case Withdraw:
			t.out.resync = append(t.out.resync, device)
		}
	}
	for _, r := range changed {
		if err := put(t, r.stored, r.now); err != nil {
			return err
		}
	}
	return nil
}

// change counts what a change of an execution means for its job and returns its
// new record.
func (t *txn) change(old *executionRecord, c *Changed) (*executionRecord, error) {
	p, err := t.job(c.To.Job)
	if err != nil {
		return nil, err
	}
	if err := t.bump(p); err != nil {
		return nil, err
	}
	rec := t.scratch.lend()
	rec.Tracked, rec.Rev = *c.To, p.Rev
	if c.From != c.To.State {
		if err := t.moved(p, old, c); err != nil {
			return nil, err
		}
		t.out.changes = append(t.out.changes, changeOf(c.From, &rec.Tracked))
		if t.tracer.On() {
			t.traced(p, old, c)
		}
	}
	if old == nil || !old.DueAt.Equal(rec.DueAt) {
		t.out.wakeAt(rec.DueAt)
	}
	return rec, nil
}

// moved counts what it means for its job that an execution has another state.
func (t *txn) moved(p *progressRecord, old *executionRecord, c *Changed) error {
	pl, err := t.plan(p.Name)
	if err != nil {
		return err
	}
	if err := t.count(p, c.From, c.To.State); err != nil {
		return err
	}
	if err := t.tellEnd(p, old, c.To); err != nil {
		return err
	}
	if w := c.To.Wave; w > 0 {
		p.Waves[w-1].count(c.From, c.To.State)
		p.Waves[w-1].Met += met(c.To)
		if old != nil {
			p.Waves[w-1].Met -= met(&old.Tracked)
		}
	}
	if old != nil {
		p.Retries += c.To.Retries - old.Retries
	}
	p.paced(pl, c.To, c.From, t.now)
	t.progress[p.Name].moved = true
	if standing(c.From) != standing(c.To.State) || old != nil && old.Retries != c.To.Retries {
		clear(t.views) // what the service's own limit leaves concerns all
	}
	return t.judgeEnds(p, pl, old, c.To)
}

// standing is what a job's room depends on: whether an execution waits, is under way
// or has ended; 0 for one that is new.
func standing(s schemas.State) int {
	switch {
	case s == "":
		return 0
	case s == schemas.StateQueued:
		return 1
	case s.Final():
		return 2
	}
	return 3
}

// met is 1 for an execution that counts as met in its wave.
func met(t *Tracked) int {
	if t.Met && t.State != schemas.StateCanceled {
		return 1
	}
	return 0
}

// count moves one execution between states in the job's counts and the totals.
func (t *txn) count(p *progressRecord, from, to schemas.State) error {
	if err := t.needTotals(); err != nil {
		return err
	}
	t.counted = true
	if from != "" {
		p.Counts[from]--
		t.totals[from]--
	}
	p.Counts[to]++
	t.totals[to]++
	return nil
}

func (t *txn) needTotals() (err error) {
	if t.totals == nil {
		t.totals, err = readTotals(t)
	}
	return err
}
