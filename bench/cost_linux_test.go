package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// cost is what the service spends, over the whole way from a fetch on a socket to the
// chunks on that socket, in its own process.
type cost struct {
	// Allocations on the heap.
	Allocations float64 `json:"allocations"`
	// Calls are system calls of the families of read and write.
	Calls float64 `json:"calls"`
	// Steps are instructions in user space.
	Steps float64 `json:"steps"`
}

// costs are those of a fetch, of each of its chunks, and of each KiB of their data.
type costs struct {
	Fetch cost `json:"fetch"`
	Chunk cost `json:"chunk"`
	KiB   cost `json:"kib"`
}

const costFile = "testdata/cost.json"

var update = flag.Bool("update", false, "write "+costFile+" anew")

// slack is how much more than the committed figures something may cost: a part of the
// figure, and something besides for what other goroutines do meanwhile.
const slack = 0.15

// TestCostOfAChunk holds what a fetch, a chunk and a KiB of data cost against the
// committed figures, none of which is a time: they come out the same on a busy machine.
// Instructions are counted with DAVIT_TEST_FULL only, which takes a few seconds.
func TestCostOfAChunk(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the service")
	}
	binary := buildForTest(t)
	got := costs{}
	measureCalls(t, binary, &got)
	steps := os.Getenv("DAVIT_TEST_FULL") == "1" || *update
	if steps {
		measureSteps(t, binary, &got)
	}
	text, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	if *update {
		if err := os.WriteFile(costFile, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	var want costs
	b, err := os.ReadFile(costFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what      string
		got, want float64
		besides   float64
	}{
		{"allocations of a fetch", got.Fetch.Allocations, want.Fetch.Allocations, 2},
		{"allocations of a chunk", got.Chunk.Allocations, want.Chunk.Allocations, 0.1},
		{"allocations of a KiB", got.KiB.Allocations, want.KiB.Allocations, 0.02},
		{"calls of a fetch", got.Fetch.Calls, want.Fetch.Calls, 1},
		{"calls of a chunk", got.Chunk.Calls, want.Chunk.Calls, 0.1},
		{"calls of a KiB", got.KiB.Calls, want.KiB.Calls, 0.1},
		{"instructions of a fetch", got.Fetch.Steps, want.Fetch.Steps, 2000},
		{"instructions of a chunk", got.Chunk.Steps, want.Chunk.Steps, 100},
		{"instructions of a KiB", got.KiB.Steps, want.KiB.Steps, 20},
	} {
		if limit := c.want*(1+slack) + c.besides; c.got > limit {
			t.Errorf("%s: %.2f, which is more than the %.2f of %s and %.0f %% (-update writes it anew)", c.what, c.got, c.want, costFile, slack*100)
		}
	}
}

func buildForTest(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "davit")
	// As other tests build it, so that the build cache serves all of them.
	if out, err := exec.Command("go", "build", "-o", binary, "davit/cmd/davit").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// costShape is a fetch of so many chunks of so many bytes.
type costShape struct{ chunks, size int }

// costShapes differ in one thing each: the number of chunks, and their size.
var costShapes = [3]costShape{{1, 64}, {64, 64}, {64, 1 << 10}}

// costsOf takes apart what the three shapes cost.
func costsOf(per [3]float64) (fetch, chunk, kib float64) {
	kib = (per[2] - per[1]) / (64 * (1024 - 64) / 1024.0)
	chunk = (per[1]-per[0])/63 - kib*64/1024
	return per[0] - chunk - kib*64/1024, chunk, kib
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
	c := course{image: r.d.image.ID, chunk: s.size, window: s.chunks, batch: s.chunks, length: int64(n * s.chunks * s.size)}
	o, err := fetchAll(ctx, []*module{r.module}, c)
	if err == nil && o.again > 0 {
		err = fmt.Errorf("the module had to ask again %d times", o.again)
	}
	return err
}

func measureCalls(t *testing.T, binary string, into *costs) {
	const fetches = 500
	r := newCostRig(t, binary)
	var allocations, calls [3]float64
	for i, s := range costShapes {
		var before, after [2]float64
		for _, at := range []*[2]float64{&before, &after} {
			if at == &before { // pools are filled, sockets have grown their buffers
				if err := r.fetch(t.Context(), s, 50); err != nil {
					t.Fatal(err)
				}
			} else if err := r.fetch(t.Context(), s, fetches); err != nil {
				t.Fatal(err)
			}
			reads, writes, err := r.d.calls()
			if err != nil {
				t.Fatal(err)
			}
			at[0], at[1] = r.mallocs(t), float64(reads+writes)
		}
		allocations[i], calls[i] = (after[0]-before[0])/fetches, (after[1]-before[1])/fetches
	}
	into.Fetch.Allocations, into.Chunk.Allocations, into.KiB.Allocations = costsOf(allocations)
	into.Fetch.Calls, into.Chunk.Calls, into.KiB.Calls = costsOf(calls)
}

var mallocsMetric = regexp.MustCompile(`(?m)^go_memstats_mallocs_total (\S+)$`)

// mallocs is how many allocations the service has made.
func (r *costRig) mallocs(t *testing.T) float64 {
	t.Helper()
	resp, err := r.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	m := mallocsMetric.FindStringSubmatch(resp)
	if m == nil {
		t.Fatalf("no count of allocations in the metrics:\n%s", resp)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
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

func measureSteps(t *testing.T, binary string, into *costs) {
	const fetches = 5
	for name, value := range map[string]string{"GOMAXPROCS": "1", "GOGC": "off", "GODEBUG": "asyncpreemptoff=1"} {
		t.Setenv(name, value) // of the service; this process has read them already
	}
	r := newCostRig(t, binary)
	var steps [3]float64
	for i, s := range costShapes {
		if err := r.fetch(t.Context(), s, 50); err != nil {
			t.Fatal(err)
		}
		if err := r.d.settle(); err != nil {
			t.Fatal(err)
		}
		n, err := countSteps(r.d.cmd.Process.Pid, func() error { return r.fetch(t.Context(), s, fetches) })
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d fetches of %d chunks of %d bytes: %d instructions", fetches, s.chunks, s.size, n)
		steps[i] = float64(n) / fetches
	}
	into.Fetch.Steps, into.Chunk.Steps, into.KiB.Steps = costsOf(steps)
}
