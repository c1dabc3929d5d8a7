package recording

import (
	"io"
	"sync"
	"time"
)

const (
	// bufferSize is how many bytes a Recorder holds in each of its two buffers: what
	// comes while the disk takes the other one. A line of 4 Mbit/s fills one in 0.1 s.
	bufferSize = 64 << 10
	// settle is how long bytes may wait for more before they are written: what a
	// bridge that is killed may lose.
	settle = 200 * time.Millisecond
)

// Recorder records one opening of a port. Its methods may be called from any
// goroutine and never wait for the disk.
type Recorder struct {
	began time.Time
	some  chan struct{} // holds a token if there is something to write
	much  chan struct{} // holds a token if it should not wait for more
	done  chan struct{} // closed by Close

	mu    sync.Mutex
	fill  []byte // entries for the file
	lost  uint64 // bytes that found no room in fill
	size  int64  // of the file, with all entries
	limit int64
	full  bool // the limit is reached
	over  bool // nothing is noted any more

	spare []byte // the writer's
}

func newRecorder(began time.Time, head []byte, limit int64) *Recorder {
	r := &Recorder{
		began: began, some: make(chan struct{}, 1), much: make(chan struct{}, 1), done: make(chan struct{}),
		fill: make([]byte, 0, bufferSize), spare: make([]byte, 0, bufferSize), size: int64(len(head)), limit: limit,
	}
	r.fill = append(r.fill, head...)
	return r
}

// Note adds bytes that a side said just now; they are copied. What comes faster
// than the disk takes it is counted as lost.
func (r *Recorder) Note(from Side, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || len(b) == 0 {
		return
	}
	at := time.Since(r.began)
	for len(b) > 0 && !r.over {
		piece := b[:min(len(b), MaxPiece)]
		r.addLocked(at, from, piece)
		b = b[len(piece):]
	}
	token(r.some)
	if r.over || len(r.fill) > bufferSize/2 {
		token(r.much)
	}
}

func (r *Recorder) addLocked(at time.Duration, from Side, piece []byte) {
	n := entryOverhead + len(piece)
	switch {
	case r.size+int64(n) > r.limit:
		r.full, r.over = true, true
	case r.lost > 0 || len(r.fill)+n > cap(r.fill):
		// Once something is missing, all is missing until the loss itself is noted.
		r.lost += uint64(len(piece))
	default:
		r.fill = appendEntry(r.fill, at, from, piece)
		r.size += int64(n)
	}
}

// token puts a token into a channel that holds one.
func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close ends the recording; what was noted is still written. It returns at once
// and may be called again.
func (r *Recorder) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.done:
	default:
		r.over = true
		close(r.done)
	}
}

// take returns what is to be written and whether that was the last. The bytes are
// valid until the next call.
func (r *Recorder) take() (b []byte, last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, r.fill, r.spare = r.fill, r.spare[:0], r.fill
	if r.lost == 0 {
		return b, r.over
	}
	// The entry about the loss may pass the limit by its few bytes.
	r.fill = appendLost(r.fill, time.Since(r.began), r.lost)
	r.size += entryOverhead + lostSize
	r.lost = 0
	token(r.some)
	return b, false
}

// write writes to the file that open opens, once there is something to write, until
// Close, the limit or an error.
func (r *Recorder) write(open func() (io.WriteCloser, error)) (err error) {
	if !r.wait() {
		return nil // nothing passed on the line: no file
	}
	file, err := open()
	if err != nil {
		r.stop()
		return err
	}
	defer func() {
		r.stop()
		if e := file.Close(); err == nil {
			err = e
		}
	}()
	timer := time.NewTimer(settle)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-r.much:
		case <-r.done:
		}
		b, last := r.take()
		if _, err := file.Write(b); err != nil {
			return err
		}
		if last {
			return nil
		}
		r.wait()
		timer.Reset(settle)
	}
}

// wait waits until there is something to write or the recording is closed, and
// says whether there is.
func (r *Recorder) wait() bool {
	select {
	case <-r.some:
		return true
	default:
	}
	select {
	case <-r.some:
		return true
	case <-r.done:
		// Close may have come between two looks at a recording that has something.
		select {
		case <-r.some:
			return true
		default:
			return false
		}
	}
}

// stop has nothing noted any more.
func (r *Recorder) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

// filled says whether the limit ended the recording.
func (r *Recorder) filled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.full
}
