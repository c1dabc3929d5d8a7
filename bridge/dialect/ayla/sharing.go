package ayla

// Limits of sharing.
const (
	// healthy is how many frames in a row the peer has to take at once before one without an opening flag is
	// tried: what fails then is unlikely to be noise.
	healthy = 8
	// refusals is how many such frames a peer that never took one may miss before it is asked no more. Each costs
	// one wait for an ack.
	refusals = 2
	// missed is how many in a row a peer that did take some may miss before both flags are sent for a while: there
	// is garbage between the frames, which an opening flag would have ended.
	missed = 3
)

// sharing finds out whether the peer takes a frame whose opening flag is the flag that ended the frame before
// (docs/wire.md section 2), and uses it for the frames that carry the image. A frame that was not acknowledged is
// always repeated with both flags. The zero value has both flags on every frame.
type sharing struct {
	taken  bool // the peer took a frame that shared its flag, and none was missed too often since
	ever   bool // the peer has done so at least once
	misses int  // in a row
	good   int  // frames with both flags that were taken at once, in a row
}

// wanted says whether the next frame is to share its flag.
func (s *sharing) wanted() bool {
	switch {
	case s.taken:
		return true
	case !s.ever && s.misses >= refusals:
		return false
	}
	return s.good >= healthy
}

// acked takes note that a frame was acknowledged, which was sent tries times,
// the first time with a shared flag or not.
func (s *sharing) acked(shared bool, tries int) {
	switch {
	case shared && tries == 1:
		s.taken, s.ever, s.misses = true, true, 0
	case shared:
		s.good = 0
		if s.misses++; s.misses >= missed {
			s.taken = false
			if s.ever {
				s.misses = 0
			}
		}
	case tries == 1:
		s.good++
	default:
		s.good = 0
	}
}

// restarted takes note that the peer begins anew, and may hunt for a flag.
func (s *sharing) restarted() { s.taken, s.good = false, 0 }
