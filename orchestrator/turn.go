package orchestrator

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"davit/internal/logevent"
	"davit/schemas"
)

// A turn sends at most so much to a device, and at least one chunk. Turns are large
// because a module that gets much at a time reads it while it is still in the
// processor's cache: with 64 KiB, 1,000 modules need a third more time.
const (
	turnBytes  = 256 << 10
	turnChunks = 64
)

// turn is what one worker sends to one device at a time. A worker uses it again for
// each, so that a turn allocates nothing.
type turn struct {
	*streamer
	flow     *flow
	transfer *transfer // the first of the flow, which nobody changes meanwhile
	session  Session
	space    [turnChunks]schemas.Chunk
	chunks   []schemas.Chunk // in space
}

// sent is what became of a turn.
type sent struct {
	taken  int   // chunks that are dealt with
	bytes  int64 // that are under way because of it
	failed error // the flow has no session any more, or its image cannot be read
	reason string
}

// take picks the next device and what it is sent; false if there is none.
func (w *turn) take() bool {
	s := w.streamer
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.next()
	if q == nil {
		if s.proven.head != nil || s.trial.head != nil {
			s.metrics.waited(waitTotal)
		}
		return false
	}
	w.begin(q.head)
	s.signal() // let another worker take the next device
	return true
}

// begin takes a device out of its queue and picks what it is sent; mu is held.
func (w *turn) begin(f *flow) {
	w.turns++
	f.remove()
	f.busy, f.woken = true, false
	w.flow, w.transfer, w.session = f, &f.queue[0], f.session
	w.chunks = f.cut(w.space[:0], w.room(f))
}

// send sends the turn's chunks, some of them or none.
func (w *turn) send(ctx context.Context) sent {
	t := w.transfer
	if t.blob == nil {
		blob, err := w.cache.open(ctx, t.sum)
		if err != nil {
			return sent{failed: err, reason: withdrawnUnreadable}
		}
		t.blob = blob
	}
	if w.session == nil {
		return w.publish(ctx, t.blob)
	}
	n, err := w.session.Send(w.flow.device, t.blob, w.chunks, w.flow.onReady)
	out := sent{taken: n}
	if err != nil {
		out.failed, out.reason = err, withdrawnEnded
	}
	for _, c := range w.chunks[:n] {
		out.bytes += int64(c.Length)
	}
	w.metrics.sent(wayShort, n, out.bytes)
	return out
}

// publish sends the turn's chunks the long way. Those that cannot be read or sent
// are lost.
func (w *turn) publish(ctx context.Context, blob *sharedBlob) sent {
	buf := w.buffers.Get().(*[]byte)
	defer w.buffers.Put(buf)
	out := sent{taken: len(w.chunks)}
	for _, c := range w.chunks {
		if err := w.publishOne(ctx, blob, c, (*buf)[:0]); err != nil {
			w.metrics.chunkFailed(1)
			if ctx.Err() == nil {
				w.log.Debug("chunk not sent", "event", logevent.ChunkNotSent, slog.String("device", w.flow.device), slog.String("sha256", blob.sum), slog.Any("error", err))
			}
			continue
		}
		w.metrics.sent(wayLong, 1, int64(c.Length))
		out.bytes += int64(c.Length)
	}
	return out
}

func (w *turn) publishOne(ctx context.Context, blob *sharedBlob, c schemas.Chunk, room []byte) error {
	b := c.AppendTo(room)
	b = b[:len(b)+c.Length]
	if _, err := blob.ReadAt(b[schemas.ChunkHeaderSize:], int64(c.Offset)); err != nil {
		return fmt.Errorf("read %d bytes at %d of %s: %w", c.Length, c.Offset, blob.sum, err)
	}
	return w.publisher.Chunk(ctx, w.flow.device, b)
}

// timed counts how long the first and the last chunk of a fetch took, if the turn had
// them; mu is held and the transfer's chunks are taken off it.
func (w *turn) timed(now time.Time) {
	t := w.transfer
	if t.asked.IsZero() {
		return
	}
	took := now.Sub(t.asked)
	if !t.begun {
		t.begun = true
		w.metrics.fetchBegan(took)
	}
	if len(t.ranges) == 0 {
		w.metrics.fetchEnded(took)
	}
}

// settle gives the flow back.
func (w *turn) settle(out sent) {
	s, f, now := w.streamer, w.flow, time.Now()
	s.doings.sent(out.taken, out.bytes, now)
	if out.failed != nil {
		s.log.Debug("chunks not sent", "event", logevent.ChunksNotSent, slog.String("device", f.device), slog.String("sha256", w.transfer.sum), slog.Any("error", out.failed))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for range out.taken {
		f.advance(w.transfer)
	}
	f.earn(out.bytes, len(w.transfer.ranges) == 0)
	if out.taken > 0 {
		f.touched = now
		w.timed(now)
	}
	f.sweepEmpty()
	s.underWay(f, out.bytes, now)
	f.busy = false
	switch {
	case out.failed != nil:
		s.metrics.withdrew(out.reason, f.dropAll())
	case out.taken < len(w.chunks) && !f.woken:
		f.blocked = true
		s.metrics.waited(waitSession)
	}
	if f.forgotten {
		f.forgotten = false
		f.dropAll()
		s.confirm(f, 0, now)
	}
	for i := range f.pending {
		s.apply(f, &f.pending[i], now)
	}
	clear(f.pending)
	f.pending = f.pending[:0]
	w.flow, w.transfer, w.session = nil, nil, nil
	s.schedule(f)
	s.signal()
}
