package sniff

import (
	"fmt"
	"slices"
	"time"

	"davit/bridge/recording"
	"davit/schemas/tlv"
)

// AylaLine decodes the host-MCU wire of the ayla dialect (docs/wire.md).
type AylaLine struct{ module, mcu aylaSide }

// aylaSide is one direction.
type aylaSide struct {
	dec  tlv.Decoder
	seqs tlv.Receiver
	run  run                      // since the last frame
	buf  [2 + tlv.MaxPayload]byte // Packet.Content
}

// NewAyla returns a decoder that has heard nothing yet.
func NewAyla() *AylaLine { return &AylaLine{} }

// Again ends the text of a data frame that has the number of the one before.
const Again = " (again)"

// flag stands before and behind each frame.
const flag = 0x7e

// Decode implements Decoder.
func (l *AylaLine) Decode(at time.Duration, from recording.Side, b []byte, emit func(Packet)) {
	s := l.side(from)
	for i := range b { // one by one, as the decoder does not tell how many bytes a frame had
		s.run.add(b[i])
		s.dec.Feed(b[i : i+1])
		switch {
		case s.dec.Next():
			emit(s.frame(at, from))
			s.run.reset()
		case b[i] == flag:
			// Between frames, or the first flag: what came before it belongs to no frame.
			if s.run.drop(); s.run.n > 0 {
				emit(bad(at, from, "%s before a frame: %s", plural(s.run.n), s.run.hex()))
			}
			s.run.reset()
		}
	}
}

func (l *AylaLine) side(from recording.Side) *aylaSide {
	if from == recording.FromMCU {
		return &l.mcu
	}
	return &l.module
}

// frame is the frame that the decoder found, in words.
func (s *aylaSide) frame(at time.Duration, from recording.Side) Packet {
	f, err := s.dec.Frame()
	p := Packet{At: at, From: from}
	if err != nil {
		p.Text, p.Bad = fmt.Sprintf("%v: %s", err, s.run.hex()), true
		return p
	}
	s.buf[0], s.buf[1] = byte(f.Type), f.Seq
	p.Content = s.buf[:2+copy(s.buf[2:], f.Payload)]
	if f.Type == tlv.FrameAck {
		p.Text = fmt.Sprintf("ack %d", f.Seq)
		return p
	}
	text, err := AylaPacket(from, f.Payload)
	if p.Text = fmt.Sprintf("data %d: %s", f.Seq, text); err != nil {
		p.Text, p.Bad = fmt.Sprintf("data %d: %v: %s", f.Seq, err, inHex(f.Payload)), true
	}
	if s.seqs.Accept(f.Seq) == tlv.Repeated {
		p.Text += Again
	}
	return p
}

// Break implements Decoder.
func (l *AylaLine) Break(at time.Duration, emit func(Packet)) {
	for _, from := range []recording.Side{recording.FromModule, recording.FromMCU} {
		s := l.side(from)
		if s.run.n > 0 {
			emit(bad(at, from, "a frame that is not complete: %s", s.run.hex()))
		}
		s.run.reset()
		s.dec.Reset()
	}
}

// run is a run of bytes of which the first are kept.
type run struct {
	n    int
	held []byte
}

func (r *run) add(c byte) {
	if r.n++; len(r.held) < shown {
		r.held = append(r.held, c)
	}
}

// drop takes the last byte off.
func (r *run) drop() {
	if r.n--; r.n < len(r.held) {
		r.held = slices.Delete(r.held, r.n, r.n+1)
	}
}

func (r *run) reset() { r.n, r.held = 0, r.held[:0] }

func (r *run) hex() string {
	if r.n > len(r.held) {
		return fmt.Sprintf("% x... (%d bytes)", r.held, r.n)
	}
	return fmt.Sprintf("% x", r.held)
}
