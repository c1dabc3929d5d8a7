package ayla

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"davit/bridge/dialect"
	"davit/schemas/tlv"
)

// readSize is how much is taken from the line at once: more than the largest
// frame, as a driver hands it over.
const readSize = 1024

// pollVersion is how often a version property is asked for that the MCU has not
// reported, and refreshVersion how often one that it has, while nothing else
// goes on: an MCU that was exchanged may say nothing by itself.
const (
	pollVersion    = time.Minute
	refreshVersion = 10 * time.Minute
)

// connectAgain is how long after a CONNECT a LISTEN_ENB is answered by another.
const connectAgain = 10 * time.Second

// session drives one line. All fields but mail belong to the goroutine of Run.
type session struct {
	line   io.ReadWriteCloser
	cfg    dialect.Config
	events dialect.Events
	mail   mailbox

	now     time.Time
	link    *link
	decoder tlv.Decoder
	parts   *tlv.Assembler
	replies replies
	req     uint16
	scratch [tlv.MaxPayload]byte

	features tlv.Features
	asks     []ask // the version properties
	pollAt   time.Time
	askedAt  time.Time // all of them were asked for
	connect  bool      // CONNECT waits to be sent
	// connectAt is when CONNECT was last sent.
	connectAt time.Time
	feature   bool // the question for the MCU's features waits to be sent
	lost      bool // the MCU does not answer: greet it when it does
	u         *update
}

// ask is a version property of the MCU.
type ask struct {
	name  string
	value string // as reported since the MCU was last seen to start, "" if not
	want  bool   // SEND_PROP waits to be sent
}

func newSession(line io.ReadWriteCloser, cfg dialect.Config, events dialect.Events) *session {
	s := &session{line: line, cfg: cfg, events: events}
	s.mail.wake = make(chan struct{}, 1)
	s.link = newLink(cfg.Baud, events.Counted)
	s.parts = tlv.NewAssembler(4 * tlv.MaxValue)
	for _, name := range cfg.VersionProperties {
		s.property(name)
	}
	return s
}

// mailbox holds the newest wish of other goroutines.
type mailbox struct {
	mu     sync.Mutex
	full   bool
	update *dialect.Update // nil to cancel
	wake   chan struct{}
}

func (m *mailbox) put(u *dialect.Update) {
	m.mu.Lock()
	m.full, m.update = true, u
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default: // awake already
	}
}

func (m *mailbox) take() (u *dialect.Update, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ok = m.update, m.full
	m.update, m.full = nil, false
	return u, ok
}

// Start implements dialect.Session.
func (s *session) Start(u dialect.Update) { s.mail.put(&u) }

// Cancel implements dialect.Session.
func (s *session) Cancel() { s.mail.put(nil) }

// wires are the channels between the session's goroutine and the two that
// wait for the line.
type wires struct {
	in    chan []byte // pieces read
	free  chan []byte // buffers to read into
	out   chan []byte // one frame
	wrote chan struct{}
	dead  chan error
	stop  chan struct{}
}

// Run implements dialect.Session.
func (s *session) Run(ctx context.Context) error {
	w := wires{
		in: make(chan []byte), free: make(chan []byte, 2), out: make(chan []byte, 1),
		wrote: make(chan struct{}, 1), dead: make(chan error, 2), stop: make(chan struct{}),
	}
	for range cap(w.free) {
		w.free <- make([]byte, readSize)
	}
	var both sync.WaitGroup
	both.Go(func() { read(s.line, &w) })
	both.Go(func() { write(s.line, &w) })
	err := s.loop(ctx, &w)
	close(w.stop)
	closed := s.line.Close()
	both.Wait()
	if err == nil {
		return nil
	}
	return errors.Join(err, closed)
}

func read(line io.Reader, w *wires) {
	for {
		var b []byte
		select {
		case b = <-w.free:
		case <-w.stop:
			return
		}
		n, err := line.Read(b)
		if n > 0 {
			select {
			case w.in <- b[:n]:
			case <-w.stop:
				return
			}
		} else {
			w.free <- b
		}
		if err != nil {
			w.dead <- err
			return
		}
	}
}

func write(line io.Writer, w *wires) {
	for {
		select {
		case b := <-w.out:
			if _, err := line.Write(b); err != nil {
				w.dead <- err
				return
			}
			w.wrote <- struct{}{}
		case <-w.stop:
			return
		}
	}
}

func (s *session) loop(ctx context.Context, w *wires) error {
	s.now = time.Now()
	s.greet()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.tick()
		s.fill()
		if b := s.link.write(s.now); b != nil {
			w.out <- b // never blocks: the link gives out one at a time
		}
		s.fill() // the next frame, behind the one that just left
		s.arm(timer)
		var ready <-chan struct{}
		if s.u != nil && s.u.phase == phaseAccepted {
			ready = s.u.Ready
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.dead:
			return fmt.Errorf("serial line: %w", err)
		case b := <-w.in:
			s.now = time.Now()
			s.receive(b)
			w.free <- b[:cap(b)]
		case <-w.wrote:
			s.now = time.Now()
			s.link.written(s.now)
		case <-s.mail.wake:
			s.now = time.Now()
			s.order()
		case <-ready:
			s.now = time.Now()
			s.ready()
		case <-timer.C:
			s.now = time.Now()
		}
	}
}

// arm sets the timer to the next moment at which tick or write has something
// to do.
func (s *session) arm(t *time.Timer) {
	next := s.pollAt
	for _, at := range []time.Time{s.link.due(), s.wakeAt()} {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	t.Reset(max(0, next.Sub(s.now)))
}

// tick does what is due.
func (s *session) tick() {
	if f, gone := s.link.expired(s.now); gone {
		s.silent(f)
	}
	if !s.now.Before(s.pollAt) {
		s.pollAt = s.now.Add(pollVersion)
		s.poll()
	}
	if s.u != nil {
		s.due()
	}
}

// poll asks for versions while nothing else goes on.
func (s *session) poll() {
	switch {
	case s.u != nil:
	case s.now.Sub(s.askedAt) >= refreshVersion:
		s.askAll()
	default:
		for i := range s.asks {
			s.asks[i].want = s.asks[i].want || s.asks[i].value == ""
		}
	}
}

// silent takes note that the MCU did not acknowledge f for as long as we sent
// it. Whatever else waits would fare no better.
func (s *session) silent(f flight) {
	s.lost, s.connect, s.feature = true, false, false
	s.link.forgetGreeting()
	s.disbelieve()
	for i := range s.asks {
		s.asks[i].want = false
	}
	if s.u != nil {
		s.undelivered(f)
	}
}

// greet tells the MCU that the service can be reached and asks for its
// features and versions: when the session begins and whenever the MCU has restarted.
func (s *session) greet() {
	s.lost, s.connect, s.feature = false, true, true
	s.askAll()
	s.pollAt = s.now.Add(pollVersion)
}

// disbelieve forgets what the MCU reported: it has restarted, or may have, and
// may run something else now, or be another one.
func (s *session) disbelieve() {
	for i := range s.asks {
		s.asks[i].value = ""
	}
	s.events.Restarted()
}

func (s *session) askAll() {
	s.askedAt = s.now
	for i := range s.asks {
		s.asks[i].want = true
	}
}

// property returns the ask of the version property name, a new one if need be.
func (s *session) property(name string) *ask {
	for i := range s.asks {
		if s.asks[i].name == name {
			return &s.asks[i]
		}
	}
	s.asks = append(s.asks, ask{name: name})
	return &s.asks[len(s.asks)-1]
}

// receive takes a piece of what the MCU sent.
func (s *session) receive(b []byte) {
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
func (s *session) alive() {
	if s.lost {
		s.greet()
	}
	if s.u != nil {
		s.u.good++
	}
}

func (s *session) noise() {
	if s.u != nil {
		s.u.bad++
	}
}

// fill encodes the next frame if there is room for one.
func (s *session) fill() {
	if !s.link.room() {
		return
	}
	if r, ok := s.replies.pop(); ok {
		s.link.encode(kindReply, 0, 0, r)
		return
	}
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
	for i := range s.asks {
		if a := &s.asks[i]; a.want {
			a.want = false
			b, err := tlv.AppendSendProp(s.scratch[:0], s.nextReq(), a.name)
			s.encode(kindAsk, 0, b, err)
			return
		}
	}
	if s.u != nil {
		s.fillUpdate()
	}
}

func (s *session) nextReq() uint16 {
	if s.req++; s.req == 0 {
		s.req = 1
	}
	return s.req
}

// encode hands a packet with the request id drawn last to the link. An error
// means a value that the wire cannot carry, which Start refuses beforehand.
func (s *session) encode(k kind, end uint64, b []byte, err error) {
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
