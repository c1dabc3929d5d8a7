package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"davit/internal/durable"
	"davit/orchestrator"
)

// ErrDamaged: the file is not a store, or not a whole one.
var ErrDamaged = errors.New("damaged")

// create makes the file if it is not there. It gets its name when it is whole, since bbolt does
// not open a file that a crash left half made. So an empty one is what is left of a store.
func create(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil // openFile tells what is wrong, if anything is
	}
	f, err := durable.Create(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer f.Abort()
	db, err := bbolt.Open(f.Name(), 0o600, options())
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	return f.Commit(path)
}

// options are those of every file that a Store uses.
func options() *bbolt.Options {
	return &bbolt.Options{
		Timeout: openTimeout,
		// The free list is found again when the file is opened, which costs
		// far less than writing it with every commit.
		NoFreelistSync:  true,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: initialMap,
	}
}

// openFile opens a file that is there. What bbolt would panic about, or read behind
// the end of the file, is an error that wraps ErrDamaged.
func openFile(path string) (db *bbolt.DB, err error) {
	if err := examine(path); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = damaged(path, "%v", p)
		}
	}()
	db, err = bbolt.Open(path, 0o600, options())
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("store %s is in use by another process; stop it first", path)
	case err != nil:
		return nil, fmt.Errorf("open store %s: %w", path, noSpace(err))
	}
	return db, nil
}

func damaged(path, format string, args ...any) error {
	return fmt.Errorf("store %s is %w: %s; restore a backup into a new folder (davit restore FILE --data NEW) and start the service with that", path, ErrDamaged, fmt.Sprintf(format, args...))
}

// The meta pages of bbolt's files (go.etcd.io/bbolt, internal/common, meta.go and
// page.go), of which the file begins with two: a header of 16 bytes, then the
// following in the machine's byte order.
const (
	pageHeader   = 16
	metaMagic    = 0  // uint32
	metaPageSize = 8  // uint32
	metaRoot     = 16 // uint64, the page of the tables
	metaPages    = 40
	metaTxid     = 48
	metaSum      = 56 // FNV-1a of what stands before it
	metaEnd      = 64

	boltMagic = 0xED0CDAED
	mostPage  = 16 << 20
)

// examine reads which pages the newest meta page speaks of and compares them with the
// length of the file: bbolt maps the file, and reading a page that is not there would
// kill the process.
func examine(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if !st.Mode().IsRegular() {
		return damaged(path, "it is no file, but %s", st.Mode().Type())
	}
	need, second, newest, root := int64(0), int64(os.Getpagesize()), uint64(0), uint64(0)
	look := func(at int64) {
		var b [pageHeader + metaEnd]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			return // too short
		}
		if size, pages, txid, ok := meta(b[pageHeader:]); ok {
			if second = size; txid >= newest {
				newest, need, root = txid, pages*size, binary.NativeEndian.Uint64(b[pageHeader+metaRoot:])
			}
		}
	}
	look(0)
	look(second)
	switch {
	case need == 0:
		return damaged(path, "it does not begin as a store does; it has %d bytes", st.Size())
	case st.Size() < need:
		return damaged(path, "it has %d bytes, and says that it has %d: its end is missing", st.Size(), need)
	}
	return checkPages(path, f, need, second, root)
}

// checkPages maps the file and goes through its pages.
func checkPages(path string, f *os.File, length, pageSize int64, root uint64) (err error) {
	b, err := unix.Mmap(int(f.Fd()), 0, int(length), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("read store %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(b)) }()
	w := pageWalk{b: b, size: pageSize, pages: length / pageSize}
	if err := w.check(root); err != nil {
		return damaged(path, "%v", err)
	}
	return nil
}

// meta reads a meta page; false if it is none, or not a whole one.
func meta(b []byte) (pageSize, pages int64, txid uint64, ok bool) {
	e := binary.NativeEndian
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSum]) // never fails
	size := e.Uint32(b[metaPageSize:])
	n := e.Uint64(b[metaPages:])
	if e.Uint32(b[metaMagic:]) != boltMagic || e.Uint64(b[metaSum:]) != sum.Sum64() || size == 0 || size > mostPage || n > 1<<40 {
		return 0, 0, 0, false
	}
	return int64(size), int64(n), e.Uint64(b[metaTxid:]), true
}

// InPlace says what has become of the file in use if its name does not lead to it any more, because somebody has moved,
// removed or replaced it: what is recorded from then on would be gone with the process.
func (s *Store) InPlace() error {
	s.swap.RLock() // two files are exchanged in between at most
	defer s.swap.RUnlock()
	now, err := os.Stat(s.path)
	if err != nil {
		return fmt.Errorf("the records in use are not in their place any more: %w; put the folder back as it was before the service ends", err)
	}
	for _, mine := range s.files {
		if os.SameFile(mine, now) {
			return nil
		}
	}
	return fmt.Errorf("another file is in the place of the records in use, %s; what is recorded is lost when the service ends, unless a backup is made before that (davit backup)", s.path)
}

// Size is how long the file is, and how many bytes of it are free.
func (s *Store) Size() (bytes, free int64, err error) {
	st, err := os.Stat(s.path)
	if err != nil {
		return 0, 0, fmt.Errorf("size of store: %w", err)
	}
	db := s.current()
	pages := db.Stats()
	return st.Size(), int64(pages.FreePageN+pages.PendingPageN) * int64(db.Info().PageSize), nil
}

// Tables are the tables that the store has, in no particular order.
func (s *Store) Tables() (tables []orchestrator.Table, err error) {
	err = s.guarded(func() error {
		return s.current().View(func(btx *bbolt.Tx) error {
			return btx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
				tables = append(tables, orchestrator.Table(name))
				return nil
			})
		})
	})
	return tables, err
}
