// Package spool keeps images on the bridge's disk, complete or in part, so that
// a download continues after a restart and one copy serves every port.
//
// An image is keyed by its SHA-256. While it is fetched it is SHA.part with a
// journal SHA.map of the ranges that are on disk; once its hash has been
// verified it is SHA.img, with SHA.idx beside it if it was verified block by block. A range enters the journal only after the bytes were
// synced, in batches, so that an SD card is not worn out by it. Whatever a
// crash leaves behind is therefore either known to be there or fetched again.
//
// The package owns its folder and imports schemas and internal/durable only. No
// goroutine that it starts outlives the call; a Spool and its Images may be used from several at once.
package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"davit/internal/durable"
	"davit/schemas"
)

// Defaults of Options.
const (
	DefaultLimit     = 256 << 20
	DefaultSyncBytes = 256 << 10
	DefaultSyncEvery = 2 * time.Second
)

// Errors of the package.
var (
	// ErrChecksum: the bytes fetched are not the image's; they are thrown away.
	ErrChecksum = errors.New("SHA-256 does not agree")
	// ErrFull: the images in use leave no room under the limit.
	ErrFull = errors.New("image spool is full")
)

// Options of a spool.
type Options struct {
	// Limit is how many bytes all images together may have; unused ones make
	// room. 0 means DefaultLimit.
	Limit int64
	// SyncBytes and SyncEvery say after how many bytes, or how long after the
	// last time, what was written is made durable; a crash costs so much at
	// most. 0 means the defaults.
	SyncBytes int64
	SyncEvery time.Duration
}

// The file names of an image behind its SHA-256.
const (
	extPart = ".part"
	extMap  = ".map"
	extDone = ".img"
)

// Spool is a folder of images.
type Spool struct {
	dir  string
	opts Options

	mu     sync.Mutex
	images map[string]*Image
	stored map[string]stored // every image on disk
	kept   map[string]owners // images that somebody wants later, on disk or not
	total  atomic.Int64      // bytes of stored
	needed atomic.Int64      // those of them that make no room
}

// owners are those who want an image later.
type owners map[string]bool

// stored is what the spool knows of an image's files.
type stored struct {
	bytes int64
	used  time.Time
}

// Open opens the spool in dir, which is made if it is missing and which no
// other process may use.
func Open(dir string, opts Options) (*Spool, error) {
	if opts.Limit == 0 {
		opts.Limit = DefaultLimit
	}
	if opts.SyncBytes == 0 {
		opts.SyncBytes = DefaultSyncBytes
	}
	if opts.SyncEvery == 0 {
		opts.SyncEvery = DefaultSyncEvery
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("image spool: %w", err)
	}
	if err := durable.RemoveTemp(dir); err != nil {
		return nil, fmt.Errorf("image spool: %w", err)
	}
	s := &Spool{dir: dir, opts: opts, images: map[string]*Image{}, stored: map[string]stored{}, kept: map[string]owners{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("image spool: %w", err)
	}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		sum := strings.TrimSuffix(e.Name(), ext)
		if _, ok := schemas.TagOf(sum); !ok || ext != extPart && ext != extDone {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("image spool: %w", err)
		}
		s.keep(sum, stored{bytes: info.Size(), used: info.ModTime()})
	}
	if err := s.sweepIndexes(); err != nil {
		return nil, fmt.Errorf("image spool: %w", err)
	}
	return s, nil
}

// Used is how many bytes the spool's images have. It waits for nothing, a disk
// that is stuck included.
func (s *Spool) Used() int64 { return s.total.Load() }

// Needed is how many of them belong to images that are in use or that somebody wants
// later. It waits for nothing either.
func (s *Spool) Needed() int64 { return s.needed.Load() }

// Limit is how many bytes they may have.
func (s *Spool) Limit() int64 { return s.opts.Limit }

// Whole says whether the image is on disk completely.
func (s *Spool) Whole(sum string) bool {
	if _, ok := schemas.TagOf(sum); !ok {
		return false
	}
	_, err := os.Stat(filepath.Join(s.dir, sum+extDone))
	return err == nil
}

// keep notes what is known of an image's files, and forget that they are gone; mu
// is held.
func (s *Spool) keep(sum string, st stored) {
	s.stored[sum] = st
	s.count()
}

func (s *Spool) forget(sum string) {
	delete(s.stored, sum)
	s.count()
}

// count brings the sums up to date that are told without mu, which is held.
func (s *Spool) count() {
	s.total.Store(s.used())
	var needed int64
	for sum, st := range s.stored {
		if s.images[sum] != nil || s.kept[sum] != nil {
			needed += st.bytes
		}
	}
	s.needed.Store(needed)
}

func (s *Spool) used() int64 {
	var n int64
	for _, st := range s.stored {
		n += st.bytes
	}
	return n
}

// Acquire returns the image with this SHA-256, with whatever of it is on disk.
// Everybody who acquires it gets the same one; it stays until each has
// released it. An error wraps ErrFull, or is the disk's.
func (s *Spool) Acquire(sum string, size uint64) (*Image, error) {
	if _, ok := schemas.TagOf(sum); !ok || size < 1 || size > schemas.MaxImageSize {
		return nil, fmt.Errorf("image spool: %q with %d bytes is not an image", sum, size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if img := s.images[sum]; img != nil {
		if img.size != size {
			return nil, fmt.Errorf("image spool: image %.8s has %d bytes here, not %d", sum, img.size, size)
		}
		img.refs++
		return img, nil
	}
	if err := s.makeRoom(sum, int64(size)); err != nil {
		return nil, err
	}
	img, err := s.load(sum, size)
	if err != nil {
		return nil, fmt.Errorf("image spool: %w", err)
	}
	img.refs = 1
	s.images[sum] = img
	s.keep(sum, stored{bytes: int64(size), used: time.Now()})
	return img, nil
}

// Keep says that owner will want the image later: unused images that nobody will
// want make room first. It holds until LetGo and is not on disk, so it has to be
// said again after Open.
func (s *Spool) Keep(sum, owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[sum] == nil {
		s.kept[sum] = owners{}
	}
	s.kept[sum][owner] = true
	s.count()
}

// LetGo says that owner does not want the image any more.
func (s *Spool) LetGo(sum, owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept[sum], owner)
	if len(s.kept[sum]) == 0 {
		delete(s.kept, sum)
	}
	s.count()
}

// makeRoom removes unused images, the longest unused first and those that somebody
// will want last, until one of size bytes fits.
func (s *Spool) makeRoom(sum string, size int64) error {
	for {
		need := s.used() - s.stored[sum].bytes + size
		if need <= s.opts.Limit {
			return nil
		}
		if !s.evict(sum) {
			return fmt.Errorf("%w: %d bytes are in use and %d more are wanted, the limit is %d; raise the limit or wait for a port to finish",
				ErrFull, need-size, size, s.opts.Limit)
		}
	}
}

// evict removes an image that is unused, if there is one beside keep: the one
// unused for the longest time of those that nobody will want, or else of all.
func (s *Spool) evict(keep string) bool {
	victim := ""
	for sum := range s.stored {
		if s.images[sum] == nil && sum != keep && (victim == "" || s.cheaper(sum, victim)) {
			victim = sum
		}
	}
	if victim == "" {
		return false
	}
	// The journal goes first: it must not outlive the bytes that it vouches for.
	for _, ext := range []string{extMap, extIndex, extDone, extPart} {
		_ = os.Remove(filepath.Join(s.dir, victim+ext)) // what stays is found again by the next Open
	}
	s.forget(victim)
	return true
}

// cheaper says whether image a is rather to be removed than b.
func (s *Spool) cheaper(a, b string) bool {
	if wanted := s.kept[a] != nil; wanted != (s.kept[b] != nil) {
		return !wanted
	}
	return s.stored[a].used.Before(s.stored[b].used)
}

// byUse sorts images by when they were used, the last first; mu is held.
func (s *Spool) byUse(sums []string) {
	slices.SortFunc(sums, func(a, b string) int { return s.stored[b].used.Compare(s.stored[a].used) })
}

// Spare removes an image that nobody uses, because the disk is full. It returns
// false if there is none.
func (s *Spool) Spare() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.evict("")
}

// release gives back one use of img.
func (s *Spool) release(img *Image) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if img.refs--; img.refs > 0 {
		return nil
	}
	delete(s.images, img.sum)
	st := s.stored[img.sum]
	st.used = time.Now()
	s.keep(img.sum, st)
	return img.close()
}
