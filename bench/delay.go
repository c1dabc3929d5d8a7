package main

import (
	"net"
	"sync"
	"time"
)

// delayLine is a TCP proxy that makes the way to a server long: each byte takes oneWay
// more in each direction, and nothing else is different.
type delayLine struct {
	listener net.Listener
	target   string
	oneWay   time.Duration
	tasks    sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

// startDelay begins to take connections for target.
func startDelay(target string, oneWay time.Duration) (*delayLine, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &delayLine{listener: l, target: target, oneWay: oneWay}
	d.tasks.Go(d.accept)
	return d, nil
}

func (d *delayLine) addr() string { return d.listener.Addr().String() }

// stop ends the proxy and its connections.
func (d *delayLine) stop() error {
	err := d.listener.Close()
	d.mu.Lock()
	for _, c := range d.conns {
		_ = c.Close() // the other side may have ended it
	}
	d.mu.Unlock()
	d.tasks.Wait()
	return err
}

func (d *delayLine) accept() {
	for {
		near, err := d.listener.Accept()
		if err != nil {
			return // stopped
		}
		far, err := net.Dial("tcp", d.target)
		if err != nil {
			_ = near.Close() // which the client sees
			continue
		}
		d.mu.Lock()
		d.conns = append(d.conns, near, far)
		d.mu.Unlock()
		d.tasks.Go(func() { d.carry(near, far) })
		d.tasks.Go(func() { d.carry(far, near) })
	}
}

// parcel is what was read at once, and when it comes out at the other end.
type parcel struct {
	data []byte
	due  time.Time
}

// carry moves bytes in one direction until one side ends.
func (d *delayLine) carry(from, to net.Conn) {
	way := &parcels{}
	way.more.L = &way.mu
	d.tasks.Go(func() {
		for {
			p, ok := way.take()
			if !ok {
				break
			}
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.data); err != nil {
				break
			}
		}
		_, _ = to.Close(), from.Close() // both ends, whichever ended
	})
	for {
		b := make([]byte, 32<<10)
		n, err := from.Read(b)
		if n > 0 {
			way.put(parcel{b[:n], time.Now().Add(d.oneWay)})
		}
		if err != nil {
			way.end()
			return
		}
	}
}

// parcels is a queue without a limit: a long way holds whatever is on it.
type parcels struct {
	mu    sync.Mutex
	more  sync.Cond
	queue []parcel
	ended bool
}

func (q *parcels) put(p parcel) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, p)
	q.more.Signal()
}

func (q *parcels) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.more.Signal()
}

// take waits for the next parcel; false when there are no more.
func (q *parcels) take() (parcel, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queue) == 0 && !q.ended {
		q.more.Wait()
	}
	if len(q.queue) == 0 {
		return parcel{}, false
	}
	p := q.queue[0]
	q.queue[0] = parcel{}
	q.queue = q.queue[1:]
	return p, true
}
