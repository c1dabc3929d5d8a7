package gateway

import (
	"sync"

	"davit/internal/trace"
	"davit/schemas"
)

// Bounds of the queues between paho's read goroutines and the workers.
const (
	// laneDepth is how many messages of one device may wait.
	laneDepth = 64
	// itemCost is added to a message's length when the queue's memory is counted.
	itemCost = 256
)

// item is one message that waits for a worker.
type item struct {
	kind    schemas.Kind
	payload []byte
	trace   *trace.Carried // nil for most
}

func (i item) cost() int { return len(i.payload) + itemCost }

// lanes is a bounded queue with one lane per device: messages of one device are
// handed out one at a time and in order, those of different devices side by
// side. It is safe for use by any number of goroutines.
type lanes struct {
	limit int // bytes

	mu      sync.Mutex
	wake    sync.Cond
	devices map[string]*lane
	first   *lane // lanes that have a message and no worker, oldest first
	last    *lane
	bytes   int
	length  int // messages
	closed  bool
}

// lane is the queue of one device.
type lane struct {
	device string
	items  []item
	next   *lane
}

func newLanes(limit int) *lanes {
	q := &lanes{limit: limit, devices: map[string]*lane{}}
	q.wake.L = &q.mu
	return q
}

// put queues a message unless the queue would then hold more than share of its
// limit (0 to 1), the device's lane is full, or the queue is closed.
func (q *lanes) put(device string, it item, share float64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || float64(q.bytes+it.cost()) > share*float64(q.limit) {
		return false
	}
	l := q.devices[device]
	if l == nil {
		l = &lane{device: device}
		q.devices[device] = l
		q.push(l)
	} else if len(l.items) >= laneDepth {
		return false
	}
	l.items = append(l.items, it)
	q.bytes += it.cost()
	q.length++
	return true
}

// push makes l available to a worker. The caller holds q.mu.
func (q *lanes) push(l *lane) {
	if q.last == nil {
		q.first = l
	} else {
		q.last.next = l
	}
	q.last = l
	q.wake.Signal()
}

// work calls fn for one message after the other until the queue is closed and
// empty. Any number of goroutines may work.
func (q *lanes) work(fn func(device string, it item)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for q.first == nil {
			if q.closed && len(q.devices) == 0 {
				return
			}
			q.wake.Wait()
		}
		l := q.first
		q.first, l.next = l.next, nil
		if q.first == nil {
			q.last = nil
		}
		it := l.items[0]
		q.mu.Unlock()
		fn(l.device, it)
		q.mu.Lock()
		q.done(l)
	}
}

// done takes the first message off l. The caller holds q.mu.
func (q *lanes) done(l *lane) {
	q.bytes -= l.items[0].cost()
	q.length--
	l.items[0] = item{}
	l.items = l.items[1:]
	if len(l.items) > 0 {
		q.push(l)
		return
	}
	delete(q.devices, l.device)
	if q.closed && len(q.devices) == 0 {
		q.wake.Broadcast()
	}
}

// close refuses further messages; work returns when the queued ones are done.
func (q *lanes) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake.Broadcast()
}

// ending says whether close was called.
func (q *lanes) ending() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// depth is how much is in the queue: messages, what they count, and what they may.
func (q *lanes) depth() (messages, bytes, limit int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.length, q.bytes, q.limit
}

// load is the share of the limit that is in use.
func (q *lanes) load() float64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return float64(q.bytes) / float64(q.limit)
}
