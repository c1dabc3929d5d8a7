package ayla

import (
	"math"

	"davit/bridge/dialect/session"
	"davit/schemas/tlv"
)

// Constants of noise.
const (
	// memory is the share of what was measured that stays with each frame: about the last hundred count.
	memory = 0.99
	// flat is how many failures of a frame that was given up count.
	flat = 4
	// worst is the largest share of failures that is told from an even larger one.
	worst = 0.98
	// clearly is how much faster another length of the pieces has to promise to be, before it is taken.
	clearly = 1.03
	// loadOverhead is what a LOAD takes on the line beside its data: flags, ptype, seq, header, OFF, the head of BIN
	// and CRC (docs/wire.md sections 2 and 4).
	loadOverhead = 18
)

// noise estimates how many of the line's bytes are spoiled, from the LOADs that had to be sent again, and chooses how
// long the pieces of the image are: on a quiet line the longest is the fastest, of short ones more get through a
// noisy one.
type noise struct {
	attempts, failures float64 // to get a LOAD acknowledged
	bytes              float64 // on the line in these attempts
	piece              int     // bytes of the image in a LOAD
}

// newNoise is a quiet line until a few LOADs have said otherwise.
func newNoise() noise {
	const believed = 8 // LOADs
	return noise{attempts: believed, bytes: believed * (tlv.MaxLoad + loadOverhead), piece: tlv.MaxLoad}
}

// acked takes note of a LOAD of n bytes that was acknowledged when it had been sent tries times.
func (q *noise) acked(n, tries int) { q.add(n, tries, tries-1) }

// lost takes note of a LOAD that was given up. A peer that is gone looks like noise here, so it does not count for
// more than bad luck would.
func (q *noise) lost(n, tries int) { q.add(n, min(tries, flat), min(tries, flat)) }

func (q *noise) add(n, attempts, failures int) {
	q.attempts = memory*q.attempts + float64(attempts)
	q.failures = memory*q.failures + float64(failures)
	q.bytes = memory*q.bytes + float64(attempts*n)
}

// early takes a failure back: the ack was only later than the timer.
func (q *noise) early() { q.failures = max(0, q.failures-1) }

// choose returns the length of the next piece, at most longest.
func (q *noise) choose(longest int, t *session.Turnaround) int {
	q.piece = min(q.piece, longest)
	if q.failures < 1 {
		q.piece = longest // the usual case, without arithmetic
		return longest
	}
	best := q.cost(q.piece, t) / clearly
	for n := longest; n >= minLoad; n = (n + 1) / 2 {
		if c := q.cost(n, t); c < best {
			best, q.piece = c, n
		}
	}
	return q.piece
}

// cost is how long a byte of the image takes, in units of the line's bytes, if pieces have n bytes.
func (q *noise) cost(n int, t *session.Turnaround) float64 {
	frame := float64(n + loadOverhead + ackLength)
	// Of frames of m bytes the share exp(-e*m) stays whole when e is the share of spoiled bytes.
	e := -math.Log(1-min(q.failures/q.attempts, worst)) * q.attempts / q.bytes
	whole := math.Exp(-e * frame)
	wait := float64(t.Wait(n+loadOverhead, 1)) / float64(t.LineTime(1))
	return (frame + (1/whole-1)*wait) / float64(n)
}
