package fleet

import (
	"time"

	"davit/schemas"
)

// download is a loader with a window of a fixed number of chunks that slides over the image.
type download struct {
	size   uint64
	chunk  uint64
	window uint64          // bytes that may be open
	have   uint64          // bytes that are there
	want   []schemas.Range // neither there nor open, ascending
	open   []asked         // in the order in which they were asked for
	opened uint64          // bytes of open
	tag    uint16          // of the last fetch
}

// asked is a range that was asked for and has not arrived.
type asked struct {
	schemas.Range
	tag uint16
	at  instant
}

// newDownload begins to fetch an image of size bytes, at most window chunks at a time.
func newDownload(size uint64, chunk, window int) download {
	c := uint64(chunk)
	w := max(1, min(uint64(window), schemas.MaxWindow, schemas.MaxAwaited/c)) * c
	return download{size: size, chunk: c, window: w, want: []schemas.Range{{Offset: 0, Length: size}}}
}

func (d *download) held() uint64    { return d.have }
func (d *download) awaited() uint64 { return d.opened }
func (d *download) next() instant   { return 0 }

// fetch fills f with what to ask for next; false if it is not time for that. It waits
// until half of the window is free, so that not every chunk costs a fetch.
func (d *download) fetch(f *schemas.Fetch, now instant, follow bool) bool {
	if len(d.want) == 0 || d.opened > 0 && d.opened+d.window/2 > d.window {
		return false
	}
	d.tag = d.tag%0xffff + 1 // 0 is the shared stream's
	*f = schemas.Fetch{V: schemas.Version, Image: f.Image, Tag: d.tag, Chunk: int(d.chunk), Awaited: int(d.opened), Follow: follow}
	for room := (d.window - d.opened) / d.chunk; room > 0 && len(d.want) > 0 && len(f.Ranges) < schemas.MaxRanges; {
		first := &d.want[0]
		r := schemas.Range{Offset: first.Offset, Length: min(first.Length, room*d.chunk)}
		room -= (r.Length + d.chunk - 1) / d.chunk
		f.Ranges = append(f.Ranges, r)
		d.open = append(d.open, asked{r, d.tag, now})
		d.opened += r.Length
		if first.Offset, first.Length = r.End(), first.Length-r.Length; first.Length == 0 {
			d.want = d.want[:copy(d.want, d.want[1:])]
		}
	}
	return len(f.Ranges) > 0
}

// arrival is what a chunk was.
type arrival struct {
	fresh uint64        // bytes that were not there before
	asked bool          // the chunk answers the fetch of its tag
	took  time.Duration // since that
	lost  int           // ranges that it shows to be lost
}

// arrive takes that a chunk has come. Those of fetches come in the order in which they
// were asked for, so what stands before it is lost and is wanted again.
func (d *download) arrive(tag uint16, r schemas.Range, now instant) (a arrival) {
	if k := d.find(tag, r.Offset); k >= 0 {
		a.asked, a.took = true, time.Duration(now-d.open[k].at)
		for _, o := range d.open[:k] {
			d.giveUp(o.Range)
			a.lost++
		}
		d.open = d.open[:copy(d.open, d.open[k:])]
		if first := &d.open[0]; first.Offset < r.Offset {
			d.giveUp(schemas.Range{Offset: first.Offset, Length: r.Offset - first.Offset})
			first.Length, first.Offset = first.End()-r.Offset, r.Offset
			a.lost++
		}
	}
	var n uint64
	d.want, n = cut(d.want, r, nil)
	a.fresh = n + d.settle(r)
	d.have += a.fresh
	return a
}

// find is the place in open of what the fetch with the tag asked for at offset, -1 for none.
func (d *download) find(tag uint16, offset uint64) int {
	for k := range d.open {
		if o := &d.open[k]; o.tag == tag && o.Offset <= offset && offset < o.End() {
			return k
		}
	}
	return -1
}

// giveUp moves a range from open, where it is taken away by the caller, to want.
func (d *download) giveUp(r schemas.Range) {
	d.opened -= r.Length
	d.want = add(d.want, r)
}

// settle takes r out of what is open, and returns how many bytes that was.
func (d *download) settle(r schemas.Range) (n uint64) {
	for k := 0; k < len(d.open); k++ {
		o := d.open[k]
		from, to := max(o.Offset, r.Offset), min(o.End(), r.End())
		if from >= to {
			continue
		}
		n += to - from
		before, after := o, o
		before.Length = from - o.Offset
		after.Offset, after.Length = to, o.End()-to
		switch {
		case before.Length == 0 && after.Length == 0:
			d.open = append(d.open[:k], d.open[k+1:]...)
			k--
		case before.Length == 0:
			d.open[k] = after
		case after.Length == 0:
			d.open[k] = before
		default:
			d.open = append(d.open[:k+1], d.open[k:]...)
			d.open[k], d.open[k+1] = before, after
			k++
		}
	}
	d.opened -= n
	return n
}

// expire gives up everything that is open.
func (d *download) expire() {
	for _, o := range d.open {
		d.want = add(d.want, o.Range)
	}
	d.open, d.opened = d.open[:0], 0
}
