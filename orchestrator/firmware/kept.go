package firmware

import (
	"fmt"
	"io"
)

// Spool keeps data that is too much for memory until it is closed.
type Spool interface {
	io.Writer
	io.ReaderAt
	io.Closer
}

// keptInMemory is how many bytes of data are in memory before they go to the
// spool.
const keptInMemory = 256 << 10

// kept is the data of an Intel HEX file in the order of its records: what is
// in the spool, and then the rest in memory.
type kept struct {
	open    func() (Spool, error) // nil: everything stays in memory
	spool   Spool
	spooled int64
	rest    []byte
	buf     []byte
}

func (k *kept) size() int64 { return k.spooled + int64(len(k.rest)) }

func (k *kept) add(data []byte) error {
	k.rest = append(k.rest, data...)
	if k.open == nil || len(k.rest) < keptInMemory {
		return nil
	}
	if k.spool == nil {
		spool, err := k.open()
		if err != nil {
			return spoolError(err)
		}
		k.spool = spool
	}
	n, err := k.spool.Write(k.rest)
	k.spooled += int64(n)
	if err != nil {
		return spoolError(err)
	}
	k.rest = k.rest[:0]
	return nil
}

// copy writes a part of the data to w.
func (k *kept) copy(w io.Writer, from, n int64) error {
	if in := min(n, k.spooled-from); in > 0 {
		src := &source{r: io.NewSectionReader(k.spool, from, in)}
		if k.buf == nil {
			k.buf = make([]byte, 32<<10) // one for all pieces
		}
		switch got, err := io.CopyBuffer(writerOnly{w}, src, k.buf); {
		case src.err != nil:
			return spoolError(src.err)
		case err != nil:
			return writeError(err)
		case got < in:
			return spoolError(io.ErrUnexpectedEOF)
		}
		from, n = from+in, n-in
	}
	if n == 0 {
		return nil
	}
	at := from - k.spooled
	if _, err := w.Write(k.rest[at : at+n]); err != nil {
		return writeError(err)
	}
	return nil
}

func (k *kept) close() error {
	if k.spool == nil {
		return nil
	}
	if err := k.spool.Close(); err != nil {
		return spoolError(err)
	}
	return nil
}

func spoolError(err error) error { return fmt.Errorf("keep the data of the firmware file: %w", err) }
