package bridge

import (
	"sync"
	"sync/atomic"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/portname"
	"davit/schemas"
)

// life is when what happened to the bridge as a whole. Its mutex is never held
// for longer than a copy takes.
type life struct {
	mu     sync.Mutex
	since  time.Time
	broker BrokerStatus
	drain  *Draining
}

func (l *life) began(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since, l.broker.Since = now, now
}

func (l *life) linked(up bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broker.Connected != up {
		l.broker = BrokerStatus{Connected: up, Since: now}
	}
}

func (l *life) draining(since, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drain = &Draining{since, until}
}

func (l *life) tell(s *Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Since, s.Broker, s.Draining = l.since, l.broker, l.drain
}

// portState is what the line's goroutine says of its port. It has a mutex of its
// own, so that it can be told even while the device is busy.
type portState struct {
	mu     sync.Mutex
	state  PortState
	since  time.Time
	tty    string
	reason string
	config PortConfig
	how    *speech // as which it was opened last, nil if it never was as it is configured
	// goodput of the last finished load in bytes a second, and its share of what the line
	// carries; 0 before there was one.
	goodput, share float64
}

// loaded notes how fast a load was that has finished.
func (p *portState) loaded(bytesPerSecond float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.goodput, p.share = bytesPerSecond, 0
	if p.how != nil {
		p.share = bytesPerSecond / byteRate(p.how.port)
	}
}

// byteRate is how many bytes a second a port carries one behind the other: each has a start
// bit, eight data bits, the parity bit if there is one, and a stop bit.
func byteRate(p PortConfig) float64 {
	bits := 10.0
	if p.Parity != dialect.ParityNone {
		bits++
	}
	return float64(p.Baud) / bits
}

// figures are what metrics tell of the port.
func (p *portState) figures() portFigures {
	p.mu.Lock()
	defer p.mu.Unlock()
	return portFigures{port: portname.Printable(p.config.Path), up: p.state == PortOpen, goodput: p.goodput, share: p.share}
}

// set takes a state; the time counts from where it began.
func (p *portState) set(state PortState, tty, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setLocked(state, tty, reason)
}

func (p *portState) setLocked(state PortState, tty, reason string) {
	if p.state != state {
		p.state, p.since = state, time.Now()
	}
	p.tty, p.reason = tty, portname.Printable(reason)
}

// up notes that the port was opened.
func (p *portState) up(how speech, tty string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.how = &how
	p.setLocked(PortOpen, portname.Printable(tty), "")
}

// down notes that it is closed, or could not be opened.
func (p *portState) down(err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	p.set(PortClosed, "", reason)
}

// configure notes how the port is configured from now on.
func (p *portState) configure(c PortConfig) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.config, p.how = c, nil
}

func (p *portState) tell(s *PortStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.config
	s.Port, s.Dialect, s.Baud, s.Parity, s.RTSCTS = portname.Printable(c.Path), c.Dialect, c.Baud, c.Parity, c.RTSCTS
	s.State, s.Since, s.TTY, s.Reason = p.state, p.since, p.tty, p.reason
	if p.how != nil {
		s.Dialect, s.Baud, s.Parity, s.RTSCTS = p.how.kind.Name(), p.how.port.Baud, p.how.port.Parity, p.how.port.RTSCTS
	}
}

// lineCounts are a line's counters: the session's goroutine adds, whoever asks
// for a status reads.
type lineCounts struct {
	sent, retried, received, bad, lost, loaded, resets atomic.Uint64
}

func (c *lineCounts) of(k dialect.Counter) *atomic.Uint64 {
	switch k {
	case dialect.FramesSent:
		return &c.sent
	case dialect.FramesRetried:
		return &c.retried
	case dialect.FramesReceived:
		return &c.received
	case dialect.FramesBad:
		return &c.bad
	case dialect.FramesLost:
		return &c.lost
	case dialect.BytesLoaded:
		return &c.loaded
	case dialect.MCUResets:
		return &c.resets
	}
	return nil
}

func (c *lineCounts) read() LineCounts {
	return LineCounts{
		Sent: c.sent.Load(), Retried: c.retried.Load(), Received: c.received.Load(), Bad: c.bad.Load(), Lost: c.lost.Load(),
		Loaded: c.loaded.Load(), MCUResets: c.resets.Load(),
	}
}

// count adds to a counter: the line's sessions count with it, for the status and for the
// metrics.
func (l *line) count(k dialect.Counter, n int) {
	if c := l.counts.of(k); c != nil {
		c.Add(uint64(n))
	}
}

// pace remembers the bytes of the last seconds, at the times at which progress
// is looked at anyway: frames cost nothing.
type pace struct {
	state schemas.State
	marks [paceMarks]mark
	n     int // how many marks were taken, all together
}

// paceMarks at progressEvery cover five seconds.
const paceMarks = 10

type mark struct {
	at    time.Time
	bytes uint64
}

// note takes how far the update is. Where it begins is where its first bytes are:
// a load, or a download, that goes on where it was is there at once.
func (p *pace) note(state schemas.State, bytes uint64, now time.Time) {
	if bytes == 0 {
		p.n = 0
		return
	}
	if p.n > 0 {
		last := p.marks[(p.n-1)%paceMarks]
		switch {
		case p.state != state || bytes < last.bytes:
			p.n = 0 // something else is counted now, or it begins anew
		case now.Sub(last.at) < progressEvery:
			return
		}
	}
	p.state = state
	p.marks[p.n%paceMarks] = mark{now, bytes}
	p.n++
}

// rate is how many bytes a second came since the oldest mark, 0 if that cannot be
// said.
func (p *pace) rate(state schemas.State, bytes uint64, now time.Time) float64 {
	if p.n == 0 || p.state != state {
		return 0
	}
	oldest := p.marks[max(0, p.n-paceMarks)%paceMarks]
	took := now.Sub(oldest.at).Seconds()
	if took <= 0 || bytes < oldest.bytes {
		return 0
	}
	return float64(bytes-oldest.bytes) / took
}
