package boltstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	berrors "go.etcd.io/bbolt/errors"

	"davit/orchestrator"
)

// Snapshot implements orchestrator.Snapshotter: what it writes is a file that Open
// takes. Pages that are freed meanwhile cannot be used again before it has returned, so
// that the file grows by what is written during that time.
func (s *Store) Snapshot(ctx context.Context, look func(orchestrator.Reader) error, w io.Writer) error {
	return s.guarded(func() error { return s.snapshot(ctx, look, w) })
}

func (s *Store) snapshot(ctx context.Context, look func(orchestrator.Reader) error, w io.Writer) error {
	btx, err := s.begin()
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return s.closedError()
	}
	if err != nil {
		return fmt.Errorf("read store %s: %w", s.path, err)
	}
	defer func() { _ = btx.Rollback() }() // ends a read; there is nothing to lose
	if err := look(&tx{btx: btx}); err != nil {
		return err
	}
	out := &writerOf{ctx: ctx, w: w}
	if _, err := btx.WriteTo(out); err != nil {
		return fmt.Errorf("copy store %s: %w", s.path, noSpace(cmp.Or(out.err, err)))
	}
	return nil
}

// writerOf is a writer that ends with a context. It keeps its first error, of which bbolt tells the text only.
type writerOf struct {
	ctx context.Context
	w   io.Writer
	err error
}

func (w *writerOf) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.w.Write(p)
	w.err = cmp.Or(w.err, err)
	return n, err
}
