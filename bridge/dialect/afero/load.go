package afero

import (
	"fmt"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/session"
	"davit/schemas"
	"davit/schemas/afpro"
)

// Times and limits of a load.
const (
	// answerWait is the least that an MCU has to say where to go on: it may write
	// its flash first, and one that lost a byte needs a second to notice.
	answerWait = 1500 * time.Millisecond
	// maxTries is how many times a chunk is sent without an answer before the MCU
	// is taken for one that has restarted.
	maxTries = 3
	// maxOwed bounds how many answers to a chunk that was sent again are awaited.
	maxOwed = maxTries + 1
	// maxStuck is how many answers in a row may ask for nothing that the MCU has
	// not asked for before, where it goes back or stands still.
	maxStuck = 64
	// maxBeyond is how many answers may ask for bytes behind the image.
	maxBeyond = 3
	// maxRounds is how many times its own size a load may send.
	maxRounds = 9
	// readAhead is how much of the image is read at once.
	readAhead = 8 << 10
)

// load is the transfer of an image: the MCU says where to go on.
type load struct {
	chunk int    // the most bytes of the image in one message
	size  uint64 // of the image

	at   uint64 // offset of the chunk that is sent, or sent next
	n    int    // its length
	send bool   // it waits to be sent
	high uint64 // the highest offset that the MCU has asked for

	tries     int       // how often it was sent
	owed      int       // answers that are awaited: more than one after a repetition
	sentAt    time.Time // the MCU has it
	answerDue time.Time
	wait      time.Duration // for the answer

	stuck, beyond int
	total         uint64 // bytes sent in this update

	buf    [readAhead]byte
	bufAt  uint64
	bufLen int
}

// newLoad prepares the load of an image of size bytes, of which an MCU may have
// kept the first loaded.
func newLoad(attributeSize int, size, loaded uint64) load {
	return load{chunk: afpro.ChunkSize(attributeSize), size: size, at: min(loaded, size-1)}
}

// startLoad begins, or goes on where the MCU was heard of last: it will say if
// it wants something else.
func (m *machine) startLoad() {
	u := m.u
	u.phase = phaseLoad
	u.send, u.tries, u.owed, u.high, u.stuck, u.beyond, u.bufLen = true, 0, 0, 0, 0, 0, 0
	u.answerDue = time.Time{}
	m.report(schemas.StateInstalling, 0)
}

// fillChunk appends the chunk that is due.
func (m *machine) fillChunk(b []byte) ([]byte, kind) {
	u := m.u
	if u.at < u.bufAt || u.at >= u.bufAt+uint64(u.bufLen) || u.short() {
		n := min(uint64(len(u.buf)), u.size-u.at)
		if u.Awaits(u.at, n) {
			return b, kindVoid
		}
		if r, err := u.Load(u.buf[:n], u.at); err != nil {
			m.end(r)
			return b, kindVoid
		}
		u.bufAt, u.bufLen = u.at, int(n)
	}
	u.send = false
	i := int(u.at - u.bufAt)
	data := u.buf[i:min(i+u.chunk, u.bufLen)]
	b, err := afpro.AppendTransfer(b, uint32(u.at), data)
	if err != nil {
		return b, kindVoid // no chunk is empty, or longer than the attribute
	}
	u.n = len(data)
	u.total += uint64(len(data))
	return b, kindChunk
}

// short says whether the buffer ends inside the chunk, and the image does not.
func (l *load) short() bool {
	end := min(l.at+uint64(l.chunk), l.size)
	return l.bufAt+uint64(l.bufLen) < end
}

// taken takes note that the MCU has the chunk at a time, in a transaction that took
// so long. Its answer comes in another one, which an MCU that is slow to react in the
// first takes as long for.
func (l *load) taken(at time.Time, took time.Duration, turn *session.Turnaround) {
	l.tries++
	l.owed = min(l.owed+1, maxOwed)
	l.sentAt, l.wait = at, max(answerWait, min(2*took, patience), turn.Wait(0, l.tries))
	l.answerDue = at.Add(l.wait)
}

// wants takes the offset that the MCU asks for.
func (m *machine) wants(next uint32) {
	u := m.u
	if u.phase == phaseVerify && next != afpro.StopOffset && uint64(next) < u.size {
		u.phase = phaseLoad // it found that something is missing
	}
	if u.phase != phaseLoad {
		return
	}
	if u.owed > 0 {
		u.owed--
	}
	offset := uint64(next)
	switch {
	case next == afpro.StopOffset:
		m.loaded(u.at+uint64(u.n) < u.size && u.high < u.size)
	case offset > u.size:
		m.beyond(offset)
	case offset == u.size:
		m.moved(offset)
		if m.u != nil {
			m.loaded(false)
		}
	case offset == u.at && (m.kind == kindChunk || u.send || u.owed > 0):
		// The answer to a repetition: what it asks for is on its way.
	default:
		m.goOn(offset)
	}
}

// goOn sends the chunk at offset next.
func (m *machine) goOn(offset uint64) {
	u := m.u
	if u.tries == 1 {
		m.t.turn.Observe(0, m.now.Sub(u.sentAt))
	}
	if !m.moved(offset) {
		return
	}
	if m.kind == kindChunk {
		m.void() // it is for another place
	}
	u.at, u.send, u.tries, u.answerDue = offset, true, 0, time.Time{}
}

// moved takes note of how far the MCU is. After too much that is no progress the
// update ends, and moved says false.
func (m *machine) moved(offset uint64) bool {
	u := m.u
	switch {
	case offset > u.high:
		m.events.Counted(dialect.BytesLoaded, int(min(offset-u.high, uint64(u.n))))
		u.high, u.stuck = offset, 0
		return m.report(schemas.StateInstalling, u.high)
	case offset > u.at:
	case u.stuck < maxStuck:
		u.stuck++
	default:
		m.end(session.Failed(schemas.CauseProtocol, "The host MCU asked %d times for bytes that it had asked for before, the last time for byte %d of %d, and got no further than %d.",
			u.stuck, offset, u.size, u.high))
		return false
	}
	if u.total <= maxRounds*u.size+uint64(maxStuck*u.chunk) {
		return true
	}
	m.end(session.Failed(schemas.CauseProtocol, "The host MCU went back again and again: %d bytes were sent of an image of %d.", u.total, u.size))
	return false
}

// beyond takes an offset behind the end of the image, which may be a bit error:
// the chunk is sent again, and the MCU says once more what it wants.
func (m *machine) beyond(offset uint64) {
	u := m.u
	m.noise()
	if u.load.beyond++; u.load.beyond > maxBeyond {
		m.end(session.Failed(schemas.CauseProtocol, "The host MCU asked for byte %d of an image of %d bytes, and %d times for others behind its end.", offset, u.size, maxBeyond))
		return
	}
	if u.owed == 0 && m.kind != kindChunk {
		u.send = true
	}
}

// loaded goes on when the MCU wants no more, early or not.
func (m *machine) loaded(early bool) {
	u := m.u
	if !early && u.high < u.size {
		m.events.Counted(dialect.BytesLoaded, int(min(u.size-u.high, uint64(u.n))))
		u.high = u.size
		if !m.report(schemas.StateInstalling, u.size) {
			return
		}
	}
	m.forget()
	u.phase, u.stopped, u.send, u.answerDue = phaseVerify, early, false, time.Time{}
	u.Enter(u.VerdictTimeout, m.now)
}

// verified takes the SHA-256 of what the MCU has received.
func (m *machine) verified(sum [32]byte) {
	u := m.u
	if sum == u.SHA256 {
		m.startApply()
		return
	}
	m.fail = true // it drops what it has
	u.unsaid = 0
	u.mismatches++
	if u.mismatches >= maxMismatches && !u.doubt {
		m.end(session.Failed(schemas.CauseChecksum, "The host MCU received bytes with SHA-256 %x... %d times; the image's is %x....", sum[:8], u.mismatches, u.SHA256[:8]))
		return
	}
	u.at = 0
	if !u.Again() {
		r := u.TooOften(fmt.Sprintf("the host MCU had received bytes with SHA-256 %x... and not %x...", sum[:8], u.SHA256[:8]))
		r.Cause = schemas.CauseChecksum
		m.end(r)
		return
	}
	m.startOffer()
}

// unstopped ends an update whose MCU wanted no more before the end, and did not
// say that it has the image.
func (m *machine) unstopped() {
	u := m.u
	if u.stopped {
		m.end(session.Failed(schemas.CauseFlash, "The host MCU stopped the transfer at byte %d of %d: it could not take more.", max(u.high, u.at), u.size))
		return
	}
	// Where something came damaged it may have said so in vain: it has all the attempts of an update then.
	if u.unsaid++; u.unsaid >= maxUnsaid && (!u.doubt || u.Restarts() >= session.MaxRestarts) {
		m.end(session.Failed(schemas.CauseFlash,
			"The host MCU took the whole image %d times and never said what it had received: it could not write the end of it.", u.unsaid))
		return
	}
	m.again("the host MCU did not say what it had received")
}
