package tlv

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func drawFrame(t *rapid.T) Frame {
	// Flags and escapes are drawn more often than chance would have them.
	anyByte := rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte{0x7d, 0x7e, 0x5d, 0x5e}))
	return Frame{
		Type:    rapid.SampledFrom([]FrameType{FrameData, FrameAck}).Draw(t, "type"),
		Seq:     rapid.Byte().Draw(t, "seq"),
		Payload: rapid.SliceOfN(anyByte, 0, MaxPayload).Draw(t, "payload"),
	}
}

// TestFramesRoundTrip: any frames, with shared flags or not, flags in between,
// arriving in any pieces.
func TestFramesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var want []string
		for i, f := range rapid.SliceOfN(rapid.Custom(drawFrame), 0, 6).Draw(t, "frames") {
			encode := AppendFrame
			if i > 0 && rapid.Bool().Draw(t, "shared") {
				encode = AppendFrameShared
			}
			before := len(stream)
			var err error
			if stream, err = encode(stream, f); err != nil {
				t.Fatal(err)
			}
			if inside := bytes.Trim(stream[before:], "\x7e"); bytes.IndexByte(inside, flagByte) >= 0 {
				t.Fatalf("a flag inside a frame: % x", inside)
			}
			want = append(want, say(f, nil))
		}
		var d Decoder
		var got []string
		for len(stream) > 0 {
			n := rapid.IntRange(1, len(stream)).Draw(t, "piece")
			got = append(got, decodeAll(&d, stream[:n], n)...)
			stream = stream[n:]
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

// TestErrorIsFoundAndPassed: one burst of up to 16 wrong bits inside a frame is
// always found, and the frame after the next flag is good.
func TestErrorIsFoundAndPassed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFrame(t)
		body := append([]byte{byte(f.Type), f.Seq}, f.Payload...)
		crc := slowCRC(body)
		body = append(body, byte(crc>>8), byte(crc))
		at := rapid.IntRange(0, len(body)-2).Draw(t, "at")
		burst := rapid.Uint16Range(1, 0xffff).Draw(t, "burst")
		body[at] ^= byte(burst >> 8)
		body[at+1] ^= byte(burst)
		stream := append(appendStuffed([]byte{flagByte}, body), flagByte)
		next := Frame{Type: FrameAck, Seq: 77}
		stream, err := AppendFrameShared(stream, next)
		if err != nil {
			t.Fatal(err)
		}
		var d Decoder
		got := decodeAll(&d, stream, 64)
		want := []string{say(Frame{}, ErrCRC), say(next, nil)}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %q", got)
		}
	})
}

// text draws UTF-8 of at most 255 bytes.
func text(minBytes int) *rapid.Generator[string] { return rapid.StringN(minBytes, -1, MaxValue) }

// parsed fails the test unless b is a packet of op and req.
func parsed(t *rapid.T, op Op, req uint16, b []byte, err error) Packet {
	t.Helper()
	if err != nil {
		t.Fatalf("%v: %v", op, err)
	}
	p, err := ParsePacket(b)
	if err != nil || p.Op != op || p.Req != req {
		t.Fatalf("%v: %+v, %v", op, p, err)
	}
	return p
}

// same fails the test unless got is want.
func same[T any](t *rapid.T, op Op, got T, err error, want T) {
	t.Helper()
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%v: got %v, %v; want %v", op, got, err, want)
	}
}

// TestUpdateRoundTrip encodes each packet of an update with any content and
// reads it back.
func TestUpdateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		req := rapid.Uint16().Draw(t, "req")
		version := text(1).Draw(t, "version")
		size := rapid.Uint32().Draw(t, "size")
		b, err := AppendOffer(nil, req, version, uint64(size))
		offer, err := ParseOffer(parsed(t, OpOTA, req, b, err))
		same(t, OpOTA, offer, err, Offer{version, size})

		data := rapid.SliceOfN(rapid.Byte(), 1, MaxLoad).Draw(t, "data")
		off := rapid.Uint32Max(1<<32-1-MaxLoad).Draw(t, "offset")
		b, err = AppendLoad(nil, req, uint64(off), data)
		load, err := ParseLoad(parsed(t, OpOTALoad, req, b, err))
		same(t, OpOTALoad, load, err, Load{off, data})

		b, err = AppendBoot(nil, req, version)
		boot, err := ParseBoot(parsed(t, OpOTABoot, req, b, err))
		same(t, OpOTABoot, boot, err, version)

		code := Code(rapid.Byte().Draw(t, "code"))
		stat, err := ParseStat(parsed(t, OpOTAStat, req, AppendStat(nil, req, code), nil))
		same(t, OpOTAStat, stat, err, code)
	})
}

// TestPropertiesRoundTrip does so with the packets of properties.
func TestPropertiesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		req := rapid.Uint16().Draw(t, "req")
		name := text(1).Draw(t, "name")
		b, err := AppendSendProp(nil, req, name)
		asked, err := ParseSendProp(parsed(t, OpSendProp, req, b, err))
		same(t, OpSendProp, asked, err, name)

		bits := rapid.Byte().Draw(t, "bits")
		for _, op := range []Op{OpNAK, OpControlNAK} {
			nak, err := ParseNAK(parsed(t, op, req, AppendNAK(nil, op, req, Code(bits)), nil))
			same(t, op, nak, err, NAK{Code: Code(bits)})
		}
		nak, err := ParseNAK(parsed(t, OpNAK, req, AppendFeatures(nil, req, Features(bits)), nil))
		same(t, OpNAK, nak, err, NAK{Features: Features(bits), HasFeatures: true})
		nodes, err := ParseConnect(parsed(t, OpConnect, req, AppendConnect(nil, req, Nodes(bits)), nil))
		same(t, OpConnect, nodes, err, Nodes(bits))

		number := rapid.Int64().Draw(t, "number")
		b, err = AppendSendInt(nil, req, name, number)
		p, err := ParseProp(parsed(t, OpSendTLV, req, b, err))
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Int()
		same(t, OpSendTLV, got, err, number)
	})
}

// TestTextRoundTrip sends strings of any length, in as many packets as it
// takes, and puts them together again.
func TestTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := text(1).Draw(t, "name")
		value := rapid.OneOf(text(0), rapid.StringN(0, -1, 3000)).Draw(t, "value")
		a := NewAssembler(3000)
		buf := make([]byte, 0, MaxPayload)
		for off := 0; ; {
			b, next, err := AppendSendText(buf, 5, name, value, off)
			if err != nil {
				t.Fatal(err)
			}
			if len(b) > MaxPayload {
				t.Fatalf("packet of %d bytes", len(b))
			}
			p, err := ParsePacket(b)
			if err != nil {
				t.Fatal(err)
			}
			part, err := ParseProp(p)
			if err != nil {
				t.Fatal(err)
			}
			whole, done, err := a.Add(p.Req, part)
			if err != nil || done != (next == len(value)) {
				t.Fatalf("%d of %d bytes: done %v, %v", next, len(value), done, err)
			}
			if done {
				if got, err := whole.Text(); err != nil || got != value || whole.Name != name {
					t.Fatalf("got %q = %q, %v", whole.Name, got, err)
				}
				return
			}
			off = next
		}
	})
}
