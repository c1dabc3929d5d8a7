package recording

import (
	"errors"
	"io"
	"time"
)

// ErrFull: a recording is as long as one may become.
var ErrFull = errors.New("the recording is as long as one may become")

// Writer writes a recording entry by entry, for a caller that may wait for the
// disk; a Recorder never does. It is not safe for concurrent use.
type Writer struct {
	dst  io.Writer
	size int64
	buf  []byte
}

// NewWriter writes the head of a recording, with h.Start as it is.
func NewWriter(dst io.Writer, h Header) (*Writer, error) {
	head, err := appendHead(nil, h)
	if err != nil {
		return nil, err
	}
	_, err = dst.Write(head)
	return &Writer{dst: dst, size: int64(len(head))}, err
}

// Note writes bytes that a side said at a time since the start. When it returns,
// dst has them. It writes nothing and returns ErrFull if the recording would become
// longer than MaxFile.
func (w *Writer) Note(at time.Duration, from Side, b []byte) error {
	w.buf = w.buf[:0]
	for len(b) > 0 {
		piece := b[:min(len(b), MaxPiece)]
		w.buf = appendEntry(w.buf, at, from, piece)
		b = b[len(piece):]
	}
	if w.size += int64(len(w.buf)); w.size > MaxFile {
		w.size = MaxFile
		return ErrFull
	}
	_, err := w.dst.Write(w.buf)
	return err
}
