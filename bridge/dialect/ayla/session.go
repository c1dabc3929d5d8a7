package ayla

import (
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/session"
	"davit/schemas/tlv"
)

// connectAgain is how long after a CONNECT a LISTEN_ENB is answered by another.
const connectAgain = 10 * time.Second

// machine is the state machine of one line.
type machine struct {
	cfg    dialect.Config
	events dialect.Events

	now     time.Time
	link    *link
	decoder tlv.Decoder
	parts   *tlv.Assembler
	replies replies
	// answered: the packet encoded last was an answer.
	answered bool
	req      uint16
	scratch  [tlv.MaxPayload]byte

	loadSize int // bytes of the image in one LOAD, as configured or as learnt on this line
	features tlv.Features
	asks     session.Asks // the version properties
	connect  bool         // CONNECT waits to be sent
	// connectAt is when CONNECT was last sent.
	connectAt time.Time
	feature   bool // the question for the MCU's features waits to be sent
	lost      bool // the MCU does not answer: greet it when it does
	u         *update
}

func newMachine(cfg dialect.Config, events dialect.Events) *machine {
	s := &machine{cfg: cfg, events: events, loadSize: tlv.MaxLoad}
	if cfg.LoadSize > 0 {
		s.loadSize = min(cfg.LoadSize, tlv.MaxLoad)
	}
	s.link = newLink(cfg.Baud, events.Counted)
	s.parts = tlv.NewAssembler(4 * tlv.MaxValue)
	for _, name := range cfg.VersionProperties {
		s.asks.Of(name)
	}
	return s
}

// Begin implements session.Machine.
func (s *machine) Begin(now time.Time) {
	s.now = now
	s.greet()
}

// Step implements session.Machine.
func (s *machine) Step(now time.Time) session.Next {
	s.now = now
	if s.u != nil {
		s.u.Arrived()
	}
	s.tick()
	s.fill()
	next := session.Next{Write: s.link.write(now)}
	s.fill() // the next frame, behind the one that leaves
	next.Wake = session.Earliest(s.asks.PollAt(), s.link.due(), s.wakeAt())
	if s.u != nil && s.u.phase == phaseAccepted {
		next.Image = s.u.Ready
	}
	if s.u != nil && s.u.phase == phaseLoad {
		next.Image = s.u.Arrival()
	}
	return next
}

// Sent implements session.Machine.
func (s *machine) Sent(now time.Time) {
	s.now = now
	s.link.written(now)
}

// tick does what is due.
func (s *machine) tick() {
	if f, gone := s.link.expired(s.now); gone {
		s.silent(f)
	}
	s.asks.Poll(s.now, s.u != nil)
	if s.u != nil {
		s.due()
	}
}

// silent takes note that the MCU did not acknowledge f for as long as we sent
// it. Whatever else waits would fare no better.
func (s *machine) silent(f flight) {
	s.lost, s.connect, s.feature = true, false, false
	s.link.forgetGreeting()
	s.disbelieve()
	s.asks.None()
	if s.u != nil {
		s.undelivered(f)
	}
}

// greet tells the MCU that the service can be reached and asks for its
// features and versions: when the session begins and whenever the MCU has restarted.
func (s *machine) greet() {
	s.lost, s.connect, s.feature = false, true, true
	s.asks.All(s.now)
}

// disbelieve forgets what the MCU reported: it has restarted, or may have, and
// may run something else now, or be another one.
func (s *machine) disbelieve() {
	s.asks.Forget()
	s.events.Restarted()
}

// Receive implements session.Machine.
func (s *machine) Receive(b []byte, now time.Time) {
	s.now = now
	s.decoder.Feed(b)
	for s.decoder.Next() {
		f, err := s.decoder.Frame()
		if err != nil {
			s.events.Counted(dialect.FramesBad, 1)
			s.noise()
			continue
		}
		s.events.Counted(dialect.FramesReceived, 1)
		s.alive()
		if f.Type == tlv.FrameAck {
			if done, ok := s.link.acked(f.Seq, s.now); ok {
				s.delivered(done)
			}
			continue
		}
		s.data(f)
	}
}

// alive takes note of a good frame.
func (s *machine) alive() {
	if s.lost {
		s.greet()
	}
	if s.u != nil {
		s.u.Good++
	}
}

func (s *machine) noise() {
	if s.u != nil {
		s.u.Bad++
	}
}

// fill encodes the next frame if there is room for one.
func (s *machine) fill() {
	if !s.link.room() {
		return
	}
	if s.answered {
		// An MCU that asks faster than it acknowledges does not hold up what we have to say.
		s.answered = false
		if s.fillOwn(); s.link.next != none {
			return
		}
	}
	if r, ok := s.replies.pop(); ok {
		s.answered = true
		s.link.encode(kindReply, 0, 0, r)
		return
	}
	s.fillOwn()
}

// fillOwn encodes the next packet that is no answer, if there is one.
func (s *machine) fillOwn() {
	if s.connect {
		s.connect, s.connectAt = false, s.now
		s.encode(kindConnect, 0, tlv.AppendConnect(s.scratch[:0], s.nextReq(), tlv.NodeCloud), nil)
		return
	}
	if s.u != nil && s.u.boot {
		s.fillBoot()
		return
	}
	if s.feature {
		// A SEND_PROP without a name: the MCU answers NAK with its features.
		s.feature = false
		s.encode(kindAsk, 0, tlv.AppendHeader(s.scratch[:0], tlv.OpSendProp, s.nextReq()), nil)
		return
	}
	if name, ok := s.asks.Next(); ok {
		b, err := tlv.AppendSendProp(s.scratch[:0], s.nextReq(), name)
		s.encode(kindAsk, 0, b, err)
		return
	}
	if s.u != nil {
		s.fillUpdate()
	}
}

func (s *machine) nextReq() uint16 {
	if s.req++; s.req == 0 {
		s.req = 1
	}
	return s.req
}

// encode hands a packet with the request id drawn last to the link. An error
// means a value that the wire cannot carry, which Start refuses beforehand.
func (s *machine) encode(k kind, end uint64, b []byte, err error) {
	if err == nil {
		s.link.encode(k, s.req, end, b)
	}
}

// replies holds the answers that the MCU is owed. An MCU that asks faster than
// it listens loses the newest.
type replies struct {
	bufs    [8][tlv.MaxPayload]byte
	lengths [8]int
	head, n int
}

// slot returns where to append a reply; it counts once push is called.
func (r *replies) slot() ([]byte, bool) {
	if r.n == len(r.bufs) {
		return nil, false
	}
	return r.bufs[(r.head+r.n)%len(r.bufs)][:0], true
}

func (r *replies) push(b []byte) {
	r.lengths[(r.head+r.n)%len(r.bufs)] = len(b)
	r.n++
}

func (r *replies) pop() ([]byte, bool) {
	if r.n == 0 {
		return nil, false
	}
	i := r.head
	r.head, r.n = (r.head+1)%len(r.bufs), r.n-1
	return r.bufs[i][:r.lengths[i]], true
}
