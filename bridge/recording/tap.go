package recording

import (
	"io"
	"time"
)

// Tap returns a port on which everything that passes is noted; closing it closes
// the recording, too. With a nil Recorder it is the port itself.
func Tap(port io.ReadWriteCloser, r *Recorder) io.ReadWriteCloser {
	if r == nil {
		return port
	}
	return &tap{port, r}
}

type tap struct {
	port io.ReadWriteCloser
	rec  *Recorder
}

// Read implements io.Reader.
func (t *tap) Read(b []byte) (int, error) {
	n, err := t.port.Read(b)
	if n > 0 {
		t.rec.Note(FromMCU, b[:n])
	}
	return n, err
}

// Write implements io.Writer. The bytes are noted as they are handed over: noted
// afterwards, they could come behind the answer to them. So bytes that a failing
// port did not take are in the recording.
func (t *tap) Write(b []byte) (int, error) {
	t.rec.Note(FromModule, b)
	return t.port.Write(b)
}

// Flush hands over to a port that has one; the others have sent what they took.
func (t *tap) Flush(within time.Duration) {
	if f, ok := t.port.(interface{ Flush(within time.Duration) }); ok {
		f.Flush(within)
	}
}

// Close implements io.Closer.
func (t *tap) Close() error {
	err := t.port.Close()
	t.rec.Close()
	return err
}
