package orchestrator

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"davit/internal/logevent"
	"davit/schemas"
)

// follow takes a fetch to the shared stream of its image if the device listens on
// it, and says whether it has; mu is held. What the device has asked of the stream is
// not under way to it alone.
func (s *streamer) follow(f *flow, t *transfer, now time.Time) bool {
	w := s.following[f.device]
	if t.aside && w != nil && w.session == t.session {
		w.asked = now // it goes on following, and is sent the manifest beside that
		return false
	}
	if w != nil && (w.stream.sum != t.sum || w.session != t.session) {
		s.metrics.withdrew(withdrawnEnded, w.demand.size())
		s.leave(w)
		w = nil
	}
	if !t.follow || s.multicaster == nil {
		if w != nil {
			s.repairs(w, t)
		}
		return false
	}
	if until, alone := s.alone[f.device]; alone && now.Before(until) {
		return false
	}
	if w == nil {
		w = s.join(f.device, t)
	}
	w.chunk, w.always, w.asked = t.chunk, t.always, now
	awaited := max(0, int64(t.awaited)-int64(w.demand.size())-int64(f.bytes))
	s.confirm(f, max(awaited, t.backlog), now)
	again, dropped := w.ask(t.tag, t.ranges)
	w.repaired += again
	w.stream.pace.repaired += again
	s.metrics.withdrew(withdrawnNewer, dropped)
	s.signal() // what was confirmed may let others go on
	s.signalShare()
	return true
}

// join makes a device a follower, and its image's stream if it is the first.
func (s *streamer) join(device string, t *transfer) *follower {
	st := s.streams[t.sum]
	if st == nil {
		st = &stream{sum: t.sum, image: t.image, size: t.size}
		s.streams[t.sum] = st
		s.shares = append(s.shares, st)
	}
	w := &follower{device: device, stream: st, session: t.session, joined: st.total, counted: st.total, presumed: spans(nil).add(0, st.size)}
	st.followers = append(st.followers, w)
	s.following[device] = w
	return w
}

// repairs takes note of a fetch that is answered to the follower alone.
func (s *streamer) repairs(w *follower, t *transfer) {
	t.awaited -= min(t.awaited, w.demand.size())
	w.asked = time.Now()
	for _, r := range t.ranges {
		lost := r.Length - w.demand.common(r.Offset, r.End()) - w.presumed.common(r.Offset, r.End())
		w.repaired += lost
		w.stream.pace.repaired += lost
		w.has(r.Offset, r.End())
	}
}

// leave ends a follower, if there is one, and the stream with the last; what it has
// asked for is dropped. mu is held, as for all that follows.
func (s *streamer) leave(w *follower) {
	if w == nil {
		return
	}
	delete(s.following, w.device)
	st := w.stream
	st.followers = slices.DeleteFunc(st.followers, func(o *follower) bool { return o == w })
	if len(st.followers) > 0 {
		return
	}
	delete(s.streams, st.sum)
	s.shares = slices.DeleteFunc(s.shares, func(o *stream) bool { return o == st })
	for _, p := range st.recent {
		s.sent -= p.underWay
	}
	st.recent = nil
	if !st.sending && st.blob != nil {
		st.blob.Release()
	}
}

// hand has the bytes from begin to end sent to a follower alone, as far as it has
// asked for them.
func (s *streamer) hand(w *follower, begin, end uint64) {
	t := transfer{sum: w.stream.sum, image: w.stream.image, size: w.stream.size, chunk: w.chunk, session: w.session, handed: true}
	for _, r := range w.demand[w.demand.after(begin):] {
		for at, stop := max(begin, r.Offset), min(end, r.End()); at < stop; {
			tag, until := w.askedBy(at, stop)
			if tag != t.tag {
				s.handOver(w, t)
				t.tag, t.ranges, t.bytes = tag, nil, 0
			}
			t.ranges = append(t.ranges, schemas.Range{Offset: at, Length: until - at})
			t.bytes += until - at
			at = until
		}
	}
	s.handOver(w, t)
	w.demand = w.demand.cut(begin, end)
}

// handOver queues what is sent to a follower alone of one of its fetches.
func (s *streamer) handOver(w *follower, t transfer) {
	if len(t.ranges) == 0 {
		return
	}
	now := time.Now()
	f := s.flowOf(w.device, now)
	if !f.extend(t) {
		s.queue(f, &t, now)
	} else if !f.busy {
		s.schedule(f)
	}
	s.signal()
}

// extend adds what was handed to a flow to what was handed to it last of the same fetch, so
// that many small parts are one transfer.
func (f *flow) extend(t transfer) bool {
	var last *transfer
	switch {
	case f.busy && len(f.pending) > 0:
		last = &f.pending[len(f.pending)-1]
	case !f.busy && len(f.queue) > 0:
		last = &f.queue[len(f.queue)-1]
	}
	if last == nil || !last.handed || last.sum != t.sum || last.tag != t.tag || last.chunk != t.chunk {
		return false
	}
	before, had := uint64(0), len(last.ranges)
	for _, r := range last.ranges {
		before += r.Length
	}
	sum := spans(last.ranges)
	for _, r := range t.ranges {
		sum = sum.add(r.Offset, r.End())
	}
	last.ranges = sum
	added := sum.size() - before
	last.bytes += added
	if !f.busy { // what is pending is not counted yet
		f.bytes += added
		f.ranges += len(sum) - had
	}
	return true
}

// batch is what is shared at a time.
type batch struct {
	stream *stream
	chunks []schemas.Chunk
	to     []Session
	seen   map[Session]struct{}
	bytes  uint64
}

// nextShared picks what is to be shared now. With nothing, wait is for how long not; less
// than 0 until a device asks.
func (s *streamer) nextShared(b *batch, now time.Time) (found bool, wait time.Duration) {
	wait = -1
	for i := 0; i < len(s.shares); i++ {
		st := s.shares[i]
		s.sent -= st.settle(now)
		st.pace.adapt(len(st.followers), now)
		at, end := s.pick(st)
		if at == end {
			continue
		}
		pause := st.pace.wait(now)
		if pause <= 0 && s.sent >= s.totalCredit {
			pause = underWayTime / 4
			s.metrics.waited(waitTotal)
		}
		if pause > 0 {
			if wait < 0 || pause < wait {
				wait = pause
			}
			continue
		}
		b.stream, b.chunks = st, st.cut(b.chunks[:0], at, end)
		last := b.chunks[len(b.chunks)-1]
		end = last.Offset + uint64(last.Length)
		b.bytes = end - at
		clear(b.to)
		b.to = st.sessions(at, b.to[:0], b.seen)
		s.earn(st, at, now)
		st.share(at, end, now)
		st.sending = true
		copy(s.shares[i:], s.shares[i+1:]) // the others have their turn first
		s.shares[len(s.shares)-1] = st
		return true, 0
	}
	return false, wait
}

// earn gives those who are sent what begins at at a fetch each, as a turn does.
func (s *streamer) earn(st *stream, at uint64, now time.Time) {
	for _, w := range st.followers {
		if w.misses(at) == at {
			continue
		}
		if f := s.devices[w.device]; f != nil {
			f.asks, f.touched = min(askBurst, f.asks+1), now
		}
	}
}

// pick finds the next bytes of a stream that several followers miss, and hands what
// one alone misses to it. There are none if begin is end.
func (s *streamer) pick(st *stream) (begin, end uint64) {
	if len(st.followers) < st.need() || st.unread {
		for _, w := range st.followers {
			s.hand(w, 0, st.size)
		}
		return 0, 0
	}
	for {
		by, at := st.wanted(st.at)
		if by == nil {
			if by, at = st.wanted(0); by == nil {
				return 0, 0
			}
		}
		end, alone := st.shared(at, by)
		if end > at {
			return at, end
		}
		s.hand(by, at, alone)
	}
}

// share sends what is shared until ctx ends.
func (s *streamer) share(ctx context.Context) {
	b := &batch{chunks: make([]schemas.Chunk, 0, sharedChunks), seen: map[Session]struct{}{}}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		s.mu.Lock()
		found, wait := s.nextShared(b, time.Now())
		s.mu.Unlock()
		if found {
			s.settleShared(b, s.multicast(ctx, b))
			continue
		}
		if wait < 0 {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-s.shareWake:
		case <-timer.C:
		}
	}
}

// multicast sends a batch, and returns of how many chunks, or less than 0 if the image
// cannot be read.
func (s *streamer) multicast(ctx context.Context, b *batch) int {
	st := b.stream
	if st.blob == nil {
		blob, err := s.cache.open(ctx, st.sum)
		if err != nil {
			s.log.Debug("image not shared", "event", logevent.ImageNotShared, slog.String("sha256", st.sum), slog.Any("error", err))
			return -1
		}
		st.blob = blob
	}
	return s.multicaster.Multicast(ctx, st.sum, st.blob, b.chunks, b.to)
}

// settleShared counts what became of a batch.
func (s *streamer) settleShared(b *batch, sent int) {
	st := b.stream
	bytes := int64(b.bytes) * int64(max(0, sent)) / int64(len(b.chunks))
	s.metrics.sent(wayShared, max(0, sent), bytes)
	s.doings.sent(max(0, sent), bytes, time.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	st.sending = false
	if s.streams[st.sum] != st { // the last follower has left meanwhile
		if st.blob != nil {
			st.blob.Release()
		}
		return
	}
	if st.unread = sent < 0; st.unread {
		return
	}
	st.pace.deliveries += len(b.chunks) * max(1, len(b.to))
	st.pace.missed += len(b.chunks)*max(1, len(b.to)) - sent
	if last := len(st.recent) - 1; last >= 0 {
		st.recent[last].underWay += bytes
		s.sent += bytes
	}
}

// signalShare wakes the one who shares.
func (s *streamer) signalShare() {
	select {
	case s.shareWake <- struct{}{}:
	default:
	}
}

// sweepShared looks for followers that have fallen silent, and for those that do
// better alone.
func (s *streamer) sweepShared(now time.Time) {
	for device, until := range s.alone {
		if !now.Before(until) {
			delete(s.alone, device)
		}
	}
	for device, w := range s.following {
		shared := w.stream.total - w.counted
		lossy := shared >= aloneAfter && w.repaired > shared/2
		if lossy {
			s.alone[device] = now.Add(aloneTime)
		}
		if lossy || now.Sub(w.asked) >= followTime {
			s.hand(w, 0, w.stream.size)
			s.leave(w)
		} else if shared >= 4*aloneAfter { // the newer counts for more
			w.counted, w.repaired = w.counted+shared/2, w.repaired/2
		}
	}
	for _, st := range s.shares {
		s.sent -= st.settle(now)
	}
	s.metrics.setFollowers(len(s.following))
	s.signalShare()
}
