package sniff

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"davit/bridge/recording"
)

// Packet is one thing that was said on the line.
type Packet struct {
	// At is when its last byte was read or written, since the start.
	At   time.Duration
	From recording.Side
	// Text is what it says, without control characters.
	Text string
	// Content is what it carries, valid until emit returns: type, number and payload
	// of an ayla frame, and the bytes of everything else that has words.
	Content []byte
	// Bad says that it is not what the dialect allows: a wrong checksum, bytes that
	// mean nothing, a packet that cannot be read.
	Bad bool
}

// String returns the packet as a line without its end: seconds, side, what was
// said; an exclamation mark stands before what is bad.
func (p Packet) String() string {
	mark := " "
	if p.Bad {
		mark = "!"
	}
	return fmt.Sprintf("%12.6f %7s %s %s", p.At.Seconds(), p.From.String()+">", mark, p.Text)
}

// Decoder understands a line on which one dialect is spoken.
type Decoder interface {
	// Decode takes the next bytes of one side, read or written at a time since the
	// start, and calls emit for each packet that they complete.
	Decode(at time.Duration, from recording.Side, b []byte, emit func(Packet))
	// Break says that the line goes on elsewhere: what is incomplete is emitted as
	// bad, and forgotten.
	Break(at time.Duration, emit func(Packet))
}

// The dialects.
const (
	Ayla  = "ayla"
	Afero = "afero"
)

// New returns a Decoder for a dialect on a line of baud bit/s.
func New(dialect string, baud int) (Decoder, error) {
	switch dialect {
	case Ayla:
		return NewAyla(), nil
	case Afero:
		return NewAfero(baud), nil
	}
	return nil, fmt.Errorf("dialect is %q; there are %s and %s", dialect, Ayla, Afero)
}

// Recording decodes a recording to its end and calls emit for each packet. Its
// errors are those of recording.Reader, but for io.EOF; what comes before one has
// been emitted.
func Recording(r *recording.Reader, emit func(Packet)) error {
	d, err := New(r.Header().Dialect, r.Header().Baud)
	if err != nil {
		return err
	}
	var at time.Duration
	for {
		e, err := r.Next()
		if err != nil {
			d.Break(at, emit)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		at = e.At
		if e.Lost > 0 {
			d.Break(at, emit)
			emit(Packet{At: at, Bad: true, Text: fmt.Sprintf("%d bytes are not recorded: the disk was slower than the line", e.Lost)})
			continue
		}
		d.Decode(at, e.From, e.Bytes, emit)
	}
}

// bad is a packet that is not what the dialect allows.
func bad(at time.Duration, from recording.Side, format string, args ...any) Packet {
	return Packet{At: at, From: from, Bad: true, Text: fmt.Sprintf(format, args...)}
}

// shown is how many bytes are shown of those that have no words.
const shown = 32

// inHex is the beginning of b, and how long it is if that is not all.
func inHex(b []byte) string {
	if len(b) <= shown {
		return fmt.Sprintf("% x", b)
	}
	return fmt.Sprintf("% x... (%d bytes)", b[:shown], len(b))
}

// plural is a count of bytes in words.
func plural(n int) string {
	if n == 1 {
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", n)
}

// joined joins what there is.
func joined(parts ...string) string {
	var some []string
	for _, p := range parts {
		if p != "" {
			some = append(some, p)
		}
	}
	return strings.Join(some, ", ")
}
