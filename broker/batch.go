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
// where it is, in the memory of the image and at an offset of its file.
type packet struct {
	head, data []byte
	at         int64
}

func (p *packet) size() int { return len(p.head) + len(p.data) }

// batch is what one vectored write sends. It is kept and used again.
type batch struct {
	packets []packet
	heads   []byte // of all packets, one after the other
	size    int    // bytes in all packets
	data    int    // bytes of them that are the image's
	file    int    // descriptor of the image's file, -1 if there is none
}

// fileFrom is from what size of a packet's data on a system call for the head of each
// packet and one for its data, which the kernel then does not copy, cost less than
// copying all packets in one call.
const fileFrom = 32 << 10

// fromFile says whether the packets' data is better taken from the file.
func (b *batch) fromFile() bool { return b.file >= 0 && b.data >= fileFrom*len(b.packets) }

func newBatch() any { return &batch{packets: make([]packet, 0, maxBatch), file: -1} }

// descriptorOf returns the descriptor of the image's file, -1 if it has none.
func descriptorOf(image schemas.ImageBytes) int {
	if f, ok := image.(schemas.ImageFile); ok {
		if fd, ok := f.Descriptor(); ok {
			return int(fd)
		}
	}
	return -1
}

// fill makes packets of as many of the image's chunks as there is room for. The error is
// that of the first chunk which cannot be sent, if there is one before the room ends.
func (b *batch) fill(to *address, image schemas.ImageBytes, mapped []byte, chunks []schemas.Chunk) error {
	chunks = chunks[:min(len(chunks), maxBatch)]
	b.heads = slices.Grow(b.heads[:0], len(chunks)*to.maxHead()) // never moves below
	b.packets, b.size, b.data, b.file = b.packets[:0], 0, 0, descriptorOf(image)
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
		p := packet{head: b.heads[at:len(b.heads):len(b.heads)], data: mapped[c.Offset:end:end], at: int64(c.Offset)}
		b.packets = append(b.packets, p)
		b.size += p.size()
		b.data += len(p.data)
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
	b.packets, b.file = b.packets[:0], -1
}

// cut returns which packet follows when a socket has taken n bytes, fewer than
// all, and what is left of it: the whole packet if the socket stopped before it.
func (b *batch) cut(n int) (index int, rest packet) {
	for i, p := range b.packets {
		if n < p.size() {
			if n < len(p.head) {
				return i, packet{head: p.head[n:], data: p.data}
			}
			return i, packet{data: p.data[n-len(p.head):]}
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
	return &remainder{packet{head: slices.Clone(p.head), data: p.data}, image}
}

// release lets go of the image, once.
func (r *remainder) release() { r.image.Release() }
