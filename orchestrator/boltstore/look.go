package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"davit/orchestrator"
)

// ErrInUse is wrapped by the error of Look if another process has the store open.
var ErrInUse = errors.New("in use")

// Look opens a file that nobody has open for one View and changes nothing. A store that somebody opens at
// that moment waits for its end. A file that is cut short is refused before fn reads it.
func Look(ctx context.Context, path string, fn func(orchestrator.Reader) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: openTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		return fmt.Errorf("store %s is %w by another process", path, ErrInUse)
	}
	if err != nil {
		return fmt.Errorf("open store %s: %w", path, err)
	}
	s := &Store{db: db, path: path, damage: make(chan struct{})}
	err = s.View(ctx, func(r orchestrator.Reader) error {
		if used := r.(*tx).btx.Size(); used > info.Size() {
			return fmt.Errorf("store %s is cut short: it has %d bytes, and its pages end at %d", path, info.Size(), used)
		}
		return fn(r)
	})
	return errors.Join(err, db.Close())
}
