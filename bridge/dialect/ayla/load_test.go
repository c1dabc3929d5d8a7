package ayla

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/dialecttest"
	"davit/bridge/dialect/session"
	"davit/schemas/tlv"
)

// loading returns a machine in the middle of an update, which has nothing to do but to load image.
func loading(image []byte, now time.Time) *machine {
	s := newMachine(dialect.Config{Baud: 115_200, OfferInterval: time.Hour}, dialecttest.NewRecorder())
	s.Begin(now)
	ready := make(chan struct{})
	close(ready)
	s.Order(&dialect.Update{Version: newVersion, Size: uint64(len(image)), Image: bytes.NewReader(image), Ready: ready, Reporter: quiet{}}, now)
	s.connect, s.feature = false, false
	s.asks.None()
	s.startLoad()
	return s
}

// received hands b, which s has written, to an MCU that has got so much, and returns what it has got then, and the ack.
func received(t *testing.T, d *tlv.Decoder, b, got []byte) (after, ack []byte) {
	t.Helper()
	d.Feed(b)
	for d.Next() {
		f, err := d.Frame()
		if err != nil {
			t.Fatal(err)
		}
		if f.Type == tlv.FrameAck {
			continue
		}
		p, err := tlv.ParsePacket(f.Payload)
		if err != nil || p.Op != tlv.OpOTALoad {
			t.Fatalf("%v instead of a LOAD (%v)", p.Op, err)
		}
		l, err := tlv.ParseLoad(p)
		if err != nil || int(l.Offset) != len(got) {
			t.Fatalf("LOAD at %d, want %d (%v)", l.Offset, len(got), err)
		}
		got = append(got, l.Data...)
		ack, err = tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameAck, Seq: f.Seq})
		if err != nil {
			t.Fatal(err)
		}
	}
	return got, ack
}

// However long the pieces are, one after the other, the LOADs are the image: every byte once, in order.
func TestPiecesAreTheImage(t *testing.T) {
	lengths := map[string]func(*rand.Rand) int{
		"any":    func(r *rand.Rand) int { return 1 + r.IntN(tlv.MaxLoad) },
		"chosen": func(r *rand.Rand) int { return []int{32, 64, 128, 255}[r.IntN(4)] },
		"longer": func(r *rand.Rand) int { return max(1, tlv.MaxLoad-r.IntN(3)) },
		"short":  func(r *rand.Rand) int { return 1 + r.IntN(3) },
		"either": func(r *rand.Rand) int { return 1 + 254*r.IntN(2) },
	}
	for name, length := range lengths {
		for _, size := range []int{1, 2, 31, 254, 255, 256, 257, 510, 4079, 4080, 4081, 4335, 8160, 8161, 9999} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(size), 1))
				image := make([]byte, size)
				for i := range image {
					image[i] = byte(r.Uint32())
				}
				now := time.Unix(1000, 0)
				s := loading(image, now)
				var d tlv.Decoder
				var got []byte
				for again := 3; s.u.phase == phaseLoad; {
					if s.link.noise = newNoise(); again > 0 && r.IntN(2*size/tlv.MaxLoad+2) == 0 {
						again--
						got = got[:0]
						s.link.forget()
						s.startLoad()
					}
					s.u.loads.size = length(r)
					var ack []byte
					got, ack = received(t, &d, s.Step(now).Write, got)
					s.Sent(now)
					s.u.loads.size = length(r)
					s.Receive(ack, now)
				}
				if s.u.phase != phaseVerdict || !bytes.Equal(got, image) {
					t.Errorf("phase %d, %d bytes of %d", s.u.phase, len(got), size)
				}
			})
		}
	}
}

// A line that loses every third LOAD allocates as little as a quiet one.
func TestNoiseDoesNotAllocate(t *testing.T) {
	now := time.Unix(1000, 0)
	s := loading(make([]byte, 4_000_000), now)
	var d tlv.Decoder
	var ack []byte
	n := 0
	step := func() {
		if b := s.Step(now).Write; b != nil {
			d.Feed(b)
			for n++; d.Next(); {
				f, err := d.Frame()
				if err != nil {
					t.Fatal(err)
				}
				ack, _ = tlv.AppendFrame(ack[:0], tlv.Frame{Type: tlv.FrameAck, Seq: f.Seq})
			}
			s.Sent(now)
		}
		if now = s.link.due(); n%3 != 0 {
			s.Receive(ack, now)
			s.Receive(ack, now)
		}
	}
	step()
	if n := testing.AllocsPerRun(3000, step); n != 0 {
		t.Errorf("%v allocations for a LOAD", n)
	}
	if s.u == nil || s.u.acked < 100_000 || s.link.noise.failures < 1 {
		t.Fatalf("%d bytes were acknowledged, %.1f failures", s.u.acked, s.link.noise.failures)
	}
}

// At every speed, whatever becomes of LOADs, the estimate is a number and pieces have a length.
func TestNoiseStaysANumber(t *testing.T) {
	for _, baud := range []int{50, 300, 115_200, 4_000_000} {
		for _, longest := range []int{1, 2, 31, 32, 33, 128, tlv.MaxLoad} {
			r := rand.New(rand.NewPCG(uint64(baud), uint64(longest)))
			timer := session.NewTurnaround(baud, bitsPerByte, ackLength)
			q := newNoise()
			for i := range 20_000 {
				n := q.choose(longest, &timer)
				if n < min(minLoad, longest) || n > longest {
					t.Fatalf("%d baud, at most %d: a piece of %d bytes", baud, longest, n)
				}
				switch mood := i / 2000 % 4; {
				case mood == 1 && r.IntN(2) == 0, mood == 2:
					q.lost(n+loadOverhead, 1+r.IntN(20))
				case mood == 3:
					q.acked(n+loadOverhead, 1+r.IntN(20))
					q.early()
				default:
					q.acked(n+loadOverhead, 1)
				}
				for n := longest; n > 0; n /= 2 {
					if c := q.cost(n, &timer); !(c > 0) || math.IsInf(c, 0) {
						t.Fatalf("%d baud: a byte costs %v in pieces of %d; %+v", baud, c, n, q)
					}
				}
			}
		}
	}
}
