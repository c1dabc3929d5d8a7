// Package boltstore keeps the orchestrator's records in one bbolt file. It is
// the only importer of bbolt and imports nothing of ours but the orchestrator's
// interfaces.
//
// One goroutine owns all writing: it takes the updates that have arrived, runs
// them one after the other in one transaction of bbolt, commits once, and only
// then answers. Readers run on bbolt's snapshots in their own goroutines.
package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	db       *bbolt.DB
	path     string
	maxGroup int
	onCommit func(int, time.Duration, error)
	commits  *pulse.Pulse

	requests chan *request
	mu       sync.RWMutex // read-locked while a request is handed over
	closed   bool
	done     chan struct{} // closed when the writer has ended
}

// request is one update on its way through the writer.
type request struct {
	fn       func(orchestrator.Writer) error
	taken    atomic.Bool // by the writer, or by the caller that gave up
	err      error
	panicked any
	done     chan struct{}
}

// Open opens or makes the file and starts the writer.
func Open(o Options) (*Store, error) {
	db, err := bbolt.Open(o.Path, 0o600, &bbolt.Options{
		Timeout: openTimeout,
		// The free list is found again when the file is opened, which costs
		// far less than writing it with every commit.
		NoFreelistSync:  true,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: initialMap,
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("store %s is in use by another process; stop it first", o.Path)
	case err != nil:
		return nil, fmt.Errorf("open store %s: %w", o.Path, noSpace(err))
	}
	if o.MaxGroup <= 0 {
		o.MaxGroup = defaultMaxGroup
	}
	s := &Store{
		db: db, path: o.Path, maxGroup: o.MaxGroup, onCommit: o.OnCommit, commits: pulse.New(),
		requests: make(chan *request, o.MaxGroup), done: make(chan struct{}),
	}
	go s.writeLoop()
	return s, nil
}

func (s *Store) closedError() error {
	return fmt.Errorf("store %s is %w", s.path, orchestrator.ErrClosed)
}

// noSpace adds the orchestrator's kind to errors of a full disk.
func noSpace(err error) error {
	if durable.IsNoSpace(err) {
		return fmt.Errorf("%w: %w", orchestrator.ErrNoSpace, err)
	}
	return err
}

// Committing is for how long the commit that is under way has been so, 0 if there is none.
func (s *Store) Committing() time.Duration { return s.commits.Busy() }

// View implements orchestrator.Store.
func (s *Store) View(ctx context.Context, fn func(orchestrator.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	btx, err := s.db.Begin(false)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return s.closedError()
	}
	if err != nil {
		return fmt.Errorf("read store %s: %w", s.path, err)
	}
	defer func() { _ = btx.Rollback() }() // ends a read; there is nothing to lose
	return fn(&tx{btx: btx})
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
	<-s.done
	if closed {
		return nil
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close store %s: %w", s.path, err)
	}
	return nil
}

// writeLoop owns all writing, until requests is closed and drained.
func (s *Store) writeLoop() {
	defer close(s.done)
	group := make([]*request, 0, s.maxGroup)
	for first := range s.requests {
		group = s.collect(append(group[:0], first))
		s.run(group)
		clear(group)
	}
}

// collect adds what is waiting already.
func (s *Store) collect(group []*request) []*request {
	for len(group) < s.maxGroup {
		select {
		case r, ok := <-s.requests:
			if !ok {
				return group
			}
			group = append(group, r)
		default:
			return group
		}
	}
	return group
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
	btx, err := s.db.Begin(true)
	if err != nil {
		return false, fmt.Errorf("write store %s: %w", s.path, noSpace(err))
	}
	t := &tx{btx: btx, recording: undo}
	wrote := false
	for _, r := range group {
		t.wrote, t.undo = false, t.undo[:0]
		t.one(r)
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
		return false, fmt.Errorf("write store %s: %w", s.path, noSpace(err))
	}
	return false, nil
}

// tx is a view or the writer's transaction.
type tx struct {
	btx    *bbolt.Tx
	tables map[orchestrator.Table]*place
	wrote  bool
	room   []byte // for values that are written
	// recording is whether undo notes what was written.
	recording bool
	undo      []write
}

// place is a table's bucket with a cursor, which saves looking for the former and
// allocating the latter at each access.
type place struct {
	*bbolt.Bucket
	cursor *bbolt.Cursor
}

// value is the value of a key; it belongs to bbolt.
func (p *place) value(key []byte) []byte {
	if k, v := p.cursor.Seek(key); k != nil && bytes.Equal(k, key) {
		return v
	}
	return nil
}

// write is how a key was before it was written.
type write struct {
	table      orchestrator.Table
	key, value []byte // value is nil if there was none
}

// one runs one function. Its panic goes on in the caller's goroutine.
func (t *tx) one(r *request) {
	defer func() { r.panicked = recover() }()
	r.err = r.fn(t)
}

func (t *tx) takeBack() error {
	for i := len(t.undo) - 1; i >= 0; i-- {
		w := t.undo[i]
		b := t.table(w.table)
		err := error(nil)
		if w.value == nil {
			err = b.Delete(w.key)
		} else {
			err = b.Put(w.key, w.value)
		}
		if err != nil {
			return fmt.Errorf("take back a failed update of table %s: %w", w.table, err)
		}
	}
	return nil
}

// table returns a table's place, nil if nothing was ever written to it.
func (t *tx) table(table orchestrator.Table) *place {
	if p := t.tables[table]; p != nil {
		return p
	}
	if b := t.btx.Bucket([]byte(table)); b != nil {
		return t.found(table, b)
	}
	return nil
}

func (t *tx) found(table orchestrator.Table, b *bbolt.Bucket) *place {
	if t.tables == nil {
		t.tables = map[orchestrator.Table]*place{}
	}
	b.FillPercent = fill
	p := &place{b, b.Cursor()}
	t.tables[table] = p
	return p
}

// owned copies what belongs to bbolt; an empty value is not nil.
func owned(b []byte) []byte { return append([]byte{}, b...) }

// keptRoom is how much is made at a time for the values that are written.
const keptRoom = 16 << 10

// kept copies a value for as long as the transaction lasts.
func (t *tx) kept(value []byte) []byte {
	if len(value) == 0 || len(value) > keptRoom/4 {
		return owned(value)
	}
	if len(value) > cap(t.room)-len(t.room) {
		t.room = make([]byte, 0, keptRoom)
	}
	from := len(t.room)
	t.room = append(t.room, value...)
	return t.room[from:len(t.room):len(t.room)]
}

func (t *tx) Get(table orchestrator.Table, key []byte) ([]byte, error) {
	b := t.table(table)
	if b == nil {
		return nil, nil
	}
	v := b.value(key)
	if v == nil {
		return nil, nil
	}
	return owned(v), nil
}

func (t *tx) Scan(table orchestrator.Table, prefix, after []byte, fn func(key, value []byte) bool) error {
	b := t.table(table)
	if b == nil {
		return nil
	}
	c := b.Cursor()
	from, beyond := prefix, false
	if after != nil && bytes.Compare(after, prefix) >= 0 {
		from, beyond = after, true
	}
	k, v := c.Seek(from)
	if beyond && k != nil && bytes.Equal(k, after) {
		k, v = c.Next()
	}
	for ; k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if !fn(owned(k), owned(v)) {
			break
		}
	}
	return nil
}

func (t *tx) Put(table orchestrator.Table, key, value []byte) error {
	b := t.table(table)
	if b == nil {
		made, err := t.btx.CreateBucket([]byte(table))
		if err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
		b = t.found(table, made)
	}
	t.remember(b, table, key)
	// bbolt copies the key, but keeps the value that it is given until the commit.
	if err := b.Put(key, t.kept(value)); err != nil {
		return fmt.Errorf("table %s: %w", table, err)
	}
	return nil
}

func (t *tx) Delete(table orchestrator.Table, key []byte) error {
	b := t.table(table)
	if b == nil || b.value(key) == nil {
		return nil
	}
	t.remember(b, table, key)
	if err := b.cursor.Delete(); err != nil { // where value has left it
		return fmt.Errorf("table %s: %w", table, err)
	}
	return nil
}

// remember notes how a key is, before it is written. It does not move the cursor
// off the key.
func (t *tx) remember(b *place, table orchestrator.Table, key []byte) {
	t.wrote = true
	if !t.recording {
		return
	}
	w := write{table: table, key: owned(key)}
	if v := b.value(key); v != nil {
		w.value = owned(v)
	}
	t.undo = append(t.undo, w)
}
