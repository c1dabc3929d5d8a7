package afero

import (
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/session"
	"davit/schemas/afpro"
)

// Times of the transport (docs/afero-wire.md section 2).
const (
	// readyAgain is how often the ready byte is repeated while the MCU is to
	// react to it, and readyAfter after a transaction whose last one may be lost.
	readyAgain = time.Second
	readyAfter = 5 * time.Second
	// patience is how long the MCU may do nothing in a transaction before it is
	// given up: the 10 s after which an MCU resets a silent ASR.
	patience = 10 * time.Second
	// starving is how long our message may wait for an MCU that speaks all the
	// time, and wins each time.
	starving = time.Minute
	// gapMargin is, beside the time of gapBytes on the line, how long a message
	// may pause before its rest is taken for lost.
	gapMargin = 100 * time.Millisecond
	gapBytes  = 20
	// bitsPerByte on the line: start, eight data bits, stop.
	bitsPerByte = 10
	// doubleWithin is how soon after a Request another one is not a repetition.
	doubleWithin = readyAgain / 2
	// maxReadyAfter is how often the ready byte is repeated after a transaction.
	maxReadyAfter = 3
)

// step is where a transaction is.
type step byte

const (
	stepIdle      step = iota
	stepAsked          // ready sent, a Request is to come
	stepAnswered       // Response and ready sent, an Ack is to come
	stepCollided       // as stepAnswered, but the Request is to come again: the MCU wins
	stepSending        // our message is on its way to the line
	stepReceiving      // the MCU's message is to come
)

// happening is what a transport tells the machine.
type happening byte

const (
	nothing   happening = iota
	received            // a message of the MCU is there
	delivered           // ours is with the MCU
	refused             // the MCU announced more bytes than any message has; what came went by
	mangled             // bytes that mean nothing, or a message that broke off
	zeroSync            // a transaction in which nobody had anything to say
)

// transport is afPro over a UART as the slave: the MCU drives every transaction,
// the ASR asks for one with the ready byte. It holds one message to be sent.
type transport struct {
	count func(dialect.Counter, int)
	turn  session.Turnaround
	scan  *afpro.Scanner
	limit int // bytes of the longest message taken

	step    step
	zero    bool // the next transaction in which the MCU has nothing to say is a zero sync
	yields  bool // after a collision: the next Request is answered without our message
	counts  afpro.Sync
	since   time.Time // the step began
	readyAt time.Time // ready was sent last
	heard   time.Time // the last byte of the message that comes in, zero before the first
	extra   int       // ready bytes sent after the last transaction
	expect  bool      // the MCU owes us a message
	free    time.Time // the line has sent all that it was handed
	active  time.Time // the MCU's last message
	coming  []byte    // what has come of its message

	msg   []byte // to be sent, empty for none
	began time.Time

	bufs    [2][]byte // for the line: one is being written, one filled
	filling int
	writing bool
}

func newTransport(baud int, limit int, count func(dialect.Counter, int)) *transport {
	t := &transport{count: count, turn: session.NewTurnaround(baud, bitsPerByte, 2*afpro.SyncSize), scan: afpro.NewScanner(limit), limit: limit}
	for i := range t.bufs {
		t.bufs[i] = make([]byte, 0, limit+2*afpro.SyncSize)
	}
	t.msg, t.coming = make([]byte, 0, limit), make([]byte, 0, limit)
	return t
}

// room says whether a message can be given to send. Its bytes are appended to
// what buffer returns and given back to send.
func (t *transport) room() bool { return len(t.msg) == 0 }

func (t *transport) buffer() []byte { return t.msg[:0] }

func (t *transport) send(msg []byte, now time.Time) {
	t.msg, t.began = msg, now
	t.count(dialect.FramesSent, 1)
	if t.step == stepIdle {
		t.ask(now)
	}
}

// begin has the next transaction be a zero sync, as the first one after a reset
// has to be: our messages come behind it.
func (t *transport) begin() { t.zero = true }

// drop takes back the message that waits. It says whether it could: a message
// whose length the MCU has been told has to come.
func (t *transport) drop() bool {
	switch {
	case t.step == stepSending, t.step == stepAnswered && t.counts.ASR > 0:
		return false
	case t.step == stepAsked:
		t.step = stepIdle // the MCU may ask all the same, and hears that there is nothing
	}
	t.msg = t.msg[:0]
	return true
}

// ask asks the MCU for a transaction.
func (t *transport) ask(now time.Time) {
	t.ready(now)
	t.enter(stepAsked, now)
}

func (t *transport) enter(s step, now time.Time) { t.step, t.since = s, now }

func (t *transport) ready(now time.Time) {
	t.put(afpro.Ready)
	t.readyAt = later(now, t.free)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// put appends to what is written next.
func (t *transport) put(b ...byte) { t.bufs[t.filling] = append(t.bufs[t.filling], b...) }

// write returns the bytes to hand to the line now, or nil.
func (t *transport) write(now time.Time) []byte {
	if t.writing || len(t.bufs[t.filling]) == 0 {
		return nil
	}
	b := t.bufs[t.filling]
	t.filling = 1 - t.filling
	t.bufs[t.filling] = t.bufs[t.filling][:0]
	t.writing = true
	t.free = later(now, t.free).Add(t.turn.LineTime(len(b)))
	t.readyAt = t.free // waits begin when the line is through
	return b
}

// sent takes note that the line has taken what was written, and says whether
// that completed our message.
func (t *transport) sent(now time.Time) happening {
	t.writing = false
	if t.step != stepSending || len(t.bufs[t.filling]) > 0 {
		return nothing
	}
	t.msg = t.msg[:0]
	t.rest(now)
	return delivered
}

// rest ends a transaction in which something was said.
func (t *transport) rest(now time.Time) {
	t.enter(stepIdle, now)
	t.yields, t.extra = false, 0
	if len(t.msg) > 0 {
		t.ask(now)
	}
}

// feed hands over bytes of the MCU; next then tells what they mean, one thing
// after the other.
func (t *transport) feed(b []byte, now time.Time) {
	if t.step == stepReceiving {
		t.heard = now
	}
	t.scan.Feed(b)
}

// next returns what happened, and the message if one was received: it is valid
// until the next call.
func (t *transport) next(now time.Time) (happening, []byte, bool) {
	for t.scan.Next() {
		h, msg := t.event(t.scan.Event(), now)
		if h != nothing {
			return h, msg, true
		}
	}
	return nothing, nil, false
}

func (t *transport) event(e afpro.Event, now time.Time) (happening, []byte) {
	switch e.Kind {
	case afpro.EventSync:
		if e.Sync.Type == afpro.SyncAck {
			return t.acked(e.Sync, now), nil
		}
		t.requested(e.Sync, now)
		return nothing, nil
	case afpro.EventMessage:
		return t.collect(e.Message, now)
	case afpro.EventSkipped:
		t.count(dialect.FramesBad, 1)
		t.complete(now)
		return refused, nil
	}
	t.count(dialect.FramesBad, 1)
	return mangled, nil
}

// collect takes bytes of the MCU's message. It begins with its own length, so
// that what lies in front of that, such as an Ack that was said twice, is passed over.
func (t *transport) collect(b []byte, now time.Time) (happening, []byte) {
	t.coming = append(t.coming, b...)
	junk := 0
	for junk < len(t.coming) && !begins(t.coming[junk:], int(t.counts.MCU)) {
		junk++
	}
	if junk > 0 {
		t.count(dialect.FramesBad, 1)
		t.coming = t.coming[:copy(t.coming, t.coming[junk:])]
		t.scan.Expect(junk) // as many are missing now
		return mangled, nil
	}
	t.count(dialect.FramesReceived, 1)
	t.active = now
	t.complete(now)
	return received, t.coming
}

// begins says whether b can be the beginning of a message of n bytes.
func begins(b []byte, n int) bool {
	length := n - 2
	return b[0] == byte(length) && (len(b) < 2 || b[1] == byte(length>>8))
}

// complete ends a transaction in which the MCU spoke.
func (t *transport) complete(now time.Time) {
	t.ready(now)
	t.rest(now)
}

// requested answers a Sync Request, which may come at any time and begins a
// transaction anew: what waits for the line belongs to one that the MCU has left.
func (t *transport) requested(s afpro.Sync, now time.Time) {
	if t.doubled(s, now) {
		return
	}
	t.extra = 0
	answer := afpro.Sync{Type: afpro.SyncCounts, MCU: s.MCU}
	if len(t.msg) > 0 && !(t.zero && s.MCU == 0) && !(t.yields && s.MCU > 0) {
		answer.ASR = uint16(len(t.msg))
	}
	t.counts = answer
	t.bufs[t.filling] = afpro.AppendSync(t.bufs[t.filling][:0], answer)
	t.ready(now)
	if answer.Collision() {
		t.yields = true
		t.enter(stepCollided, now)
		return
	}
	t.enter(stepAnswered, now)
}

// talks says when the MCU will have been without a message of its own for as
// long as wait: not now while one is on its way.
func (t *transport) talks(now time.Time, wait time.Duration) time.Time {
	switch t.step {
	case stepAnswered, stepCollided, stepReceiving:
		if t.counts.MCU > 0 {
			return now.Add(wait)
		}
	}
	return t.active.Add(wait)
}

// doubled says whether a Request is the one before once more, sent before the
// MCU can have seen the answer to that: it repeats one after a second, or after the
// ready byte of a collision.
func (t *transport) doubled(s afpro.Sync, now time.Time) bool {
	since := now.Sub(t.since)
	switch t.step {
	case stepAnswered:
		return s.MCU == t.counts.MCU && since < doubleWithin
	case stepCollided:
		return s.MCU == t.counts.MCU && since < t.turn.LineTime(afpro.SyncSize+2)
	}
	return false
}

// acked takes a Sync Acknowledge.
func (t *transport) acked(s afpro.Sync, now time.Time) happening {
	if t.step != stepAnswered || s.MCU != t.counts.MCU || s.ASR != t.counts.ASR {
		t.count(dialect.FramesBad, 1)
		return mangled
	}
	switch {
	case s.MCU > 0:
		if n := int(s.MCU); n > t.limit || !t.scan.Expect(n) {
			t.scan.Skip(n)
		}
		t.ready(now)
		t.enter(stepReceiving, now)
		t.heard, t.coming = time.Time{}, t.coming[:0]
	case s.ASR > 0:
		t.ready(now)
		t.put(t.msg...)
		t.ready(now)
		t.enter(stepSending, now)
	default:
		t.zero = false
		t.ready(now)
		t.rest(now)
		return zeroSync
	}
	return nothing
}

// tick does what is due. It says what became of a message of the MCU that broke
// off, and whether ours was given up.
func (t *transport) tick(now time.Time) (h happening, lost bool) {
	if !session.Passed(t.wake(), now) {
		return nothing, false
	}
	if session.Passed(t.starvesAt(), now) && t.drop() {
		t.count(dialect.FramesLost, 1)
		return nothing, true
	}
	switch {
	case !session.Passed(t.stepEnds(), now):
		return nothing, false
	case t.hearing():
		t.scan.Hunt()
		t.count(dialect.FramesBad, 1)
		t.complete(now) // or the MCU would wait for it for ever
		if int(t.counts.MCU) > t.limit {
			return refused, false
		}
		return mangled, false
	case t.step == stepIdle:
		t.again(now)
		t.extra++
	case now.Sub(t.since) >= patience:
		return nothing, t.giveUp(now)
	default:
		t.again(now)
	}
	return nothing, false
}

// starvesAt is when our message has waited for too long, the zero time if there
// is none, or if it is on its way at last.
func (t *transport) starvesAt() time.Time {
	if len(t.msg) == 0 || t.step == stepSending || t.step == stepAnswered && t.counts.ASR > 0 {
		return time.Time{}
	}
	return t.began.Add(starving)
}

// again repeats the ready byte. Where the line takes nothing, one that waits is
// enough.
func (t *transport) again(now time.Time) {
	if len(t.bufs[t.filling]) > 0 {
		t.readyAt = now
		return
	}
	t.ready(now)
}

// hearing says whether a message of the MCU has begun to come in.
func (t *transport) hearing() bool { return t.step == stepReceiving && !t.heard.IsZero() }

// giveUp ends a transaction that the MCU does not go on with. It says whether
// our message was given up with it: one that was added later has its time yet.
func (t *transport) giveUp(now time.Time) (lost bool) {
	t.scan.Hunt()
	t.bufs[t.filling] = t.bufs[t.filling][:0] // the line took none of it
	lost = len(t.msg) > 0 && now.Sub(t.began) >= patience
	if lost {
		t.msg = t.msg[:0]
		t.count(dialect.FramesLost, 1)
	}
	t.rest(now)
	return lost
}

// wake is when tick has something to do, the zero time for not before
// something arrives.
func (t *transport) wake() time.Time {
	at, starves := t.stepEnds(), t.starvesAt()
	if at.IsZero() {
		return starves
	}
	return session.Earliest(at, starves)
}

// stepEnds is when the MCU has had its time for the step.
func (t *transport) stepEnds() time.Time {
	switch {
	case t.hearing():
		return t.heard.Add(gapMargin + t.turn.LineTime(gapBytes))
	case t.step == stepSending:
		return time.Time{}
	case t.step != stepIdle:
		return session.Earliest(t.since.Add(patience), t.readyAt.Add(readyAgain))
	case t.expect:
		return t.readyAt.Add(readyAgain)
	case t.readyAt.IsZero() || t.extra >= maxReadyAfter:
		return time.Time{}
	}
	return t.readyAt.Add(readyAfter)
}
