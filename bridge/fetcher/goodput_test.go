package fetcher

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/schemas"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	// farTrip is the round trip of a module on another continent, or on a slow cell.
	farTrip = 300 * time.Millisecond
	// fast is a line of 100 Mbit/s.
	fast = 100e6 / 8
)

// One block of 4 KiB for each request, over the same path: 13.3 KiB/s.
func oneBlock() float64 { return 4 * kib / farTrip.Seconds() }

// One module, 300 ms from the service. docs/benchmarks.md has the table.
func TestGoodput(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "\n| window | window/RTT | 1 MiB, from the first fetch on | 16 MiB, from the first fetch on | once the window is full | of window/RTT | 1 %% of chunks lost | chunks |\n|---|---|---|---|---|---|---|---|\n")
	for _, window := range []int{16 * kib, 64 * kib, 256 * kib, mib} {
		limits := Limits{Window: window, Chunk: schemas.MaxChunkSize}
		small := fetched(t, path{trip: farTrip, rate: fast}, mib, limits)
		large := fetched(t, path{trip: farTrip, rate: fast}, 16*mib, limits)
		lossy := fetched(t, path{trip: farTrip, rate: fast, loss: 0.01}, 16*mib, limits)
		most := float64(window) / farTrip.Seconds()
		fmt.Fprintf(&table, "| %d KiB | %.0f KiB/s | %.0f KiB/s | %.0f KiB/s | %.0f KiB/s | %.3f | %.0f KiB/s (%.2f) | %d KiB |\n", window/kib, most/kib, small.goodput()/kib,
			large.goodput()/kib, large.running()/kib, large.running()/most, lossy.goodput()/kib, lossy.goodput()/large.goodput(), large.chunk()/kib)
		if got := large.running() / most; got < 0.9 {
			t.Errorf("window of %d: %.3f of window/RTT, want 0.9", window, got)
		}
		if got := lossy.goodput() / large.goodput(); got < 0.8 {
			t.Errorf("window of %d: with 1 %% of chunks lost %.2f of the goodput without, want 0.8", window, got)
		}
		if got := large.goodput() / oneBlock(); window >= 64*kib && got < 10 {
			t.Errorf("window of %d: %.1f times one block for each request, want 10", window, got)
		}
		for _, r := range []*run{small, large} {
			if r.sent != r.img.size {
				t.Errorf("window of %d: %d bytes were sent for an image of %d over a path without loss", window, r.sent, r.img.size)
			}
		}
	}
	t.Log(table.String())
}

// chunk is the size of the chunks that would be asked for now.
func (r *run) chunk() int {
	_, chunk, _ := r.f.pace.shape(r.now, r.limits)
	return chunk
}

func fetched(t *testing.T, p path, size int, l Limits) *run {
	t.Helper()
	r := newRun(p, size, l, 7)
	if err := r.fetch(time.Hour); err != nil {
		t.Fatalf("%+v, window %d: %v", p, l.Window, err)
	}
	return r
}

// Lines of all kinds with a window of 1 MiB: each is used to nine tenths, and what waits in
// front of it is seconds at most.
func TestLines(t *testing.T) {
	limits := Limits{Window: mib, Chunk: schemas.MaxChunkSize}
	for _, c := range []struct {
		name  string
		path  path
		size  int
		wait  time.Duration // the longest allowed in the queue
		share float64       // of the line, wanted
	}{
		{"64 kbit/s", path{trip: farTrip, rate: 8000}, mib, 5 * time.Second, 0.85},
		{"64 kbit/s, 20 ms", path{trip: 20 * time.Millisecond, rate: 8000}, mib, 5 * time.Second, 0.85},
		{"256 kbit/s", path{trip: farTrip, rate: 32e3}, mib, 1500 * time.Millisecond, 0.85},
		{"2 Mbit/s", path{trip: 100 * time.Millisecond, rate: 250e3}, 16 * mib, time.Second, 0.9},
		{"10 Mbit/s", path{trip: 40 * time.Millisecond, rate: 1.25e6}, 16 * mib, time.Second, 0.9},
		{"100 Mbit/s, 1 ms", path{trip: time.Millisecond, rate: fast}, 16 * mib, time.Second, 0.9},
		{"2 Mbit/s, a queue of 32 KiB", path{trip: 100 * time.Millisecond, rate: 250e3, queue: 32 * kib}, 16 * mib, time.Second, 0.75},
		{"2 Mbit/s, 1 % lost", path{trip: 100 * time.Millisecond, rate: 250e3, loss: 0.01}, 16 * mib, time.Second, 0.85},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := fetched(t, c.path, c.size, limits)
			share := r.goodput() / c.path.rate
			t.Logf("%.1f KiB/s, %.3f of the line; longest wait %s, %.3f times the image sent, %d fetches, chunks of %d, window %d", r.goodput()/kib, share, r.longest.Round(time.Millisecond), float64(r.sent)/float64(r.img.size), r.fetches, r.chunk(), r.f.pace.window)
			if share < c.share {
				t.Errorf("%.3f of the line, want %.2f", share, c.share)
			}
			if r.longest > c.wait {
				t.Errorf("a chunk waited %s for the line, want at most %s", r.longest, c.wait)
			}
		})
	}
}

// Chunks are as large as the path allows: large where a round trip costs nothing, small where
// the line is slow or loses some.
func TestChunksFollowThePath(t *testing.T) {
	near := path{trip: time.Millisecond, rate: fast}
	all := Limits{Window: mib, Chunk: schemas.MaxChunkSize}
	for _, c := range []struct {
		name    string
		path    path
		limits  Limits
		size    int
		want    int     // chunks that most of the image is asked for in
		share   float64 // of the line, wanted
		fetches int     // at most
	}{
		{"near", near, all, 16 * mib, 128 * kib, 0.95, 130},
		{"near, a small image", near, all, 256 * kib, 32 * kib, 0.9, 3},
		{"near, a small window", near, Limits{Window: 64 * kib, Chunk: schemas.MaxChunkSize}, 16 * mib, 16 * kib, 0.95, 1030},
		{"near, a module of small chunks", near, Limits{Window: mib, Chunk: 8 * kib}, 16 * mib, 8 * kib, 0.95, 2000},
		{"far", path{trip: farTrip, rate: fast}, all, 16 * mib, 64 * kib, 0, 130},
		{"far, a small image", path{trip: farTrip, rate: fast}, all, 256 * kib, 4 * kib, 0, 6},
		{"slow", path{trip: 20 * time.Millisecond, rate: 8000}, all, mib, kib, 0.85, 350},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRun(c.path, c.size, c.limits, 7)
			asked := map[int]uint64{}
			r.check = func(f schemas.Fetch) error {
				for _, part := range f.Ranges {
					asked[f.Chunk] += part.Length
				}
				return nil
			}
			if err := r.fetch(time.Hour); err != nil {
				t.Fatal(err)
			}
			usual := slices.MaxFunc(slices.Collect(maps.Keys(asked)), func(a, b int) int { return cmp.Compare(asked[a], asked[b]) })
			share := r.goodput() / c.path.rate
			t.Logf("%.3f of the line, %d fetches, bytes by chunk %v", share, r.fetches, asked)
			if usual != c.want || share < c.share {
				t.Errorf("most in chunks of %d bytes, %.3f of the line; want %d and %.2f", usual, share, c.want, c.share)
			}
			if r.fetches > c.fetches {
				t.Errorf("%d fetches, want at most %d", r.fetches, c.fetches)
			}
		})
	}
}

// TestShape: what the size of chunks follows from, one at a time.
func TestShape(t *testing.T) {
	all := Limits{Window: mib, Chunk: schemas.MaxChunkSize}
	for _, c := range []struct {
		name   string
		window int
		trip   time.Duration // the least, or 0 before the first
		loss   float64
		rate   float64 // bytes a second
		limits Limits
		want   int
	}{
		{"before the first", firstWindow, 0, 0, 0, all, 2 * kib},
		{"far", mib, farTrip, 0, fast, all, 64 * kib},
		{"near", mib, nearTrip, 0, fast, all, 128 * kib},
		{"near, in the beginning", 2 * firstWindow, nearTrip, 0, fast, all, 16 * kib},
		{"not near any more", mib, nearTrip + 1, 0, fast, all, 64 * kib},
		{"far, one in a thousand lost", mib, farTrip, 0.001, fast, all, 64 * kib},
		{"far, one in a hundred lost", mib, farTrip, 0.01, fast, all, 32 * kib},
		{"near, one in a hundred lost", mib, nearTrip, 0.01, fast, all, 32 * kib},
		{"room, a fast line", 128 * kib, farTrip, 0, fast, all, 32 * kib},
		{"room, 10 Mbit/s", 128 * kib, farTrip, 0, 1.25e6, all, 16 * kib},
		{"room, a slow line", 128 * kib, farTrip, 0, 8e3, all, 8 * kib},
		{"the worst of paths", leastWindow, farTrip, 0.2, 1e3, all, leastChunk},
		{"a module of small chunks", mib, nearTrip, 0, fast, Limits{Window: mib, Chunk: 9 * kib}, 8 * kib},
		{"a module of a small window", mib, farTrip, 0, fast, Limits{Window: 64 * kib, Chunk: schemas.MaxChunkSize}, 4 * kib},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Now()
			p := pace{window: c.window, leastTrip: c.trip, loss: c.loss, rate: c.rate}
			if c.trip > 0 {
				p.tripAt = now
			}
			if _, chunk, step := p.shape(now, c.limits); chunk != c.want || step < chunk {
				t.Errorf("chunks of %d bytes, asked for when %d are free; want %d", chunk, step, c.want)
			}
		})
	}
}

// The path changes on the way, and the new one is used as well as the old one was.
func TestPathChanges(t *testing.T) {
	const when = 20 * time.Second
	for _, c := range []struct {
		name        string
		before      path
		after       path
		share, most float64       // of what the new path gives in the minute that begins a minute later; and that
		wait        time.Duration // longest in the queue in that minute
	}{
		{"a longer way", path{trip: 20 * time.Millisecond, rate: fast}, path{trip: 600 * time.Millisecond, rate: fast}, 0.85, mib / 0.6, time.Second},
		{"a shorter way", path{trip: 600 * time.Millisecond, rate: 250e3}, path{trip: 20 * time.Millisecond, rate: 250e3}, 0.85, 250e3, time.Second},
		{"a slower line", path{trip: 100 * time.Millisecond, rate: 1.25e6}, path{trip: 100 * time.Millisecond, rate: 8e3}, 0.85, 8e3, 5 * time.Second},
		{"a faster line", path{trip: 100 * time.Millisecond, rate: 8e3}, path{trip: 100 * time.Millisecond, rate: 1.25e6}, 0.85, 1.25e6, time.Second},
		{"a line that begins to lose", path{trip: 100 * time.Millisecond, rate: 250e3}, path{trip: 100 * time.Millisecond, rate: 250e3, loss: 0.02}, 0.8, 250e3, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRun(c.before, 1<<31, Limits{Window: mib, Chunk: schemas.MaxChunkSize}, 3)
			held := uint64(0)
			r.turns = func(r *run) {
				switch at := r.elapsed(); {
				case at > when+60*time.Second && held == 0:
					held, r.longest = r.img.Held(), 0
				case at > when:
					r.path = c.after
				}
			}
			if r.fetch(when+120*time.Second) == nil {
				t.Fatal("all of the image was fetched; it should last")
			}
			share := float64(r.img.Held()-held) / 60 / c.most
			t.Logf("%.3f of what the path gives, longest wait %s, window %d", share, r.longest.Round(time.Millisecond), r.f.pace.window)
			if share < c.share || r.longest > c.wait {
				t.Errorf("%.3f of what the path gives, longest wait %s; want %.2f and %s", share, r.longest, c.share, c.wait)
			}
		})
	}
}
