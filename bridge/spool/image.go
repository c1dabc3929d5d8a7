package spool

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"davit/bridge/rangeset"
	"davit/internal/durable"
	"davit/schemas"
)

// Image is one image in the spool. Its bytes are what the network said until
// Verify has agreed.
type Image struct {
	spool *Spool
	sum   string
	size  uint64
	refs  int // guarded by the spool's mutex

	mu       sync.Mutex
	file     *os.File
	journal  *os.File     // nil once the image is complete and verified
	have     rangeset.Set // in the file, durable or not
	unsynced rangeset.Set
	syncedAt time.Time
	verified bool
	guard    *guard        // nil without a signed manifest
	news     chan struct{} // closed when more may be read; nil while nobody waits
}

// load opens the files of an image or makes them.
func (s *Spool) load(sum string, size uint64) (*Image, error) {
	img := &Image{spool: s, sum: sum, size: size, syncedAt: time.Now()}
	f, err := os.OpenFile(img.path(extDone), os.O_RDWR, 0)
	if err == nil {
		info, err := f.Stat()
		if err == nil && info.Size() == int64(size) {
			img.file = f
			img.have.Add(0, size)
			return img, nil
		}
		// A complete file of another length is not this image's: begin anew.
		if err := errors.Join(err, f.Close(), os.Remove(img.path(extDone))); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := img.openPart(); err != nil {
		return nil, errors.Join(err, img.closeFiles())
	}
	return img, nil
}

func (img *Image) path(ext string) string { return filepath.Join(img.spool.dir, img.sum+ext) }

func (img *Image) openPart() error {
	var err error
	if img.file, err = os.OpenFile(img.path(extPart), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if img.journal, err = os.OpenFile(img.path(extMap), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if img.have, err = readJournal(img.journal, img.size); err != nil {
		return err
	}
	// The names have to be on disk before a journal entry can count on them.
	return durable.SyncDir(img.spool.dir)
}

// SHA256 is the image's key, in hex.
func (img *Image) SHA256() string { return img.sum }

// Size of the whole image in bytes.
func (img *Image) Size() uint64 { return img.size }

// Held is how many bytes of the image are there.
func (img *Image) Held() uint64 {
	img.mu.Lock()
	defer img.mu.Unlock()
	return img.have.Total()
}

// Verified says whether the whole image is there and its SHA-256 agreed.
func (img *Image) Verified() bool {
	img.mu.Lock()
	defer img.mu.Unlock()
	return img.verified
}

// Missing returns the first holes, at most limit of them, in ascending order.
func (img *Image) Missing(limit int) []schemas.Range {
	img.mu.Lock()
	defer img.mu.Unlock()
	return img.have.Gaps(schemas.Range{Length: img.size}, limit)
}

// Has says whether every byte of r is there.
func (img *Image) Has(r schemas.Range) bool {
	img.mu.Lock()
	defer img.mu.Unlock()
	return img.have.Covers(r.Offset, r.End())
}

// WriteAt puts bytes of the image in place. Writing what is there already does
// nothing. It syncs by itself from time to time. On a full disk unused images
// make room; if there are none, this one is emptied, so that what else is on the
// disk can be written.
func (img *Image) WriteAt(b []byte, offset uint64) error {
	img.mu.Lock()
	defer img.mu.Unlock()
	return img.write(b, offset)
}

func (img *Image) put(b []byte, offset uint64) error {
	if _, err := img.file.WriteAt(b, int64(offset)); err != nil {
		return err
	}
	end := offset + uint64(len(b))
	img.have.Add(offset, end)
	img.unsynced.Add(offset, end)
	if img.unsynced.Total() >= uint64(img.spool.opts.SyncBytes) || time.Since(img.syncedAt) >= img.spool.opts.SyncEvery {
		return img.sync()
	}
	return nil
}

// Sync makes what was written so far durable.
func (img *Image) Sync() error {
	img.mu.Lock()
	defer img.mu.Unlock()
	return img.sync()
}

func (img *Image) sync() error {
	if img.journal == nil || img.unsynced.Total() == 0 {
		return nil
	}
	if err := img.file.Sync(); err != nil {
		return fmt.Errorf("image spool: %w", err)
	}
	if err := appendJournal(img.journal, img.unsynced.Ranges()); err != nil {
		return fmt.Errorf("image spool: %w", err)
	}
	img.unsynced = rangeset.Set{}
	img.syncedAt = time.Now()
	return nil
}

// Verify compares the SHA-256 of the whole image, which it reads back from disk unless a
// guard has checked each block. If it agrees the image is complete, now and after a restart, and Verify does
// nothing any more. If not, all bytes are thrown away and the error wraps
// ErrChecksum. It is an error to call it while bytes are missing.
func (img *Image) Verify() error {
	img.mu.Lock()
	defer img.mu.Unlock()
	if img.verified {
		return nil
	}
	if img.have.Total() != img.size {
		return fmt.Errorf("image spool: %d of %d bytes are there, too few to verify", img.have.Total(), img.size)
	}
	sum, err := img.hash()
	if err != nil {
		return fmt.Errorf("image spool: %w", err)
	}
	if got := hex.EncodeToString(sum[:]); got != img.sum {
		return errors.Join(fmt.Errorf("%w: the image is %s, what was fetched is %s", ErrChecksum, img.sum, got), img.discard())
	}
	if img.journal != nil {
		if err := img.complete(); err != nil {
			return fmt.Errorf("image spool: %w", err)
		}
	}
	img.verified = true
	img.tell()
	if err := img.writeIndex(); err != nil && !durable.IsNoSpace(err) { // without it others fetch what they could find here
		return fmt.Errorf("image spool: %w", err)
	}
	return nil
}

// hash is that of the whole image: as it went along with the blocks that were checked, or of
// what is on disk.
func (img *Image) hash() (sum [sha256.Size]byte, err error) {
	if g := img.guard; g != nil && g.front == len(g.checked) {
		return g.whole.end(), nil
	}
	h := sha256.New()
	_, err = io.Copy(h, io.NewSectionReader(img.file, 0, int64(img.size)))
	return [sha256.Size]byte(h.Sum(nil)), err
}

// complete gives the file its final name.
func (img *Image) complete() error {
	if err := img.file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(img.path(extPart), img.path(extDone)); err != nil {
		return err
	}
	if err := durable.SyncDir(img.spool.dir); err != nil {
		return err
	}
	err := errors.Join(img.journal.Close(), os.Remove(img.path(extMap)))
	img.journal, img.unsynced = nil, rangeset.Set{}
	return err
}

// discard empties the image. The journal goes first: without it the bytes
// count for nothing.
func (img *Image) discard() error {
	img.have, img.unsynced = rangeset.Set{}, rangeset.Set{}
	if g := img.guard; g != nil {
		g.restart()
	}
	if img.journal == nil {
		_ = os.Remove(img.path(extIndex)) // which is a hint only
		if err := errors.Join(img.file.Close(), os.Remove(img.path(extDone)), os.Remove(img.path(extMap))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return img.openPart()
	}
	if err := img.journal.Truncate(0); err != nil {
		return err
	}
	if err := img.journal.Sync(); err != nil {
		return err
	}
	return img.file.Truncate(0)
}

// ReadAt implements io.ReaderAt over a verified image, and over the blocks that are
// checked of one with a guard (Await); otherwise it fails.
func (img *Image) ReadAt(b []byte, offset int64) (int, error) {
	img.mu.Lock()
	ok := img.readable(schemas.Range{Offset: uint64(max(offset, 0)), Length: uint64(len(b))})
	img.mu.Unlock()
	if !ok {
		return 0, errors.New("image spool: the image is not verified")
	}
	return img.file.ReadAt(b, offset)
}

// Release gives the image back; the caller must not use it any more. What was
// fetched of it stays on disk.
func (img *Image) Release() error { return img.spool.release(img) }

func (img *Image) close() error {
	img.mu.Lock()
	defer img.mu.Unlock()
	if img.guard != nil {
		img.guard.whole.end() // what it goes on with is of no use
	}
	return errors.Join(img.sync(), img.closeFiles())
}

func (img *Image) closeFiles() error {
	var err error
	if img.file != nil {
		err = img.file.Close()
	}
	if img.journal != nil {
		err = errors.Join(err, img.journal.Close())
	}
	return err
}
