package afpro

// EventKind says what a Scanner found.
type EventKind byte

// The events.
const (
	// EventReady: a ready byte.
	EventReady EventKind = iota + 1
	// EventSync: a good sync message.
	EventSync
	// EventMessage: the bytes asked for with Expect are there.
	EventMessage
	// EventSkipped: the bytes passed over with Skip have gone by.
	EventSkipped
	// EventBad: a run of bytes that mean nothing, or a byte that began a sync
	// message whose checksum does not agree. A run that arrives in pieces is
	// reported in pieces.
	EventBad
)

// Event is something that a Scanner found.
type Event struct {
	Kind EventKind
	Sync Sync
	// Message is valid until the next call of Next.
	Message []byte
	// Bytes is how many bytes an EventSkipped or EventBad stands for.
	Bytes int
}

// Scanner finds ready bytes and sync messages in a stream that arrives in any
// pieces, and takes as many bytes of a message as it is told to expect: on this
// wire, only the sync messages before it say where a message begins.
//
//	s.Feed(piece)
//	for s.Next() {
//		switch e := s.Event(); e.Kind { ... }
//	}
//
// Its memory is fixed. After a bad sync message it goes on with the byte behind
// the one that began it, so that garbage never swallows a good message.
type Scanner struct {
	in    []byte
	event Event
	sync  [SyncSize]byte
	n     int // bytes held in sync
	buf   []byte
	want  int // bytes of a message that are missing
	skip  int // bytes that are passed over
	size  int // of the message expected, or the run passed over
}

// NewScanner returns a Scanner that takes messages of at most limit bytes.
func NewScanner(limit int) *Scanner { return &Scanner{buf: make([]byte, 0, limit)} }

// Feed hands the scanner the next bytes of the stream. It keeps b, without a
// copy, until Next has returned false; bytes of an earlier piece that Next has
// not reached are lost.
func (s *Scanner) Feed(b []byte) { s.in = b }

// Limit is how many bytes a message may have.
func (s *Scanner) Limit() int { return cap(s.buf) }

// Expect says that the next n bytes, those behind the last event, are a message.
// It returns false, and expects nothing, if n is 0 or over the limit.
func (s *Scanner) Expect(n int) bool {
	if n < 1 || n > cap(s.buf) {
		return false
	}
	s.giveUp()
	s.want, s.size = n, n
	return true
}

// Skip says that the next n bytes are a message that is too long to be taken.
func (s *Scanner) Skip(n int) {
	s.giveUp()
	s.skip, s.size = n, n
}

// Hunt gives up the message or sync message under way, and returns how many of
// its bytes had come.
func (s *Scanner) Hunt() int {
	n := s.n
	if s.want > 0 || s.skip > 0 {
		n += s.size - s.want - s.skip
	}
	s.giveUp()
	s.n = 0
	return n
}

// giveUp drops the message under way, but not what may be a sync message: those
// bytes come behind the last event, and so may begin the next message.
func (s *Scanner) giveUp() { s.want, s.skip, s.size, s.buf = 0, 0, 0, s.buf[:0] }

// Reset is Hunt, and drops the input.
func (s *Scanner) Reset() {
	s.Hunt()
	s.in, s.event = nil, Event{}
}

// Partial says whether the scanner is in the middle of something: it holds the
// beginning of a sync message, or a message expected or passed over is not
// complete.
func (s *Scanner) Partial() bool { return s.n > 0 || s.want > 0 || s.skip > 0 }

// Event returns what Next found.
func (s *Scanner) Event() Event { return s.event }

// Next goes on to the next event and returns false when it has used up its
// input.
func (s *Scanner) Next() bool {
	s.event = Event{}
	for {
		switch {
		case s.want > 0:
			s.collect()
		case s.skip > 0:
			s.pass()
		case s.n > 0:
			s.held()
		default:
			s.begin()
		}
		if s.event.Kind != 0 {
			return true
		}
		if len(s.in) == 0 {
			s.in = nil
			return false
		}
	}
}

// collect takes bytes of the message expected.
func (s *Scanner) collect() {
	k := min(s.want, s.n)
	s.buf = append(s.buf, s.sync[:k]...)
	s.drop(k)
	s.want -= k
	k = min(s.want, len(s.in))
	s.buf = append(s.buf, s.in[:k]...)
	s.in, s.want = s.in[k:], s.want-k
	if s.want == 0 {
		s.event = Event{Kind: EventMessage, Message: s.buf}
		s.size, s.buf = 0, s.buf[:0]
	}
}

// pass lets bytes of a message go by.
func (s *Scanner) pass() {
	k := min(s.skip, s.n)
	s.drop(k)
	s.skip -= k
	k = min(s.skip, len(s.in))
	s.in, s.skip = s.in[k:], s.skip-k
	if s.skip == 0 {
		s.event = Event{Kind: EventSkipped, Bytes: s.size}
		s.size = 0
	}
}

// begin looks for the first byte of something.
func (s *Scanner) begin() {
	if len(s.in) == 0 {
		return
	}
	if bad := nonsense(s.in); bad > 0 {
		s.in = s.in[bad:]
		s.event = Event{Kind: EventBad, Bytes: bad}
		return
	}
	s.sync[0], s.n, s.in = s.in[0], 1, s.in[1:]
	s.held()
}

// held looks at the bytes that may be a sync message, or that one turned out not
// to be.
func (s *Scanner) held() {
	if bad := nonsense(s.sync[:s.n]); bad > 0 {
		s.drop(bad)
		s.event = Event{Kind: EventBad, Bytes: bad}
		return
	}
	if s.sync[0] == Ready {
		s.drop(1)
		s.event = Event{Kind: EventReady}
		return
	}
	k := copy(s.sync[s.n:], s.in)
	s.n, s.in = s.n+k, s.in[k:]
	if s.n < SyncSize {
		return
	}
	if m, err := ParseSync(s.sync[:]); err == nil {
		s.n = 0
		s.event = Event{Kind: EventSync, Sync: m}
		return
	}
	bad := 1 + nonsense(s.sync[1:])
	s.drop(bad)
	s.event = Event{Kind: EventBad, Bytes: bad}
}

func (s *Scanner) drop(n int) { s.n = copy(s.sync[:], s.sync[n:s.n]) }

// nonsense is how many bytes of b come before one that may begin something.
func nonsense(b []byte) int {
	for i, c := range b {
		if c == Ready || SyncType(c) == SyncCounts || SyncType(c) == SyncAck {
			return i
		}
	}
	return len(b)
}
