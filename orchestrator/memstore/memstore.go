// Package memstore is an orchestrator.Store in memory, for tests. It owns the
// tables and imports only the orchestrator's interfaces. Its snapshots are
// immutable trees; a mutex lets one update run at a time.
package memstore

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"sync"

	"davit/orchestrator"
)

// Store implements orchestrator.Store. Its records live as long as it does.
type Store struct {
	seed   maphash.Seed
	write  sync.Mutex // held by the update that runs
	mu     sync.Mutex // guards what follows
	tables map[orchestrator.Table]*node
	closed bool
}

// New returns an empty store.
func New() *Store {
	return &Store{seed: maphash.MakeSeed(), tables: map[orchestrator.Table]*node{}}
}

// Clone returns a store of its own with the same records.
func (s *Store) Clone() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Store{seed: s.seed, tables: maps.Clone(s.tables)}
}

func (s *Store) snapshot(ctx context.Context) (map[orchestrator.Table]*node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("memory store is %w", orchestrator.ErrClosed)
	}
	return s.tables, nil
}

// View implements orchestrator.Store.
func (s *Store) View(ctx context.Context, fn func(orchestrator.Reader) error) error {
	tables, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	return fn(&tx{tables: tables})
}

// Update implements orchestrator.Store.
func (s *Store) Update(ctx context.Context, fn func(orchestrator.Writer) error) error {
	s.write.Lock()
	defer s.write.Unlock()
	tables, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	t := &tx{tables: maps.Clone(tables), seed: s.seed}
	if err := fn(t); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables = t.tables
	return nil
}

// Close implements orchestrator.Store.
func (s *Store) Close() error {
	s.write.Lock()
	defer s.write.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

type tx struct {
	tables map[orchestrator.Table]*node
	seed   maphash.Seed
}

func (t *tx) Get(table orchestrator.Table, key []byte) ([]byte, error) {
	v, ok := t.tables[table].get(key)
	if !ok {
		return nil, nil
	}
	return append([]byte{}, v...), nil
}

func (t *tx) Scan(table orchestrator.Table, prefix, after []byte, fn func(key, value []byte) bool) error {
	from, beyond := prefix, false
	if after != nil && bytes.Compare(after, prefix) >= 0 {
		from, beyond = after, true
	}
	t.tables[table].ascend(from, beyond, func(k, v []byte) bool {
		return bytes.HasPrefix(k, prefix) && fn(bytes.Clone(k), append([]byte{}, v...))
	})
	return nil
}

func (t *tx) Put(table orchestrator.Table, key, value []byte) error {
	if len(key) == 0 {
		return fmt.Errorf("table %s: the key is empty", table)
	}
	t.tables[table] = t.tables[table].put(t.seed, bytes.Clone(key), append([]byte{}, value...))
	return nil
}

func (t *tx) Delete(table orchestrator.Table, key []byte) error {
	t.tables[table] = t.tables[table].remove(key)
	return nil
}
