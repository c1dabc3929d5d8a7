package ayla

import (
	"math/rand/v2"
	"testing"
	"time"

	"davit/bridge/dialect/dialecttest"
	"davit/schemas/tlv"
)

// exchange sends one LOAD so many times, and hears so many acks of it at the end.
func exchange(t *testing.T, l *link, now time.Time, sent, acks int) time.Time {
	t.Helper()
	payload := make([]byte, 270)
	payload[1] = 0x0e
	l.encode(kindLoad, 1, 0, payload)
	for i := range sent {
		if i > 0 {
			now = l.due()
		}
		if b := l.write(now); b == nil {
			t.Fatal("nothing is written")
		}
		l.written(now)
	}
	now = now.Add(l.timer.LineTime(len(payload)) + time.Millisecond)
	for i := range acks {
		if _, ended := l.acked(l.awaited(), now); ended != (i == 0) {
			t.Fatalf("ack %d ends the flight: %v", i+1, ended)
		}
	}
	return now
}

// awaited is the number of the frame in flight, or of the one acknowledged last.
func (l *link) awaited() byte {
	if f := l.inFlight(); f != nil {
		return f.seq
	}
	return l.lastSeq
}

// An MCU that is busy for a while acknowledges all copies at the end: none of them was lost.
func TestCopiesThatWereAcknowledgedAreNoNoise(t *testing.T) {
	l := newLink(115_200, dialecttest.NewRecorder().Counted)
	now := time.Unix(1000, 0)
	for range 100 {
		now = exchange(t, l, now, 1, 1)
		now = exchange(t, l, now, 6, 6)
	}
	if l.noise.failures > 0 {
		t.Errorf("%.1f failures in %.0f attempts", l.noise.failures, l.noise.attempts)
	}
}

// A peer that acknowledged once twice does not do so for ever: what is sent again too early is still noticed.
func TestAPeerThatStopsDoubling(t *testing.T) {
	l := newLink(115_200, dialecttest.NewRecorder().Counted)
	now := exchange(t, l, time.Unix(1000, 0), 1, 2)
	if !l.doubles {
		t.Error("one that acknowledges twice is not seen")
	}
	now = exchange(t, l, now, 3, 4)
	if l.noise.failures == 0 {
		t.Error("the second ack of one that acknowledges twice says that nothing was lost")
	}
	now = exchange(t, l, now, 1, 1)
	now = exchange(t, l, now, 1, 1)
	before := l.noise.failures
	exchange(t, l, now, 3, 3)
	if l.noise.failures > before {
		t.Errorf("%.1f failures, %.1f before", l.noise.failures, before)
	}
}

// Whatever the line loses, and whoever restarts, a frame that was acknowledged is one that the peer has looked at.
func TestAcknowledgedIsHandled(t *testing.T) {
	given := 0
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		now := time.Unix(1000, 0)
		var peer tlv.Receiver
		var d tlv.Decoder
		l := newLink(115_200, dialecttest.NewRecorder().Counted)
		handled := map[uint16]bool{}
		var id uint16
		lost, until := 0.0, 0
		for i := range 3000 {
			if i == until {
				lost, until = []float64{0, 0.3, 1}[r.IntN(3)], i+1+r.IntN(60)
			}
			switch r.IntN(100) {
			case 0: // the bridge begins anew
				l = newLink(115_200, dialecttest.NewRecorder().Counted)
			case 1: // the MCU does
				peer = tlv.Receiver{}
				l.restarted()
			case 2: // a LOAD of a leg that is over; the first frame is none
				if f := l.inFlight(); f != nil && f.seq != 0 {
					l.forget()
				}
			}
			for l.room() {
				id++
				l.encode(kindLoad, id, 0, tlv.AppendGo(nil, id))
			}
			b := l.write(now)
			if b == nil {
				now = l.due()
				if _, gone := l.expired(now); gone {
					given++
				}
				continue
			}
			l.written(now)
			if d.Feed(append([]byte{0x7e}, b...)); r.Float64() < lost {
				continue
			}
			for d.Next() {
				f, err := d.Frame()
				if err != nil {
					t.Fatal(err)
				}
				p, err := tlv.ParsePacket(f.Payload)
				if err != nil {
					t.Fatal(err)
				}
				if peer.Accept(f.Seq) != tlv.Repeated {
					handled[p.Req] = true
				}
				if now = now.Add(5 * time.Millisecond); r.Float64() < lost {
					continue
				}
				if done, ok := l.acked(f.Seq, now); ok && !handled[done.req] {
					t.Fatalf("seed %d, step %d: packet %d with number %d was acknowledged and not handled", seed, i, done.req, done.seq)
				}
			}
		}
	}
	if given < 100 {
		t.Errorf("%d frames were given up", given)
	}
}
