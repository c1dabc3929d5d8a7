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

// costs are those of a fetch, of each of its chunks, and of each KiB of their data.
type costs struct {
	Fetch cost `json:"fetch"`
	Chunk cost `json:"chunk"`
	KiB   cost `json:"kib"`
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
	got := leastOf(measureCosts(t, binary), measureCosts(t, binary)) // the collector may have come at a bad moment
	want := committed(t, costFile, got)
	for _, c := range []struct {
		what      string
		got, want float64
		besides   float64
	}{
		{"allocations of a fetch", got.Fetch.Allocations, want.Fetch.Allocations, 10},
		{"allocations of a chunk", got.Chunk.Allocations, want.Chunk.Allocations, 0.3},
		{"allocations of a KiB", got.KiB.Allocations, want.KiB.Allocations, 0.3},
		{"calls of a fetch", got.Fetch.Calls, want.Fetch.Calls, 1},
		{"calls of a chunk", got.Chunk.Calls, want.Chunk.Calls, 0.1},
		{"calls of a KiB", got.KiB.Calls, want.KiB.Calls, 0.1},
		{"bytes allocated for a fetch", got.Fetch.Allocated, want.Fetch.Allocated, 3000},
		{"bytes allocated for a chunk", got.Chunk.Allocated, want.Chunk.Allocated, 100},
		{"bytes allocated for a KiB", got.KiB.Allocated, want.KiB.Allocated, 50},
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

// costsOf takes apart what the three shapes cost.
func costsOf(per [3]float64) (fetch, chunk, kib float64) {
	kib = (per[2] - per[1]) / (64 * (1024 - 64) / 1024.0)
	chunk = (per[1]-per[0])/63 - kib*64/1024
	fetch = per[0] - chunk - kib*64/1024
	// What other goroutines do meanwhile is noise, which can be less in one course than in another.
	hundredths := func(v float64) float64 { return math.Round(max(v, 0)*100) / 100 }
	return hundredths(fetch), hundredths(chunk), hundredths(kib)
}

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

// measureCosts lets a module fetch in the three shapes.
func measureCosts(t *testing.T, binary string) (into costs) {
	t.Helper()
	const fetches = 500
	r := newCostRig(t, binary)
	var allocations, allocated, calls [3]float64
	for i, s := range costShapes {
		if err := r.fetch(t.Context(), s, 50); err != nil { // pools are filled, sockets have grown their buffers
			t.Fatal(err)
		}
		before := r.count(t)
		if err := r.fetch(t.Context(), s, fetches); err != nil {
			t.Fatal(err)
		}
		after := r.count(t)
		allocations[i] = (after.Allocations - before.Allocations) / fetches
		allocated[i] = (after.Allocated - before.Allocated) / fetches
		calls[i] = (after.Calls - before.Calls) / fetches
	}
	into.Fetch.Allocations, into.Chunk.Allocations, into.KiB.Allocations = costsOf(allocations)
	into.Fetch.Allocated, into.Chunk.Allocated, into.KiB.Allocated = costsOf(allocated)
	into.Fetch.Calls, into.Chunk.Calls, into.KiB.Calls = costsOf(calls)
	return into
}

// leastOf is the smaller of each figure.
func leastOf(a, b costs) costs {
	least := func(a, b cost) cost {
		return cost{min(a.Allocations, b.Allocations), min(a.Allocated, b.Allocated), min(a.Calls, b.Calls)}
	}
	return costs{least(a.Fetch, b.Fetch), least(a.Chunk, b.Chunk), least(a.KiB, b.KiB)}
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
