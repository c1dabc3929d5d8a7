package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
)

// Snapshot writes the records to w as they are at one moment, and returns the blobs
// that they refer to, none of which goes away before they are released. w has the whole
// when Snapshot returns; updates go on all the time. Images cannot be uploaded or
// deleted in the moment at which it begins.
func (s *Service) Snapshot(ctx context.Context, w io.Writer) (*HeldBlobs, error) {
	store, ok := s.store.(Snapshotter)
	if !ok {
		return nil, errors.New("this store cannot be copied while it is used")
	}
	// From the moment of the snapshot until its blobs are pinned, none may go.
	s.blobMu.Lock()
	unlock := sync.OnceFunc(s.blobMu.Unlock)
	defer unlock()
	held := &HeldBlobs{service: s}
	err := store.Snapshot(ctx, func(r Reader) (err error) {
		defer unlock()
		if held.sums, err = referred(r); err != nil {
			return err
		}
		for _, sum := range held.sums {
			s.pinned[sum]++
		}
		held.release = sync.OnceValue(func() error { return s.unpinAll(context.WithoutCancel(ctx), held.sums) })
		return nil
	}, w)
	if err != nil {
		return nil, errors.Join(err, held.Release())
	}
	return held, nil
}

// referred are the blobs of images and uploads, in ascending order.
func referred(r Reader) ([]string, error) {
	sums := map[string]bool{}
	for _, index := range []Table{indexImageByBlob, indexUploadByBlob} {
		if err := r.Scan(index, nil, nil, func(k, _ []byte) bool {
			const hexSum = 64
			if len(k) > hexSum {
				sums[string(k[:hexSum])] = true
			}
			return true
		}); err != nil {
			return nil, err
		}
	}
	return slices.Sorted(maps.Keys(sums)), nil
}

// MissingBlobs are the blobs that images and uploads of a store refer to and that are
// not there, in ascending order. It does not read them.
func MissingBlobs(ctx context.Context, s Store, b Blobs) (missing []string, err error) {
	var sums []string
	if err := s.View(ctx, func(r Reader) (err error) {
		sums, err = referred(r)
		return err
	}); err != nil {
		return nil, err
	}
	there := map[string]bool{}
	if err := b.List(ctx, func(sum string, _ int64) bool {
		there[sum] = true
		return true
	}); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(sums, func(sum string) bool { return there[sum] }), nil
}

func (s *Service) unpinAll(ctx context.Context, sums []string) error {
	var failed error
	for _, sum := range sums {
		failed = errors.Join(failed, s.unpin(ctx, sum))
	}
	return failed
}

// StorageUsage says what the data folder takes, in bytes.
type StorageUsage struct {
	Records     int64 `json:"records_bytes" doc:"The file of the records, on disk"`
	RecordsFree int64 `json:"records_free_bytes" doc:"What of it is free, for records to come"`
	Images      int64 `json:"images_bytes" doc:"Images, manifests and uploads"`
	ImageFiles  int   `json:"images" doc:"How many files those are"`
	DiskFree    int64 `json:"disk_free_bytes" doc:"What the disk has left for the service"`
	Disk        int64 `json:"disk_bytes" doc:"The size of the disk"`
}

// Compaction says what became of the file of the records.
type Compaction struct {
	Before int64    `json:"before_bytes" doc:"How long the file was"`
	After  int64    `json:"after_bytes" doc:"How long it is"`
	Took   Duration `json:"took" doc:"How long it took altogether"`
	Stop   Duration `json:"stop" doc:"How long updates waited when the files were exchanged"`
}

// HeldBlobs are blobs that stay until they are released.
type HeldBlobs struct {
	service *Service
	sums    []string
	release func() error
}

// Sums are their SHA-256, in ascending order.
func (h *HeldBlobs) Sums() []string { return h.sums }

// Open opens one of them; the caller closes it.
func (h *HeldBlobs) Open(ctx context.Context, sum string) (Blob, error) {
	return h.service.blobs.Open(ctx, sum)
}

// Release lets them go, and removes those that nobody needs any more. A second call
// does nothing.
func (h *HeldBlobs) Release() error {
	if h.release == nil {
		return nil
	}
	if err := h.release(); err != nil {
		return fmt.Errorf("bytes that may be unused were not removed; the next start does it: %w", err)
	}
	return nil
}
