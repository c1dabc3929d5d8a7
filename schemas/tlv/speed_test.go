package tlv

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// naive decodes frames a byte at a time: what the codec has to be better than, and
// agree with.
type naive struct {
	body    []byte
	inside  bool
	escaped bool
}

// naiveTable is the CRC's table of one byte.
var naiveTable = func() (t [256]uint16) {
	for b := range 256 {
		crc := uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		t[b] = crc
	}
	return t
}()

func naiveCRC(b []byte) uint16 {
	crc := uint16(0xffff)
	for _, c := range b {
		crc = crc<<8 ^ naiveTable[byte(crc>>8)^c]
	}
	return crc
}

// decode counts the good frames in b and the bytes of their payloads.
func (d *naive) decode(b []byte) (frames, payload int) {
	for _, c := range b {
		switch {
		case c == 0x7e:
			if d.inside && len(d.body) >= 4 && !d.escaped && naiveCRC(d.body) == 0 {
				frames++
				payload += len(d.body) - 4
			}
			d.body, d.inside, d.escaped = d.body[:0], true, false
		case !d.inside:
		case c == 0x7d && !d.escaped:
			d.escaped = true
		default:
			if d.escaped {
				c ^= 0x20
				d.escaped = false
			}
			d.body = append(d.body, c)
		}
	}
	return frames, payload
}

// countFrames does the same with a Decoder.
func countFrames(d *Decoder, b []byte) (frames, payload int) {
	d.Feed(b)
	for d.Next() {
		f, err := d.Frame()
		if err != nil {
			if !errors.Is(err, ErrFrame) {
				panic(err)
			}
			continue
		}
		frames++
		payload += len(f.Payload)
	}
	return frames, payload
}

// TestPlainRun compares the search for flags and escapes with the obvious one, at
// every place and beside every byte.
func TestPlainRun(t *testing.T) {
	for n := range 40 {
		for at := range n + 1 {
			for c := range 256 {
				b := bytes.Repeat([]byte{byte(c)}, n)
				if at < n {
					b[at] = 0x7d + byte(c&1)
				}
				want := bytes.IndexAny(b, "\x7d\x7e")
				if want < 0 {
					want = n
				}
				if got := plainRun(b); got != want {
					t.Fatalf("% x: %d, want %d", b, got, want)
				}
			}
		}
	}
}

// fastest is the shortest of several times that f takes.
func fastest(f func()) time.Duration {
	best := time.Hour
	for range 15 {
		began := time.Now()
		f()
		best = min(best, time.Since(began))
	}
	return best
}

// TestDecoderIsFasterThanByteByByte holds the Decoder, CRC included, against the
// obvious one in the same run, whatever the machine has to do beside it. The limit
// leaves room for noise.
func TestDecoderIsFasterThanByteByByte(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector changes what costs how much")
	}
	_, _, frame := loadFrame(t)
	stream := bytes.Repeat(frame, 500)
	var d Decoder
	var n naive
	gotFrames, gotBytes := countFrames(&d, stream)
	wantFrames, wantBytes := n.decode(stream)
	if gotFrames != 500 || gotFrames != wantFrames || gotBytes != wantBytes {
		t.Fatalf("%d frames with %d bytes, want %d with %d", gotFrames, gotBytes, wantFrames, wantBytes)
	}
	compareSpeed(t, 2.5, len(stream), func() { countFrames(&d, stream) }, func() { n.decode(stream) })
}

// TestEncoderIsFasterThanByteByByte does so with AppendFrame.
func TestEncoderIsFasterThanByteByByte(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector changes what costs how much")
	}
	_, packet, frame := loadFrame(t)
	f := Frame{Type: FrameData, Seq: 5, Payload: packet}
	out := make([]byte, 0, MaxFrame)
	if got := naiveFrame(out, f); !bytes.Equal(got, frame) {
		t.Fatalf("% x, want % x", got, frame)
	}
	compareSpeed(t, 1.5, 500*len(frame), func() {
		for range 500 {
			out, _ = AppendFrame(out[:0], f)
		}
	}, func() {
		for range 500 {
			out = naiveFrame(out[:0], f)
		}
	})
}

// naiveFrame is AppendFrame a byte at a time.
func naiveFrame(dst []byte, f Frame) []byte {
	crc := uint16(0xffff)
	put := func(c byte) {
		crc = crc<<8 ^ naiveTable[byte(crc>>8)^c]
		if c == 0x7e || c == 0x7d {
			dst = append(dst, 0x7d)
			c ^= 0x20
		}
		dst = append(dst, c)
	}
	dst = append(dst, 0x7e)
	put(byte(f.Type))
	put(f.Seq)
	for _, c := range f.Payload {
		put(c)
	}
	sum := crc
	put(byte(sum >> 8))
	put(byte(sum))
	return append(dst, 0x7e)
}

// compareSpeed fails the test unless fast, which handles n bytes, takes less than
// 1/least of slow's time.
func compareSpeed(t *testing.T, least float64, n int, fast, slow func()) {
	t.Helper()
	took := fastest(fast)
	ratio := float64(fastest(slow)) / float64(took)
	t.Logf("%.0f MB/s, %.1f times the speed of byte by byte", float64(n)/took.Seconds()/1e6, ratio)
	if ratio < least {
		t.Errorf("only %.2f times as fast as byte by byte", ratio)
	}
}
