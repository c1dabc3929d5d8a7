package orchestrator

import (
	"slices"
	"time"

	"davit/schemas"
)

// Bounds of a shared stream.
const (
	// sharedLeast is how many devices have to follow an image before an auto job's
	// chunks are shared.
	sharedLeast = 4
	// followTime is for how long a follower may be silent: then it is none.
	followTime = 3 * time.Second
	// crossing is for how long a chunk may be on its way: a follower that asks for
	// one that was shared less long ago has asked before it came.
	crossing = time.Second
	// underWayTime is for how long what was shared counts as under way: nobody says
	// when it has arrived.
	underWayTime = 100 * time.Millisecond
	// aloneTime is for how long a device is served alone that has repaired more than
	// half of what was shared, aloneAfter bytes at least.
	aloneTime  = 30 * time.Second
	aloneAfter = 256 << 10
	// Of what a follower is presumed to miss behind what it has asked for, so many
	// parts are remembered; what lies between others is taken as there, until it
	// asks.
	maxPresumed = 64

	sharedBytes  = 128 << 10 // at most in one batch, or one chunk
	sharedChunks = 16
)

// stream is an image's shared stream: what several followers miss is sent once to
// all of them. It is guarded by streamer.mu, as are its followers.
type stream struct {
	sum       string
	image     schemas.ImageTag
	size      uint64
	blob      *sharedBlob // retained from the first batch on
	followers []*follower
	at        uint64 // where it goes on
	pace      sharedPace
	recent    []sharedPart // within crossing, in the order of sending
	total     uint64       // bytes that were shared
	sending   bool         // a batch is on its way to the multicaster
	unread    bool         // the image cannot be read
}

// follower is a device that listens on a shared stream.
type follower struct {
	device  string
	stream  *stream
	session Session
	asks    []asking // what demand may be of, the newest last
	chunk   uint64
	always  bool // it is not for us to count whether sharing pays
	asked   time.Time
	joined  uint64 // the stream's total when it came
	counted uint64 // the stream's total since when repairs are counted

	// It misses demand, which it has asked for, and presumed, of what lies behind
	// all that it has asked for.
	demand   spans
	presumed spans
	repaired uint64 // bytes, since then
}

// asking is a fetch of a follower. What it is handed of that carries the fetch's tag: under
// another it is nothing that the device has asked for.
type asking struct {
	tag    uint16
	ranges []schemas.Range
}

// sharedPart is what was shared at one time.
type sharedPart struct {
	begin, end uint64
	at         time.Time
	before     uint64 // the stream's total before it
	underWay   int64  // bytes to all followers that still count
}

// misses is until where the follower misses what begins at at; at if it has that.
func (f *follower) misses(at uint64) uint64 {
	return max(f.demand.until(at), f.presumed.until(at))
}

// has takes note that the follower is sent something, or does not need it.
func (f *follower) has(begin, end uint64) {
	f.demand = f.demand.cut(begin, end)
	f.presumed = f.presumed.cut(begin, end)
	if len(f.presumed) > maxPresumed {
		f.presumed = slices.Delete(f.presumed, 0, 1)
	}
}

// ask takes a fetch of the follower. What has just been shared is on its way; the
// others of what was shared before are repairs, of which it returns the bytes, and of
// what is dropped.
func (f *follower) ask(tag uint16, ranges []schemas.Range) (repaired, dropped uint64) {
	f.remember(tag, ranges)
	horizon := ranges[len(ranges)-1].End()
	for _, r := range ranges {
		var asked spans
		asked = asked.add(r.Offset, r.End())
		for _, p := range f.stream.recent {
			if p.before >= f.joined {
				asked = asked.cut(p.begin, p.end)
			}
		}
		for _, r := range asked {
			repaired += r.Length - f.demand.common(r.Offset, r.End()) - f.presumed.common(r.Offset, r.End())
			f.demand = f.demand.add(r.Offset, r.End())
		}
	}
	f.presumed = f.presumed.cut(0, horizon)
	return repaired, f.bound()
}

// remember keeps a fetch, and those before it of which something is still in demand.
func (f *follower) remember(tag uint16, ranges []schemas.Range) {
	f.asks = slices.DeleteFunc(f.asks, func(a asking) bool {
		return !slices.ContainsFunc(a.ranges, func(r schemas.Range) bool { return f.demand.common(r.Offset, r.End()) > 0 })
	})
	if len(f.asks) >= maxQueuedTransfers {
		f.asks = slices.Delete(f.asks, 0, 1)
	}
	f.asks = append(f.asks, asking{tag, ranges})
}

// askedBy is the tag of the newest fetch that has asked for what begins at at, and until
// where that holds, end at most.
func (f *follower) askedBy(at, end uint64) (tag uint16, until uint64) {
	for _, a := range slices.Backward(f.asks) {
		for _, r := range a.ranges {
			switch {
			case r.Offset > at:
				end = min(end, r.Offset)
			case r.End() > at:
				return a.tag, min(end, r.End())
			}
		}
	}
	return 0, end // of a fetch that is forgotten: what is sent is lost, and asked for again
}

// bound drops the oldest of what was asked for if that is more than a device may
// await, or in too many parts.
func (f *follower) bound() (dropped uint64) {
	for len(f.demand) > maxQueuedRanges || f.demand.size() > maxQueuedBytes {
		dropped += f.demand[0].Length
		f.demand = slices.Delete(f.demand, 0, 1)
	}
	return dropped
}

// need is how many followers it takes before anything is shared.
func (st *stream) need() int {
	if slices.ContainsFunc(st.followers, func(f *follower) bool { return f.always }) {
		return 2
	}
	return sharedLeast
}

// sessions are those of the followers that miss what begins at at, each once.
func (st *stream) sessions(at uint64, room []Session, seen map[Session]struct{}) []Session {
	clear(seen)
	for _, f := range st.followers {
		if f.session == nil || f.misses(at) == at {
			continue
		}
		if _, twice := seen[f.session]; !twice {
			seen[f.session] = struct{}{}
			room = append(room, f.session)
		}
	}
	return room
}

// wanted is the first byte at or behind at that a follower has asked for.
func (st *stream) wanted(at uint64) (by *follower, first uint64) {
	for _, f := range st.followers {
		if n, ok := f.demand.next(at); ok && (by == nil || n < first) {
			by, first = f, n
		}
	}
	return by, first
}

// shared is until where several followers miss what begins at at; at if there are
// not several. Then alone is from where on others miss something as well.
func (st *stream) shared(at uint64, by *follower) (end, alone uint64) {
	alone = st.size
	first, second := at, at
	for _, f := range st.followers {
		switch e := f.misses(at); {
		case e > first:
			first, second = e, first
		case e > second:
			second = e
		}
		if f == by {
			continue
		}
		for _, s := range []spans{f.demand, f.presumed} {
			if n, ok := s.next(at); ok {
				alone = min(alone, n)
			}
		}
	}
	return second, alone
}

// chunk is the largest chunk that all followers take.
func (st *stream) chunk() uint64 {
	n := uint64(schemas.MaxChunkSize)
	for _, f := range st.followers {
		n = min(n, f.chunk)
	}
	return n
}

// cut makes chunks of what begins at begin and ends at end at the latest.
func (st *stream) cut(room []schemas.Chunk, begin, end uint64) []schemas.Chunk {
	size := st.chunk()
	most := uint64(sharedBytes)
	if r := st.pace.rate; r > 0 {
		most = min(most, uint64(r*paceSlack.Seconds()))
	}
	for at := begin; at < end && len(room) < cap(room); {
		n := min(size, end-at)
		if len(room) > 0 && at+n-begin > most {
			break
		}
		h := schemas.ChunkHeader{Image: st.image, Offset: at}
		if at += n; at == st.size {
			h.Flags = schemas.ChunkFlagLast
		}
		room = append(room, schemas.Chunk{ChunkHeader: h, Length: int(n)})
	}
	return room
}

// share takes note that the bytes are sent to all followers.
func (st *stream) share(begin, end uint64, now time.Time) {
	for _, f := range st.followers {
		f.has(begin, end)
	}
	if last := len(st.recent) - 1; last >= 0 && st.recent[last].end == begin && now.Sub(st.recent[last].at) < underWayTime/2 {
		st.recent[last].end = end
	} else {
		st.recent = append(st.recent, sharedPart{begin: begin, end: end, at: now, before: st.total})
	}
	st.total += end - begin
	st.at = end
	st.pace.send(end-begin, now)
}

// settle counts parts no more that are older than their times, and returns the
// bytes that are not under way any more.
func (st *stream) settle(now time.Time) (arrived int64) {
	old := 0
	for i := range st.recent {
		p := &st.recent[i]
		if now.Sub(p.at) >= underWayTime {
			arrived += p.underWay
			p.underWay = 0
		}
		if now.Sub(p.at) >= crossing {
			old = i + 1
		}
	}
	st.recent = slices.Delete(st.recent, 0, old)
	return arrived
}
