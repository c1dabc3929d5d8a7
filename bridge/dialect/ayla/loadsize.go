package ayla

import (
	"fmt"

	"davit/schemas/tlv"
)

// An MCU's receive buffer may be smaller than a full LOAD (docs/wire.md section
// 5). It then drops the frame, and all that is seen of it is that the ack never
// comes, or it acknowledges the frame and says LEN_ERR or OVERFLOW. Its buffer may
// hold the frame as it stands on the line, so that what fits depends on the data.

const (
	// minLoad is the size to which LOADs shrink by themselves, in bytes of the
	// image: with less, the line would carry more heads than image.
	minLoad = 32
	// undecided is how many acknowledged LOADs an MCU may not have looked at yet
	// when it refuses one: its STAT waits for its own frames to be acknowledged.
	undecided = 8
	// cleanShare: a load went well if at most one LOAD in so many was sent again.
	cleanShare = 8
)

// loads is what an update has learnt of the LOADs that the MCU takes. Lengths are
// those on the line.
type loads struct {
	size   int            // bytes of the image in a LOAD
	fits   int            // the longest LOAD that the MCU has taken
	recent [undecided]int // acknowledged, maybe not taken
	// lostAt is the offset after which a LOAD was lost that was longer than any
	// before, if lost is set.
	lostAt uint64
	lost   bool
	shrunk bool // size is smaller than it was
	told   bool // by the MCU
	// Of this leg: LOADs acknowledged, and how often they were sent.
	acked, tries int
}

func (l *loads) begin() { l.acked, l.tries, l.recent = 0, 0, [undecided]int{} }

// taken takes note that a LOAD was acknowledged.
func (l *loads) taken(length, tries int) {
	i := l.acked % undecided
	l.fits = max(l.fits, l.recent[i])
	l.recent[i] = length
	l.acked++
	l.tries += tries
}

// received is the longest LOAD that was acknowledged, whatever became of it.
func (l *loads) received() int {
	longest := l.fits
	for _, n := range l.recent {
		longest = max(longest, n)
	}
	return longest
}

// shrink makes LOADs smaller, and says whether they can be.
func (l *loads) shrink() bool {
	if l.size <= minLoad {
		return false
	}
	l.size, l.shrunk, l.lost = max(minLoad, (l.size+1)/2), true, false
	return true
}

// worked returns the size to begin later updates with: the one with which all of
// the image got through. If nothing but lost frames spoke for it, it has to have
// made an end of those, or else they had another reason.
func (l *loads) worked(before int) int {
	if l.shrunk && (l.told || (l.tries-l.acked)*cleanShare <= l.acked) {
		return l.size
	}
	return before
}

// loadTooLong takes LEN_ERR or OVERFLOW during the load. It means the frame if
// one may be meant that is longer than what the MCU has taken, and the image
// otherwise.
func (s *machine) loadTooLong(code tlv.Code) {
	u := s.u
	meant := u.loads.received()
	if u.Bad > 0 {
		u.loads.fits = 0 // it may be said for the second time, seconds and many acknowledged LOADs after the first
	}
	if f := s.link.inFlight(); f != nil && f.kind == kindLoad {
		meant = max(meant, len(f.frame))
	}
	size := u.loads.size
	if meant <= u.loads.fits || !u.loads.shrink() {
		s.failed(code, fmt.Sprintf("at byte %d of %d, in pieces of %d", u.acked, u.Size, size))
		return
	}
	u.loads.told, u.stale = true, true
	s.again(code, fmt.Sprintf("the host MCU answered %s to pieces of %d bytes", code, size))
}

// loadLost takes note that a LOAD was given up. Once may be anything; if the same
// happens in the next leg, whose offer got through, it is the length.
func (s *machine) loadLost(f flight) {
	l := &s.u.loads
	why := fmt.Sprintf("the host MCU stopped acknowledging at byte %d", s.u.acked)
	switch {
	case len(f.frame) <= l.received():
		l.lost = false
		s.link.noise.lost(len(f.frame), f.tries)
	case l.shrunk && !l.told, l.lost && l.lostAt == s.u.acked:
		l.shrink()
	default:
		l.lost, l.lostAt = true, s.u.acked
	}
	s.again(tlv.CodeOK, why)
}
