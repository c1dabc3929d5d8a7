package orchestrator

import (
	"context"
	"sync"
)

// keptBlobs is how many blobs stay open that nobody reads at the moment.
const keptBlobs = 16

// blobCache keeps the blobs that are being streamed open.
type blobCache struct {
	blobs  Blobs
	mu     sync.Mutex
	held   map[string]*sharedBlob
	clock  uint64
	closed bool
}

type sharedBlob struct {
	Blob
	sum  string
	refs int
	used uint64
}

func newBlobCache(b Blobs) *blobCache { return &blobCache{blobs: b, held: map[string]*sharedBlob{}} }

// open returns the blob for release to be called on it.
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
	b := &sharedBlob{Blob: blob, sum: sum, refs: 1, used: c.clock}
	c.held[sum] = b
	c.evict()
	return b, nil
}

func (c *blobCache) release(b *sharedBlob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.refs--
	if c.closed {
		c.drop(b)
	}
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
