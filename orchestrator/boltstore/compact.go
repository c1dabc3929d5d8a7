package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"davit/internal/durable"
	"davit/orchestrator"
)

const (
	// compactBatch is how many bytes one transaction of a compaction writes.
	compactBatch = 4 << 20
	// compactGrowth is by how many bytes the new file grows, so that it ends soon behind
	// what is in it.
	compactGrowth = 256 << 10
	// compactFew is with how many changed keys the files are exchanged.
	compactFew = 500
	// compactRounds is how often what has changed meanwhile is copied before.
	compactRounds = 20
)

// ErrBusy: the store is being compacted already.
var ErrBusy = errors.New("the store is being compacted already")

// Compaction says what came of one.
type Compaction struct {
	Before, After int64         // bytes of the file
	Took, Stop    time.Duration // altogether, and how long updates waited for the exchange
}

// changedKey is a key that was written since its value was copied.
type changedKey struct {
	table orchestrator.Table
	key   string
}

// Compact writes the store anew without what is free in it, while it is used. It copies
// a snapshot into another file, then what has changed meanwhile, and again, until
// that is little; the rest is copied while updates wait, and the new file, which is on
// disk by then, takes the old one's name. A crash, and an error, leaves one file or the
// other, with every update that was answered. It needs room for the new file on the disk.
func (s *Store) Compact(ctx context.Context) (c Compaction, err error) {
	if !s.compacting.TryLock() {
		return c, ErrBusy
	}
	defer s.compacting.Unlock()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(s.life, stop)()
	began := time.Now()
	if c.Before, _, err = s.Size(); err != nil {
		return c, err
	}
	f, err := durable.Create(filepath.Dir(s.path))
	if err != nil {
		return c, fmt.Errorf("compact store %s: %w", s.path, noSpace(err))
	}
	defer f.Abort()
	to, err := bbolt.Open(f.Name(), 0o600, options())
	if err != nil {
		return c, fmt.Errorf("compact store %s: %w", s.path, noSpace(err))
	}
	growth := to.AllocSize
	to.AllocSize = compactGrowth
	taken := false
	defer func() {
		if !taken {
			err = errors.Join(err, to.Close())
		}
	}()
	defer func() { // whatever happens; of a store that is being closed nothing is written any more
		_ = s.atWriter(func() error { s.changed = nil; return nil })
	}()
	if err := s.guarded(func() error { return s.copyInto(ctx, to) }); err != nil {
		return c, fmt.Errorf("compact store %s: %w", s.path, noSpace(err))
	}
	stopped := time.Now()
	err = s.atWriter(func() (err error) {
		stopped = time.Now()
		to.AllocSize = growth
		taken, err = s.exchange(to, f.Name())
		return err
	})
	c.Stop, c.Took = time.Since(stopped), time.Since(began)
	if err != nil {
		return c, fmt.Errorf("compact store %s: %w", s.path, noSpace(err))
	}
	c.After, _, err = s.Size()
	return c, err
}

// atWriter runs something between two groups of updates, none of which runs meanwhile.
func (s *Store) atWriter(fn func() error) error {
	r := &request{between: fn, done: make(chan struct{})}
	if err := s.hand(context.Background(), r); err != nil {
		return err
	}
	<-r.done
	return r.err
}

// copyInto copies everything, then what was changed since, until that is little.
func (s *Store) copyInto(ctx context.Context, to *bbolt.DB) error {
	var from *bbolt.Tx
	if err := s.atWriter(func() (err error) {
		s.changed = map[changedKey]bool{}
		from, err = s.begin()
		return err
	}); err != nil {
		return err
	}
	if err := s.copySnapshot(ctx, from, to); err != nil {
		return err
	}
	for range compactRounds {
		if err := errors.Join(ctx.Err(), s.step("round")); err != nil {
			return err
		}
		var keys map[changedKey]bool
		if err := s.atWriter(func() error {
			if len(s.changed) > compactFew {
				keys, s.changed = s.changed, map[changedKey]bool{}
			}
			return nil
		}); err != nil {
			return err
		}
		if keys == nil {
			break
		}
		if err := copyKeys(s.current(), to, keys); err != nil {
			return err
		}
	}
	return to.Sync()
}

// copySnapshot copies everything, and ends the read.
func (s *Store) copySnapshot(ctx context.Context, from *bbolt.Tx, to *bbolt.DB) (err error) {
	defer func() { err = errors.Join(err, from.Rollback()) }()
	return errors.Join(s.step("copy"), copyAll(ctx, from, to))
}

// copyAll copies all tables, some megabytes in each transaction.
func copyAll(ctx context.Context, from *bbolt.Tx, to *bbolt.DB) error {
	w := &bulk{to: to}
	defer w.abandon()
	err := from.ForEach(func(table []byte, b *bbolt.Bucket) error {
		if err := w.begin(table); err != nil {
			return err
		}
		return b.ForEach(func(k, v []byte) error {
			if w.bytes += len(k) + len(v); w.bytes > compactBatch {
				if err := errors.Join(ctx.Err(), w.commit()); err != nil {
					return err
				}
				if err := w.begin(table); err != nil {
					return err
				}
			}
			return w.bucket.Put(k, v)
		})
	})
	return errors.Join(err, w.commit())
}

// bulk writes in ascending order.
type bulk struct {
	to     *bbolt.DB
	btx    *bbolt.Tx
	bucket *bbolt.Bucket
	bytes  int
}

func (w *bulk) begin(table []byte) (err error) {
	if w.btx == nil {
		if w.btx, err = w.to.Begin(true); err != nil {
			return err
		}
	}
	if w.bucket, err = w.btx.CreateBucketIfNotExists(table); err == nil {
		w.bucket.FillPercent = 0.9 // what comes is behind what is there
	}
	return err
}

func (w *bulk) commit() error {
	btx := w.btx
	if w.btx, w.bytes = nil, 0; btx == nil {
		return nil
	}
	return btx.Commit()
}

func (w *bulk) abandon() {
	if w.btx != nil {
		_ = w.btx.Rollback() // the file is thrown away
	}
}

// copyKeys brings keys to what they are in another store now.
func copyKeys(from, to *bbolt.DB, keys map[changedKey]bool) error {
	return from.View(func(r *bbolt.Tx) error {
		return to.Update(func(w *bbolt.Tx) error {
			for k := range keys {
				b, err := w.CreateBucketIfNotExists([]byte(k.table))
				if err != nil {
					return err
				}
				b.FillPercent = fill
				var v []byte
				if old := r.Bucket([]byte(k.table)); old != nil {
					v = old.Get([]byte(k.key))
				}
				if v == nil {
					err = b.Delete([]byte(k.key))
				} else {
					err = b.Put([]byte(k.key), v)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// exchange copies what is left and gives the new file the name of the old one. It runs
// at the writer. taken says that the new file is the store's.
func (s *Store) exchange(to *bbolt.DB, name string) (taken bool, err error) {
	old := s.current()
	if err := s.step("rest"); err != nil {
		return false, err
	}
	if err := copyKeys(old, to, s.changed); err != nil { // its commit is on disk
		return false, err
	}
	s.changed = nil
	if err := s.step("rename"); err != nil {
		return false, err
	}
	gone, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	file, err := os.Stat(name)
	if err != nil {
		return false, errors.Join(err, gone.Close())
	}
	s.swap.Lock()
	s.files = append(s.files, file)
	s.swap.Unlock()
	if err := os.Rename(name, s.path); err != nil {
		s.swap.Lock()
		s.files = s.files[:1]
		s.swap.Unlock()
		return false, errors.Join(err, gone.Close())
	}
	// From here on the new file is the store, whatever else happens: an update that is
	// answered now must not be in a file that has no name any more.
	s.swap.Lock()
	s.db, s.files = to, s.files[1:]
	s.swap.Unlock()
	// What reads the old file goes on doing so; closing it waits for that.
	s.closing.Go(func() {
		if old.Close() == nil { // nobody has it mapped any more
			durable.Shrink(gone)
		}
		_ = gone.Close() // it has no name any more: nothing can be lost
	})
	s.unsynced = true
	return true, s.named()
}

// named makes the name of an exchanged file durable: before that no update may be
// answered that only this file has. It runs at the writer.
func (s *Store) named() error {
	if !s.unsynced {
		return nil
	}
	if err := errors.Join(s.step("sync"), durable.SyncDir(filepath.Dir(s.path))); err != nil {
		return fmt.Errorf("write store %s: its new name is not on disk: %w", s.path, refused(err))
	}
	s.unsynced = false
	return nil
}

// step is called before each step of a compaction.
func (s *Store) step(name string) error {
	if s.onStep == nil {
		return nil
	}
	return s.onStep(name)
}
