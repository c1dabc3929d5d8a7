package session

import "time"

// Times of the turn-around timer.
const (
	// AckCeiling is the longest wait for a peer's reaction, unless the line
	// itself is slower: the reference module of the first dialect waits as long
	// for an ack (docs/wire.md section 2).
	AckCeiling = 5 * time.Second
	// ackFirst is the wait for a turn-around that has not been measured yet.
	ackFirst = 500 * time.Millisecond
	// ackMargin is the least that the timer allows beyond the line time: a
	// USB adapter gathers bytes for up to 16 ms before it hands them on.
	ackMargin = 20 * time.Millisecond
	// flatTries is how many times something is sent before the waits begin to
	// double. What is lost on a line of one's own is noise and not congestion,
	// so there is nothing to be polite to.
	flatTries = 4
)

// Turnaround measures how long the peer takes from the end of what it is sent
// to the end of its reaction, and says how long to wait for the next one (as RFC 6298
// does, with the line time taken out because frames differ in length).
type Turnaround struct {
	byteTime time.Duration
	answer   int // bytes of the longest reaction
	mean     time.Duration
	spread   time.Duration
	measured bool
}

// NewTurnaround returns a timer for a line of baud bit/s with bits on the line
// for each byte, and a peer whose reaction has at most answer bytes.
func NewTurnaround(baud, bits, answer int) Turnaround {
	return Turnaround{byteTime: time.Duration(bits) * time.Second / time.Duration(baud), answer: answer}
}

// LineTime is how long n bytes take on the line.
func (t *Turnaround) LineTime(n int) time.Duration { return time.Duration(n) * t.byteTime }

// Observe takes the time from handing n bytes to the line until the reaction
// was there. It must be their only transmission, or known to be the one that was
// reacted to.
func (t *Turnaround) Observe(n int, took time.Duration) {
	turn := max(0, took-t.LineTime(n))
	if !t.measured {
		t.mean, t.spread, t.measured = turn, turn/2, true
		return
	}
	off := (t.mean - turn).Abs()
	t.spread += (off - t.spread) / 4
	t.mean += (turn - t.mean) / 8
}

// Wait is how long to wait for the reaction to n bytes that have been sent tries
// times.
func (t *Turnaround) Wait(n, tries int) time.Duration {
	line := t.LineTime(n + t.answer)
	turn := ackFirst
	if t.measured {
		turn = max(ackMargin, t.mean+4*t.spread)
	}
	w := line + turn
	for i := flatTries; i < tries && w < AckCeiling; i++ {
		w *= 2
	}
	return min(w, max(AckCeiling, line+line/2))
}
