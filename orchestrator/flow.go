package orchestrator

import (
	"time"

	"golang.org/x/time/rate"

	"davit/schemas"
)

// Bounds of what waits to be sent to one device: ranges, no image bytes. A device
// that awaits more than MaxAwaited breaks the contract; the other bounds keep the
// ranges of a device within some kilobytes however small it makes them.
const (
	maxQueuedBytes     = schemas.MaxAwaited
	maxQueuedRanges    = 4 * schemas.MaxRanges
	maxQueuedTransfers = 32
	maxPending         = 4
)

// A device may ask as often as it is answered: each fetch of which all is sent earns it
// one, and so do askBytes of those that are asked anew before that, askBurst in all. Beside
// that it has askFirst at once, and again askRate a second, or askQueued while something of
// earlier ones still waits to be sent. Who has none left is lent askLent, of which there are
// lendRate a second for all devices together: one that asks for the next before it has the
// last begins at once, and a thousand may not do so together.
const (
	askBurst  = 16
	askFirst  = 4
	askLent   = 12
	askRate   = 2.
	askQueued = 0.5
	askBytes  = 16 << 10
	lendRate  = 200
	lendBurst = 1000
)

// flow is what one device is to be sent. It is guarded by streamer.mu.
type flow struct {
	device  string
	session Session // that the last fetch came by; nil for the long way
	memory  Memory  // of the last session that remembers it; nil if none does
	grant   *grant  // that its last fetch had; nil if it had none yet
	gone    bool    // the device is known by another flow since, or not at all

	queue  []transfer // none is empty
	bytes  uint64     // in queue
	ranges int        // in queue
	// pending are fetches that came while a worker had the flow. Its queue changes
	// only when the worker is back. forgotten says to drop the queue then.
	pending   []transfer
	forgotten bool

	// A flow is with a worker, or in one of the queues, or it waits for its session
	// (blocked), or for credit, or has nothing to send.
	busy       bool
	blocked    bool
	woken      bool   // the session was ready while the flow was busy
	onReady    func() // made once, so that a turn allocates nothing
	listed     *flowQueue
	prev, next *flow

	sent      int64     // bytes under way
	moved     time.Time // when some arrived last, or were sent when none were under way
	allowance int64     // how many may be
	second    int64     // bytes that have arrived since the time below
	since     time.Time
	before    int64     // the same of the time before that
	arrived   int64     // since the beginning, or the last lapse
	trial     bool      // that is not enough yet
	stalled   bool      // nothing moves: sent is not counted among what all have
	lookAt    time.Time // when it is looked at, while it waits for credit
	looks     int       // in a row for nothing
	touched   time.Time // when it asked, or was sent something

	asks    int // that it has; less than none if it was lent some
	askedAt time.Time
	earned  int64 // bytes sent since the last fetch that they earned
}

// transfer is the rest of one fetch.
type transfer struct {
	sum     string
	blob    *sharedBlob // retained from the first turn on
	image   schemas.ImageTag
	tag     uint16
	size    uint64
	chunk   uint64
	ranges  []schemas.Range
	bytes   uint64
	awaited uint64
	session Session
	backlog int64     // of the session, when the fetch came
	asked   time.Time // when the fetch came; zero if it is handed
	begun   bool      // some of it has been sent

	follow bool // the device listens on the shared stream
	always bool // and its job has the image shared also with few
	aside  bool // a manifest, fetched beside an image that may be under way as well
	handed bool // a part of earlier fetches that is not shared: no word of the device
}

// mayAsk takes one of the device's fetches, or lends it one, if there are any.
func (f *flow) mayAsk(now time.Time, lent *rate.Limiter) bool {
	rate := askRate
	if !f.idle() {
		rate = askQueued
	}
	if again := int(now.Sub(f.askedAt).Seconds() * rate); again > 0 {
		f.asks = max(f.asks, min(askFirst, f.asks+again))
		f.askedAt = now
	}
	if f.asks <= -askLent || f.asks <= 0 && !lent.AllowN(now, 1) {
		return false
	}
	f.asks--
	return true
}

// earn gives a device fetches for n bytes that it was sent, which may have been the last
// of a fetch.
func (f *flow) earn(n int64, last bool) {
	if f.earned += n; last {
		f.earned = max(f.earned, askBytes)
	}
	f.asks = min(askBurst, f.asks+int(f.earned/askBytes))
	f.earned %= askBytes
}

// idle says whether nothing is to be done for the flow.
func (f *flow) idle() bool {
	return len(f.queue) == 0 && len(f.pending) == 0 && !f.busy
}

// enqueue adds a fetch to the queue: the newest knows best what is missing. What
// it asks for again is sent once; of what a device counts as awaited, the oldest
// that is more than that was given up; and the bounds hold. It returns how many
// bytes went from the queue without being sent.
func (f *flow) enqueue(t *transfer) (dropped uint64) {
	for i := range f.queue {
		if f.queue[i].sum == t.sum {
			dropped += f.subtract(&f.queue[i], t.ranges)
		}
	}
	f.sweepEmpty()
	if t.awaited > 0 && !t.aside { // which says nothing of the image
		dropped += f.trim(t.awaited, maxQueuedRanges, maxQueuedTransfers)
	}
	dropped += f.trim(maxQueuedBytes-min(t.bytes, maxQueuedBytes), maxQueuedRanges-len(t.ranges), maxQueuedTransfers-1)
	f.queue = append(f.queue, *t)
	f.bytes += t.bytes
	f.ranges += len(t.ranges)
	return dropped
}

// trim drops the oldest until what is left is within the bounds.
func (f *flow) trim(bytes uint64, ranges, transfers int) (dropped uint64) {
	for len(f.queue) > transfers || f.bytes > bytes || f.ranges > ranges {
		t := &f.queue[0]
		if over := f.bytes - min(bytes, f.bytes); len(f.queue) <= transfers && f.ranges <= ranges && over < t.bytes {
			n := f.skip(t, over)
			f.sweepEmpty()
			return dropped + n
		}
		dropped += t.bytes
		f.dropFirst()
	}
	return dropped
}

// skip takes at least n bytes off the beginning of a transfer, whole chunks.
func (f *flow) skip(t *transfer, n uint64) (skipped uint64) {
	for skipped < n && len(t.ranges) > 0 {
		skipped += f.advance(t)
	}
	return skipped
}

// advance takes the next chunk off a transfer and returns its length.
func (f *flow) advance(t *transfer) uint64 {
	r := &t.ranges[0]
	n := min(r.Length, t.chunk)
	r.Offset += n
	r.Length -= n
	if r.Length == 0 {
		t.ranges = t.ranges[1:]
		f.ranges--
	}
	t.bytes -= n
	f.bytes -= n
	return n
}

// worthSending is for how many bytes of credit a device waits that has something under
// way: for one chunk, and where chunks are small for a turn of some, as long as what is
// under way is much more than that. A module that reads slowly is sent what it has read a
// few times a second, and not a chunk at a time.
func (f *flow) worthSending() int64 {
	t := &f.queue[0]
	chunk := int64(min(t.ranges[0].Length, t.chunk))
	return max(chunk, min(int64(f.bytes), f.allowance/4, creditStep))
}

// subtract takes out of t what ranges cover from its beginning: the parts of a
// range of t that lie before and behind stay. Both are in ascending order.
func (f *flow) subtract(t *transfer, ranges []schemas.Range) (taken uint64) {
	if !overlap(t.ranges, ranges) {
		return 0
	}
	var left []schemas.Range
	i := 0
	for _, r := range t.ranges {
		for r.Length > 0 {
			for i < len(ranges) && ranges[i].End() <= r.Offset {
				i++
			}
			if i == len(ranges) || ranges[i].Offset >= r.End() {
				left = append(left, r)
				break
			}
			c := ranges[i]
			if c.Offset > r.Offset {
				left = append(left, schemas.Range{Offset: r.Offset, Length: c.Offset - r.Offset})
			}
			covered := min(c.End(), r.End()) - max(c.Offset, r.Offset)
			taken += covered
			end := max(r.Offset, min(c.End(), r.End()))
			r.Length -= end - r.Offset
			r.Offset = end
		}
	}
	f.ranges += len(left) - len(t.ranges)
	t.ranges = left
	t.bytes -= taken
	f.bytes -= taken
	return taken
}

// overlap says whether two lists in ascending order have a byte in common. Most fetches
// have none with those before, and this makes nothing.
func overlap(a, b []schemas.Range) bool {
	if len(a) == 0 || len(b) == 0 || b[0].Offset >= a[len(a)-1].End() || b[len(b)-1].End() <= a[0].Offset {
		return false
	}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i].End() <= b[j].Offset:
			i++
		case b[j].End() <= a[i].Offset:
			j++
		default:
			return true
		}
	}
	return false
}

// sweepEmpty removes the transfers of which nothing is left.
func (f *flow) sweepEmpty() {
	if !f.someEmpty() {
		return
	}
	kept := f.queue[:0]
	for _, t := range f.queue {
		if len(t.ranges) > 0 {
			kept = append(kept, t)
		} else {
			t.release()
		}
	}
	clear(f.queue[len(kept):])
	f.queue = kept
}

func (f *flow) someEmpty() bool {
	for i := range f.queue {
		if len(f.queue[i].ranges) == 0 {
			return true
		}
	}
	return false
}

// dropFirst removes the first transfer and keeps the slice's memory.
func (f *flow) dropFirst() {
	t := &f.queue[0]
	f.bytes -= t.bytes
	f.ranges -= len(t.ranges)
	t.release()
	n := copy(f.queue, f.queue[1:])
	f.queue[n] = transfer{}
	f.queue = f.queue[:n]
}

// dropAll empties the queue and returns how many bytes were in it.
func (f *flow) dropAll() (dropped uint64) {
	dropped = f.bytes
	for len(f.queue) > 0 {
		f.dropFirst()
	}
	f.blocked = false
	f.remove()
	return dropped
}

// cut returns the next chunks of the first transfer, of at most turnBytes and of the
// credit, but one at least. The transfer stays as it is.
func (f *flow) cut(room []schemas.Chunk, credit int64) []schemas.Chunk {
	t := &f.queue[0]
	left := int64(turnBytes)
	for _, r := range t.ranges {
		for r.Length > 0 {
			n := min(r.Length, t.chunk)
			if len(room) == cap(room) || len(room) > 0 && int64(n) > min(left, credit) {
				return room
			}
			left -= int64(n)
			credit -= int64(n)
			h := schemas.ChunkHeader{Transfer: t.tag, Image: t.image, Offset: r.Offset}
			if r.Offset+n == t.size {
				h.Flags = schemas.ChunkFlagLast
			}
			room = append(room, schemas.Chunk{ChunkHeader: h, Length: int(n)})
			r.Offset += n
			r.Length -= n
		}
	}
	return room
}

func (t *transfer) release() {
	if t.blob != nil {
		t.blob.Release()
		t.blob = nil
	}
}

// flowQueue is a queue without allocations. A flow is in one at most.
type flowQueue struct {
	head, tail *flow
	length     int
}

func (q *flowQueue) push(f *flow) {
	f.listed = q
	f.prev, f.next = q.tail, nil
	if q.tail == nil {
		q.head = f
	} else {
		q.tail.next = f
	}
	q.tail = f
	q.length++
}

// remove takes a flow out of the queue that it is in, if any.
func (f *flow) remove() {
	q := f.listed
	if q == nil {
		return
	}
	if f.prev == nil {
		q.head = f.next
	} else {
		f.prev.next = f.next
	}
	if f.next == nil {
		q.tail = f.prev
	} else {
		f.next.prev = f.prev
	}
	f.listed, f.prev, f.next = nil, nil, nil
	q.length--
}
