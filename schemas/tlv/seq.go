package tlv

// NextSeq is the sequence number after s: 1 to 255, and 1 again after 255. 0 is
// only ever the first after a restart (docs/wire.md section 2).
func NextSeq(s byte) byte {
	if s == 255 {
		return 1
	}
	return s + 1
}

// Lollipop numbers the data frames of one sender: 0, then 1 to 255 over and
// over. The zero value is a sender that has just restarted.
type Lollipop struct{ next byte }

// Next returns the number for a new data frame. A frame that is sent again
// keeps its number.
func (l *Lollipop) Next() byte {
	s := l.next
	l.next = NextSeq(s)
	return s
}

// Arrival says what a receiver makes of a data frame's sequence number.
type Arrival byte

// The arrivals. All of them are acknowledged.
const (
	// Fresh: a new frame, to be handled.
	Fresh Arrival = iota
	// Repeated: the frame before once more, because its ack was lost; drop it.
	Repeated
	// Restarted: the peer has restarted and this is its first frame; forget
	// what is in flight, then handle it.
	Restarted
)

// Receiver classifies the sequence numbers of data frames from one peer. The
// zero value has heard nothing yet.
type Receiver struct {
	last  byte
	heard bool
}

// Accept classifies the data frame with number seq. A first frame that is
// repeated is Restarted again: seq 0 cannot tell the two apart.
func (r *Receiver) Accept(seq byte) Arrival {
	last, heard := r.last, r.heard
	r.last, r.heard = seq, true
	switch {
	case seq == 0:
		return Restarted
	case heard && seq == last:
		return Repeated
	}
	return Fresh
}
