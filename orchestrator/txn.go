package orchestrator

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"davit/schemas"
)

// outcome is what a committed transaction leaves to be done.
type outcome struct {
	acks    []schemas.Ack
	changes []Changed
	resync  []string        // devices whose offer topic has to be brought up to date
	jobs    map[string]bool // jobs whose revision grew
	events  bool            // something changed that the feed tells
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
	actor    Actor
	idem     *idempotent     // set by once
	rev      revisions       // feed.go
	counts   map[string]int  // counters.go: what to add to which
	touched  map[string]bool // feed.go: kind and id of records that changed
	unsound  bool            // flush failed
	room     room            // records.go: of put
}

func newTxn(ctx context.Context, w Writer, now time.Time) *txn {
	return &txn{
		Writer: w, now: now.UTC(), progress: map[string]*progressPair{}, actor: ActorOf(ctx),
		counts: map[string]int{}, touched: map[string]bool{},
	}
}

type progressPair struct{ before, now *progressRecord }

// commit runs fn in one update of the store. After a commit it does what the
// outcome asks for, but for acknowledgements, which it leaves to the caller.
// When the store fails it is not known what became of the update, so the offer
// topics concerned are checked against the store all the same.
func (s *Service) commit(ctx context.Context, fn func(*txn) error) (outcome, error) {
	var t *txn
	err := s.store.Update(ctx, func(w Writer) error {
		t = newTxn(ctx, w, s.now())
		t.batch = s.jobBatch
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
	for _, d := range t.out.resync {
		s.outbox.mark(d)
	}
	for j := range t.out.jobs {
		s.watch.notify(j)
	}
	if t.out.events {
		s.watch.notify(anyJob)
	}
	if err != nil {
		return outcome{}, err
	}
	s.tell(t.out.changes)
	return t.out, nil
}

// tell logs and counts what changed.
func (s *Service) tell(changes []Changed) {
	for _, c := range changes {
		if c.From == c.To.State {
			continue
		}
		s.metrics.transition(c.To.State, c.To.Cause)
		s.log.LogAttrs(context.Background(), slog.LevelInfo, "execution changed",
			slog.String("job", c.To.Job), slog.String("device", c.To.Device), slog.String("execution", c.To.ID),
			slog.String("from", string(c.From)), slog.String("state", string(c.To.State)),
			slog.String("cause", string(c.To.Cause)), slog.String("detail", c.To.Detail))
	}
}

// job returns the job's progress for changing; flush writes it.
func (t *txn) job(name string) (*progressRecord, error) {
	if p := t.progress[name]; p != nil {
		return p.now, nil
	}
	before, err := need[progressRecord](t, "job", name)
	if err != nil {
		return nil, err
	}
	now := *before
	now.Counts, now.Causes, now.Work = maps.Clone(before.Counts), maps.Clone(before.Causes), slices.Clone(before.Work)
	t.progress[name] = &progressPair{before, &now}
	return &now, nil
}

// flush completes jobs whose executions have all ended and writes what the
// transaction gathered.
func (t *txn) flush() error {
	for _, name := range slices.Sorted(maps.Keys(t.progress)) {
		p := t.progress[name]
		if p.now.active() && len(p.now.Work) == 0 && p.now.unfinished() == 0 {
			p.now.State, p.now.CompletedAt = JobCompleted, t.now
			if err := t.bump(p.now); err != nil {
				return err
			}
		}
		if p.now.Rev == p.before.Rev {
			continue
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
	if t.totals != nil {
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
	return t.flushRevisions()
}

// load reads a device's aggregate: its executions that have not ended, and the
// one named, if it is the device's. dev may be nil for a device that does not
// exist (any more). The cost is O(executions that have not ended).
func load(r Reader, device string, dev *Device, also string) (State, map[string]*executionRecord, error) {
	st := State{Device: device}
	if dev != nil {
		st.Versions = dev.confirmed()
		if err := nameVersions(r, dev.Type, st.Versions); err != nil {
			return st, nil, err
		}
	}
	mark, err := r.Get(tableOffers, keyOf(device))
	if err != nil {
		return st, nil, err
	}
	st.Retained = mark != nil
	var ids []string
	if err := r.Scan(indexExecOpen, prefixOf(device), nil, func(_, id []byte) bool {
		ids = append(ids, string(id))
		return true
	}); err != nil {
		return st, nil, err
	}
	if also != "" && !slices.Contains(ids, also) {
		ids = append(ids, also)
	}
	records := make(map[string]*executionRecord, len(ids))
	for _, id := range ids {
		e, err := find[executionRecord](r, id)
		switch {
		case err != nil:
			return st, nil, err
		case e == nil && id == also, e != nil && e.Device != device:
			continue
		case e == nil:
			return st, nil, fmt.Errorf("index %s of device %q names execution %q, which does not exist; run davit check", indexExecOpen, device, id)
		}
		records[id] = e
		st.Executions = append(st.Executions, e.Tracked)
		// The rules ask it of what waits or may be taken back. What is named may
		// come to wait in this very step.
		if e.State == schemas.StateQueued || e.State == schemas.StateOffered || id == also {
			if err := st.notePaused(r, e.Job); err != nil {
				return st, nil, err
			}
		}
	}
	slices.SortFunc(st.Executions, func(a, b Tracked) int {
		if a.Order < b.Order {
			return -1
		}
		return 1
	})
	return st, records, nil
}

// notePaused notes whether a job is paused. A transaction goes by the state that
// it has given the job itself.
func (s *State) notePaused(r Reader, job string) error {
	if s.Paused[job] {
		return nil
	}
	var p *progressRecord
	var err error
	if t, ok := r.(*txn); ok {
		p, err = t.job(job)
	} else {
		p, err = need[progressRecord](r, "progress of job", job)
	}
	if err != nil || p.State != JobPaused {
		return err
	}
	if s.Paused == nil {
		s.Paused = map[string]bool{}
	}
	s.Paused[job] = true
	return nil
}

// step applies an event to a device's aggregate and writes the new state; dev
// may be nil as for load, and is otherwise the device as it is stored.
func (t *txn) step(device string, dev *Device, ev Event) error {
	also := ""
	switch e := ev.(type) {
	case Reported:
		also = e.Status.Execution
	case Cancel:
		also = e.Execution
	case Retry:
		also = e.Execution
	}
	st, records, err := load(t, device, dev, also)
	if err != nil {
		return err
	}
	if e, ok := ev.(Queue); ok {
		if err := st.notePaused(t, e.Execution.Job); err != nil {
			return err
		}
	}
	next, effects := Step(st, ev, t.now)
	if dev != nil && !maps.Equal(dev.confirmed(), next.Versions) {
		changed := dev.reporting(next.Versions)
		if err := put(t, dev, &changed); err != nil {
			return err
		}
	}
	if err := t.mark(device, st.Retained, next.Retained); err != nil {
		return err
	}
	return t.keep(device, records, effects)
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

// keep writes the changed executions and notes the other effects. An execution
// that changes twice in one step is written twice, which is rare.
func (t *txn) keep(device string, records map[string]*executionRecord, effects []Effect) error {
	for _, e := range effects {
		switch e := e.(type) {
		case Changed:
			if err := t.change(records, e); err != nil {
				return err
			}
		case Acknowledge:
			t.out.acks = append(t.out.acks, e.Ack)
		case Offer, Withdraw:
			t.out.resync = append(t.out.resync, device)
		}
	}
	return nil
}

func (t *txn) change(records map[string]*executionRecord, c Changed) error {
	p, err := t.job(c.To.Job)
	if err != nil {
		return err
	}
	if c.From != c.To.State {
		if err := t.count(p, c.From, c.To.State); err != nil {
			return err
		}
		if err := t.tellEnd(p, records[c.To.ID], &c.To); err != nil {
			return err
		}
	}
	if err := t.bump(p); err != nil {
		return err
	}
	rec := &executionRecord{Tracked: c.To, Rev: p.Rev}
	if err := put(t, records[c.To.ID], rec); err != nil {
		return err
	}
	records[c.To.ID] = rec
	if c.From != c.To.State { // which is all that is told
		t.out.changes = append(t.out.changes, c)
	}
	return nil
}

// count moves one execution between states in the job's counts and the totals.
func (t *txn) count(p *progressRecord, from, to schemas.State) error {
	if t.totals == nil {
		all, err := readTotals(t)
		if err != nil {
			return err
		}
		t.totals = all
	}
	if from != "" {
		p.Counts[from]--
		t.totals[from]--
	}
	p.Counts[to]++
	t.totals[to]++
	return nil
}
