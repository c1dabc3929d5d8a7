package mqtt

import "sync"

const (
	// readSize is how much is read at a time.
	readSize = 64 << 10
	// scratchSize is enough for most of what a client sends.
	scratchSize = 1 << 10
)

// input is a buffer that is read into: b[from:n] is what was read and not handled.
type input struct {
	b       []byte
	from, n int
	message Message // the one that is handled
}

var inputs = sync.Pool{New: func() any { return &input{b: make([]byte, readSize)} }}

func newInput() *input { return inputs.Get().(*input) }

// recycle gives the buffer back; one that has grown for a long packet is left to the
// garbage collector.
func (in *input) recycle() {
	if len(in.b) == readSize {
		in.from, in.n, in.message = 0, 0, Message{}
		inputs.Put(in)
	}
}

// room is where to read to. It is never empty.
func (in *input) room() []byte {
	if in.from > 0 {
		in.n = copy(in.b, in.b[in.from:in.n])
		in.from = 0
	}
	return in.b[in.n:]
}

// packet is the first packet of what was read; body is nil if it is not there as a whole,
// and there is room for the rest of it then.
func (in *input) packet(longest int) (h Header, body []byte, err error) {
	b := in.b[in.from:in.n]
	h, ok, err := ParseHeader(b)
	if err != nil || !ok {
		return h, nil, err
	}
	if h.Size > longest {
		return h, nil, broken("a packet of %d bytes, at most %d are taken", h.Size, longest)
	}
	if h.Size <= len(b) {
		return h, b[h.Head:h.Size:h.Size], nil
	}
	if h.Size > len(in.b) {
		grown := make([]byte, h.Size+readSize)
		in.n = copy(grown, b)
		in.b, in.from = grown, 0
	}
	return h, nil, nil
}

func (in *input) skip(n int) { in.from += n }

// Buffers are kept by pointer, in boxes that are kept as well, so that neither getting one
// nor giving it back allocates.
var scratches, boxes sync.Pool

func scratch() []byte {
	box, ok := scratches.Get().(*[]byte)
	if !ok {
		return make([]byte, 0, scratchSize)
	}
	b := *box
	*box = nil
	boxes.Put(box)
	return b[:0]
}

func recycle(b []byte) {
	if cap(b) > readSize {
		return
	}
	box, ok := boxes.Get().(*[]byte)
	if !ok {
		box = new([]byte)
	}
	*box = b
	scratches.Put(box)
}
