package orchestrator_test

import (
	"bytes"
	"errors"
	"sync"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

var errEnded = errors.New("the session has ended")

// session models the connection of a module and the module: a socket that holds
// some bytes, from which they are read at some speed.
type session struct {
	buffer int // what the socket holds: it takes chunks while fewer bytes are in it
	rate   int // bytes a second that are read; 0 for none, less for all at once
	image  []byte

	// received is called for each chunk that was read, with no lock held.
	received func(schemas.Chunk)

	mu     sync.Mutex
	inside []schemas.Chunk
	held   int
	ready  func()
	ended  bool
	bytes  int // taken
	chunks int
	sends  int
	wrong  int // chunks with other bytes than the image's
	work   chan struct{}
	stop   chan struct{}
	reads  sync.WaitGroup
}

// newSession starts the module's reading; close ends it.
func newSession(image []byte, buffer, rate int) *session {
	s := &session{buffer: buffer, rate: rate, image: image, work: make(chan struct{}, 1), stop: make(chan struct{})}
	if rate > 0 {
		s.reads.Go(s.read)
	}
	return s
}

var _ orchestrator.Session = (*session)(nil)

func (s *session) Send(_ string, image schemas.ImageBytes, chunks []schemas.Chunk, ready func()) (int, error) {
	s.mu.Lock()
	taken := 0
	for _, c := range chunks {
		if s.ended {
			s.mu.Unlock()
			return taken, errEnded
		}
		if s.held >= s.buffer {
			if ready != nil {
				s.ready = ready
			}
			break
		}
		s.check(image, c)
		s.bytes += c.Length
		s.chunks++
		taken++
		if s.rate >= 0 {
			s.held += c.Length
			s.inside = append(s.inside, c)
		}
	}
	s.sends++
	s.mu.Unlock()
	if s.rate < 0 && s.received != nil {
		for _, c := range chunks[:taken] {
			s.received(c)
		}
	}
	select {
	case s.work <- struct{}{}:
	default:
	}
	return taken, nil
}

// Backlog implements orchestrator.Backlog; a socket that takes everything is
// always empty.
func (s *session) Backlog() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// check compares some chunks' bytes, mapped or read.
func (s *session) check(image schemas.ImageBytes, c schemas.Chunk) {
	if s.image == nil || s.chunks%8 != 0 {
		return
	}
	want := s.image[c.Offset:][:c.Length]
	if m := image.Mapped(); m != nil && s.chunks%16 == 0 {
		if !bytes.Equal(m[c.Offset:][:c.Length], want) {
			s.wrong++
		}
		return
	}
	got := make([]byte, c.Length)
	if _, err := image.ReadAt(got, int64(c.Offset)); err != nil || !bytes.Equal(got, want) {
		s.wrong++
	}
}

func (s *session) read() {
	for {
		s.mu.Lock()
		if len(s.inside) == 0 {
			s.mu.Unlock()
			select {
			case <-s.work:
				continue
			case <-s.stop:
				return
			}
		}
		c := s.inside[0]
		s.inside = s.inside[1:]
		s.mu.Unlock()
		// A sleep and no timer in a select: under the race detector one that is due at
		// once ends the process in Go 1.26 (runtime.maybeRunChan in a bubble).
		time.Sleep(time.Duration(c.Length) * time.Second / time.Duration(s.rate))
		select {
		case <-s.stop:
			return
		default:
		}
		s.mu.Lock()
		s.held -= c.Length
		ready := s.ready
		if s.held < s.buffer {
			s.ready = nil
		} else {
			ready = nil
		}
		s.mu.Unlock()
		if ready != nil {
			ready()
		}
		if s.received != nil {
			s.received(c)
		}
	}
}

// close ends the session as a lost connection does.
func (s *session) close() {
	s.mu.Lock()
	ready := s.ready
	s.ready = nil
	if !s.ended {
		s.ended = true
		close(s.stop)
	}
	s.mu.Unlock()
	if ready != nil {
		ready()
	}
	s.reads.Wait()
}

func (s *session) took() (bytes, chunks int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes, s.chunks
}

// reader downloads an image over and over through a session, with a window of
// bytes that it awaits.
type reader struct {
	e       *env
	device  string
	image   orchestrator.Image
	chunk   int
	window  int
	session *session

	mu      sync.Mutex
	next    uint64 // what is asked for next
	awaited int
	got     int
	tag     uint16
	refused int
}

// newReader reads the image through a session of its own.
func (e *env) newReader(device string, m orchestrator.Image, body []byte, chunk, window, buffer, rate int) *reader {
	d := &reader{e: e, device: device, image: m, chunk: chunk, window: window, session: newSession(body, buffer, rate)}
	d.session.received = d.received
	return d
}

func (d *reader) received(c schemas.Chunk) {
	d.mu.Lock()
	d.awaited -= c.Length
	d.got += c.Length
	d.mu.Unlock()
	d.ask()
}

// ask fills the window once half of it is free.
func (d *reader) ask() {
	d.mu.Lock()
	free := d.window - d.awaited
	if free < d.window/2 {
		d.mu.Unlock()
		return
	}
	size := d.image.Size
	if d.next >= size {
		d.next = 0
	}
	n := min(uint64(free), size-d.next, uint64(schemas.MaxWindow*d.chunk))
	d.tag++
	f := schemas.Fetch{
		V: 1, Image: d.image.ID, Tag: d.tag, Chunk: d.chunk, Awaited: d.awaited, Ranges: []schemas.Range{{Offset: d.next, Length: n}},
	}
	d.next += n
	d.awaited += int(n)
	d.mu.Unlock()
	if err := d.e.askOver(d.device, f, d.session); err != nil {
		d.mu.Lock()
		d.refused++
		d.mu.Unlock()
	}
}

func (d *reader) progress() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.got
}
