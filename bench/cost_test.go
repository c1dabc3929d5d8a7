package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// cost is what the service spends, over the whole way from a fetch on a socket to the
// chunks on that socket, in its own process.
type cost struct {
	// Allocations on the heap, and their bytes.
	Allocations float64 `json:"allocations"`
	Allocated   float64 `json:"allocated"`
	// Calls are system calls of the families of read and write, as /proc counts them, which
	// leaves out recvmsg(2). TestCallsOfAFetch counts all.
	Calls float64 `json:"calls"`
}

// costs are those of a fetch, of each of its chunks, and of each KiB of their data; and of
// a fetch of one large chunk, and of each further one. Those go another way, from the
// image's file.
type costs struct {
	Fetch      cost `json:"fetch"`
	Chunk      cost `json:"chunk"`
	KiB        cost `json:"kib"`
	LargeFetch cost `json:"large_fetch"`
	LargeChunk cost `json:"large_chunk"`
}

const costFile = "testdata/cost.json"

var update = flag.Bool("update", false, "write "+costFile+" and "+instructionsFile+" anew")

// slack is how much more than the committed figures something may cost: a part of the
// figure, and something besides for what other goroutines do meanwhile.
const slack = 0.15

// TestCostOfAChunk holds what a fetch, a chunk and a KiB of data cost against the
// committed figures, none of which is a time: they come out the same on a busy machine.
// TestInstructionsOfAChunk counts instructions.
func TestCostOfAChunk(t *testing.T) {
	if os.Getenv("DAVIT_TEST_FULL") != "1" {
		t.Skip("starts the service; runs under DAVIT_TEST_FULL=1")
	}
	binary := buildForTest(t)
	got := measureCosts(t, binary)
	want := committed(t, costFile, got)
	for _, c := range []struct {
		what      string
		got, want float64
		besides   float64
	}{
		{"allocations of a fetch", got.Fetch.Allocations, want.Fetch.Allocations, 8},
		{"allocations of a chunk", got.Chunk.Allocations, want.Chunk.Allocations, 0.3},
		{"allocations of a KiB", got.KiB.Allocations, want.KiB.Allocations, 0.3},
		{"calls of a fetch", got.Fetch.Calls, want.Fetch.Calls, 1},
		{"calls of a chunk", got.Chunk.Calls, want.Chunk.Calls, 0.1},
		{"calls of a KiB", got.KiB.Calls, want.KiB.Calls, 0.1},
		{"bytes allocated for a fetch", got.Fetch.Allocated, want.Fetch.Allocated, 3000},
		{"bytes allocated for a chunk", got.Chunk.Allocated, want.Chunk.Allocated, 100},
		{"bytes allocated for a KiB", got.KiB.Allocated, want.KiB.Allocated, 50},
		{"allocations of a fetch of a large chunk", got.LargeFetch.Allocations, want.LargeFetch.Allocations, 8},
		{"allocations of a further large chunk", got.LargeChunk.Allocations, want.LargeChunk.Allocations, 1.2},
		{"calls of a fetch of a large chunk", got.LargeFetch.Calls, want.LargeFetch.Calls, 1},
		{"calls of a further large chunk", got.LargeChunk.Calls, want.LargeChunk.Calls, 0.1},
		{"bytes allocated for a fetch of a large chunk", got.LargeFetch.Allocated, want.LargeFetch.Allocated, 3000},
		{"bytes allocated for a further large chunk", got.LargeChunk.Allocated, want.LargeChunk.Allocated, 500},
	} {
		if limit := c.want*(1+slack) + c.besides; c.got > limit {
			t.Errorf("%s: %.2f, which is more than the %.2f of %s and %.0f %% (-update writes it anew)", c.what, c.got, c.want, costFile, slack*100)
		}
	}
}

// committed are the figures in a file, or got, which it has from then on, with -update.
func committed[T any](t *testing.T, file string, got T) (want T) {
	t.Helper()
	text, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	if *update {
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return got
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return want
}

// costShape is a fetch of so many chunks of so many bytes.
type costShape struct{ chunks, size int }

// costShapes differ in one thing each: the number of chunks, and their size.
var costShapes = [3]costShape{{1, 64}, {64, 64}, {64, 1 << 10}}

// largeChunk is the least size of a chunk whose data leaves from the image's file.
const largeChunk = 32 << 10

// largeShapes differ in one chunk.
var largeShapes = [2]costShape{{1, largeChunk}, {2, largeChunk}}

// costsOf takes apart what the three shapes cost.
func costsOf(per [3]float64) (fetch, chunk, kib float64) {
	kib = (per[2] - per[1]) / (64 * (1024 - 64) / 1024.0)
	chunk = (per[1]-per[0])/63 - kib*64/1024
	fetch = per[0] - chunk - kib*64/1024
	return hundredths(fetch), hundredths(chunk), hundredths(kib)
}

// hundredths rounds. What other goroutines do meanwhile is noise, which can be less in one
// course than in another.
func hundredths(v float64) float64 { return math.Round(max(v, 0)*100) / 100 }

// costRig is a service with one module.
type costRig struct {
	d      *davit
	module *module
}

func newCostRig(t *testing.T, binary string) *costRig {
	t.Helper()
	image := testImage(64 << 10)
	d, err := startDavit(binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(d.populate(t.Context(), 1), d.offer(t.Context(), image)); err != nil {
		t.Fatal(err)
	}
	modules, err := d.connect(nil, 1, image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(modules[0].close)
	return &costRig{d, modules[0]}
}

// fetch has the module ask n times for what the shape says, one after the other.
func (r *costRig) fetch(ctx context.Context, s costShape, n int) error {
	c := course{image: r.d.image.ID, chunk: s.size, window: s.chunks, batch: s.chunks, length: int64(n * s.chunks * s.size), atOnce: true}
	o, err := fetchAll(ctx, []*module{r.module}, c)
	if err == nil && o.again > 0 {
		err = fmt.Errorf("the module had to ask again %d times", o.again)
	}
	return err
}

// measureCosts lets a module fetch in all shapes, with two services: the collector may come
// at a bad moment.
func measureCosts(t *testing.T, binary string) (into costs) {
	t.Helper()
	shapes := slices.Concat(costShapes[:], largeShapes[:])
	least := make([]cost, len(shapes))
	for i := range 2 {
		r := newCostRig(t, binary)
		for k, s := range shapes {
			if per := r.costOf(t, s); i == 0 {
				least[k] = per
			} else {
				least[k] = leastOf(least[k], per)
			}
		}
	}
	for _, figure := range costFigures {
		var per [5]float64
		for k := range least {
			per[k] = *figure(&least[k])
		}
		*figure(&into.Fetch), *figure(&into.Chunk), *figure(&into.KiB) = costsOf([3]float64(per[:3]))
		*figure(&into.LargeFetch), *figure(&into.LargeChunk) = hundredths(per[3]), hundredths(per[4]-per[3])
	}
	return into
}

// costFigures are the figures of a cost, each by where it is.
var costFigures = [3]func(*cost) *float64{
	func(c *cost) *float64 { return &c.Allocations },
	func(c *cost) *float64 { return &c.Allocated },
	func(c *cost) *float64 { return &c.Calls },
}

// costOf is what a fetch of a shape costs.
func (r *costRig) costOf(t *testing.T, s costShape) (per cost) {
	t.Helper()
	const fetches = 4000                                // the look at the metrics allocates, too, and not the same each time
	if err := r.fetch(t.Context(), s, 50); err != nil { // pools are filled, sockets have grown their buffers
		t.Fatal(err)
	}
	before := r.count(t)
	if err := r.fetch(t.Context(), s, fetches); err != nil {
		t.Fatal(err)
	}
	after := r.count(t)
	for _, figure := range costFigures {
		*figure(&per) = (*figure(&after) - *figure(&before)) / fetches
	}
	return per
}

// leastOf is the smaller of each figure.
func leastOf(a, b cost) cost {
	return cost{min(a.Allocations, b.Allocations), min(a.Allocated, b.Allocated), min(a.Calls, b.Calls)}
}

// count is what the service has spent since it began.
func (r *costRig) count(t *testing.T) (c cost) {
	t.Helper()
	reads, writes, err := r.d.calls()
	if err != nil {
		t.Fatal(err)
	}
	c.Calls = float64(reads + writes)
	metrics, err := r.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for name, into := range map[string]*float64{"go_memstats_mallocs_total": &c.Allocations, "go_memstats_alloc_bytes_total": &c.Allocated} {
		text := firstNumber([]byte(metrics), `(?m)^`+name+` (\S+)$`)
		if *into, err = strconv.ParseFloat(text, 64); err != nil {
			t.Fatalf("%s in the metrics: %v", name, err)
		}
	}
	return c
}

func (r *costRig) get(path string) (string, error) {
	token, err := os.ReadFile(filepath.Join(r.d.data, "admin.token"))
	if err != nil {
		return "", err
	}
	req, err := http.NewRequest(http.MethodGet, r.d.http+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}
