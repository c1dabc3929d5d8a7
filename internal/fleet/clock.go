package fleet

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// instant is a time in nanoseconds since the fleet began; 0 is none.
type instant int64

// clock wakes devices when they want to be. One goroutine does it for all.
type clock struct {
	began time.Time

	mu    sync.Mutex
	queue alarms
	wake  chan struct{} // capacity 1: the first alarm is earlier than it was
}

// alarms is a heap of devices by the time of their alarm.
type alarms []*device

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].alarm < a[j].alarm }
func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].place, a[j].place = int32(i), int32(j)
}
func (a *alarms) Push(x any) {
	d := x.(*device)
	d.place = int32(len(*a))
	*a = append(*a, d)
}
func (a *alarms) Pop() any {
	last := len(*a) - 1
	d := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	d.place = -1
	return d
}

func newClock() *clock { return &clock{began: time.Now(), wake: make(chan struct{}, 1)} }

// now is never 0.
func (c *clock) now() instant { return instant(time.Since(c.began)) + 1 }

func (c *clock) time(t instant) time.Time { return c.began.Add(time.Duration(t)) }

// set has a device woken at t or earlier; a device that wakes says when it wants to be
// woken again, so waking it too early does no harm.
func (c *clock) set(d *device, t instant) {
	if t == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case d.place < 0:
		d.alarm = t
		heap.Push(&c.queue, d)
	case d.alarm <= t:
		return
	default:
		d.alarm = t
		heap.Fix(&c.queue, int(d.place))
	}
	if d.place == 0 {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// due takes a device off the queue whose time has come, or says when one is; 0 if there
// is none.
func (c *clock) due(now instant) (*device, instant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return nil, 0
	}
	if first := c.queue[0].alarm; first > now {
		return nil, first
	}
	return heap.Pop(&c.queue).(*device), 0
}

// run wakes devices until ctx ends.
func (c *clock) run(ctx context.Context) {
	const rest = time.Hour
	timer := time.NewTimer(rest)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := c.now()
		d, next := c.due(now)
		if d != nil {
			c.set(d, d.tick(now))
			continue
		}
		wait := rest
		if next != 0 {
			wait = time.Duration(next - now)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-timer.C:
		}
	}
}
