package orchestrator

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"davit/schemas"
)

// forgetAfter is how long the bytes sent to a device count as outstanding if
// it does not ask again.
const forgetAfter = 5 * time.Second

type streamerConfig struct {
	blobs          Blobs
	publisher      Publisher
	log            *slog.Logger
	metrics        *Metrics
	workers        int
	maxOutstanding int64
}

// streamer sends the chunks that devices ask for. Devices take turns, one
// chunk each; one worker at a time serves a device, so its chunks keep their
// order. It holds ranges, never image bytes, for what is not being sent.
//
// A device has at most schemas.MaxWindow chunks queued: a fetch is added to
// those before it, and the oldest give way if there are too many, since the newest
// knows best what is missing. A fetch also says that whatever was sent before
// has arrived or is lost, so it no longer counts as outstanding.
type streamer struct {
	streamerConfig
	cache   *blobCache
	buffers sync.Pool

	mu          sync.Mutex
	devices     map[string]*flow
	ready       flowQueue     // flows with chunks to send that no worker has
	outstanding int64         // bytes sent that count against maxOutstanding
	wake        chan struct{} // capacity 1: ready is not empty and there is room
}

// flow is what one device is to be sent.
type flow struct {
	device      string
	transfers   []transfer
	chunks      int // queued in all transfers
	busy        bool
	queued      bool
	outstanding int64
	touched     time.Time
	next        *flow
}

// transfer is the rest of one fetch.
type transfer struct {
	sum    string
	image  schemas.ImageTag
	tag    uint16
	size   uint64
	chunk  uint64
	ranges []schemas.Range
	chunks int
}

func newStreamer(c streamerConfig) *streamer {
	s := &streamer{
		streamerConfig: c, cache: newBlobCache(c.blobs), devices: map[string]*flow{}, wake: make(chan struct{}, 1),
	}
	s.buffers.New = func() any {
		b := make([]byte, 0, schemas.ChunkHeaderSize+schemas.MaxChunkSize)
		return &b
	}
	return s
}

// chunksIn counts the chunks that ranges are sent in.
func chunksIn(ranges []schemas.Range, chunk uint64) int {
	n := uint64(0)
	for _, r := range ranges {
		n += (r.Length + chunk - 1) / chunk
	}
	return int(n)
}

// add queues a transfer for a device.
func (s *streamer) add(device string, t transfer) {
	t.chunks = chunksIn(t.ranges, t.chunk)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.devices[device]
	if f == nil {
		f = &flow{device: device}
		s.devices[device] = f
	}
	f.touched = time.Now()
	s.outstanding -= f.outstanding
	f.outstanding = 0
	f.transfers = append(f.transfers, t)
	f.chunks += t.chunks
	for f.chunks > schemas.MaxWindow && len(f.transfers) > 1 {
		f.chunks -= f.transfers[0].chunks
		f.drop()
	}
	s.enqueue(f)
	s.signal()
}

// drop removes the first transfer and keeps the slice's memory.
func (f *flow) drop() {
	n := copy(f.transfers, f.transfers[1:])
	f.transfers[n] = transfer{}
	f.transfers = f.transfers[:n]
}

// forget drops what is queued for a device.
func (s *streamer) forget(device string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.devices[device]; f != nil {
		clear(f.transfers)
		f.transfers, f.chunks = f.transfers[:0], 0
	}
}

func (s *streamer) enqueue(f *flow) {
	if f.busy || f.queued || f.chunks == 0 {
		return
	}
	f.queued = true
	s.ready.push(f)
}

// signal wakes a worker if there is something that it may send. mu is held.
func (s *streamer) signal() {
	if s.ready.head == nil || !s.room() {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *streamer) room() bool { return s.outstanding < s.maxOutstanding }

// run sends until ctx ends.
func (s *streamer) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for range s.workers {
		g.Go(func() error { s.work(ctx); return nil })
	}
	g.Go(func() error { s.sweep(ctx); return nil })
	err := g.Wait()
	s.cache.close()
	return err
}

// sweep frees what was sent to devices that have not asked again.
func (s *streamer) sweep(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.sweepOnce(now)
		}
	}
}

func (s *streamer) sweepOnce(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for device, f := range s.devices {
		if now.Sub(f.touched) < forgetAfter {
			continue
		}
		s.outstanding -= f.outstanding
		f.outstanding = 0
		if f.chunks == 0 && !f.busy && !f.queued {
			delete(s.devices, device)
		}
	}
	s.metrics.setOutstanding(s.outstanding)
	s.signal()
}

func (s *streamer) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		for ctx.Err() == nil && s.turn(ctx) {
		}
	}
}

// piece is one chunk to be sent.
type piece struct {
	transfer
	offset uint64
	length uint64
}

// take picks the next device's next chunk.
func (s *streamer) take() (*flow, piece, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.room() {
		f := s.ready.pop()
		if f == nil {
			return nil, piece{}, false
		}
		f.queued = false
		if f.chunks == 0 {
			continue
		}
		f.busy = true
		p := f.cut()
		f.outstanding += int64(p.length)
		s.outstanding += int64(p.length)
		s.signal() // let another worker take the next device
		return f, p, true
	}
	return nil, piece{}, false
}

// cut takes the next chunk off the first transfer.
func (f *flow) cut() piece {
	t := &f.transfers[0]
	r := &t.ranges[0]
	p := piece{transfer: *t, offset: r.Offset, length: min(r.Length, t.chunk)}
	p.ranges = nil
	r.Offset += p.length
	r.Length -= p.length
	if r.Length == 0 {
		t.ranges = t.ranges[1:]
	}
	t.chunks--
	f.chunks--
	if t.chunks == 0 {
		f.drop()
	}
	return p
}

// turn sends one chunk; false if there was none.
func (s *streamer) turn(ctx context.Context) bool {
	f, p, ok := s.take()
	if !ok {
		return false
	}
	err := s.send(ctx, f.device, p)
	s.metrics.chunk(int(p.length), err)
	s.mu.Lock()
	f.busy = false
	f.touched = time.Now()
	s.enqueue(f)
	s.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		s.log.Debug("chunk not sent", slog.String("device", f.device), slog.String("sha256", p.sum), slog.Any("error", err))
	}
	return true
}

func (s *streamer) send(ctx context.Context, device string, p piece) error {
	blob, err := s.cache.open(ctx, p.sum)
	if err != nil {
		return err
	}
	defer s.cache.release(blob)
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	h := schemas.ChunkHeader{Transfer: p.tag, Image: p.image, Offset: p.offset}
	if p.offset+p.length == p.size {
		h.Flags = schemas.ChunkFlagLast
	}
	b := h.AppendTo((*buf)[:0])
	b = b[:schemas.ChunkHeaderSize+int(p.length)]
	if _, err := blob.ReadAt(b[schemas.ChunkHeaderSize:], int64(p.offset)); err != nil {
		return fmt.Errorf("read %d bytes at %d of %s: %w", p.length, p.offset, p.sum, err)
	}
	return s.publisher.Chunk(ctx, device, b)
}

// flowQueue is a queue without allocations.
type flowQueue struct{ head, tail *flow }

func (q *flowQueue) push(f *flow) {
	f.next = nil
	if q.tail == nil {
		q.head = f
	} else {
		q.tail.next = f
	}
	q.tail = f
}

func (q *flowQueue) pop() *flow {
	f := q.head
	if f == nil {
		return nil
	}
	q.head = f.next
	if q.head == nil {
		q.tail = nil
	}
	f.next = nil
	return f
}
