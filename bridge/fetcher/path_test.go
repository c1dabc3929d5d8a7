package fetcher

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"davit/bridge/rangeset"
	"davit/schemas"
)

// memory is an image without its bytes.
type memory struct {
	rangeset.Set
	size uint64
}

func (m *memory) Size() uint64             { return m.size }
func (m *memory) Held() uint64             { return m.Total() }
func (m *memory) Has(r schemas.Range) bool { return m.Covers(r.Offset, r.End()) }
func (m *memory) Missing(limit int) []schemas.Range {
	return m.Gaps(schemas.Range{Length: m.size}, limit)
}

// path is the way between a module and the service: a delay and a line with a queue in
// front of it. The service answers at once.
type path struct {
	trip  time.Duration // there and back, of an empty line
	rate  float64       // bytes a second of the line to the module; 0 for no limit
	queue int           // bytes that may wait for the line; more are dropped. 0 for no limit
	loss  float64       // share of chunks lost
	late  float64       // share of chunks that are late
	by    time.Duration // by so much at most; 0 for a round trip
	twice float64       // share of chunks that come twice
	dead  func(time.Duration) bool
}

// overhead is what a chunk has on the line beside its data: the header of the chunk, that of
// the MQTT packet and those of TCP/IP for each 1,460 bytes.
func overhead(n int) int { return schemas.ChunkHeaderSize + 40 + 40*(1+n/1460) }

// run is one image that is fetched over a path, in virtual time.
type run struct {
	path
	f        *Fetcher
	img      *memory
	limits   Limits
	now      time.Time
	began    time.Time
	free     time.Time // when the line has sent what was handed to it
	random   *rand.Rand
	arrivals arrivals
	order    int

	turns func(r *run) // may change the path on the way

	fetches   int
	sent      uint64        // bytes that the service handed to the line
	longest   time.Duration // the longest wait in the queue
	reached   time.Time     // when the window came near its limit
	reachedAt uint64        // bytes held then
	check     func(schemas.Fetch) error
}

// arrival is a chunk on its way.
type arrival struct {
	at    time.Time
	order int
	tag   uint16
	r     schemas.Range
}

// arrivals are sorted by time, and those of one moment as they were sent.
type arrivals []arrival

func (a arrivals) Len() int { return len(a) }
func (a arrivals) Less(i, j int) bool {
	return a[i].at.Before(a[j].at) || a[i].at.Equal(a[j].at) && a[i].order < a[j].order
}
func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)   { *a = append(*a, x.(arrival)) }
func (a *arrivals) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

func newRun(p path, size int, l Limits, seed uint64) *run {
	img := &memory{size: uint64(size)}
	began := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	return &run{
		path: p, img: img, f: New(img, uint16(seed)), limits: l, now: began, began: began, free: began,
		random: rand.New(rand.NewPCG(seed, 1)), check: func(schemas.Fetch) error { return nil },
	}
}

// elapsed is how long it has taken so far.
func (r *run) elapsed() time.Duration { return r.now.Sub(r.began) }

// fetch runs until the image is there, or for at most so long.
func (r *run) fetch(most time.Duration) error {
	for {
		if err := r.ask(); err != nil {
			return err
		}
		if r.img.Held() == r.img.size {
			return nil
		}
		next := r.f.Next()
		if len(r.arrivals) > 0 && (next.IsZero() || r.arrivals[0].at.Before(next)) {
			next = r.arrivals[0].at
		}
		if next.IsZero() {
			return fmt.Errorf("nothing is awaited at %d of %d bytes", r.img.Held(), r.img.size)
		}
		r.now = next
		if r.turns != nil {
			r.turns(r)
		}
		if r.elapsed() > most {
			return fmt.Errorf("%d of %d bytes after %s", r.img.Held(), r.img.size, most)
		}
		for len(r.arrivals) > 0 && !r.arrivals[0].at.After(r.now) {
			r.take(heap.Pop(&r.arrivals).(arrival))
		}
	}
}

func (r *run) ask() error {
	for {
		f, ok := r.f.Ask(r.now, r.limits)
		if !ok {
			break
		}
		r.fetches++
		if err := r.check(f); err != nil {
			return err
		}
		r.serve(f)
	}
	if r.reached.IsZero() && r.f.Awaited() >= r.limits.Window*9/10 {
		r.reached, r.reachedAt = r.now, r.img.Held()
	}
	return nil
}

// serve is the service and the line.
func (r *run) serve(f schemas.Fetch) {
	if r.dead != nil && r.dead(r.elapsed()) {
		return
	}
	there := r.now.Add(r.trip / 2)
	for _, asked := range f.Ranges {
		for at := asked.Offset; at < asked.End(); {
			n := min(uint64(f.Chunk), asked.End()-at)
			r.send(there, f.Tag, schemas.Range{Offset: at, Length: n})
			at += n
		}
	}
}

func (r *run) send(there time.Time, tag uint16, piece schemas.Range) {
	wait := max(0, r.free.Sub(there))
	if r.queue > 0 && wait.Seconds()*r.rate > float64(r.queue) {
		return
	}
	r.sent += piece.Length
	r.longest = max(r.longest, wait)
	at := there.Add(wait)
	if r.rate > 0 {
		at = at.Add(time.Duration(float64(int(piece.Length)+overhead(int(piece.Length))) / r.rate * float64(time.Second)))
		r.free = at
	}
	at = at.Add(r.trip / 2)
	if r.random.Float64() < r.loss {
		return
	}
	if r.random.Float64() < r.late {
		by := r.by
		if by == 0 {
			by = r.trip
		}
		at = at.Add(time.Duration(r.random.Float64() * float64(by)))
	}
	copies := 1
	if r.random.Float64() < r.twice {
		copies = 2
	}
	for range copies {
		r.order++
		heap.Push(&r.arrivals, arrival{at, r.order, tag, piece})
	}
}

func (r *run) take(a arrival) {
	if r.f.Wants(a.tag, a.r) {
		r.img.Add(a.r.Offset, a.r.End())
		r.f.Took(r.now, a.tag, a.r)
	}
}

// goodput is the image over the time that it took, from the first fetch to the last byte.
func (r *run) goodput() float64 { return float64(r.img.size) / r.elapsed().Seconds() }

// running is the goodput from when the window was full for the first time.
func (r *run) running() float64 {
	return float64(r.img.size-r.reachedAt) / r.now.Sub(r.reached).Seconds()
}
