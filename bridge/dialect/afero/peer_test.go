package afero

import (
	"io"
	"testing"
	"time"

	"davit/schemas/afpro"
)

// patient is how long a peer waits for what has to come, unless a test says
// otherwise: longer than any pause of the dialect.
const patient = 3 * time.Minute

// peer is a scripted host MCU. It hears what the bridge sends byte by byte, and
// does nothing but what the test says.
type peer struct {
	*testing.T
	end     io.ReadWriter
	in      chan []byte // what has arrived, in pieces
	held    []byte      // and what nobody has looked at
	request byte        // id of its last SET or GET
}

func newPeer(t *testing.T, end io.ReadWriter) *peer {
	p := &peer{T: t, end: end, in: make(chan []byte, 4096)}
	go p.listen()
	return p
}

func (p *peer) listen() {
	defer close(p.in)
	for {
		b := make([]byte, 256)
		n, err := p.end.Read(b)
		if err != nil {
			return
		}
		p.in <- b[:n]
	}
}

// raw sends bytes as they are.
func (p *peer) raw(b ...byte) { _, _ = p.end.Write(b) } // a line that is closed has no test left to tell

// peek returns the next byte without taking it; false if none comes for limit.
func (p *peer) peek(limit time.Duration) (byte, bool) {
	if len(p.held) == 0 {
		select {
		case b, ok := <-p.in:
			if !ok {
				p.Fatal("the line is closed")
			}
			p.held = b
		case <-time.After(limit):
			return 0, false
		}
	}
	return p.held[0], true
}

// bytes takes the next n bytes, which have to come without a pause.
func (p *peer) bytes(n int) []byte {
	p.Helper()
	var b []byte
	for len(b) < n {
		c, ok := p.peek(100 * time.Millisecond)
		if !ok {
			p.Fatalf("% x, and the rest of %d bytes does not come", b, n)
		}
		b, p.held = append(b, c), p.held[1:]
	}
	return b
}

// ready takes the next byte, which has to be a ready byte and to come within
// limit. It returns when that was.
func (p *peer) ready(limit time.Duration) time.Time {
	p.Helper()
	c, ok := p.peek(limit)
	switch {
	case !ok:
		p.Fatalf("no ready byte came for %v", limit)
	case c != afpro.Ready:
		p.Fatalf("% x came, and not a ready byte", p.held)
	}
	p.held = p.held[1:]
	return time.Now()
}

// quiet fails the test if anything comes for d.
func (p *peer) quiet(d time.Duration, why string) {
	p.Helper()
	if _, ok := p.peek(d); ok {
		p.Fatalf("%s, and % x came", why, p.held)
	}
}

// pass lets d go by, and drops what came until its end.
func (p *peer) pass(d time.Duration) {
	time.Sleep(d) // virtual
	for len(p.in) > 0 {
		<-p.in
	}
	p.held = nil
}

// sync sends a Sync Request for n bytes of its own and returns the bridge's
// counts. Ready bytes before the Response are passed over.
func (p *peer) sync(n int) afpro.Sync {
	p.Helper()
	p.requests(n)
	return p.response()
}

func (p *peer) requests(n int) {
	p.raw(afpro.AppendSync(nil, afpro.Sync{Type: afpro.SyncCounts, MCU: uint16(n)})...)
}

func (p *peer) response() afpro.Sync {
	p.Helper()
	for c, ok := p.peek(time.Second); ok && c == afpro.Ready; c, ok = p.peek(time.Second) {
		p.held = p.held[1:]
	}
	s, err := afpro.ParseSync(p.bytes(afpro.SyncSize))
	if err != nil || s.Type != afpro.SyncCounts {
		p.Fatalf("%+v came as the Response, %v", s, err)
	}
	return s
}

func (p *peer) ack(counts afpro.Sync) {
	counts.Type = afpro.SyncAck
	p.raw(afpro.AppendSync(nil, counts)...)
}

// open is a transaction up to the Ack and the ready byte behind it.
func (p *peer) open(n int) afpro.Sync {
	p.Helper()
	counts := p.sync(n)
	if counts.Collision() {
		p.ready(time.Second)
		counts = p.sync(n)
	}
	p.ready(time.Second)
	p.ack(counts)
	p.ready(time.Second)
	return counts
}

// zero is the zero sync that comes first.
func (p *peer) zero() {
	p.Helper()
	p.ready(time.Second)
	if c := p.open(0); c.MCU != 0 || c.ASR != 0 {
		p.Fatalf("counts %+v in the first transaction", c)
	}
}

// send sends a message in a transaction of its own.
func (p *peer) send(b []byte) {
	p.Helper()
	if c := p.open(len(b)); int(c.MCU) != len(b) || c.ASR != 0 {
		p.Fatalf("counts %+v for a message of %d bytes", c, len(b))
	}
	p.raw(b...)
	p.ready(time.Second)
}

// hear takes the bridge's next message, which has to come within limit.
func (p *peer) hear(limit time.Duration) afpro.Message {
	p.Helper()
	m, ok := p.heardWithin(limit)
	if !ok {
		p.Fatalf("the bridge said nothing for %v", limit)
	}
	return m
}

// heardWithin takes the bridge's next message if one comes within limit. As an MCU
// does, it lets the bridge have a transaction for each ready byte, and completes those
// in which nothing is said.
func (p *peer) heardWithin(limit time.Duration) (afpro.Message, bool) {
	p.Helper()
	for end := time.Now().Add(limit); ; {
		if _, ok := p.peek(time.Until(end)); !ok {
			return afpro.Message{}, false
		}
		p.ready(0)
		counts := p.open(0)
		if counts.ASR == 0 {
			continue
		}
		m, err := afpro.ParseMessage(p.bytes(int(counts.ASR)))
		if err != nil {
			p.Fatal(err)
		}
		p.ready(time.Second)
		return m, true
	}
}

// says encodes and sends a message.
func (p *peer) says(m afpro.Message) {
	p.Helper()
	b, err := afpro.AppendMessage(nil, m)
	if err != nil {
		p.Fatal(err)
	}
	p.send(b)
}

func (p *peer) nextRequest() byte {
	p.request++
	return p.request
}

// tells sends an UPDATE of the MCU's own accord.
func (p *peer) tells(a afpro.Attribute, value ...byte) {
	p.Helper()
	p.says(afpro.Message{Type: afpro.Update, Request: p.nextRequest(), Attribute: a, Reason: afpro.ReasonUnsolicited, Value: value})
}

// info sends an OTA info, next the offset that is wanted next.
func (p *peer) info(i afpro.Info)  { p.Helper(); p.tunnel(afpro.AppendInfo(nil, afpro.ChannelToASR, i)) }
func (p *peer) next(offset uint32) { p.Helper(); p.tunnel(afpro.AppendNext(nil, offset)) }

func (p *peer) tunnel(b []byte, err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
	p.send(b)
}
