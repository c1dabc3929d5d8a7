package recording

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strings"
	"time"
)

// Errors that a Reader wraps.
var (
	// ErrForeign: the file is something else.
	ErrForeign = errors.New("not a recording of davit bridge")
	// ErrVersion: a newer davit wrote the file.
	ErrVersion = errors.New("unknown version of the format")
	// ErrCutOff: the file ends within an entry or its head. Everything before that was
	// delivered.
	ErrCutOff = errors.New("the recording is cut off")
	// ErrDamaged: the bytes are not what was written. Everything before them was
	// delivered; what follows cannot be found any more.
	ErrDamaged = errors.New("the recording is damaged")
)

// Reader reads a recording. Its memory is fixed, whatever the file says. It is
// not safe for concurrent use.
type Reader struct {
	src    io.Reader
	header Header
	at     int64 // where the next entry begins
	err    error // sticky
	buf    [entryOverhead + MaxPiece]byte
}

// NewReader reads the head of a recording. The errors are the package's, or
// the source's own. A Reader reads in small pieces: src should be buffered.
func NewReader(src io.Reader) (*Reader, error) {
	r := &Reader{src: src}
	if err := r.head(); err != nil {
		return nil, err
	}
	return r, nil
}

// Header is what the head says.
func (r *Reader) Header() Header { return r.header }

func (r *Reader) head() error {
	var fixed [headFixed]byte
	n, err := io.ReadFull(r.src, fixed[:])
	if !strings.HasPrefix(magic, string(fixed[:min(n, len(magic))])) {
		return ErrForeign
	}
	switch {
	case cut(err):
		return fmt.Errorf("%w in its head, after %d bytes; nothing of the line is in it", ErrCutOff, n)
	case err != nil:
		return err
	case fixed[len(magic)] != Version:
		return fmt.Errorf("%w: %d; this program reads version %d, so take a newer one", ErrVersion, fixed[len(magic)], Version)
	}
	size := int(binary.BigEndian.Uint16(fixed[headFixed-2:]))
	if size > maxHead {
		return fmt.Errorf("%w: its head claims %d bytes, at most %d are allowed", ErrDamaged, size, maxHead)
	}
	rest := r.buf[:size+sumSize]
	k, err := io.ReadFull(r.src, rest)
	switch {
	case cut(err):
		return fmt.Errorf("%w in its head, after %d bytes; nothing of the line is in it", ErrCutOff, n+k)
	case err != nil:
		return err
	}
	sum := crc32.Update(crc32.ChecksumIEEE(fixed[:]), crc32.IEEETable, rest[:size])
	if sum != binary.BigEndian.Uint32(rest[size:]) {
		return fmt.Errorf("%w: the checksum of its head does not agree", ErrDamaged)
	}
	if err := json.NewDecoder(bytes.NewReader(rest[:size])).Decode(&r.header); err != nil {
		return fmt.Errorf("%w: its head is no JSON object: %w", ErrDamaged, err)
	}
	if err := r.header.validate(); err != nil {
		return fmt.Errorf("%w: its head: %w", ErrDamaged, err)
	}
	r.at = int64(headFixed + len(rest))
	return nil
}

// cut says whether a read met the end of the file.
func cut(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// Next returns the next entry, or io.EOF behind the last one. Every error comes
// back from all further calls.
func (r *Reader) Next() (Entry, error) {
	if r.err != nil {
		return Entry{}, r.err
	}
	e, err := r.next()
	if err != nil {
		r.err = err
		return Entry{}, err
	}
	return e, nil
}

func (r *Reader) next() (Entry, error) {
	n, err := io.ReadFull(r.src, r.buf[:entryFixed])
	switch {
	case n == 0 && errors.Is(err, io.EOF):
		return Entry{}, io.EOF
	case cut(err):
		return Entry{}, r.cutOff(n)
	case err != nil:
		return Entry{}, err
	}
	e := Entry{From: Side(r.buf[0])}
	at, size := binary.BigEndian.Uint64(r.buf[1:]), int(binary.BigEndian.Uint16(r.buf[9:]))
	switch {
	case e.From > FromMCU:
		return Entry{}, r.damaged("there is no %v", e.From)
	case at > math.MaxInt64:
		return Entry{}, r.damaged("a time of %d ns is out of bounds", at)
	case size < 1 || size > MaxPiece:
		return Entry{}, r.damaged("a length of %d is out of bounds, allowed are 1 to %d", size, MaxPiece)
	case e.From == nobody && size != lostSize:
		return Entry{}, r.damaged("a count of lost bytes has %d bytes, wanted %d", size, lostSize)
	}
	e.At = time.Duration(at)
	k, err := io.ReadFull(r.src, r.buf[entryFixed:entryOverhead+size])
	switch {
	case cut(err):
		return Entry{}, r.cutOff(n + k)
	case err != nil:
		return Entry{}, err
	}
	whole := r.buf[:entryFixed+size]
	if crc32.ChecksumIEEE(whole) != binary.BigEndian.Uint32(r.buf[len(whole):]) {
		return Entry{}, r.damaged("the checksum of an entry does not agree")
	}
	r.at += int64(len(whole) + sumSize)
	if e.Bytes = whole[entryFixed:]; e.From == nobody {
		e.Lost, e.Bytes = binary.BigEndian.Uint64(e.Bytes), nil
		if e.Lost == 0 {
			return Entry{}, r.damaged("a count of lost bytes is 0")
		}
	}
	return e, nil
}

func (r *Reader) cutOff(n int) error {
	return fmt.Errorf("%w: its last entry, at byte %d, has only %d bytes", ErrCutOff, r.at, n)
}

func (r *Reader) damaged(format string, args ...any) error {
	return fmt.Errorf("%w at byte %d: %s", ErrDamaged, r.at, fmt.Sprintf(format, args...))
}
