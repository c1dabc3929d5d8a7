// Package fileblobs keeps the bytes of images as files that are named by
// their SHA-256: DIR/ab/ab12.... It imports the orchestrator's interfaces and
// durable and holds no state but its folder's name and how many bytes are in it, so any goroutine may call it;
// one process at a time may use a folder (the data folder's lock sees to that).
package fileblobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"davit/internal/durable"
	"davit/orchestrator"
)

// Blobs implements orchestrator.Blobs.
type Blobs struct {
	dir     string
	reserve int64 // bytes of the disk that stay free
	// placing is held while a file is put in its place or removed, so that bytes counts
	// each once.
	placing sync.Mutex
	bytes   atomic.Int64
}

// Reserve has new blobs leave so many bytes of the disk free. It is called before
// anything else is.
func (b *Blobs) Reserve(bytes int64) { b.reserve = bytes }

// roomEvery is after how many bytes it is looked whether there is still room.
const roomEvery = 4 << 20

// room says whether a blob may grow by so many bytes.
func (b *Blobs) room(more int64) error {
	if b.reserve == 0 {
		return nil
	}
	free, _, err := durable.Room(b.dir)
	if err != nil {
		return fmt.Errorf("how much room there is: %w", err)
	}
	if free-more < b.reserve {
		return fmt.Errorf("%w: the disk has %d bytes left, and images leave %d free for records; make room on it, or delete images", orchestrator.ErrNoSpace, free, b.reserve)
	}
	return nil
}

// Open makes the folder if it is not there and removes what a crash left
// unfinished in it.
func Open(dir string) (*Blobs, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open blobs: %w", noSpace(err))
	}
	if _, err := os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	if err := durable.RemoveTemp(dir); err != nil {
		return nil, fmt.Errorf("open blobs: remove unfinished files: %w", err)
	}
	b := &Blobs{dir: dir}
	err := b.List(context.Background(), func(_ string, size int64) bool {
		b.bytes.Add(size)
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	return b, nil
}

// Bytes is how many bytes all blobs have. It reads no folder.
func (b *Blobs) Bytes() int64 { return b.bytes.Load() }

// noSpace adds the orchestrator's kind to errors of a disk that is full, or mounted for reading only.
func noSpace(err error) error {
	switch {
	case durable.IsNoSpace(err):
		return fmt.Errorf("%w: %w", orchestrator.ErrNoSpace, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", orchestrator.ErrUnwritable, err)
	}
	return err
}

// validSum says whether sum can be a blob's name; anything else could name a
// file elsewhere.
func validSum(sum string) bool {
	b, err := hex.DecodeString(sum)
	return err == nil && len(b) == sha256.Size && hex.EncodeToString(b) == sum
}

func (b *Blobs) path(sum string) string { return filepath.Join(b.dir, sum[:2], sum) }

// Create implements orchestrator.Blobs.
func (b *Blobs) Create(ctx context.Context) (orchestrator.BlobWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := b.room(0); err != nil {
		return nil, fmt.Errorf("begin blob: %w", err)
	}
	f, err := durable.Create(b.dir)
	if err != nil {
		return nil, fmt.Errorf("begin blob: %w", noSpace(err))
	}
	return &writer{blobs: b, file: f, hash: sha256.New(), growth: growth{blobs: b}}, nil
}

// Scratch implements orchestrator.Scratch. What a crash leaves of it is removed
// by Open.
func (b *Blobs) Scratch(ctx context.Context) (orchestrator.ScratchFile, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := durable.Create(b.dir)
	if err != nil {
		return nil, fmt.Errorf("make room for an upload: %w", noSpace(err))
	}
	return &scratch{f, growth{blobs: b}}, nil
}

// growth looks after the room for what is being written.
type growth struct {
	blobs *Blobs
	since int64 // bytes since it was looked
}

// by says whether there is room for so many bytes more.
func (g *growth) by(n int) error {
	if g.since += int64(n); g.since < roomEvery {
		return nil
	}
	g.since = 0
	return g.blobs.room(int64(n))
}

type scratch struct {
	file   *durable.File
	growth growth
}

// Write implements io.Writer.
func (s *scratch) Write(p []byte) (int, error) {
	if err := s.growth.by(len(p)); err != nil {
		return 0, fmt.Errorf("write to the room for an upload: %w", err)
	}
	n, err := s.file.Write(p)
	if err != nil {
		err = fmt.Errorf("write to the room for an upload: %w", noSpace(err))
	}
	return n, err
}

// ReadAt implements io.ReaderAt.
func (s *scratch) ReadAt(p []byte, off int64) (int, error) { return s.file.ReadAt(p, off) }

// Close implements io.Closer.
func (s *scratch) Close() error {
	s.file.Abort()
	return nil
}

// Open implements orchestrator.Blobs.
func (b *Blobs) Open(ctx context.Context, sum string) (orchestrator.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !validSum(sum) {
		return nil, fmt.Errorf("blob %q: %w: a blob's name is 64 lower-case hexadecimal digits", sum, orchestrator.ErrInvalid)
	}
	f, err := os.Open(b.path(sum))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", sum, orchestrator.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open blob: %w", err), f.Close())
	}
	return &blob{File: f, size: st.Size()}, nil
}

// Remove implements orchestrator.Blobs.
func (b *Blobs) Remove(ctx context.Context, sum string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !validSum(sum) {
		return fmt.Errorf("blob %q: %w: a blob's name is 64 lower-case hexadecimal digits", sum, orchestrator.ErrInvalid)
	}
	b.placing.Lock()
	defer b.placing.Unlock()
	size := b.sizeOf(b.path(sum))
	if err := os.Remove(b.path(sum)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	b.bytes.Add(-size)
	return nil
}

// List implements orchestrator.Blobs. Files whose names are no blob's are
// passed over.
func (b *Blobs) List(ctx context.Context, fn func(sum string, size int64) bool) error {
	folders, err := os.ReadDir(b.dir)
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	for _, folder := range folders {
		if !folder.IsDir() {
			continue
		}
		files, err := os.ReadDir(filepath.Join(b.dir, folder.Name()))
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		for _, file := range files {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !validSum(file.Name()) || file.Name()[:2] != folder.Name() {
				continue
			}
			info, err := file.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed meanwhile
			}
			if err != nil {
				return fmt.Errorf("list blobs: %w", err)
			}
			if !fn(file.Name(), info.Size()) {
				return nil
			}
		}
	}
	return nil
}

// blob is an open file, and a mapping of it from when somebody asks for that.
type blob struct {
	*os.File
	size   int64
	once   sync.Once
	mapped []byte
}

var _ orchestrator.MappedBlob = (*blob)(nil)

// Mapped implements orchestrator.MappedBlob. Removing the file does the mapping no
// harm.
func (b *blob) Mapped() []byte {
	b.once.Do(func() { b.mapped = mapFile(b.File, b.size) })
	return b.mapped
}

// Descriptor implements orchestrator.MappedBlob.
func (b *blob) Descriptor() (uintptr, bool) { return b.Fd(), true }

// Close implements io.Closer.
func (b *blob) Close() error {
	b.once.Do(func() {}) // what was not mapped yet is not any more
	var err error
	if b.mapped != nil {
		err = unmap(b.mapped)
		b.mapped = nil
	}
	return errors.Join(err, b.File.Close())
}

// Size implements orchestrator.Blob.
func (b *blob) Size() int64 { return b.size }

type writer struct {
	blobs  *Blobs
	file   *durable.File
	hash   hash.Hash
	size   int64
	growth growth
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if err := w.growth.by(len(p)); err != nil {
		return 0, fmt.Errorf("write blob: %w", err)
	}
	n, err := w.file.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	if err != nil {
		err = fmt.Errorf("write blob: %w", noSpace(err))
	}
	return n, err
}

// Commit implements orchestrator.BlobWriter. A file of the same name and size
// is there already if the content was uploaded before; a file of another size is
// damaged and is replaced.
func (w *writer) Commit() (string, int64, error) {
	sum := hex.EncodeToString(w.hash.Sum(nil))
	path := w.blobs.path(sum)
	w.blobs.placing.Lock()
	defer w.blobs.placing.Unlock()
	if st, err := os.Stat(path); err == nil && st.Size() == w.size {
		w.file.Abort()
		return sum, w.size, nil
	}
	if err := w.blobs.folder(filepath.Dir(path)); err != nil {
		w.file.Abort()
		return "", 0, fmt.Errorf("commit blob: %w", noSpace(err))
	}
	damaged := w.blobs.sizeOf(path)
	if err := w.file.Commit(path); err != nil {
		return "", 0, fmt.Errorf("commit blob: %w", noSpace(err))
	}
	w.blobs.bytes.Add(w.size - damaged)
	return sum, w.size, nil
}

// sizeOf is the size of a file, 0 if there is none.
func (b *Blobs) sizeOf(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// folder makes a folder under b durable, once.
func (b *Blobs) folder(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return durable.SyncDir(b.dir)
}

// Abort implements orchestrator.BlobWriter.
func (w *writer) Abort() { w.file.Abort() }
