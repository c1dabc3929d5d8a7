package afpro

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// orders reads a plan from bytes: two for each event, the highest bit of which
// says that the others count bytes to pass over and not to take.
func orders(b []byte) plan {
	var p plan
	for pair := range slices.Chunk(b, 2) {
		if len(pair) < 2 {
			break
		}
		n := int(binary.LittleEndian.Uint16(pair))
		if n&0x8000 != 0 {
			p = append(p, order{pass: n & 0x7fff})
		} else {
			p = append(p, order{take: n})
		}
	}
	return p
}

// FuzzScanner: never panics, hears the same however the stream is cut and as the
// plain scanner, holds no more than its limit, and is in step once it has given
// up what was under way.
func FuzzScanner(f *testing.F) {
	for _, v := range readVectors[streamVector](f, "streams.json") {
		_, p := v.want(f)
		var b []byte
		for _, o := range p {
			n := uint16(o.take)
			if o.pass > 0 {
				n = 0x8000 | uint16(o.pass)
			}
			b = binary.LittleEndian.AppendUint16(b, n)
		}
		f.Add(unhex(f, v.Stream), b, byte(3))
	}
	limit := MaxMessage(DefaultAttributeSize)
	f.Fuzz(func(t *testing.T, stream, b []byte, piece byte) {
		l := newListener(limit, orders(b))
		l.hearAll(stream, int(piece)+1)
		if len(l.s.buf) > limit || cap(l.s.buf) != limit || l.s.in != nil {
			t.Fatalf("holds %d of %d bytes, and %d of input", len(l.s.buf), cap(l.s.buf), len(l.s.in))
		}
		compare(t, l, stream)
		l.plan, l.heard, l.bad = nil, nil, 0
		l.hearAll([]byte{0x31, 0x0b, 0x00, 0x00, 0x00, 0x3c}, int(piece)+1)
		if want := []string{"sync 31 11 0"}; !slices.Equal(l.heard, want) {
			t.Fatalf("then heard %q, want %q", l.heard, want)
		}
	})
}

// FuzzMessage: every message ends in content or in one of the errors; what was
// read is encoded to the same bytes, unless no sync message could count them.
func FuzzMessage(f *testing.F) {
	for _, v := range readVectors[messageVector](f, "messages.json") {
		f.Add(unhex(f, v.Bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil {
			if !slices.Contains([]error{ErrShort, ErrLength, ErrValueLength, ErrMessageType}, err) || sayMessage(m) != sayMessage(Message{}) {
				t.Fatalf("%s, %#v", sayMessage(m), err)
			}
			return
		}
		again, err := AppendMessage(nil, m)
		if len(m.Value) > MaxValue {
			if err != ErrTooLong || len(again) > 0 {
				t.Fatalf("%d bytes of value: %d bytes, %v", len(m.Value), len(again), err)
			}
			return
		}
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("% x became % x, %v", b, again, err)
		}
	})
}

// FuzzOTA: every reading of every tunnelled value ends in content or in an
// ErrValue; what was read is encoded to the same value, but for the rest of the
// struct behind an info.
func FuzzOTA(f *testing.F) {
	for _, v := range readVectors[otaVector](f, "ota.json") {
		f.Add(unhex(f, v.Message))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil {
			return
		}
		_, value, err := ParseTunnel(m.Value)
		if err != nil {
			checkValueError(t, err)
			return
		}
		// beginning encodes again, and fails the test unless the value begins so.
		beginning := func(again []byte, err error) []byte {
			if err != nil {
				t.Fatalf("% x was read but not encoded: %v", value, err)
			}
			m, err := ParseMessage(again)
			if err != nil {
				t.Fatal(err)
			}
			_, same, err := ParseTunnel(m.Value)
			if err != nil || !bytes.HasPrefix(value, same) {
				t.Fatalf("% x became % x, %v", value, same, err)
			}
			return value[len(same):]
		}
		if i, err := ParseInfo(value); err != nil {
			checkValueError(t, err)
		} else if rest := beginning(AppendInfo(nil, m.Attribute, i)); len(value) > infoRoom || i.State == InfoVerify && len(rest) > 0 {
			t.Fatalf("an info of %d bytes: %+v", len(value), i)
		}
		if next, err := ParseNext(value); err != nil {
			checkValueError(t, err)
		} else if rest := beginning(AppendNext(nil, next)); len(rest) > 0 {
			t.Fatalf("% x is behind offset %d", rest, next)
		}
		if offset, data, err := ParseTransfer(value); err != nil {
			checkValueError(t, err)
		} else if ChunkSize(len(value)) != len(data) {
			t.Fatalf("%d of %d bytes are data", len(data), len(value))
		} else if len(value) <= MaxAttributeSize {
			if rest := beginning(AppendTransfer(nil, offset, data)); len(rest) > 0 {
				t.Fatalf("% x is behind the chunk", rest)
			}
		}
	})
}

// checkValueError fails the test unless err is about a value, and says more than
// that.
func checkValueError(t *testing.T, err error) {
	t.Helper()
	if unwrapped, ok := err.(interface{ Unwrap() error }); !ok || unwrapped.Unwrap() != ErrValue || len(err.Error()) <= len(ErrValue.Error()) {
		t.Fatalf("error %#v", err)
	}
}
