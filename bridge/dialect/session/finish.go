package session

import "time"

const (
	// bitsPerByte is the most that a byte takes on a line: start, eight data
	// bits, parity, stop.
	bitsPerByte = 11
	// finishSlack is how much longer than its bytes need on the line a last write
	// may take: the peer may have held the line for a moment, to write its flash.
	finishSlack = 500 * time.Millisecond
)

// flusher is a line that knows whether what it has taken has gone out. Flush
// waits for that, and drops what has not gone out within the time: what is left
// in a driver's buffer would hold up Close.
type flusher interface{ Flush(within time.Duration) }

// finish lets the write that is under way come to its end, so that no part of a
// frame stands on the line. A line that takes nothing holds it up for no longer
// than the bytes need, and finishSlack.
func (s *session) finish(w *wires) {
	limit := time.Now().Add(time.Duration(s.written)*s.byteTime + finishSlack)
	if s.writing {
		late := time.NewTimer(time.Until(limit))
		defer late.Stop()
		select {
		case <-w.wrote:
		case <-w.dead:
			return
		case <-late.C:
		}
	}
	if f, ok := s.line.(flusher); ok {
		f.Flush(time.Until(limit))
	}
}
