package fetcher

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"davit/bridge/rangeset"
	"davit/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keepsWord says what is wrong with a fetch, or with what is awaited after it.
func keepsWord(f *Fetcher, img Image, l Limits, fetch schemas.Fetch) error {
	fetch.Image = "img-1"
	if err := fetch.Validate(); err != nil {
		return err
	}
	total := fetch.Awaited
	for _, r := range fetch.Ranges {
		total += int(r.Length)
		if r.End() > img.Size() {
			return fmt.Errorf("range %+v of an image of %d", r, img.Size())
		}
		if img.Has(r) {
			return fmt.Errorf("range %+v is there already", r)
		}
	}
	if total > max(l.Window, schemas.MinChunkSize) {
		return fmt.Errorf("%d bytes awaited, the module holds %d", total, l.Window)
	}
	if fetch.Chunk > max(l.Chunk, schemas.MinChunkSize) {
		return fmt.Errorf("chunks of %d, at most %d are allowed", fetch.Chunk, l.Chunk)
	}
	if fetch.Tag == 0 {
		return fmt.Errorf("tag 0 is that of shared streams")
	}
	var set rangeset.Set
	bytes := uint64(0)
	for _, p := range f.awaited {
		set.Add(p.Offset, p.End())
		bytes += p.Length
	}
	switch {
	case set.Total() != bytes:
		return fmt.Errorf("%d bytes are awaited twice", bytes-set.Total())
	case bytes != uint64(f.bytes) || int(bytes) != total:
		return fmt.Errorf("%d bytes awaited, the fetch says %d, the sum %d", bytes, total, f.bytes)
	case len(f.awaited) > schemas.MaxWindow:
		return fmt.Errorf("%d pieces awaited", len(f.awaited))
	}
	return nil
}

// Over any path that delivers anything at all, the image comes to an end, and no fetch
// asks for what is there, awaited, or too much.
func TestAnyPath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := path{
			trip: time.Duration(rapid.IntRange(0, 3000).Draw(t, "trip ms")) * time.Millisecond,
			rate: float64(rapid.SampledFrom([]int{0, 2_000, 8_000, 100_000, 10_000_000}).Draw(t, "rate")),
			loss: float64(rapid.IntRange(0, 80).Draw(t, "loss %")) / 100, late: float64(rapid.IntRange(0, 50).Draw(t, "late %")) / 100,
			twice: float64(rapid.IntRange(0, 50).Draw(t, "twice %")) / 100,
		}
		if p.rate > 0 {
			p.queue = rapid.SampledFrom([]int{0, 3_000, 64_000}).Draw(t, "queue")
		}
		if from := rapid.IntRange(0, 60).Draw(t, "dead from"); from > 0 {
			to := from + rapid.IntRange(1, 300).Draw(t, "dead for")
			p.dead = func(at time.Duration) bool {
				return at > time.Duration(from)*time.Second && at < time.Duration(to)*time.Second
			}
		}
		l := Limits{
			Window: rapid.SampledFrom([]int{0, 64, 1000, 4096, 16 * kib, mib, 8 * mib}).Draw(t, "window"),
			Chunk:  rapid.SampledFrom([]int{0, 64, 100, 1024, 5000, schemas.MaxChunkSize}).Draw(t, "chunk"),
		}
		size := rapid.IntRange(1, 60_000).Draw(t, "size")
		if l.Window < 1000 || l.Chunk < 1000 {
			size = min(size, 10_000)
		}
		r := newRun(p, size, l, rapid.Uint64().Draw(t, "seed"))
		r.check = func(f schemas.Fetch) error { return keepsWord(r.f, r.img, r.limits, f) }
		if err := r.fetch(30 * 24 * time.Hour); err != nil {
			t.Fatal(err)
		}
	})
}

// A line that delivers everything in its order is asked for each byte once.
func TestNothingIsAskedTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := path{
			trip: time.Duration(rapid.IntRange(0, 1000).Draw(t, "trip ms")) * time.Millisecond,
			rate: float64(rapid.SampledFrom([]int{0, 4_000, 8_000, 100_000, 10_000_000}).Draw(t, "rate")),
		}
		r := newRun(p, rapid.IntRange(1, 300_000).Draw(t, "size"), Limits{Window: rapid.IntRange(1000, 2*mib).Draw(t, "window"), Chunk: schemas.MaxChunkSize}, 1)
		if err := r.fetch(time.Hour); err != nil {
			t.Fatal(err)
		}
		if r.sent != r.img.size {
			t.Fatalf("%d bytes were sent for an image of %d", r.sent, r.img.size)
		}
	})
}

// Chunks that overtake one another within the reordering time are not taken for lost.
func TestOvertaking(t *testing.T) {
	p := path{trip: farTrip, late: 0.3, by: farTrip / 4}
	r := fetched(t, p, 4*mib, Limits{Window: 256 * kib, Chunk: schemas.MaxChunkSize})
	if r.sent != r.img.size {
		t.Errorf("%d bytes were sent for an image of %d", r.sent, r.img.size)
	}
}

// A run is the same each time.
func TestDeterministic(t *testing.T) {
	p := path{trip: farTrip, rate: 50_000, loss: 0.05, late: 0.05}
	limits := Limits{Window: 256 * kib, Chunk: schemas.MaxChunkSize}
	a, b := fetched(t, p, mib, limits), fetched(t, p, mib, limits)
	if a.elapsed() != b.elapsed() || a.fetches != b.fetches || a.sent != b.sent {
		t.Errorf("%s with %d fetches, and %s with %d", a.elapsed(), a.fetches, b.elapsed(), b.fetches)
	}
}

// What was given up counts when it arrives late.
func TestLateChunksCount(t *testing.T) {
	r := newRun(path{}, 40_000, Limits{Window: 8 * kib, Chunk: 1024}, 1)
	first, _ := r.f.Ask(r.now, r.limits)
	r.now = r.f.Next()
	again, ok := r.f.Ask(r.now, r.limits)
	if !ok || again.Tag == first.Tag || again.Ranges[0].Offset != 0 || again.Awaited != 0 {
		t.Fatalf("after nothing came: %+v, %t", again, ok)
	}
	if r.f.Stalls() != 1 {
		t.Errorf("%d stalls", r.f.Stalls())
	}
	for at := uint64(0); at < 8*kib; at += 1024 {
		piece := schemas.Range{Offset: at, Length: 1024}
		if !r.f.Wants(first.Tag, piece) {
			t.Fatalf("%+v is not wanted any more", piece)
		}
		r.take(arrival{tag: first.Tag, r: piece})
	}
	if r.f.Stalls() != 0 {
		t.Errorf("%d stalls after something came", r.f.Stalls())
	}
	next, ok := r.f.Ask(r.now, r.limits)
	if !ok || next.Ranges[0].Offset != 8*kib || next.Awaited != 0 {
		t.Errorf("next is %+v, %t", next, ok)
	}
	for _, foreign := range []schemas.Range{{Offset: 40_000, Length: 1}, {Offset: 8 * kib, Length: 32 * kib}} {
		if r.f.Wants(next.Tag, foreign) {
			t.Errorf("%+v is wanted", foreign)
		}
	}
	if r.f.Forget(); r.f.Wants(first.Tag, schemas.Range{Length: 10}) || r.f.Wants(next.Tag, next.Ranges[0]) || r.f.Awaited() != 0 {
		t.Error("chunks are wanted that were to be forgotten")
	}
}

// A connection that is lost is nobody's delay: everything is asked for again at once.
func TestRestart(t *testing.T) {
	r := newRun(path{}, 40_000, Limits{Window: 8 * kib, Chunk: 1024}, 1)
	first, _ := r.f.Ask(r.now, r.limits)
	r.f.Restart()
	again, ok := r.f.Ask(r.now, r.limits)
	if !ok || fmt.Sprint(again.Ranges) != fmt.Sprint(first.Ranges) || again.Awaited != 0 || r.f.Stalls() != 0 {
		t.Errorf("%+v and then %+v, %t, %d stalls", first, again, ok, r.f.Stalls())
	}
}

// A service that is silent is asked less and less often.
func TestSilence(t *testing.T) {
	r := newRun(path{dead: func(time.Duration) bool { return true }}, 40_000, Limits{Window: 8 * kib, Chunk: 1024}, 1)
	if err := r.fetch(30 * time.Minute); err == nil {
		t.Fatal("an image came from a service that is silent")
	}
	if r.fetches > 70 || r.fetches < 30 {
		t.Errorf("asked %d times in half an hour", r.fetches)
	}
}

// Chunks of a shared stream count, whoever asked for them, and what does not come there is
// asked for without Follow.
func TestFollow(t *testing.T) {
	r := newRun(path{}, 100_000, Limits{Window: 16 * kib, Chunk: 1024, Follow: true}, 1)
	fetch, ok := r.f.Ask(r.now, r.limits)
	if !ok || !fetch.Follow || fetch.Ranges[0] != (schemas.Range{Length: 16 * kib}) {
		t.Fatalf("%+v, %t", fetch, ok)
	}
	stream := func(at, n uint64) { // chunks of 2 KiB, the third is lost
		for ; n > 0; n-- {
			if at != 4096 {
				piece := schemas.Range{Offset: at, Length: 2048}
				r.img.Add(piece.Offset, piece.End())
				r.f.Took(r.now, 0, piece)
			}
			at += 2048
		}
	}
	stream(0, 7)
	r.now = r.f.Next()
	repair, ok := r.f.Ask(r.now, r.limits)
	if !ok || repair.Follow || fmt.Sprint(repair.Ranges) != "[{4096 2048}]" || repair.Awaited != 2048 {
		t.Fatalf("after a loss: %+v, %t", repair, ok)
	}
	more, ok := r.f.Ask(r.now, r.limits)
	if !ok || !more.Follow || more.Ranges[0].Offset != 16*kib {
		t.Fatalf("after the repair: %+v, %t", more, ok)
	}
	stream(50*kib, 4) // for others
	if !r.img.Has(schemas.Range{Offset: 50 * kib, Length: 8 * kib}) || r.f.Awaited() == 0 {
		t.Errorf("%d bytes awaited", r.f.Awaited())
	}
	r.now = r.now.Add(2 * followPatience) // the stream has died
	alone, ok := r.f.Ask(r.now, r.limits)
	if !ok || alone.Follow {
		t.Errorf("when nothing came: %+v, %t", alone, ok)
	}
}

// FuzzFetcher has a service and a clock do what they like. Whatever that is, fetches stay
// within the contract and what is awaited within its limits.
func FuzzFetcher(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, uint32(10_000), uint32(4096), uint32(1024), true)
	f.Add([]byte{0, 3, 0, 3, 1, 0, 2, 9, 0}, uint32(100_000), uint32(1<<20), uint32(128<<10), false)
	f.Fuzz(func(t *testing.T, script []byte, size, window, chunk uint32, follow bool) {
		l := Limits{Window: int(window % (4 * mib)), Chunk: int(chunk % (256 * kib)), Follow: follow}
		r := newRun(path{}, 1+int(size%(8*mib)), l, 65_500)
		var last schemas.Fetch
		write := func(tag uint16, piece schemas.Range) {
			if piece.End() <= r.img.size && (tag == 0 || r.f.Wants(tag, piece)) {
				r.img.Add(piece.Offset, piece.End())
				r.f.Took(r.now, tag, piece)
			}
		}
		for _, b := range script {
			n := uint64(b >> 4)
			switch b % 8 {
			case 0:
				for range 100 {
					fetch, ok := r.f.Ask(r.now, r.limits)
					if !ok {
						break
					}
					if err := keepsWord(r.f, r.img, r.limits, fetch); err != nil {
						t.Fatal(err)
					}
					last = fetch
				}
			case 1:
				r.now = r.now.Add(time.Duration(n*n*n) * time.Millisecond)
			case 2, 3: // a piece of what was asked for last
				for i, asked := range last.Ranges {
					if n == 15 || uint64(i) == n%uint64(len(last.Ranges)) {
						write(last.Tag, schemas.Range{Offset: asked.Offset + n, Length: min(asked.Length, uint64(last.Chunk))})
						write(last.Tag, schemas.Range{Offset: asked.Offset, Length: min(asked.Length, uint64(last.Chunk))})
					}
				}
			case 4:
				write(0, schemas.Range{Offset: n * r.img.size / 16, Length: 1 + n*777})
			case 5:
				if n < 8 {
					r.f.GiveUp()
				} else {
					r.f.Restart()
				}
			case 6:
				r.img.Set = rangeset.Set{}
				r.f.Forget()
			case 7:
				r.limits = Limits{Window: int(n*n) * 4 * kib, Chunk: int(n) * 10_000, Follow: n%2 == 0}
			}
			if at := r.f.Next(); at.IsZero() != (len(r.f.awaited) == 0) {
				t.Fatalf("%d pieces awaited, next at %s", len(r.f.awaited), at)
			}
		}
	})
}
