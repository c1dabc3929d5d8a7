package sniff

import (
	"fmt"
	"math"
	"time"

	"davit/bridge/recording"
	"davit/schemas/afpro"
)

// AferoLine decodes the afPro wire of the afero dialect (docs/afero-wire.md).
// Messages have no delimiters there: how long one is and when it comes is known
// only from what both sides have said before. Where the MCU is not heard at all,
// the module's own announcements have to do.
type AferoLine struct {
	module, mcu aferoSide
	gap         time.Duration // the longest pause in a message of the MCU
	response    afpro.Sync    // the module's last, the zero value before that
	due         int           // bytes of the module's message behind its next ready byte
}

// aferoSide is one direction.
type aferoSide struct {
	scan  *afpro.Scanner
	held  []byte // what the scanner has and has not told of yet
	heard time.Duration
	spoke bool   // it has been heard at all
	want  int    // bytes of the message that is expected, 0 for none
	bad   []byte // bytes in a row that mean nothing
}

// After how long a side is taken to have given up a message: the module in the
// middle of one, and either before its first byte, for which the MCU may have to
// wait until a lost ready byte is repeated. An MCU is given, in the middle of a
// message, gapMargin and the time of gapBytes, as the bridge gives it.
const (
	broken    = time.Second
	unsaid    = 10 * time.Second
	gapMargin = 100 * time.Millisecond
	gapBytes  = 20
)

// The usual speed of this wire, and the bits of a byte on it: start, eight data
// bits, stop.
const (
	aferoBaud = 9600
	aferoBits = 10
)

// NewAfero returns a decoder of a line of baud bit/s, 0 for the usual speed, that
// has heard nothing yet.
func NewAfero(baud int) *AferoLine {
	if baud <= 0 {
		baud = aferoBaud
	}
	side := func() aferoSide { return aferoSide{scan: afpro.NewScanner(math.MaxUint16)} }
	return &AferoLine{module: side(), mcu: side(), gap: gapMargin + gapBytes*aferoBits*time.Second/time.Duration(baud)}
}

// Decode implements Decoder.
func (l *AferoLine) Decode(at time.Duration, from recording.Side, b []byte, emit func(Packet)) {
	s, pause := &l.module, broken
	if from == recording.FromMCU {
		s, pause = &l.mcu, l.gap
	}
	if silent := at - s.heard; silent > unsaid || silent > pause && len(s.held) > 0 {
		s.giveUp(at, from, emit)
	}
	s.heard, s.spoke = at, true
	if s == &l.module {
		l.expect(b)
	}
	s.held = append(s.held, b...)
	if s.begunAnew() {
		s.forget()
		b = s.held
	}
	s.scan.Feed(b)
	for s.scan.Next() {
		e := s.scan.Event()
		raw := s.take(e)
		if e.Kind == afpro.EventBad {
			s.bad = append(s.bad, raw...)
			continue
		}
		s.tellBad(at, from, emit)
		emit(l.packet(at, from, e, raw))
	}
	s.tellBad(at, from, emit)
}

// forget gives up the message that is expected.
func (s *aferoSide) forget() {
	s.scan.Reset()
	s.want = 0
}

// begunAnew says whether what came in the place of a message is a sync message:
// the side has restarted, or given the message up.
func (s *aferoSide) begunAnew() bool {
	if s.want == 0 || len(s.held) < afpro.SyncSize || begins(s.held, s.want) {
		return false
	}
	_, err := afpro.ParseSync(s.held[:afpro.SyncSize])
	return err == nil
}

// begins says whether b, of two bytes at least, can be the beginning of a message
// of n bytes: it begins with its own length.
func begins(b []byte, n int) bool {
	length := n - 2
	return b[0] == byte(length) && b[1] == byte(length>>8)
}

// take returns the bytes that an event stands for.
func (s *aferoSide) take(e afpro.Event) []byte {
	n := e.Bytes
	switch e.Kind {
	case afpro.EventReady:
		n = 1
	case afpro.EventSync:
		n = afpro.SyncSize
	case afpro.EventMessage:
		n, s.want = len(e.Message), 0
	}
	raw := s.held[:n]
	if s.held = s.held[n:]; len(s.held) == 0 {
		s.held = nil // or it would grow without end
	}
	return raw
}

func (s *aferoSide) tellBad(at time.Duration, from recording.Side, emit func(Packet)) {
	if n := len(s.bad); n > 0 {
		verb := "mean"
		if n == 1 {
			verb = "means"
		}
		emit(bad(at, from, "%s that %s nothing: %s", plural(n), verb, inHex(s.bad)))
		s.bad = s.bad[:0]
	}
}

// awaits has a side's next n bytes be a message.
func (s *aferoSide) awaits(n int) {
	if s.want = 0; s.scan.Expect(n) {
		s.want = n
	}
}

// expect has the module's message begin where its next bytes say that it does,
// if the MCU, which alone says when it may, is not heard.
func (l *AferoLine) expect(next []byte) {
	n := int(l.response.ASR)
	if l.mcu.spoke || l.response.MCU > 0 || n == 0 || len(l.module.held) > 0 || len(next) < 2 || !begins(next, n) {
		return
	}
	l.response = afpro.Sync{}
	l.module.awaits(n)
}

// packet is an event in words. It sets what is expected next.
func (l *AferoLine) packet(at time.Duration, from recording.Side, e afpro.Event, raw []byte) Packet {
	p := Packet{At: at, From: from, Content: raw}
	switch {
	case e.Kind == afpro.EventReady && from == recording.FromMCU:
		p.Text, p.Bad = "ready, which only the module says", true
	case e.Kind == afpro.EventReady:
		p.Text = "ready"
		if l.due > 0 {
			l.module.awaits(l.due)
			l.due = 0
		} else if rest := l.module.held; len(rest) > 0 {
			l.module.held = nil // expect is about what follows the event
			l.expect(rest)
			l.module.held = rest
		}
	case e.Kind == afpro.EventSync:
		return l.sync(p, e.Sync)
	case e.Kind == afpro.EventMessage:
		m, err := afpro.ParseMessage(e.Message)
		if err != nil {
			p.Text, p.Bad = fmt.Sprintf("%v: %s", err, inHex(raw)), true
			return p
		}
		p.Text = AferoMessage(m)
	}
	return p
}

// sync is a sync message in words. An Ack says how many bytes come next.
func (l *AferoLine) sync(p Packet, s afpro.Sync) Packet {
	name := "Sync Request"
	switch {
	case p.From == recording.FromModule:
		name, p.Bad = "Sync Response", s.Type == afpro.SyncAck
		l.response = s
		l.due = 0
	case s.Type == afpro.SyncAck:
		name = "Sync Ack"
		if l.due = 0; !l.module.spoke || s.MCU == l.response.MCU && s.ASR == l.response.ASR {
			l.due = int(s.ASR) // the module passes over an Ack of anything else
		}
		l.mcu.awaits(int(s.MCU))
	}
	p.Text = fmt.Sprintf("%s (%d, %d)", name, s.MCU, s.ASR)
	if p.Bad {
		p.Text = fmt.Sprintf("Sync Ack (%d, %d), which only the MCU says", s.MCU, s.ASR)
	}
	return p
}

// giveUp tells of what is incomplete, and forgets it.
func (s *aferoSide) giveUp(at time.Duration, from recording.Side, emit func(Packet)) {
	if n := len(s.held); n > 0 {
		emit(bad(at, from, "a message that breaks off after %s: %s", plural(n), inHex(s.held)))
	}
	s.held = nil
	s.forget()
}

// Break implements Decoder.
func (l *AferoLine) Break(at time.Duration, emit func(Packet)) {
	l.module.giveUp(at, recording.FromModule, emit)
	l.mcu.giveUp(at, recording.FromMCU, emit)
	l.due, l.response = 0, afpro.Sync{}
}
