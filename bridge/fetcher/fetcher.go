// Package fetcher decides what a module asks for next while it fetches an image: which
// bytes, in chunks of what size, how many of them ahead, and when to ask again.
//
// A Fetcher is a state machine: it does no I/O, has no clock and starts no goroutine.
// Its owner tells it the time and what has arrived (Took), sends what Ask returns, and
// comes back when Next says so or when something has arrived. It knows the image only
// by what is missing of it. The package imports schemas and bridge/rangeset only.
//
// How many bytes are awaited at a time follows the path (pace.go); what does not come
// is asked for again once chunks behind it have arrived, or after a time that follows
// the round trip (timer.go, RFC 6298).
package fetcher

import (
	"cmp"
	"slices"
	"time"

	"davit/bridge/rangeset"
	"davit/schemas"
)

// Image is what a Fetcher has to know of the image that is fetched. All offsets are
// within Size.
type Image interface {
	// Size of the whole image, and how many bytes of it are there.
	Size() uint64
	Held() uint64
	// Missing returns the first ranges that are not there, at most limit, in
	// ascending order.
	Missing(limit int) []schemas.Range
	// Has says whether every byte of r is there.
	Has(r schemas.Range) bool
}

// Limits are what the module can hold and the service gives. They may change from one
// Ask to the next.
type Limits struct {
	// Window is how many bytes of image data may be awaited at a time, at most
	// schemas.MaxAwaited.
	Window int
	// Chunk is the largest chunk in bytes.
	Chunk int
	// Follow says that the module listens on the image's shared stream.
	Follow bool
}

const (
	// passes is how many chunks that were asked for later have to arrive before one
	// that has not is lost, unless it does within the reordering time: the service sends a
	// device's chunks in the order of its fetches, but over an external broker two of
	// those may overtake each other. (As RFC 8985 does for TCP.)
	passes = 3
	// leastReordering bounds the reordering time from below; it is a quarter of the round
	// trip.
	leastReordering = 20 * time.Millisecond
	// latePieces is how many pieces that were given up are remembered: they may
	// arrive yet.
	latePieces = schemas.MaxWindow
	// followPatience bounds how long a piece is waited for on a shared stream,
	// whatever else comes there meanwhile.
	followPatience = 5 * time.Second
)

// Fetcher fetches one image. Make it with New.
type Fetcher struct {
	img     Image
	tag     uint16 // of the last fetch
	held    uint64 // when something arrived last
	awaited []piece
	bytes   int // in awaited
	late    []piece
	repair  []schemas.Range // did not come while the shared stream was followed
	follow  bool            // as the last Ask had it
	asked   uint64          // pieces asked for so far
	arrived uint64          // bytes that came in time
	heardAt time.Time       // when something arrived last
	stalls  int
	timer   stallTimer
	pace    pace
}

// piece is a chunk that was asked for.
type piece struct {
	schemas.Range
	tag     uint16
	sent    time.Time
	order   uint64
	before  uint64    // bytes that had arrived when it was asked for
	passed  int       // later pieces that have arrived
	lostAt  time.Time // when it is lost because of that; zero before
	follow  bool      // may come on the shared stream
	drained bool      // it was asked for while the path was being emptied
}

// New begins or continues to fetch img. Transfer tags follow tag: a number that
// differs from run to run keeps the chunks of two apart.
func New(img Image, tag uint16) *Fetcher {
	return &Fetcher{img: img, tag: tag, held: img.Held(), pace: newPace()}
}

// Ask returns what to send now, with all fields but Image filled in, or false if
// nothing is to be asked for. Call it until it says so: one fetch does not hold
// everything. What Ask has returned counts as sent.
func (f *Fetcher) Ask(now time.Time, l Limits) (schemas.Fetch, bool) {
	f.expire(now)
	if f.follow = l.Follow; !f.follow {
		f.repair = nil
	}
	window, chunk, step := f.pace.shape(now, l)
	free := window - f.bytes
	if f.bytes > 0 && free < step {
		return schemas.Fetch{}, false
	}
	var busy rangeset.Set
	for _, p := range f.awaited {
		busy.Add(p.Offset, p.End())
	}
	limit := schemas.MaxWindow - len(f.awaited)
	wanted, follow := f.cut(f.repairs(), &busy, chunk, free, limit), false
	if len(wanted) == 0 {
		for _, r := range f.repair {
			busy.Add(r.Offset, r.End())
		}
		wanted, follow = f.cut(f.img.Missing(limit+len(f.awaited)+len(f.repair)+1), &busy, chunk, free, limit), f.follow
	}
	if len(wanted) == 0 {
		return schemas.Fetch{}, false
	}
	if f.tag++; f.tag == 0 {
		f.tag = 1 // 0 is that of shared streams
	}
	fetch := schemas.Fetch{V: schemas.Version, Tag: f.tag, Chunk: chunk, Ranges: join(wanted, uint64(chunk)), Awaited: f.bytes, Follow: follow}
	for _, r := range wanted {
		f.asked++
		f.bytes += int(r.Length)
		f.awaited = append(f.awaited, piece{
			Range: r, tag: f.tag, sent: now, order: f.asked, before: f.arrived, follow: follow, drained: f.pace.draining,
		})
	}
	return fetch, true
}

// repairs are what did not come and is to be asked for on its own, in ascending order.
func (f *Fetcher) repairs() []schemas.Range {
	f.repair = slices.DeleteFunc(f.repair, f.img.Has)
	slices.SortFunc(f.repair, func(a, b schemas.Range) int { return cmp.Compare(a.Offset, b.Offset) })
	return f.repair
}

// cut makes chunks of the given ranges, as far as they are missing and not busy, at most
// limit of them and no more than free bytes.
func (f *Fetcher) cut(ranges []schemas.Range, busy *rangeset.Set, chunk, free, limit int) []schemas.Range {
	var out []schemas.Range
	for _, r := range ranges {
		for _, gap := range busy.Gaps(r, limit+1) {
			for at := gap.Offset; at < gap.End(); {
				piece := schemas.Range{Offset: at, Length: min(uint64(chunk), gap.End()-at)}
				at = piece.End()
				if f.img.Has(piece) {
					continue // a part of a repair that has come since
				}
				if m := len(out); m > 0 && out[m-1].End() > piece.Offset {
					return out // repairs may overlap: the rest comes with the next fetch
				}
				if len(out) >= limit || int(piece.Length) > free {
					return out
				}
				out = append(out, piece)
				free -= int(piece.Length)
			}
		}
	}
	return out
}

// join makes one range of chunks in a row that are full but for the last.
func join(chunks []schemas.Range, size uint64) []schemas.Range {
	var out []schemas.Range
	for _, c := range chunks {
		if n := len(out); n > 0 && out[n-1].End() == c.Offset && out[n-1].Length%size == 0 {
			out[n-1].Length += c.Length
			continue
		}
		out = append(out, c)
	}
	return out
}

// Wants says whether a chunk on the device's own topic answers a fetch of this
// Fetcher, given up or not, and lies in the image.
func (f *Fetcher) Wants(tag uint16, r schemas.Range) bool {
	return r.End() <= f.img.Size() && (find(f.awaited, tag, r) >= 0 || find(f.late, tag, r) >= 0)
}

// find returns the piece of a transfer tag that holds r, or -1.
func find(pieces []piece, tag uint16, r schemas.Range) int {
	return slices.IndexFunc(pieces, func(p piece) bool {
		return p.tag == tag && p.Offset <= r.Offset && r.End() <= p.End()
	})
}

// Took says that a chunk has been written to the image: one that Wants agreed to, or
// one of the shared stream, whose tag is 0.
func (f *Fetcher) Took(now time.Time, tag uint16, r schemas.Range) {
	held := f.img.Held()
	if held > f.held { // what is doubled is no progress
		f.stalls, f.timer.backoff = 0, 0
		f.heardAt = now
	}
	f.held = held
	if i := find(f.awaited, tag, r); i >= 0 {
		p := f.awaited[i]
		f.arrived += r.Length
		f.timer.observe(now.Sub(p.sent))
		f.pace.arrived(now, p, int(r.Length), f.arrived, f.asked)
	} else if i := find(f.late, tag, r); i >= 0 {
		f.timer.observe(now.Sub(f.late[i].sent)) // a tag is used once, so this is no guess
	}
	f.settle(now, tag, r)
}

// settle forgets the pieces that r has made whole. Those before them that are missing
// have been passed once more.
func (f *Fetcher) settle(now time.Time, tag uint16, r schemas.Range) {
	for i := len(f.awaited) - 1; i >= 0; i-- {
		p := f.awaited[i]
		if p.End() <= r.Offset || r.End() <= p.Offset || !f.img.Has(p.Range) {
			continue
		}
		f.remove(i)
		if tag == 0 {
			f.pace.grow(int(p.Length), 0)
		} else if tag != p.tag {
			continue // a late one tells nothing of the order
		}
		for j := range f.awaited[:i] {
			q := &f.awaited[j]
			if q.follow != p.follow {
				continue // the stream and the device's own topic are not in step
			}
			if q.passed++; q.passed == passes {
				q.lostAt = now.Add(max(f.pace.leastTrip/4, leastReordering))
			}
		}
	}
}

func (f *Fetcher) remove(i int) {
	f.bytes -= int(f.awaited[i].Length)
	f.awaited = slices.Delete(f.awaited, i, i+1)
}

// giveUp asks for a piece again, sooner or later. It may arrive yet.
func (f *Fetcher) giveUp(i int) {
	p := f.awaited[i]
	f.remove(i)
	f.late = append(f.late, p)
	if over := len(f.late) - latePieces; over > 0 {
		f.late = slices.Delete(f.late, 0, over)
	}
	if f.follow {
		f.repair = append(f.repair, p.Range)
	}
}

// due is when a piece is given up if nothing comes any more.
func (f *Fetcher) due(p piece) time.Time {
	from := p.sent
	if f.heardAt.After(from) {
		from = f.heardAt
	}
	due := from.Add(f.timer.wait())
	if at := p.sent.Add(max(followPatience, f.timer.wait())); p.follow && at.Before(due) {
		due = at
	}
	if !p.lostAt.IsZero() && p.lostAt.Before(due) {
		due = p.lostAt
	}
	return due
}

// expire gives up the pieces whose time has come.
func (f *Fetcher) expire(now time.Time) {
	stalled := false
	for i := 0; i < len(f.awaited); {
		p := f.awaited[i]
		switch {
		case now.Before(f.due(p)):
			i++
			continue
		case p.lostAt.IsZero():
			stalled = true
		case !p.follow:
			f.pace.lost(p, f.asked)
		}
		f.giveUp(i)
	}
	if stalled {
		f.pace.stalled(now, f.stalls == 0)
		f.timer.stalled()
		f.stalls++
	}
}

// Next is when Ask has something to do although nothing has arrived, or the zero
// time.
func (f *Fetcher) Next() time.Time {
	var next time.Time
	for _, p := range f.awaited {
		if due := f.due(p); next.IsZero() || due.Before(next) {
			next = due
		}
	}
	return next
}

// Stalls is how many times in a row nothing came in time. Whatever arrives ends the
// row.
func (f *Fetcher) Stalls() int { return f.stalls }

// Awaited is how many bytes are awaited.
func (f *Fetcher) Awaited() int { return f.bytes }

// GiveUp has everything that is awaited asked for again at once, because its way here is
// gone. It may arrive yet.
func (f *Fetcher) GiveUp() {
	for len(f.awaited) > 0 {
		f.giveUp(0)
	}
	f.pace.draining = false
}

// Spoiled says that bytes of r came and were thrown away, because they are not what was
// signed: pieces that were to bring them are asked for again at once.
func (f *Fetcher) Spoiled(r schemas.Range) {
	for i := 0; i < len(f.awaited); {
		if p := f.awaited[i]; p.End() <= r.Offset || r.End() <= p.Offset {
			i++
			continue
		}
		f.giveUp(i)
	}
	f.held = min(f.held, f.img.Held())
}

// Restart is GiveUp after a connection was lost: that nothing came was nobody's delay.
func (f *Fetcher) Restart() {
	f.GiveUp()
	f.repair = nil
	f.stalls, f.timer.backoff = 0, 0
}

// Forget drops everything that was asked for, so that nothing of it counts any more
// when it arrives: the bytes that came were wrong and the image begins anew.
func (f *Fetcher) Forget() {
	f.Restart()
	f.late, f.held = nil, f.img.Held()
}
