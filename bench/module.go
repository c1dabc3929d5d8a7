package main

import (
	"sync"
	"time"

	"davit/schemas"
)

// course is what each of several modules fetches.
type course struct {
	image  string // its id
	chunk  int    // bytes
	window int    // chunks that a module awaits at most
	batch  int    // chunks that it asks for at a time
	length int64  // bytes in all, over and over the image
	// atOnce leaves out the slow start: the whole window is asked for at the beginning.
	atOnce bool
	// adapts has windows and chunks follow the path in the place of chunk and batch; window is
	// in bytes then, and the image is fetched once.
	adapts bool
}

// slowStart is the window in bytes with which a module begins: the service gives no more to
// one that it has not heard of for a while. It grows by each chunk that arrives.
const slowStart = 64 << 10

// stallTime is after how long without a chunk a module asks again for what is missing.
const stallTime = 2 * time.Second

// module fetches an image as davit's contract has it. mu guards what is below it.
type module struct {
	*link
	head string // topic of its fetches

	mu       sync.Mutex
	course   course
	ledger   ledger
	adaptive *adaptive      // in the place of ledger and limit, if the course adapts
	limit    int            // the window in chunks at present
	finished func(error)    // called once for each course
	tag      uint16         // of the last fetch
	before   uint16         // the tag of the last fetch of the course before
	askedAt  [256]time.Time // by the low byte of the tag
	moved    time.Time      // when a chunk arrived last
	began    time.Time      // the course
	took     time.Duration  // the last course that has ended
	again    int            // times that it had to ask again
	latency  histogram      // from a fetch to each of its chunks; emptied by whoever reads it
	buf      []byte
}

// dialModule connects a device and subscribes to its chunks.
func dialModule(addr, device, password string, image []byte) (*module, error) {
	m := &module{head: schemas.Topic{Device: device, Kind: schemas.KindFetch}.String()}
	var err error
	m.link, err = dialLink(addr, device, password, image, m.arrived, m.lost)
	return m, err
}

// lost is called when the connection has ended.
func (m *module) lost(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finish(err)
}

// finish ends the course, if there is one. mu is held.
func (m *module) finish(err error) {
	if m.finished != nil {
		m.took = time.Since(m.began)
		m.finished(err)
		m.finished = nil
	}
}

// start begins a course; finished is called when all of it has arrived or something
// went wrong.
func (m *module) start(c course, finished func(error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ledger.begin(len(m.stream.image), c.chunk, c.length); err != nil {
		return err
	}
	m.course, m.finished, m.began, m.again, m.adaptive = c, finished, time.Now(), 0, nil
	m.moved = m.began
	if c.adapts {
		m.before, m.adaptive = m.tag, newAdaptive(len(m.stream.image), c.window, m.tag)
		return m.askAdaptive(m.moved)
	}
	if m.limit = max(1, slowStart/c.chunk); c.atOnce {
		m.limit = c.window
	}
	m.before = m.tag
	return m.askMore()
}

// askMore asks for what the window has room for, in whole batches. mu is held.
func (m *module) askMore() error {
	limit := min(m.limit, m.course.window)
	batch := max(1, min(m.course.batch, (limit+1)/2))
	if m.course.batch == m.course.window {
		batch = limit // one fetch at a time
	}
	for m.ledger.missing+batch <= limit {
		awaited := m.ledger.missing * m.course.chunk
		r := m.ledger.ask(batch)
		if r.Length == 0 {
			return nil
		}
		if err := m.ask(awaited, r); err != nil {
			return err
		}
	}
	return nil
}

func (m *module) ask(awaited int, ranges ...schemas.Range) error {
	return m.send(m.tag+1, m.course.chunk, ranges, awaited)
}

// send sends a fetch. mu is held.
func (m *module) send(tag uint16, chunk int, ranges []schemas.Range, awaited int) error {
	m.tag = tag
	payload := appendFetch(make([]byte, 0, 256), m.course.image, m.tag, chunk, ranges, awaited)
	m.buf = append(appendPublishHead(m.buf[:0], m.head, len(payload)), payload...)
	m.askedAt[m.tag%256] = time.Now()
	_, err := m.conn.Write(m.buf)
	return err
}

// arrived notes a chunk that was compared.
func (m *module) arrived(h schemas.ChunkHeader, length int, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.finished == nil || h.Transfer-m.before > m.tag-m.before || h.Transfer == m.before {
		return nil // late, of a course before
	}
	if m.adaptive != nil {
		return m.arrivedAdaptive(h, length, now)
	}
	wanted, err := m.ledger.arrived(h.Offset, length)
	if err != nil || !wanted {
		return err
	}
	m.moved = now
	m.limit++
	m.latency.add(now.Sub(m.askedAt[h.Transfer%256]), 1)
	if m.ledger.done() {
		m.finish(nil)
		return nil
	}
	return m.askMore()
}

// nudge asks again for what is missing if nothing has come for a while.
func (m *module) nudge(now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.finished == nil || now.Sub(m.moved) < stallTime {
		return nil
	}
	m.moved = now
	m.again++
	if m.adaptive != nil {
		return m.askAdaptive(now)
	}
	if holes := m.ledger.holes(m.course.batch); len(holes) > 0 {
		return m.ask(0, holes...)
	}
	return m.askMore()
}
