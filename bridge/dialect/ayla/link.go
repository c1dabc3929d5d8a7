package ayla

import (
	"bytes"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/session"
	"davit/schemas/tlv"
)

// Times and lengths of the frame layer (docs/wire.md section 2).
const (
	// patience is how long a frame is sent again before it is given up: the
	// reference module's three waits of 5 s.
	patience = 3 * session.AckCeiling
	// minTries is how many times a frame is sent before it is given up, however
	// slow the peer seems to be: on a noisy line most of them are lost.
	minTries = 5
	// ackLength is the longest ack on the line in bytes.
	ackLength = 10
	// bitsPerByte on the line: start, eight data bits, parity, stop.
	bitsPerByte = 11
)

// kind says what a packet of ours is, so that its ack or its loss means
// something. Those from kindOffer on belong to an update.
type kind byte

const (
	kindReply   kind = iota // an answer to the MCU
	kindConnect             // CONNECT
	kindAsk                 // SEND_PROP
	kindOffer               // MCU_OTA
	kindLoad                // MCU_OTA_LOAD
	kindBoot                // MCU_OTA_BOOT
)

// flight is one encoded data frame.
type flight struct {
	kind  kind
	req   uint16
	end   uint64 // of a LOAD: the image offset after its data
	seq   byte
	frame []byte
	tries int
	// shared: the first time it was sent without its opening flag.
	shared bool
	sent   time.Time // first handed to the line
	since  time.Time // patience runs from here
	due    time.Time // send again
}

// none stands for no flight and no write.
const none = -1

// ackWrite marks that the writer has an ack.
const ackWrite = 2

// lastAck says what a second ack of the frame acknowledged last would mean.
type lastAck byte

const (
	lastNone  lastAck = iota // nothing any more
	lastOnce                 // sent once: the peer doubles its acks
	lastAgain                // sent again: that was too early
	lastEarly                // sent again, and that is known to have been too early
)

// link is the frame layer: stop and wait in both directions, one frame in
// flight and the next one encoded behind it. It belongs to the session's
// goroutine; bytes leave through the writer goroutine, one frame each.
type link struct {
	count func(dialect.Counter, int)
	timer session.Turnaround

	seq     byte // of the next new data frame
	flights [2]flight
	cur     int // in flight
	next    int // encoded, waits for cur
	writing int // what the writer holds: a flight or ackWrite

	acks   [4]byte // owed to the peer
	owed   int
	ackBuf []byte

	// The frame acknowledged last: a second ack of it proves that it was sent again too early, unless the peer
	// acknowledges everything twice.
	lastSeq  byte
	lastLen  int
	lastTook time.Duration
	last     lastAck
	copies   int // sent again, of a LOAD, that have not been acknowledged
	doubles  bool

	sharing sharing
	noise   noise

	rx       tlv.Receiver
	first    [tlv.MaxPayload]byte // the last data frame, if it had seq 0
	firstLen int
	firstAt  time.Time
}

func newLink(baud int, count func(dialect.Counter, int)) *link {
	l := &link{
		count: count, timer: session.NewTurnaround(baud, bitsPerByte, ackLength), cur: none, next: none, writing: none, firstLen: none,
		noise: newNoise(),
	}
	l.ackBuf = make([]byte, 0, ackLength)
	for i := range l.flights {
		l.flights[i].frame = make([]byte, 0, tlv.MaxFrame)
	}
	return l
}

// room says whether a packet can be encoded now.
func (l *link) room() bool {
	if l.cur != none && l.flights[l.cur].seq == 0 {
		return false // should it be given up, the next one takes its number
	}
	return l.next == none && (l.writing == none || l.writing == ackWrite || l.free() != l.writing)
}

// free is the flight to encode into.
func (l *link) free() int {
	if l.cur != none {
		return 1 - l.cur
	}
	if l.writing == 0 {
		return 1
	}
	return 0
}

// encode makes payload the next frame; room has to have said yes.
func (l *link) encode(k kind, req uint16, end uint64, payload []byte) {
	i := l.free()
	f := &l.flights[i]
	frame, err := tlv.AppendFrame(f.frame[:0], tlv.Frame{Type: tlv.FrameData, Seq: l.seq, Payload: payload})
	if err != nil {
		return // a packet longer than a frame is never queued
	}
	*f = flight{kind: k, req: req, end: end, seq: l.seq, frame: frame}
	l.next = i
}

// inFlight is the frame on its way to the peer, nil for none.
func (l *link) inFlight() *flight {
	if l.cur == none {
		return nil
	}
	return &l.flights[l.cur]
}

// forget drops what is in flight and what waits behind it.
func (l *link) forget() { l.cur, l.next = none, none }

// restarted forgets what is in flight, because the peer begins anew.
func (l *link) restarted() {
	l.forget()
	l.sharing.restarted()
}

// forgetNext drops the frame that waits if it belongs to an update; the one
// which takes its place gets its sequence number.
func (l *link) forgetNext() {
	if l.next != none && l.flights[l.next].kind >= kindOffer {
		l.next = none
	}
}

// forgetGreeting drops the frame that waits if it is a part of the greeting.
func (l *link) forgetGreeting() {
	if l.next != none && (l.flights[l.next].kind == kindConnect || l.flights[l.next].kind == kindAsk) {
		l.next = none
	}
}

// write returns the bytes to hand to the writer now, or nil. Acks go ahead of
// data.
func (l *link) write(now time.Time) []byte {
	if l.writing != none {
		return nil
	}
	if l.owed > 0 {
		seq := l.acks[0]
		l.owed--
		copy(l.acks[:], l.acks[1:])
		l.ackBuf, _ = tlv.AppendFrame(l.ackBuf[:0], tlv.Frame{Type: tlv.FrameAck, Seq: seq})
		l.writing = ackWrite
		return l.ackBuf
	}
	if l.cur == none && l.next != none {
		l.cur, l.next = l.next, none
		f := &l.flights[l.cur]
		l.seq = tlv.NextSeq(f.seq)
		f.sent, f.since, f.due = now, now, now
	}
	if l.cur == none {
		return nil
	}
	f := &l.flights[l.cur]
	if now.Before(f.due) {
		return nil
	}
	f.tries++
	if f.tries == 1 {
		l.count(dialect.FramesSent, 1)
	} else {
		l.count(dialect.FramesRetried, 1)
	}
	f.due = now.Add(l.timer.Wait(len(f.frame), f.tries))
	l.writing = l.cur
	if f.tries == 1 && f.kind == kindLoad && l.sharing.wanted() {
		f.shared = true
		return f.frame[1:] // whatever we wrote before ended with a flag
	}
	return f.frame
}

// written takes note that the writer is free again. The line may have held the
// frame back for as long as flow control said so: that is not the peer's time.
func (l *link) written(now time.Time) {
	if l.writing == l.cur && l.cur != none {
		f := &l.flights[l.cur]
		f.due = now.Add(l.timer.Wait(len(f.frame), f.tries))
		if f.tries == 1 {
			f.since = now
		}
	}
	l.writing = none
}

// due is when write has something to do again; the zero time means not before
// something arrives.
func (l *link) due() time.Time {
	if l.writing != none || l.cur == none {
		return time.Time{}
	}
	return l.flights[l.cur].due
}

// expired gives up the frame in flight if it has been sent for long enough.
func (l *link) expired(now time.Time) (flight, bool) {
	if l.cur == none || l.writing != none {
		return flight{}, false
	}
	f := l.flights[l.cur]
	if now.Before(f.due) || now.Sub(f.since) < patience || f.tries < minTries {
		return flight{}, false
	}
	l.cur = none
	if f.seq == 0 {
		// The peer may still hold the number of a frame that our last life sent: until it has heard a 0 from us,
		// any other number may be that one, and be acknowledged as a repetition without being looked at.
		l.seq = 0
	}
	l.count(dialect.FramesLost, 1)
	return f, true
}

// acked takes an ack and returns the flight that it ends, if any. Late and
// repeated acks end nothing.
func (l *link) acked(seq byte, now time.Time) (flight, bool) {
	if l.cur == none || l.flights[l.cur].seq != seq || l.flights[l.cur].tries == 0 {
		l.ackedTwice(seq)
		return flight{}, false
	}
	f := l.flights[l.cur]
	l.cur = none
	took := now.Sub(f.sent)
	if l.last == lastOnce {
		l.doubles = false // the second ack did not come: it was an exception, or it is another peer
	}
	l.lastSeq, l.lastLen, l.lastTook, l.last, l.copies = seq, len(f.frame), took, lastAgain, 0
	if f.tries == 1 {
		l.last = lastOnce
		l.timer.Observe(len(f.frame), min(took, session.AckCeiling))
	}
	if f.kind == kindLoad {
		l.sharing.acked(f.shared, f.tries)
		l.noise.acked(len(f.frame), f.tries)
		l.copies = f.tries - 1
	}
	return f, true
}

// ackedTwice learns from an ack that ends nothing.
func (l *link) ackedTwice(seq byte) {
	if seq != l.lastSeq {
		return
	}
	switch {
	case l.last == lastOnce:
		l.doubles, l.last = true, lastNone
	case l.doubles:
		l.last = lastNone
	case l.last == lastAgain:
		l.timer.Observe(l.lastLen, l.lastTook)
		l.last = lastEarly
	}
	if l.last == lastEarly && l.copies > 0 {
		l.copies--
		l.noise.early()
	}
}

// arrival is what a data frame of the peer means to the frame layer.
type arrival struct {
	restarted bool // the peer's sequence begins anew
	again     bool // seq 0 once more with the same packet: its ack was lost, or the peer restarted twice
	repeated  bool // drop it
}

// data takes a data frame: it owes the ack and says what the frame means.
func (l *link) data(f tlv.Frame, now time.Time) arrival {
	if l.owed == len(l.acks) { // the peer does not wait for acks; keep the newest
		copy(l.acks[:], l.acks[1:])
		l.owed--
	}
	l.acks[l.owed] = f.Seq
	l.owed++
	switch l.rx.Accept(f.Seq) {
	case tlv.Repeated:
		return arrival{repeated: true}
	case tlv.Fresh:
		l.firstLen = none
		return arrival{}
	}
	again := l.firstLen != none && now.Sub(l.firstAt) < patience && bytes.Equal(l.first[:l.firstLen], f.Payload)
	l.firstLen, l.firstAt = copy(l.first[:], f.Payload), now
	return arrival{restarted: true, again: again}
}
