package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// noise spoils bytes at given rates. It draws the distance to the next fault
// instead of a number per byte, so that a clean line costs nothing.
type noise struct {
	rng                       *rand.Rand
	f                         LineFaults
	flip, drop, double, burst gap
	spoiled                   int // bytes that the burst under way still has
}

// gap counts down the bytes until a fault of probability p per byte.
type gap struct {
	p    float64
	left int64
}

func newNoise(seed, stream uint64, f LineFaults) noise {
	n := noise{rng: rand.New(rand.NewPCG(seed, stream))}
	n.set(f)
	return n
}

func (n *noise) set(f LineFaults) {
	setDefault(&f.BurstBytes, DefaultBurstBytes)
	setDefault(&f.GarbageBytes, DefaultGarbageBytes)
	n.f = f
	n.flip = n.newGap(1 - math.Pow(1-f.BitErrorRate, 8))
	n.drop = n.newGap(f.DropRate)
	n.double = n.newGap(f.DoubleRate)
	n.burst = n.newGap(f.BurstRate)
	n.spoiled = 0
}

func (n *noise) newGap(p float64) gap {
	g := gap{p: p}
	n.draw(&g)
	return g
}

// draw sets the distance to the next fault: geometrically distributed.
func (n *noise) draw(g *gap) {
	switch {
	case g.p <= 0:
		g.left = math.MaxInt64
	case g.p >= 1:
		g.left = 0
	default:
		g.left = int64(math.Log(1-n.rng.Float64()) / math.Log1p(-g.p))
	}
}

// hit says whether the fault meets this byte.
func (n *noise) hit(g *gap) bool {
	if g.left > 0 {
		g.left--
		return false
	}
	n.draw(g)
	return true
}

// apply appends to dst what arrives when src is sent.
func (n *noise) apply(dst, src []byte, s *LineStats) []byte {
	if n.f.Dead {
		s.Dropped += int64(len(src))
		return dst
	}
	if m := int64(len(src)); n.spoiled == 0 && n.flip.left >= m && n.drop.left >= m && n.double.left >= m && n.burst.left >= m {
		n.flip.left -= m
		n.drop.left -= m
		n.double.left -= m
		n.burst.left -= m
		return append(dst, src...)
	}
	for _, b := range src {
		if wrong := n.wrong(); wrong != 0 {
			b ^= wrong
			s.Flipped++
		}
		if n.hit(&n.drop) {
			s.Dropped++
			continue
		}
		dst = append(dst, b)
		if n.hit(&n.double) {
			dst = append(dst, b)
			s.Doubled++
		}
	}
	return dst
}

// wrong draws the bits of the next byte that are inverted.
func (n *noise) wrong() byte {
	var bits byte
	if n.hit(&n.flip) {
		bits = n.mask()
	}
	if n.hit(&n.burst) {
		n.spoiled = n.f.BurstBytes
	}
	if n.spoiled > 0 {
		n.spoiled--
		bits = byte(1 + n.rng.IntN(255))
	}
	return bits
}

// garbage appends to dst what follows a Write although nobody sent it.
func (n *noise) garbage(dst []byte, s *LineStats) []byte {
	if n.f.Dead || n.f.GarbageRate <= 0 || n.rng.Float64() >= n.f.GarbageRate {
		return dst
	}
	for range 1 + n.rng.IntN(n.f.GarbageBytes) {
		dst = append(dst, byte(n.rng.IntN(256)))
		s.Garbage++
	}
	return dst
}

// mask draws the bits that are inverted in a byte with at least one error.
func (n *noise) mask() byte {
	m := byte(1) << n.rng.IntN(8)
	for bit := range 8 {
		if n.rng.Float64() < n.f.BitErrorRate {
			m |= 1 << bit
		}
	}
	return m
}

// delay draws a time between 0 and limit.
func (n *noise) delay(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return time.Duration(n.rng.Int64N(int64(limit) + 1))
}
