// Package boltstore keeps the orchestrator's records in one bbolt file. It is
// the only importer of bbolt and imports nothing of ours but the orchestrator's
// interfaces.
//
// One goroutine owns all writing: it takes the updates that have arrived, runs
// them one after the other in one transaction of bbolt, commits once, and only
// then answers. Readers run on bbolt's snapshots in their own goroutines.
package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"davit/internal/durable"
	"davit/internal/pulse"
	"davit/orchestrator"
)

// Options of a store; only Path must be set.
type Options struct {
	// Path of the file, which is made if it is not there.
	Path string
	// MaxGroup is how many updates are committed together at most; 1024 by
	// default. 1 commits every update by itself.
	MaxGroup int
	// OnCommit, if set, is called by the writer after each commit.
	OnCommit func(updates int, took time.Duration, err error)
}

const (
	defaultMaxGroup = 1024
	// fill is how full a page may be when it is divided. Most of what is written
	// goes behind what was written before, where half full pages stay so.
	fill = 0.8
	// openTimeout is how long Open waits for the file's lock.
	openTimeout = 200 * time.Millisecond
	// initialMap is address space, not memory: readers and the writer do not
	// have to wait for each other to grow the map until the file is larger.
	initialMap = 256 << 20
)

// Store implements orchestrator.Store.
type Store struct {
	path     string
	maxGroup int
	onCommit func(int, time.Duration, error)
	commits  *pulse.Pulse

	requests chan *request
	mu       sync.RWMutex // read-locked while a request is handed over
	closed   bool
	done     chan struct{} // closed when the writer has ended

	swap sync.RWMutex // held while a read begins, and while db is exchanged
	db   *bbolt.DB
	// files are that of db and, while two are exchanged, the new one; guarded by swap.
	files []os.FileInfo

	compacting sync.Mutex
	closing    sync.WaitGroup // files that were exchanged, until nobody reads them
	life       context.Context
	end        context.CancelFunc // ends life, and with it a compaction
	// Of the writer: the keys that are written while a compaction is under way, and
	// whether the store's name was not made durable when it was exchanged.
	changed  map[changedKey]bool
	unsynced bool
	onStep   func(step string) error // of a compaction, for tests

	damage     chan struct{} // closed when damageErr is set
	damageOnce sync.Once
	damageErr  error
}

// request is one update on its way through the writer.
type request struct {
	fn func(orchestrator.Writer) error
	// between, if set, is run instead, between two groups of updates.
	between  func() error
	taken    atomic.Bool // by the writer, or by the caller that gave up
	err      error
	panicked any
	done     chan struct{}
}

// Open opens or makes the file and starts the writer.
func Open(o Options) (*Store, error) {
	if err := create(o.Path); err != nil {
		return nil, fmt.Errorf("make store %s: %w", o.Path, noSpace(err))
	}
	db, err := openFile(o.Path)
	if err != nil {
		return nil, err
	}
	file, err := os.Stat(o.Path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), db.Close())
	}
	if o.MaxGroup <= 0 {
		o.MaxGroup = defaultMaxGroup
	}
	s := &Store{
		db: db, files: []os.FileInfo{file}, path: o.Path, maxGroup: o.MaxGroup, onCommit: o.OnCommit, commits: pulse.New(),
		requests: make(chan *request, o.MaxGroup), done: make(chan struct{}), damage: make(chan struct{}),
	}
	s.life, s.end = context.WithCancel(context.Background())
	go s.writeLoop()
	return s, nil
}

// Sizes of a store.
type Sizes struct {
	// File is how many bytes the file has up to the last page that is or was in use,
	// Free how many of them are in pages that the next commits may use.
	File, Free int64
	// Waiting is how many updates wait for the writer.
	Waiting int
}

// Sizes tells how large the store is; it costs the same for any store. ErrClosed after
// Close.
func (s *Store) Sizes() (Sizes, error) {
	btx, err := s.begin()
	if err != nil {
		return Sizes{}, s.closedError()
	}
	db := btx.DB()
	z := Sizes{File: btx.Size(), Waiting: len(s.requests)}
	_ = btx.Rollback() // ends a read; there is nothing to lose
	st := db.Stats()
	z.Free = int64(st.FreePageN+st.PendingPageN) * int64(db.Info().PageSize)
	return z, nil
}

func (s *Store) closedError() error {
	return fmt.Errorf("store %s is %w", s.path, orchestrator.ErrClosed)
}

// noSpace adds the orchestrator's kind to errors of a full disk.
func noSpace(err error) error {
	if durable.IsNoSpace(err) {
		return fmt.Errorf("%w: %w; make room on that disk", orchestrator.ErrNoSpace, err)
	}
	return err
}

// refused adds the orchestrator's kind to the error of a commit: the disk is full, or takes nothing for another
// reason, of which bbolt tells no more than the text in places.
func refused(err error) error {
	if full := noSpace(err); errors.Is(full, orchestrator.ErrNoSpace) {
		return full
	}
	return fmt.Errorf("%w: %w; dmesg may say why", orchestrator.ErrUnwritable, err)
}

// Committing is for how long the commit that is under way has been so, 0 if there is none.
func (s *Store) Committing() time.Duration { return s.commits.Busy() }

// View implements orchestrator.Store.
func (s *Store) View(ctx context.Context, fn func(orchestrator.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.guarded(func() error {
		btx, err := s.begin()
		if errors.Is(err, berrors.ErrDatabaseNotOpen) {
			return s.closedError()
		}
		if err != nil {
			return fmt.Errorf("read store %s: %w", s.path, err)
		}
		defer func() { _ = btx.Rollback() }() // ends a read; there is nothing to lose
		return fn(&tx{btx: btx})
	})
}

// begin begins a read.
func (s *Store) begin() (*bbolt.Tx, error) {
	s.swap.RLock()
	defer s.swap.RUnlock()
	return s.db.Begin(false)
}

// current is the file that the store is in now. Only the writer exchanges it.
func (s *Store) current() *bbolt.DB {
	s.swap.RLock()
	defer s.swap.RUnlock()
	return s.db
}

// Update implements orchestrator.Store. An error of ctx means that fn's writes
// were not kept; any other error of the store itself leaves that open.
func (s *Store) Update(ctx context.Context, fn func(orchestrator.Writer) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{fn: fn, done: make(chan struct{})}
	if err := s.hand(ctx, r); err != nil {
		return err
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		if r.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		<-r.done
	}
	if r.panicked != nil {
		panic(r.panicked)
	}
	return r.err
}

func (s *Store) hand(ctx context.Context, r *request) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return s.closedError()
	}
	if err := s.Damage(); err != nil {
		return err
	}
	select {
	case s.requests <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements orchestrator.Store. A second call does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.closed = true
		close(s.requests)
	}
	s.mu.Unlock()
	s.end()
	<-s.done
	if closed {
		return nil
	}
	s.compacting.Lock() // what was under way has ended
	defer s.compacting.Unlock()
	s.closing.Wait()
	if s.Damage() != nil {
		return nil // what the writer was in the middle of holds the file until the process ends, which is next
	}
	if err := s.current().Close(); err != nil {
		return fmt.Errorf("close store %s: %w", s.path, err)
	}
	return nil
}

// writeLoop owns all writing, until requests is closed and drained.
func (s *Store) writeLoop() {
	defer close(s.done)
	group := make([]*request, 0, s.maxGroup)
	for first := range s.requests {
		between := first
		if first.between == nil {
			group, between = s.collect(append(group[:0], first))
			s.run(group)
			clear(group)
		}
		if between != nil {
			between.err = s.guarded(between.between)
			close(between.done)
		}
	}
}

// collect adds what is waiting already, up to what is to be run between two groups.
func (s *Store) collect(group []*request) (whole []*request, between *request) {
	for len(group) < s.maxGroup {
		select {
		case r, ok := <-s.requests:
			if !ok || r.between != nil {
				return group, r
			}
			group = append(group, r)
		default:
			return group, nil
		}
	}
	return group, nil
}

// run executes a group and answers it after the commit.
func (s *Store) run(group []*request) {
	began := time.Now()
	s.commits.Begin()
	ran, err := s.execute(group)
	s.commits.End()
	if s.onCommit != nil && ran > 0 {
		s.onCommit(ran, time.Since(began), err)
	}
	for _, r := range group {
		if err != nil && r.fn != nil {
			r.err = err
		}
		close(r.done)
	}
}

// execute runs the functions of a group in one transaction and commits it. An
// answer may rest on what another of the group wrote, so a failed commit fails
// them all.
func (s *Store) execute(group []*request) (ran int, err error) {
	taken := make([]*request, 0, len(group))
	for _, r := range group {
		if !r.taken.CompareAndSwap(false, true) {
			r.fn = nil // the caller gave up
			continue
		}
		taken = append(taken, r)
	}
	// To remember how each key was costs as much as writing it, and few updates
	// fail after they have written. So that is done only when one did.
	again, err := s.attempt(taken, false)
	if again {
		_, err = s.attempt(taken, true)
	}
	return len(taken), err
}

// attempt runs functions in one transaction and commits it. One that fails after
// it has written is undone, if undo is set; otherwise nothing is committed and all
// have to run again, unless it was the only one.
func (s *Store) attempt(group []*request, undo bool) (again bool, err error) {
	err = s.guarded(func() (err error) { // damage leaves the transaction as it is: taking it back would read all pages
		again, err = s.write(group, undo)
		return err
	})
	return again, err
}

// write is attempt without a guard.
func (s *Store) write(group []*request, undo bool) (again bool, err error) {
	if err := s.named(); err != nil {
		return false, err
	}
	btx, err := s.db.Begin(true)
	if err != nil {
		return false, fmt.Errorf("write store %s: %w", s.path, refused(err))
	}
	t := &tx{btx: btx, recording: undo, changed: s.changed}
	wrote := false
	for _, r := range group {
		t.wrote, t.undo = false, t.undo[:0]
		t.one(r, s.damagedBy)
		if err := s.Damage(); err != nil {
			return false, err
		}
		if !t.wrote {
			continue
		}
		if r.err == nil && r.panicked == nil {
			wrote = true
			continue
		}
		if !undo {
			return len(group) > 1, btx.Rollback()
		}
		if err := t.takeBack(); err != nil {
			_ = btx.Rollback() // the error that matters is the one of undo
			return false, err
		}
	}
	if !wrote {
		return false, btx.Rollback()
	}
	if err := btx.Commit(); err != nil {
		return false, fmt.Errorf("write store %s: %w", s.path, refused(err))
	}
	return false, nil
}
