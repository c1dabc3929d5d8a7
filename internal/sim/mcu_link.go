package sim

import (
	"bytes"
	"io"
	"time"

	"davit/schemas/tlv"
)

// link is the MCU's frame layer (docs/wire.md section 2): stop and wait, every
// data frame acknowledged, acks ahead of data.
type link struct {
	rx       tlv.Receiver
	tx       tlv.Lollipop
	queue    [][]byte // packets not sent yet
	inFlight []byte   // the frame on the line as it was sent, nil for none
	seq      byte     // of inFlight
	tries    int      // how often inFlight was sent
}

// onFrame takes what the line brought.
func (m *MCU) onFrame(r received, now time.Time) {
	if !m.up {
		return
	}
	f := r.frame
	long := r.err == nil && m.room(f.Payload) > m.cfg.RxLimit
	if r.err != nil || long && m.cfg.RxCode == tlv.CodeOK {
		m.stats.FramesBad++
		return
	}
	if f.Type == tlv.FrameAck {
		m.onAck(f.Seq, now)
		return
	}
	m.stats.FramesIn++
	if n := m.cfg.Fault.ResetAtFrame; n > 0 && m.stats.FramesIn >= n && !m.resetDone {
		m.resetOnce(now)
		return
	}
	if m.cfg.Fault.Deaf {
		return
	}
	arrival := m.app.link.rx.Accept(f.Seq)
	m.ack(f.Seq, now)
	switch arrival {
	case tlv.Repeated:
		m.stats.Repeated++
		return
	case tlv.Restarted:
		m.stats.PeerRestarts++
		m.app.link.queue, m.app.link.inFlight = nil, nil
		m.stopTimer("ack")
	}
	if long {
		m.tooLong(f.Payload, now)
		return
	}
	m.onPacket(f.Payload, now)
}

// room is how much of the receive buffer a payload takes.
func (m *MCU) room(payload []byte) int {
	n := len(payload)
	if m.cfg.RxStuffed {
		n += bytes.Count(payload, []byte{flagByte}) + bytes.Count(payload, []byte{escapeByte})
	}
	return n
}

// tooLong answers a packet of which the receive buffer has only the beginning.
func (m *MCU) tooLong(payload []byte, now time.Time) {
	if p, err := tlv.ParsePacket(payload); err == nil && m.cfg.RxNAK {
		m.nak(p, m.cfg.RxCode, now)
		return
	}
	m.stat(m.cfg.RxCode, now)
}

// ack acknowledges a data frame, as well as the faults let it.
func (m *MCU) ack(seq byte, now time.Time) {
	if p := m.cfg.Fault.LoseAcks; p > 0 && m.rng.Float64() < p {
		return
	}
	send := func(time.Time) {
		m.stats.AcksOut++
		m.put(tlv.Frame{Type: tlv.FrameAck, Seq: seq})
		if m.cfg.Fault.DoubleAcks {
			m.put(tlv.Frame{Type: tlv.FrameAck, Seq: seq})
		}
	}
	if d := m.cfg.Fault.AckDelay; d > 0 {
		m.after(now, d, "", send)
		return
	}
	send(now)
}

// put encodes a frame to be written.
func (m *MCU) put(f tlv.Frame) {
	b, err := tlv.AppendFrame(m.out, f)
	if err != nil {
		panic("sim: the simulated MCU built a frame that is too long: " + err.Error())
	}
	m.out = b
}

// send queues a packet.
func (m *MCU) send(packet []byte, now time.Time) {
	m.app.link.queue = append(m.app.link.queue, m.accent(packet))
	m.sendNext(now)
}

func (m *MCU) sendNext(now time.Time) {
	l := &m.app.link
	if l.inFlight != nil || len(l.queue) == 0 {
		return
	}
	l.seq = l.tx.Next()
	l.inFlight, l.queue = l.queue[0], l.queue[1:]
	l.tries = 0
	m.stats.FramesOut++
	m.transmit(now)
}

// transmit puts the frame in flight on the line and arms its timer.
func (m *MCU) transmit(now time.Time) {
	l := &m.app.link
	l.tries++
	m.put(tlv.Frame{Type: tlv.FrameData, Seq: l.seq, Payload: l.inFlight})
	m.after(now, m.cfg.AckTimeout, "ack", func(now time.Time) {
		if l.tries <= m.cfg.Retries {
			m.stats.Retries++
			m.transmit(now)
			return
		}
		m.stats.Dropped++
		l.inFlight = nil
		m.sendNext(now)
	})
}

func (m *MCU) onAck(seq byte, now time.Time) {
	l := &m.app.link
	if l.inFlight == nil || seq != l.seq {
		return // late, doubled, or of a life before
	}
	l.inFlight = nil
	m.stopTimer("ack")
	m.sendNext(now)
}

// doubleFlagReader is the ear of a receiver that wants two flags around each
// frame: after the flag that ends one it drops everything up to the next flag.
type doubleFlagReader struct {
	src    io.Reader
	inside bool // after an opening flag
	length int  // bytes since then
}

const (
	flagByte   = 0x7e
	escapeByte = 0x7d
)

func (d *doubleFlagReader) Read(p []byte) (int, error) {
	n, err := d.src.Read(p)
	kept := p[:0]
	for _, b := range p[:n] {
		switch {
		case b == flagByte && d.inside && d.length > 0: // ends the frame
			d.inside = false
		case b == flagByte:
			d.inside, d.length = true, 0
		case !d.inside:
			continue
		default:
			d.length++
		}
		kept = append(kept, b)
	}
	return len(kept), err
}
