package sniff

import (
	"fmt"
	"math"
	"time"

	"davit/bridge/recording"
	"davit/schemas/afpro"
)

// AferoLine decodes the afPro wire of the afero dialect (docs/afero-wire.md). Messages
// have no delimiters there: how long one is and when it comes is known only from what both sides
// have said before.
type AferoLine struct {
	module, mcu aferoSide
	due         int // bytes of the module's message behind its next ready byte
}

// aferoSide is one direction.
type aferoSide struct {
	scan  *afpro.Scanner
	held  []byte // what the scanner has and has not told of yet
	heard time.Duration
	bad   []byte // bytes in a row that mean nothing
}

// After how long a side is taken to have given up a message, for example because the MCU
// has restarted: in the middle of it, and before its first byte, for which the MCU may have to wait until
// a lost ready byte is repeated.
const (
	broken = time.Second
	unsaid = 10 * time.Second
)

// NewAfero returns a decoder that has heard nothing yet.
func NewAfero() *AferoLine {
	return &AferoLine{
		module: aferoSide{scan: afpro.NewScanner(math.MaxUint16)}, mcu: aferoSide{scan: afpro.NewScanner(math.MaxUint16)},
	}
}

// Decode implements Decoder.
func (l *AferoLine) Decode(at time.Duration, from recording.Side, b []byte, emit func(Packet)) {
	s := l.side(from)
	if silent := at - s.heard; silent > unsaid || silent > broken && len(s.held) > 0 {
		s.giveUp(at, from, emit)
	}
	s.heard = at
	s.held = append(s.held, b...)
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

func (l *AferoLine) side(from recording.Side) *aferoSide {
	if from == recording.FromMCU {
		return &l.mcu
	}
	return &l.module
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
		n = len(e.Message)
	}
	raw := s.held[:n]
	if s.held = s.held[n:]; len(s.held) == 0 {
		s.held = nil // or it would grow without end
	}
	return raw
}

func (s *aferoSide) tellBad(at time.Duration, from recording.Side, emit func(Packet)) {
	if n := len(s.bad); n > 0 {
		emit(Packet{at, from, fmt.Sprintf("%s that mean nothing: %s", plural(n), inHex(s.bad)), true})
		s.bad = s.bad[:0]
	}
}

// packet is an event in words. It sets what is expected next.
func (l *AferoLine) packet(at time.Duration, from recording.Side, e afpro.Event, raw []byte) Packet {
	p := Packet{At: at, From: from}
	switch {
	case e.Kind == afpro.EventReady && from == recording.FromMCU:
		p.Text, p.Bad = "ready, which only the module says", true
	case e.Kind == afpro.EventReady:
		p.Text = "ready"
		l.module.scan.Expect(l.due)
		l.due = 0
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
	case s.Type == afpro.SyncAck:
		name = "Sync Ack"
		l.due = int(s.ASR)
		l.mcu.scan.Expect(int(s.MCU))
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
		emit(Packet{at, from, fmt.Sprintf("a message that breaks off after %s: %s", plural(n), inHex(s.held)), true})
	}
	s.held = nil
	s.scan.Reset()
}

// Break implements Decoder.
func (l *AferoLine) Break(at time.Duration, emit func(Packet)) {
	l.module.giveUp(at, recording.FromModule, emit)
	l.mcu.giveUp(at, recording.FromMCU, emit)
	l.due = 0
}
