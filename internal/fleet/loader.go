package fleet

import (
	"time"

	"davit/bridge/fetcher"
	"davit/bridge/rangeset"
	"davit/schemas"
)

// loader is what a module knows of an image that it fetches. It has no clock and no lock of
// its own.
type loader interface {
	// fetch fills f with what to ask for next; false if it is not time for that. follow
	// says that the module listens on the image's shared stream.
	fetch(f *schemas.Fetch, now instant, follow bool) bool
	// arrive takes that a chunk has come.
	arrive(tag uint16, r schemas.Range, now instant) arrival
	// expire gives up everything that is awaited.
	expire()
	// held and awaited are bytes of the image.
	held() uint64
	awaited() uint64
	// next is when fetch has to be called although nothing has come; 0 leaves that to the
	// caller, who calls expire first.
	next() instant
}

// newLoader begins to fetch what is offered, as the profile says.
func (d *device) newLoader(o *schemas.Offer) loader {
	p := d.kind.profile
	if p.Adaptive {
		chunk := o.Chunk.Max
		if p.Chunk > 0 {
			chunk = min(chunk, p.Chunk)
		}
		return newAdaptive(o.Size, chunk, d.fleet.clock)
	}
	chunk := p.Chunk
	if chunk == 0 {
		chunk = o.Chunk.Preferred
	}
	dl := newDownload(o.Size, min(chunk, o.Chunk.Max), p.Window)
	return &dl
}

// adaptive is a loader whose window and chunk size follow the path, as those of the bridge
// and of the reference module do: it is their fetcher.
type adaptive struct {
	holes holes
	f     *fetcher.Fetcher
	chunk int
	clock *clock
	sent  [schemas.MaxWindow]sentAt // by tag; older ones are overwritten
}

// sentAt is when the fetch with a tag was made.
type sentAt struct {
	tag uint16
	at  instant
}

// holes is an image as the fetcher sees it.
type holes struct {
	size uint64
	have rangeset.Set
}

// Size implements fetcher.Image.
func (h *holes) Size() uint64 { return h.size }

// Held implements fetcher.Image.
func (h *holes) Held() uint64 { return h.have.Total() }

// Missing implements fetcher.Image.
func (h *holes) Missing(limit int) []schemas.Range {
	return h.have.Gaps(schemas.Range{Length: h.size}, limit)
}

// Has implements fetcher.Image.
func (h *holes) Has(r schemas.Range) bool { return h.have.Covers(r.Offset, r.End()) }

func newAdaptive(size uint64, chunk int, c *clock) *adaptive {
	a := &adaptive{holes: holes{size: size}, chunk: chunk, clock: c}
	a.f = fetcher.New(&a.holes, 0)
	return a
}

func (a *adaptive) fetch(f *schemas.Fetch, now instant, follow bool) bool {
	ask, ok := a.f.Ask(a.clock.time(now), fetcher.Limits{Window: schemas.MaxAwaited, Chunk: a.chunk, Follow: follow})
	if !ok {
		return false
	}
	image := f.Image
	*f = ask
	f.Image = image
	a.sent[f.Tag%uint16(len(a.sent))] = sentAt{f.Tag, now}
	return true
}

func (a *adaptive) arrive(tag uint16, r schemas.Range, now instant) (got arrival) {
	if tag != 0 && !a.f.Wants(tag, r) {
		return got // it was never asked for, or long ago
	}
	if s := a.sent[tag%uint16(len(a.sent))]; s.tag == tag && tag != 0 {
		got.asked, got.took = true, time.Duration(now-s.at)
	}
	before := a.holes.Held()
	a.holes.have.Add(r.Offset, r.End())
	got.fresh = a.holes.Held() - before
	a.f.Took(a.clock.time(now), tag, r)
	return got
}

func (a *adaptive) expire()         { a.f.Restart() }
func (a *adaptive) held() uint64    { return a.holes.Held() }
func (a *adaptive) awaited() uint64 { return uint64(a.f.Awaited()) }

func (a *adaptive) next() instant {
	t := a.f.Next()
	if t.IsZero() {
		return 0
	}
	return max(instant(t.Sub(a.clock.began)), 1)
}
