package fleet

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"davit/schemas"
)

// TestDownloadArrivesWhole fetches over a line that loses, doubles and delays chunks, and
// forgets fetches.
func TestDownloadArrivesWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Uint64Range(1, 50_000).Draw(t, "size")
		chunk := rapid.SampledFrom([]int{64, 100, 1000, 4096, schemas.MaxChunkSize}).Draw(t, "chunk")
		d := newDownload(size, chunk, rapid.IntRange(1, schemas.MaxWindow).Draw(t, "window"))
		have := make([]bool, size)
		type sent struct {
			tag uint16
			r   schemas.Range
		}
		var line []sent
		chance := func(percent int, what string) bool { return rapid.IntRange(1, 100).Draw(t, what) <= percent }
		now := instant(1)
		for round := 0; d.held() < size; round++ {
			now += instant(time.Millisecond)
			calm := round > 2000 // at last nothing goes wrong any more
			if round > 20_000 {
				t.Fatalf("%d of %d bytes after %d rounds; wanted %v, open %v", d.have, size, round, d.want, d.open)
			}
			f := schemas.Fetch{V: schemas.Version, Image: "img"}
			if d.fetch(&f, now, false) {
				if err := f.Validate(); err != nil {
					t.Fatalf("%+v: %v", f, err)
				}
				if calm || !chance(10, "fetch lost") {
					for _, r := range f.Ranges {
						for at := r.Offset; at < r.End(); at += uint64(chunk) {
							line = append(line, sent{f.Tag, schemas.Range{Offset: at, Length: min(uint64(chunk), r.End()-at)}})
						}
					}
				}
			}
			if len(line) == 0 {
				d.expire()
				continue
			}
			s := line[0]
			if calm || !chance(10, "twice") {
				line = line[1:]
			}
			if !calm && chance(10, "lost") {
				continue
			}
			var fresh uint64
			for at := s.r.Offset; at < s.r.End(); at++ {
				if !have[at] {
					have[at] = true
					fresh++
				}
			}
			if a := d.arrive(s.tag, s.r, now); a.fresh != fresh {
				t.Fatalf("chunk %v brought %d bytes, and %d are said", s.r, fresh, a.fresh)
			}
			check(t, &d, have)
		}
		if slices.Contains(have, false) {
			t.Fatal("done, and a byte is missing")
		}
	})
}

// check holds that every byte is there, wanted or open.
func check(t *rapid.T, d *download, have []bool) {
	var sum, opened uint64
	end := uint64(0)
	for i, r := range d.want {
		if r.Length == 0 || r.Offset < end || i > 0 && r.Offset == end {
			t.Fatalf("wanted %v are not in order, or not joined", d.want)
		}
		end = r.End()
		sum += r.Length
		for at := r.Offset; at < r.End(); at++ {
			if have[at] {
				t.Fatalf("byte %d is there, and wanted", at)
			}
		}
	}
	for _, o := range d.open {
		opened += o.Length
	}
	if opened != d.opened || opened > d.window || sum+opened+d.have != d.size {
		t.Fatalf("open %d, said %d, window %d; wanted %d, there %d of %d", opened, d.opened, d.window, sum, d.have, d.size)
	}
}

func TestWindowSlides(t *testing.T) {
	d := newDownload(1000*100, 100, 4)
	var f schemas.Fetch
	if !d.fetch(&f, 1, false) || f.Awaited != 0 || f.Ranges[0].Length != 400 {
		t.Fatalf("first fetch: %+v", f)
	}
	first := f.Tag
	if d.arrive(first, schemas.Range{Offset: 0, Length: 100}, 2); d.fetch(&f, 2, false) {
		t.Errorf("a fetch for one chunk: %+v", f)
	}
	a := d.arrive(first, schemas.Range{Offset: 100, Length: 100}, 3)
	if !a.asked || a.took != 2 || a.lost != 0 {
		t.Errorf("second chunk: %+v", a)
	}
	if !d.fetch(&f, 4, false) || f.Awaited != 200 || f.Tag == first || f.Ranges[0] != (schemas.Range{Offset: 400, Length: 200}) {
		t.Errorf("second fetch: %+v", f)
	}
	// The third chunk is lost: the fourth shows it, and the next fetch begins with it.
	if a := d.arrive(first, schemas.Range{Offset: 300, Length: 100}, 5); a.lost != 1 {
		t.Errorf("fourth chunk: %+v", a)
	}
	if !d.fetch(&f, 6, false) || f.Ranges[0] != (schemas.Range{Offset: 200, Length: 100}) || f.Ranges[1].Offset != 600 {
		t.Errorf("third fetch: %+v", f)
	}
}
