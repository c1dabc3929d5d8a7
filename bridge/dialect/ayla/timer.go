package ayla

import "time"

// Times of the frame layer (docs/wire.md section 2).
const (
	// ackCeiling is how long the reference module waits for an ack; ours
	// never waits longer, unless the line itself is slower.
	ackCeiling = 5 * time.Second
	// ackFirst is the wait for a turn-around that has not been measured yet.
	ackFirst = 500 * time.Millisecond
	// ackMargin is the least that the timer allows beyond the line time: a
	// USB adapter gathers bytes for up to 16 ms before it hands them on.
	ackMargin = 20 * time.Millisecond
	// patience is how long a frame is sent again before it is given up: the
	// reference module's three waits of 5 s.
	patience = 3 * ackCeiling
	// minTries is how many times a frame is sent before it is given up, however
	// slow the peer seems to be: on a noisy line most of them are lost.
	minTries = 5
	// flatTries is how many times a frame is sent before the waits begin to
	// double. A lost frame on a line of one's own is noise and not
	// congestion, so there is nothing to be polite to.
	flatTries = 4
	// ackLength is the longest ack on the line in bytes.
	ackLength = 10
	// bitsPerByte on the line: start, eight data bits, parity, stop.
	bitsPerByte = 11
)

// ackTimer measures how long the peer takes from the end of a frame to the end
// of its ack, and says how long to wait for the next one (as RFC 6298 does,
// with the line time taken out because frames differ in length).
type ackTimer struct {
	byteTime time.Duration
	mean     time.Duration
	spread   time.Duration
	measured bool
}

func newAckTimer(baud int) ackTimer {
	return ackTimer{byteTime: bitsPerByte * time.Second / time.Duration(baud)}
}

func (t *ackTimer) lineTime(n int) time.Duration { return time.Duration(n) * t.byteTime }

// observe takes the time from handing a frame of n bytes to the line until its
// ack was there. It must be the frame's only transmission, or known to be the
// one that was acknowledged.
func (t *ackTimer) observe(n int, took time.Duration) {
	turn := max(0, took-t.lineTime(n))
	if !t.measured {
		t.mean, t.spread, t.measured = turn, turn/2, true
		return
	}
	off := t.mean - turn
	if off < 0 {
		off = -off
	}
	t.spread += (off - t.spread) / 4
	t.mean += (turn - t.mean) / 8
}

// wait is how long to wait for the ack of a frame of n bytes that has been sent
// tries times.
func (t *ackTimer) wait(n, tries int) time.Duration {
	line := t.lineTime(n + ackLength)
	turn := ackFirst
	if t.measured {
		turn = max(ackMargin, t.mean+4*t.spread)
	}
	w := line + turn
	for i := flatTries; i < tries && w < ackCeiling; i++ {
		w *= 2
	}
	return min(w, max(ackCeiling, line+line/2))
}
