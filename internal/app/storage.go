package app

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

	"davit/gateway"
	"davit/internal/durable"
	"davit/orchestrator"
	"davit/orchestrator/boltstore"
)

// storage is the data folder of a Server that runs, as a whole. One thing at a time is
// done with it. It is safe for concurrent use.
type storage struct {
	dir     string
	store   *boltstore.Store
	blobs   orchestrator.Blobs
	service *orchestrator.Service
	metrics *compactMetrics
	minFree int64 // bytes of the disk that are left free

	mu  sync.Mutex
	now string // what is under way, empty for nothing
}

var _ gateway.Storage = (*storage)(nil)

// enter begins something; what it returns ends it. An error wraps
// orchestrator.ErrConflict.
func (s *storage) enter(what string) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != "" {
		return nil, fmt.Errorf("%w: %s is under way; try again when it has ended", orchestrator.ErrConflict, s.now)
	}
	s.now = what
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now = ""
	}), nil
}

// Compact implements gateway.Storage.
func (s *storage) Compact(ctx context.Context) (orchestrator.Compaction, error) {
	return s.compact(ctx, false)
}

// compact counts compactions by who has asked: a person, or nobody.
func (s *storage) compact(ctx context.Context, automatic bool) (orchestrator.Compaction, error) {
	leave, err := s.enter("a compaction")
	if err != nil {
		return orchestrator.Compaction{}, err
	}
	defer leave()
	c, err := s.store.Compact(ctx)
	s.metrics.compacted(automatic, err)
	return orchestrator.Compaction{Before: c.Before, After: c.After, Took: orchestrator.Duration(c.Took), Stop: orchestrator.Duration(c.Stop)}, err
}

// probe commits what stands already.
func (s *storage) probe(ctx context.Context) error { return orchestrator.ProbeStore(ctx, s.store) }

// Usage implements gateway.Storage.
func (s *storage) Usage(ctx context.Context) (u orchestrator.StorageUsage, err error) {
	if u.Records, u.RecordsFree, err = s.store.Size(); err != nil {
		return u, err
	}
	if err := s.blobs.List(ctx, func(_ string, size int64) bool {
		u.Images += size
		u.ImageFiles++
		return true
	}); err != nil {
		return u, err
	}
	if u.DiskFree, u.Disk, err = durable.Room(s.dir); err != nil {
		return u, fmt.Errorf("how much room %s has: %w", filepath.Clean(s.dir), err)
	}
	return u, nil
}
