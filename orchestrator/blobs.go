package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"davit/internal/logevent"
	"davit/orchestrator/firmware"
)

// source is a file that is being uploaded.
type source struct {
	io.Reader
	format, name string
	limit        sizeLimit
	spool        func() (firmware.Spool, error)
}

// received is a file whose flat binary is in its place among the blobs.
type received struct {
	name, sum string
	size      uint64
	info      firmware.Info
	detected  *Detected
}

func (f *received) leftOut() []string {
	var out []string
	for _, region := range f.info.LeftOut {
		out = append(out, region.String())
	}
	return out
}

// receive reads a file into a blob and calls keep to write the record that
// refers to it. A blob whose record was not written is removed again; what a crash
// leaves between the two is swept by Run. While the blob is looked at it is
// pinned: the store may not know of it yet.
func (s *Service) receive(ctx context.Context, src source, keep func(*received) error) error {
	blob, err := s.blobs.Create(ctx)
	if err != nil {
		return fmt.Errorf("keep image: %w", err)
	}
	defer blob.Abort()
	f := &received{name: src.name}
	if scratch, ok := s.blobs.(Scratch); ok {
		src.spool = func() (firmware.Spool, error) { return scratch.Scratch(ctx) }
	}
	if f.info, err = flatten(ctx, src, blob); err != nil {
		return err
	}
	sum, size, err := s.pin(blob)
	if err != nil {
		return fmt.Errorf("keep image: %w", err)
	}
	f.sum, f.size = sum, uint64(size)
	if f.detected, err = s.inspect(ctx, sum); err == nil {
		err = keep(f)
	}
	unpinned := s.unpin(context.WithoutCancel(ctx), sum)
	if err == nil && unpinned != nil {
		// The record is kept; a blob that nobody needs is swept at the next start.
		s.log.Warn("bytes that may be unused were not looked at", "event", logevent.BytesNotFreed, slog.String("sha256", sum), slog.Any("error", unpinned))
		unpinned = nil
	}
	return errors.Join(err, unpinned)
}

// pin puts a blob in its place, and keeps it there until unpin.
func (s *Service) pin(blob BlobWriter) (sum string, size int64, err error) {
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	if sum, size, err = blob.Commit(); err == nil {
		s.pinned[sum]++
	}
	return sum, size, err
}

// unpin leaves a blob to its records, and removes it if it has none.
func (s *Service) unpin(ctx context.Context, sum string) error {
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	if s.pinned[sum]--; s.pinned[sum] > 0 {
		return nil
	}
	delete(s.pinned, sum)
	return s.dropUnused(ctx, sum)
}

// inspect reads what a blob says of itself.
func (s *Service) inspect(ctx context.Context, sum string) (*Detected, error) {
	b, err := s.blobs.Open(ctx, sum)
	if err != nil {
		return nil, fmt.Errorf("look at the image: %w", err)
	}
	d, err := firmware.Inspect(readerAt{ctx, b}, b.Size())
	if err = errors.Join(err, b.Close()); err != nil || d == nil {
		return nil, err
	}
	return &Detected{Format: d.Format, Name: d.Name, Version: d.Version, Size: d.Size, Facts: d.Facts, Problems: d.Problems}, nil
}

// readerAt ends with its context.
type readerAt struct {
	ctx context.Context
	r   io.ReaderAt
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.ReadAt(p, off)
}

// dropUnused removes a blob that no image and no upload refers to. blobMu is
// held.
func (s *Service) dropUnused(ctx context.Context, sum string) error {
	if s.pinned[sum] > 0 {
		return nil
	}
	var user string
	err := s.store.View(ctx, func(r Reader) (err error) {
		if user, err = anyUnder(r, indexImageByBlob, sum); err == nil && user == "" {
			user, err = anyUnder(r, indexUploadByBlob, sum)
		}
		return err
	})
	if err != nil || user != "" {
		return err
	}
	return s.blobs.Remove(ctx, sum)
}

// sweepBlobs removes the blobs that no image and no upload refers to.
func (s *Service) sweepBlobs(ctx context.Context) error {
	var sums []string
	if err := s.blobs.List(ctx, func(sum string, _ int64) bool {
		sums = append(sums, sum)
		return true
	}); err != nil {
		return err
	}
	for _, sum := range sums {
		if err := s.sweepBlob(ctx, sum); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) sweepBlob(ctx context.Context, sum string) error {
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	return s.dropUnused(ctx, sum)
}
