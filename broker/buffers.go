package broker

import "sync"

const (
	smallBuffer = 4 << 10
	// bigBuffer is copyLimit with the headers of chunks that are not tiny.
	bigBuffer = copyLimit + 8<<10
	// keepBuffer is the largest buffer that is kept to be used again: one chunk
	// of the largest size is in it.
	keepBuffer = 256 << 10
)

// buffers are kept to be used again. A sync.Pool holds pointers, so each
// buffer is in a box there, and empty boxes are kept as well.
type buffers struct{ full, empty sync.Pool }

func (b *buffers) get(size int) []byte {
	box, ok := b.full.Get().(*[]byte)
	if !ok {
		return make([]byte, 0, size)
	}
	p := *box
	*box = nil
	b.empty.Put(box)
	return p[:0]
}

func (b *buffers) put(p []byte) {
	box, ok := b.empty.Get().(*[]byte)
	if !ok {
		box = new([]byte)
	}
	*box = p
	b.full.Put(box)
}

// buffer returns an empty buffer for an outbox.
func (b *Broker) buffer() []byte { return b.small.get(smallBuffer) }

// bigBuffer returns an empty buffer for copyLimit bytes of chunks.
func (b *Broker) bigBuffer() []byte { return b.big.get(bigBuffer) }

// recycle takes back a buffer that nobody uses any more, or nil.
func (b *Broker) recycle(p []byte) {
	switch {
	case cap(p) < smallBuffer || cap(p) > keepBuffer:
	case cap(p) >= bigBuffer:
		b.big.put(p)
	default:
		b.small.put(p)
	}
}
