package rehearsal

import (
	"container/heap"
	"time"
)

// action is what an event does.
type action byte

const (
	actPhase  action = iota + 1 // the phase of a device's update ends
	actToggle                   // a device's connection comes or goes
	actFall                     // a device returns to the version before
	actPeople                   // people do what they were asked for
)

// event is something that happens at a moment, in whole seconds from the start:
// what falls into the same one costs one look at the job.
type event struct {
	at    time.Duration
	order uint64 // of events at the same moment: the order in which they were made
	act   action
	d     *device
	// valid is the device's count when the event was made; another one means that the
	// phase that was to end is over.
	valid uint32
	do    func() error // of actPeople
}

// queue is a heap of events.
type queue []event

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	if q[i].at != q[j].at {
		return q[i].at < q[j].at
	}
	return q[i].order < q[j].order
}

func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(event)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// after has an event happen after a time, rounded up to whole seconds, one at least.
func (w *world) after(d time.Duration, e event) {
	e.at = w.at + max(time.Second, (d+time.Second-1).Truncate(time.Second))
	e.order = w.made
	w.made++
	heap.Push(&w.queue, e)
}

// pop takes the next event that is due by now.
func (w *world) pop() (event, bool) {
	if len(w.queue) == 0 || w.queue[0].at > w.at {
		return event{}, false
	}
	return heap.Pop(&w.queue).(event), true
}
