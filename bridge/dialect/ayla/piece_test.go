package ayla

import (
	"math"
	"math/rand/v2"
	"testing"

	"davit/bridge/dialect/session"
	"davit/schemas/tlv"
)

// On a line that spoils the share e of its bytes, the pieces get the length that costs least, and long ones come back
// when the line is quiet again.
func TestPieceFollowsTheNoise(t *testing.T) {
	timer := session.NewTurnaround(115_200, bitsPerByte, ackLength)
	timer.Observe(100, timer.LineTime(100))
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		e        float64
		min, max int
	}{{0, 255, 255}, {1e-5, 255, 255}, {1e-4, 255, 255}, {1e-3, 128, 255}, {1e-2, minLoad, 64}, {5e-2, minLoad, minLoad}, {0, 255, 255}} {
		q := newNoise()
		frames, lengths := 0, 0
		for range 2000 {
			n := q.choose(tlv.MaxLoad, &timer) + loadOverhead
			tries := 1
			for r.Float64() > math.Exp(-c.e*float64(n+ackLength)) && tries < 20 {
				tries++
			}
			q.acked(n, tries)
			frames++
			lengths += n - loadOverhead
		}
		if mean := lengths / frames; mean < c.min || mean > c.max {
			t.Errorf("spoiled bytes %g: pieces of %d bytes, want %d to %d", c.e, mean, c.min, c.max)
		}
	}
}

// What only looks like noise leaves the pieces long: an ack that was later than the timer, and a peer that was gone.
func TestPieceStaysLongWithoutNoise(t *testing.T) {
	timer := session.NewTurnaround(115_200, bitsPerByte, ackLength)
	q := newNoise()
	for range 200 {
		q.acked(280, 2)
		q.early()
		if n := q.choose(tlv.MaxLoad, &timer); n != tlv.MaxLoad {
			t.Fatalf("a late ack made the pieces %d bytes long", n)
		}
	}
	q.lost(280, 11)
	long := 0
	for range 200 {
		if q.choose(tlv.MaxLoad, &timer) == tlv.MaxLoad {
			long++
		}
		q.acked(280, 1)
	}
	if long < 150 {
		t.Errorf("after a peer was gone, %d of 200 pieces are long", long)
	}
}
