package tlv

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// unhex reads hex with blanks.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatalf("bad hex in the test %q: %v", s, err)
	}
	return b
}

// slowCRC is CRC-16/CCITT bit by bit, to check the tables against.
func slowCRC(b []byte) uint16 {
	crc := uint16(0xffff)
	for _, c := range b {
		for bit := 7; bit >= 0; bit-- {
			top := crc>>15 ^ uint16(c)>>bit&1
			crc <<= 1
			if top == 1 {
				crc ^= 0x1021
			}
		}
	}
	return crc
}

func TestCRC(t *testing.T) {
	if got := updateCRC(crcStart, []byte("123456789")); got != 0x29b1 {
		t.Errorf("check value of the algorithm is %#04x, want 0x29b1", got)
	}
	b := make([]byte, 100)
	for i := range b {
		b[i] = byte(i*i + 3)
	}
	for n := range b {
		if got, want := updateCRC(crcStart, b[:n]), slowCRC(b[:n]); got != want {
			t.Fatalf("%d bytes: %#04x, want %#04x", n, got, want)
		}
		if got := updateCRC(updateCRC(crcStart, b[:n]), b[n:]); got != slowCRC(b) {
			t.Fatalf("split at %d: %#04x", n, got)
		}
	}
}

func TestAppendFrameRefusesLongPayload(t *testing.T) {
	dst := []byte{1, 2, 3}
	for _, encode := range []func([]byte, Frame) ([]byte, error){AppendFrame, AppendFrameShared} {
		got, err := encode(dst, Frame{Type: FrameData, Payload: make([]byte, MaxPayload+1)})
		if !errors.Is(err, ErrTooLong) || !bytes.Equal(got, dst) {
			t.Errorf("got % x, %v", got, err)
		}
	}
	longest, err := AppendFrame(nil, Frame{Type: 0x7e, Seq: 0x7e, Payload: bytes.Repeat([]byte{0x7e}, MaxPayload)})
	if err != nil || len(longest) > MaxFrame {
		t.Errorf("%d bytes, %v; MaxFrame is %d", len(longest), err, MaxFrame)
	}
}

func TestDecoderReset(t *testing.T) {
	frame, err := AppendFrame(nil, Frame{Type: FrameAck, Seq: 3})
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	d.Feed(frame[:3])
	if d.Next() || !d.Partial() {
		t.Fatal("half a frame is not partial")
	}
	d.Reset()
	if d.Partial() {
		t.Error("partial after Reset")
	}
	// The rest of the frame is noise now, and its flag begins the next one.
	if got := decodeAll(&d, frame[3:], 1); len(got) != 0 {
		t.Errorf("got %q", got)
	}
	if got := decodeAll(&d, frame[1:], 100); len(got) != 1 || got[0] != say(Frame{Type: FrameAck, Seq: 3}, nil) {
		t.Errorf("got %q", got)
	}
}

func TestReader(t *testing.T) {
	good := Frame{Type: FrameData, Seq: 9, Payload: []byte("0123")}
	stream, err := AppendFrame([]byte("noise"), good)
	if err != nil {
		t.Fatal(err)
	}
	stream = append(stream, 1, 2, 3, flagByte)
	stream, err = AppendFrameShared(stream, good)
	if err != nil {
		t.Fatal(err)
	}
	dead := errors.New("unplugged")
	for name, port := range map[string]io.Reader{
		"at once":          io.MultiReader(bytes.NewReader(stream), iotest.ErrReader(dead)),
		"one by one":       io.MultiReader(iotest.OneByteReader(bytes.NewReader(stream)), iotest.ErrReader(dead)),
		"error with bytes": iotest.DataErrReader(io.MultiReader(bytes.NewReader(stream), iotest.ErrReader(dead))),
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(port)
			for i, want := range []string{say(good, nil), say(Frame{}, ErrShort), say(good, nil)} {
				if got := say(r.Next()); got != want {
					t.Fatalf("frame %d: %s, want %s", i+1, got, want)
				}
			}
			for range 2 {
				if _, err := r.Next(); !errors.Is(err, dead) || errors.Is(err, ErrFrame) {
					t.Fatalf("after the port died: %v", err)
				}
			}
		})
	}
}

func TestLollipop(t *testing.T) {
	var l Lollipop
	for i := range 600 {
		want := byte(0)
		if i > 0 {
			want = byte((i-1)%255 + 1)
		}
		if got := l.Next(); got != want {
			t.Fatalf("number %d is %d, want %d", i, got, want)
		}
	}
}

func TestReceiver(t *testing.T) {
	var r Receiver
	for i, step := range []struct {
		seq  byte
		want Arrival
	}{
		{0, Restarted}, {1, Fresh}, {1, Repeated}, {1, Repeated}, {2, Fresh}, {255, Fresh}, {255, Repeated}, {1, Fresh},
		{0, Restarted}, {0, Restarted}, {1, Fresh}, {0, Restarted},
	} {
		if got := r.Accept(step.seq); got != step.want {
			t.Errorf("step %d, seq %d: %d, want %d", i+1, step.seq, got, step.want)
		}
	}
	var late Receiver
	if got := late.Accept(7); got != Fresh {
		t.Errorf("a first frame with seq 7, as we came late: %d, want Fresh", got)
	}
}

// TestCodes holds the table of docs/wire.md section 4.
func TestCodes(t *testing.T) {
	table := map[Code]string{
		0x00: "OK", 0x01: "TIMEOUT", 0x02: "LEN_ERR", 0x03: "UNK_TYPE", 0x04: "UNK_VAR", 0x05: "INVAL_TLV", 0x06: "INVAL_OP",
		0x07: "INVAL_DP", 0x08: "INVAL_OFF", 0x09: "INVAL_REQ", 0x0a: "INVAL_NAME", 0x0b: "CONN_ERR", 0x0c: "ADS_BUSY",
		0x0d: "INTERNAL", 0x0e: "CHECKSUM", 0x0f: "ALREADY", 0x10: "BOOT", 0x11: "OVERFLOW", 0x19: "BUSY_RETRY",
	}
	sentences := map[string]Code{}
	for i := range 256 {
		c := Code(i)
		name, known := table[c]
		if c.Known() != known || known && c.String() != name {
			t.Errorf("code %#02x: %q, known %v; want %q", i, c, c.Known(), name)
		}
		if first, twice := sentences[c.Sentence()]; twice {
			t.Errorf("codes %#02x and %#02x share the sentence %q", byte(first), i, c.Sentence())
		}
		sentences[c.Sentence()] = c
		if !known && !strings.Contains(c.String(), strings.TrimPrefix(hex.EncodeToString([]byte{byte(c)}), "0")) {
			t.Errorf("code %#02x is called %q", i, c)
		}
	}
}

func TestCodeOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Code
	}{{nil, CodeOK}, {io.EOF, CodeInternal}, {wrong(CodeOverflow, "x"), CodeOverflow}} {
		if got := CodeOf(c.err); got != c.want {
			t.Errorf("CodeOf(%v) = %v, want %v", c.err, got, c.want)
		}
	}
}

// TestNames holds the names and numbers of docs/wire.md sections 3 and 4.
func TestNames(t *testing.T) {
	for op, name := range map[Op]string{
		OpOf(0, 0x06): "control NAK", OpOf(0, 0x0d): "MCU_OTA", OpOf(0, 0x0e): "MCU_OTA_LOAD", OpOf(0, 0x0f): "MCU_OTA_STAT",
		OpOf(0, 0x10): "MCU_OTA_BOOT", OpOf(1, 0x05): "NAK", OpOf(1, 0x06): "SEND_PROP", OpOf(1, 0x09): "SEND_TLV",
		OpOf(1, 0x11): "CONNECT", OpOf(1, 0x13): "LISTEN_ENB", OpOf(1, 0x15): "CONFIRM", OpOf(2, 0x77): "ping",
		OpOf(3, 0x0d): "protocol 3 opcode 0x0d",
	} {
		if op.String() != name {
			t.Errorf("%#04x is %q, want %q", uint16(op), op, name)
		}
	}
	if op := OpOf(ProtocolData, 0x09); op.Protocol() != ProtocolData || op.Opcode() != 0x09 || op != OpSendTLV {
		t.Errorf("OpOf does not agree with Protocol and Opcode: %#04x", uint16(op))
	}
	for typ, name := range map[Type]string{
		0x01: "NAME", 0x02: "INT", 0x04: "BIN", 0x05: "UTF8", 0x07: "ERR", 0x0a: "NOP", 0x0f: "BOOL", 0x11: "OFF", 0x12: "LEN",
		0x14: "EOF", 0x17: "NODES", 0x19: "FEATURES", 0x44: "TLV type 0x44",
	} {
		if typ.String() != name {
			t.Errorf("type %#02x is %q, want %q", byte(typ), typ, name)
		}
	}
	if FrameData.String() != "data" || FrameAck.String() != "ack" || FrameType(9).String() != "type 9" {
		t.Error("frame types have other names")
	}
}
