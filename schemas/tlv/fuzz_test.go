package tlv

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// plainDecode is the decoder said once more, as plainly as can be: cut the
// stream at the flags, undo the stuffing, check.
func plainDecode(stream []byte) []string {
	pieces := bytes.Split(stream, []byte{flagByte})
	var out []string
	for i, piece := range pieces[1:] { // before the first flag is nothing
		ended := i+2 < len(pieces)
		if s := plainFrame(piece, ended); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func plainFrame(piece []byte, ended bool) string {
	var body []byte
	escaped := false
	for _, c := range piece {
		switch {
		case escaped:
			body, escaped = append(body, c^0x20), false
		case c == escapeByte:
			escaped = true
		default:
			body = append(body, c)
		}
	}
	bad := func(err error) string { return say(Frame{}, err) }
	switch n := len(body); {
	case n > MaxPayload+4:
		return bad(ErrTooLong)
	case !ended:
		return ""
	case escaped:
		return bad(ErrEscape)
	case n == 0:
		return ""
	case n < 4:
		return bad(ErrShort)
	case slowCRC(body[:n-2]) != uint16(body[n-2])<<8|uint16(body[n-1]):
		return bad(ErrCRC)
	case body[0] != 1 && body[0] != 2:
		return bad(ErrFrameType)
	}
	return say(Frame{FrameType(body[0]), body[1], body[2 : len(body)-2]}, nil)
}

// FuzzDecoder: never panics, gives the same frames however the stream is cut
// and as the plain decoder, and is back in step at the next flag.
func FuzzDecoder(f *testing.F) {
	for _, v := range readVectors[frameVector](f, "frames.json") {
		f.Add(unhex(f, v.Stream), byte(3))
	}
	good := Frame{Type: FrameData, Seq: 42, Payload: []byte("in step")}
	f.Fuzz(func(t *testing.T, stream []byte, piece byte) {
		want := fmt.Sprint(plainDecode(stream))
		var d Decoder
		if got := fmt.Sprint(decodeAll(&d, stream, int(piece)+1)); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		if len(d.buf) != MaxPayload+4 || d.n > len(d.buf) {
			t.Fatalf("holds %d bytes", d.n)
		}
		tail, err := AppendFrame(nil, good)
		if err != nil {
			t.Fatal(err)
		}
		got := decodeAll(&d, tail, int(piece)+1)
		if len(got) == 0 || got[len(got)-1] != say(good, nil) || len(got) > 2 {
			t.Fatalf("not in step after the next flag: %q", got)
		}
	})
}

// FuzzFrameRoundTrip: what is encoded is decoded, alone and after itself.
func FuzzFrameRoundTrip(f *testing.F) {
	for _, v := range readVectors[packetVector](f, "packets.json") {
		f.Add(true, byte(1), unhex(f, v.Packet))
	}
	f.Fuzz(func(t *testing.T, data bool, seq byte, payload []byte) {
		fr := Frame{Type: FrameAck, Seq: seq, Payload: payload}
		if data {
			fr.Type = FrameData
		}
		b, err := AppendFrame(nil, fr)
		if len(payload) > MaxPayload {
			if !errors.Is(err, ErrTooLong) || len(b) != 0 {
				t.Fatalf("%d bytes of payload: % x, %v", len(payload), b, err)
			}
			return
		}
		if err != nil || len(b) > MaxFrame {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if b, err = AppendFrameShared(b, fr); err != nil {
			t.Fatal(err)
		}
		var d Decoder
		got, want := decodeAll(&d, b, 100), say(fr, nil)
		if len(got) != 2 || got[0] != want || got[1] != want {
			t.Fatalf("got %q, want %q twice", got, want)
		}
	})
}

// FuzzPacket: every reading of every packet ends in a value or an *Error with a
// code of the documents; what was read, encoded and read again is the same.
func FuzzPacket(f *testing.F) {
	for _, v := range readVectors[packetVector](f, "packets.json") {
		f.Add(unhex(f, v.Packet))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePacket(b)
		if err != nil {
			checkError(t, err)
			return
		}
		again := func(err error, b []byte, encodeErr error) (Packet, bool) {
			if err != nil {
				checkError(t, err)
				return Packet{}, false
			}
			if encodeErr != nil {
				t.Fatalf("read but not encoded: %v", encodeErr)
			}
			p, err := ParsePacket(b)
			if err != nil {
				t.Fatal(err)
			}
			return p, true
		}
		o, err := ParseOffer(p)
		b, encodeErr := AppendOffer(nil, p.Req, o.Version, uint64(o.Size))
		if q, ok := again(err, b, encodeErr); ok {
			if o2, err := ParseOffer(q); err != nil || o2 != o {
				t.Fatalf("%+v became %+v, %v", o, o2, err)
			}
		}
		l, err := ParseLoad(p)
		if err == nil && uint64(l.Offset)+uint64(len(l.Data)) <= 1<<32-1 && len(l.Data) <= MaxLoad {
			b, encodeErr = AppendLoad(nil, p.Req, uint64(l.Offset), l.Data)
			if q, ok := again(err, b, encodeErr); ok {
				if l2, err := ParseLoad(q); err != nil || l2.Offset != l.Offset || !bytes.Equal(l2.Data, l.Data) {
					t.Fatalf("%+v became %+v, %v", l, l2, err)
				}
			}
		}
		version, err := ParseBoot(p)
		b, encodeErr = AppendBoot(nil, p.Req, version)
		if q, ok := again(err, b, encodeErr); ok {
			if v2, err := ParseBoot(q); err != nil || v2 != version {
				t.Fatalf("%q became %q, %v", version, v2, err)
			}
		}
		fuzzRest(t, p)
	})
}

// fuzzRest reads p as the packets that FuzzPacket does not encode again.
func fuzzRest(t *testing.T, p Packet) {
	_, statErr := ParseStat(p)
	_, nakErr := ParseNAK(p)
	_, propErr := ParseSendProp(p)
	_, connectErr := ParseConnect(p)
	_, confirmErr := ParseConfirm(p)
	v, tlvErr := ParseProp(p)
	for _, err := range []error{statErr, nakErr, propErr, connectErr, confirmErr, tlvErr, ParseEmpty(p)} {
		if err != nil {
			checkError(t, err)
		}
	}
	if tlvErr == nil && v.Whole() && v.Type == TypeInt {
		if _, err := v.Int(); err != nil {
			t.Fatalf("ParseProp took an integer that it cannot read: %v", err)
		}
	}
	c := p.Cursor()
	walked := 0
	for c.Next() {
		walked += 2 + len(c.Bytes())
	}
	if c.Err() == nil && walked != len(p.TLVs) {
		t.Fatalf("walked over %d of %d bytes", walked, len(p.TLVs))
	}
}

func checkError(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || !e.Code.Known() || e.Code == CodeOK || e.Text == "" {
		t.Fatalf("error %#v", err)
	}
}

// FuzzAssembler: whatever parts come in whatever order, no more than the limit
// is held, and what is complete has the announced length.
func FuzzAssembler(f *testing.F) {
	for _, v := range readVectors[partsVector](f, "parts.json") {
		var stream []byte
		for _, s := range v.Packets {
			b := unhex(f, s)
			stream = append(append(stream, byte(len(b)>>8), byte(len(b))), b...)
		}
		f.Add(uint16(v.Limit), stream)
	}
	f.Fuzz(func(t *testing.T, limit uint16, stream []byte) {
		a := NewAssembler(int(limit))
		for len(stream) >= 2 {
			n := min(int(stream[0])<<8|int(stream[1]), len(stream)-2)
			p, err := ParsePacket(stream[2 : 2+n])
			stream = stream[2+n:]
			if err != nil {
				continue
			}
			part, err := ParseProp(p)
			if err != nil {
				continue
			}
			whole, done, err := a.Add(p.Req, part)
			if err != nil {
				checkError(t, err)
			}
			if done && !part.Whole() && len(whole.Value) > int(limit) || len(a.buf) > int(limit) {
				t.Fatalf("%d bytes held, %d done, limit %d", len(a.buf), len(whole.Value), limit)
			}
		}
	})
}
