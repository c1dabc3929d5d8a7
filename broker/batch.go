package broker

import (
	"errors"
	"fmt"
	"slices"

	"davit/schemas"
)

// maxBatch is how many packets one vectored write takes: a whole fetch.
const maxBatch = schemas.MaxWindow

var (
	errTooLarge   = errors.New("the packet is longer than the client takes")
	errUnreadable = errors.New("memory cannot be read")
)

// packet is one PUBLISH on its way: what stands before the data, and the data
// where it is, in the memory of the image.
type packet struct{ head, data []byte }

func (p *packet) size() int { return len(p.head) + len(p.data) }

// batch is what one vectored write sends. It is kept and used again.
type batch struct {
	packets []packet
	heads   []byte // of all packets, one after the other
	size    int    // bytes in all packets
}

func newBatch() any { return &batch{packets: make([]packet, 0, maxBatch)} }

// fill makes packets of as many chunks as there is room for. The error is that
// of the first chunk which cannot be sent, if there is one before the room ends.
func (b *batch) fill(to *address, mapped []byte, chunks []schemas.Chunk) error {
	chunks = chunks[:min(len(chunks), maxBatch)]
	b.heads = slices.Grow(b.heads[:0], len(chunks)*to.maxHead()) // never moves below
	b.packets, b.size = b.packets[:0], 0
	for i := range chunks {
		c := &chunks[i]
		if err := to.check(c); err != nil {
			return err
		}
		end := c.Offset + uint64(c.Length)
		if end < c.Offset || end > uint64(len(mapped)) {
			return fmt.Errorf("chunk of %d bytes at %d: the image has %d", c.Length, c.Offset, len(mapped))
		}
		at := len(b.heads)
		b.heads = to.appendHeader(b.heads, c)
		p := packet{head: b.heads[at:len(b.heads):len(b.heads)], data: mapped[c.Offset:end:end]}
		b.packets = append(b.packets, p)
		b.size += p.size()
	}
	return nil
}

// sizeOf is how many bytes the first n packets have.
func (b *batch) sizeOf(n int) int {
	size := b.size
	for i := range b.packets[n:] {
		size -= b.packets[n+i].size()
	}
	return size
}

// forget lets go of the image's memory.
func (b *batch) forget() {
	clear(b.packets)
	b.packets = b.packets[:0]
}

// cut returns which packet follows when a socket has taken n bytes, fewer than
// all, and what is left of it: the whole packet if the socket stopped before it.
func (b *batch) cut(n int) (index int, rest packet) {
	for i, p := range b.packets {
		if n < p.size() {
			if n < len(p.head) {
				return i, packet{p.head[n:], p.data}
			}
			return i, packet{nil, p.data[n-len(p.head):]}
		}
		n -= p.size()
	}
	panic("broker: nothing is cut")
}

// remainder is the packet that has to leave before anything else may: what a
// socket did not take of it.
type remainder struct {
	packet
	image schemas.ImageBytes // retained for the data
}

// remain copies what is not the image's.
func (p packet) remain(image schemas.ImageBytes) *remainder {
	image.Retain()
	return &remainder{packet{slices.Clone(p.head), p.data}, image}
}

// release lets go of the image, once.
func (r *remainder) release() { r.image.Release() }
