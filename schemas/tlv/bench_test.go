package tlv

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
)

// loadFrame is a full OpOTALoad with random data, its packet and its frame.
func loadFrame(tb testing.TB) (data, packet, frame []byte) {
	tb.Helper()
	rng := rand.NewChaCha8([32]byte{1})
	data = make([]byte, MaxLoad)
	for i := range data {
		data[i] = byte(rng.Uint64())
	}
	packet, err := AppendLoad(nil, 7, 0x10203, data)
	if err != nil {
		tb.Fatal(err)
	}
	frame, err = AppendFrame(nil, Frame{Type: FrameData, Seq: 5, Payload: packet})
	if err != nil {
		tb.Fatal(err)
	}
	return data, packet, frame
}

// sendLoad encodes a full LOAD and the ack that answers it.
func sendLoad(tb testing.TB, packet, frame, data []byte) {
	p, err := AppendLoad(packet[:0], 7, 0x10203, data)
	if err != nil {
		tb.Fatal(err)
	}
	frame, err = AppendFrame(frame[:0], Frame{Type: FrameData, Seq: 5, Payload: p})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err = AppendFrameShared(frame, Frame{Type: FrameAck, Seq: 5}); err != nil {
		tb.Fatal(err)
	}
}

// receiveLoad decodes a stream of LOADs down to their data.
func receiveLoad(tb testing.TB, d *Decoder, stream []byte) (frames int) {
	d.Feed(stream)
	for d.Next() {
		f, err := d.Frame()
		if err != nil {
			tb.Fatal(err)
		}
		frames++
		if f.Type == FrameAck {
			continue
		}
		p, err := ParsePacket(f.Payload)
		if err != nil {
			tb.Fatal(err)
		}
		l, err := ParseLoad(p)
		if err != nil || len(l.Data) != MaxLoad {
			tb.Fatal(len(l.Data), err)
		}
	}
	return frames
}

// TestNoAllocations: neither direction allocates in steady state, nor does a
// bad frame.
func TestNoAllocations(t *testing.T) {
	data, packet, frame := loadFrame(t)
	out := make([]byte, 0, 2*MaxFrame)
	if n := testing.AllocsPerRun(100, func() { sendLoad(t, packet, out, data) }); n != 0 {
		t.Errorf("sending a LOAD and an ack allocates %v times", n)
	}
	ack, err := AppendFrame(nil, Frame{Type: FrameAck, Seq: 5})
	if err != nil {
		t.Fatal(err)
	}
	stream := append(bytes.Clone(frame), ack...)
	var d Decoder
	if n := testing.AllocsPerRun(100, func() {
		if receiveLoad(t, &d, stream) != 2 {
			t.Fatal("lost a frame")
		}
	}); n != 0 {
		t.Errorf("receiving a LOAD and an ack allocates %v times", n)
	}
	bad := bytes.Clone(frame)
	bad[9] ^= 1
	if n := testing.AllocsPerRun(100, func() {
		d.Feed(bad)
		for d.Next() {
			if _, err := d.Frame(); err == nil {
				t.Fatal("a bad frame passed")
			}
		}
	}); n != 0 {
		t.Errorf("a bad frame allocates %v times", n)
	}
	port := &endless{unit: stream}
	r := NewReader(port)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Reader.Next allocates %v times", n)
	}
	stat := AppendStat(nil, 1, CodeChecksum)
	if n := testing.AllocsPerRun(100, func() {
		p, err := ParsePacket(stat)
		if err != nil {
			t.Fatal(err)
		}
		if code, err := ParseStat(p); err != nil || code != CodeChecksum {
			t.Fatal(code, err)
		}
		AppendStat(out[:0], 1, CodeOK)
	}); n != 0 {
		t.Errorf("a STAT allocates %v times", n)
	}
}

// endless is a port that repeats unit.
type endless struct {
	unit []byte
	at   int
}

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, e.unit[e.at:])
	e.at = (e.at + n) % len(e.unit)
	return n, nil
}

var _ io.Reader = (*endless)(nil)

func BenchmarkEncodeLoad(b *testing.B) {
	data, packet, frame := loadFrame(b)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	out := make([]byte, 0, 2*MaxFrame)
	for b.Loop() {
		sendLoad(b, packet, out, data)
	}
}

func BenchmarkDecodeLoad(b *testing.B) {
	_, _, frame := loadFrame(b)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	var d Decoder
	for b.Loop() {
		receiveLoad(b, &d, frame)
	}
}

func BenchmarkReader(b *testing.B) {
	_, _, frame := loadFrame(b)
	r := NewReader(&endless{unit: frame})
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAck(b *testing.B) {
	b.ReportAllocs()
	out := make([]byte, 0, 16)
	var d Decoder
	for b.Loop() {
		frame, err := AppendFrame(out, Frame{Type: FrameAck, Seq: 9})
		if err != nil {
			b.Fatal(err)
		}
		d.Feed(frame)
		if !d.Next() {
			b.Fatal("no frame")
		}
	}
}
