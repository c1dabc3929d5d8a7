package broker

import "sync"

// event is a principal's first connection or the end of its last.
type event struct {
	up   bool
	p    *principal
	done chan struct{} // closed when the callback has returned
}

// events calls the configured callbacks one at a time, in order. put never
// blocks; what waits is bounded by the number of principals that connect and
// disconnect while a callback runs.
type events struct {
	call    func(event)
	mu      sync.Mutex
	queue   []event
	wake    chan struct{} // capacity 1
	ending  chan struct{}
	stopped chan struct{}
}

func newEvents(call func(event)) *events {
	return &events{call: call, wake: make(chan struct{}, 1), ending: make(chan struct{}), stopped: make(chan struct{})}
}

func (e *events) put(up bool, p *principal) <-chan struct{} {
	ev := event{up: up, p: p, done: make(chan struct{})}
	e.mu.Lock()
	e.queue = append(e.queue, ev)
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default: // run looks at the whole queue when it wakes
	}
	return ev.done
}

// stop lets run deliver what is queued and waits for its end.
func (e *events) stop() {
	close(e.ending)
	<-e.stopped
}

// run delivers until stop is called and the queue is empty.
func (e *events) run() {
	defer close(e.stopped)
	for ending := false; ; {
		e.mu.Lock()
		batch := e.queue
		e.queue = nil
		e.mu.Unlock()
		for _, ev := range batch {
			e.call(ev)
			close(ev.done)
		}
		if len(batch) > 0 {
			continue
		}
		if ending {
			return
		}
		select {
		case <-e.wake:
		case <-e.ending:
			ending = true
		}
	}
}
