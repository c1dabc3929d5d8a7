package orchestrator

import (
	"context"
	"sync"

	"davit/schemas"
)

// keptBlobs is how many blobs stay open that nobody reads at the moment.
const keptBlobs = 16

// blobCache keeps the blobs that are being streamed open, each once for all who
// read it. A blob that was removed from the Blobs stays readable while somebody
// retains it.
type blobCache struct {
	blobs  Blobs
	mu     sync.Mutex
	held   map[string]*sharedBlob
	clock  uint64
	closed bool
}

// sharedBlob implements schemas.ImageBytes.
type sharedBlob struct {
	Blob
	cache  *blobCache
	sum    string
	mapped []byte
	file   uintptr // a descriptor, if isFile
	isFile bool
	refs   int    // guarded by cache.mu, as is used
	used   uint64 // when, by cache.clock
}

var _ schemas.ImageFile = (*sharedBlob)(nil)

func newBlobCache(b Blobs) *blobCache { return &blobCache{blobs: b, held: map[string]*sharedBlob{}} }

// open returns the blob, retained for the caller.
func (c *blobCache) open(ctx context.Context, sum string) (*sharedBlob, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	if b := c.held[sum]; b != nil {
		b.refs++
		b.used = c.clock
		return b, nil
	}
	blob, err := c.blobs.Open(ctx, sum)
	if err != nil {
		return nil, err
	}
	b := &sharedBlob{Blob: blob, cache: c, sum: sum, refs: 1, used: c.clock}
	if m, ok := blob.(MappedBlob); ok {
		b.mapped = m.Mapped()
		b.file, b.isFile = m.Descriptor()
	}
	c.held[sum] = b
	c.evict()
	return b, nil
}

// Mapped implements schemas.ImageBytes.
func (b *sharedBlob) Mapped() []byte { return b.mapped }

// Descriptor implements schemas.ImageFile.
func (b *sharedBlob) Descriptor() (uintptr, bool) { return b.file, b.isFile }

// Retain implements schemas.ImageBytes. Who calls it has the blob retained.
func (b *sharedBlob) Retain() {
	b.cache.mu.Lock()
	defer b.cache.mu.Unlock()
	b.refs++
}

// Release implements schemas.ImageBytes.
func (b *sharedBlob) Release() {
	c := b.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	b.refs--
	if c.closed {
		c.drop(b)
		return
	}
	c.evict()
}

// evict closes the blobs that were not used for the longest time, while there
// are more than keptBlobs and some are not being read.
func (c *blobCache) evict() {
	for len(c.held) > keptBlobs {
		var oldest *sharedBlob
		for _, b := range c.held {
			if b.refs == 0 && (oldest == nil || b.used < oldest.used) {
				oldest = b
			}
		}
		if oldest == nil {
			return
		}
		c.drop(oldest)
	}
}

// drop closes a blob that nobody reads; a failing close of a file that was only
// read loses nothing.
func (c *blobCache) drop(b *sharedBlob) {
	if b.refs > 0 {
		return
	}
	delete(c.held, b.sum)
	_ = b.Close()
}

// close closes what is open, as soon as it is not being read.
func (c *blobCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, b := range c.held {
		c.drop(b)
	}
}
