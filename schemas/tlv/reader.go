package tlv

import "io"

// Reader reads frames from a port.
type Reader struct {
	src io.Reader
	dec Decoder
	buf [512]byte
	err error // of src, held back until the bytes before it are used up
}

// NewReader returns a Reader on src. It reads as much as src has to give.
func NewReader(src io.Reader) *Reader { return &Reader{src: src} }

// Next returns the next frame; its payload is valid until the next call. There
// are two kinds of error: one that wraps ErrFrame condemns one frame and the
// caller goes on; any other is the port's own, comes back from every further
// call, and ends the loop.
func (r *Reader) Next() (Frame, error) {
	for {
		if r.dec.Next() {
			return r.dec.Frame()
		}
		if r.err != nil {
			return Frame{}, r.err
		}
		n, err := r.src.Read(r.buf[:])
		r.dec.Feed(r.buf[:n])
		r.err = err
	}
}
