package main

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// instructions are how many of the processor's the service spends on a fetch, on each of its
// chunks, and on each KiB of their data.
type instructions struct {
	Fetch float64 `json:"fetch"`
	Chunk float64 `json:"chunk"`
	KiB   float64 `json:"kib"`
}

const instructionsFile = "testdata/instructions.json"

// So much more than the committed figures may be spent: a part of the figure, and a few
// besides. What is measured differs by less than a hundredth, whatever else the machine does.
const (
	instructionSlack = 0.05
	instructionsMore = 5
)

// TestInstructionsOfAChunk holds how many instructions a fetch, a chunk and a KiB of data
// cost the service from socket to socket against the committed figures; those of the kernel
// and of Go's runtime do not count, but for copying. Virtual machines rarely have a counter for them, so
// valgrind runs the service and counts: on a busy machine the same as on an idle one.
func TestInstructionsOfAChunk(t *testing.T) {
	if os.Getenv("DAVIT_TEST_FULL") != "1" {
		t.Skip("runs the service under valgrind; runs under DAVIT_TEST_FULL=1")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the committed figures are those of amd64")
	}
	const fetches = 500
	r := newCountedRig(t)
	least := [3]float64{math.Inf(1), math.Inf(1), math.Inf(1)}
	var spentOn [3]spent
	for range 3 { // what the scheduler and the collector do meanwhile differs
		for i, s := range costShapes {
			r.spend(s, 50)
			if spent := r.spend(s, fetches); spent.program/fetches < least[i] {
				least[i], spentOn[i] = spent.program/fetches, spent
			}
		}
	}
	var got instructions
	got.Fetch, got.Chunk, got.KiB = costsOf(least)
	for i, s := range costShapes {
		t.Logf("a fetch of %d chunks of %d bytes: %.0f instructions, and %.0f of Go's runtime\n%s", s.chunks, s.size, least[i], spentOn[i].runtime/fetches, mostOf(spentOn[i].functions, fetches))
	}
	want := committed(t, instructionsFile, got)
	for _, c := range []struct {
		what      string
		got, want float64
	}{{"fetch", got.Fetch, want.Fetch}, {"chunk", got.Chunk, want.Chunk}, {"KiB", got.KiB, want.KiB}} {
		if limit := c.want*(1+instructionSlack) + instructionsMore; c.got > limit {
			t.Errorf("a %s costs %.0f instructions, which is more than the %.0f of %s, %.0f %% and %d (-update writes it anew)",
				c.what, c.got, c.want, instructionsFile, instructionSlack*100, instructionsMore)
		}
	}
}

// countedRig is a service of which callgrind counts the instructions.
type countedRig struct {
	*costRig
	t     *testing.T
	out   string // the files into which it writes what was spent begin so
	dumps int
}

func newCountedRig(t *testing.T) *countedRig {
	t.Helper()
	for _, program := range []string{"valgrind", "vgdb"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("DAVIT_TEST_FULL=1 wants valgrind (apt-get install valgrind): %v", err)
		}
	}
	dir := t.TempDir()
	out := filepath.Join(dir, "spent")
	// callgrind does not survive the signals by which Go's runtime takes the processor from a goroutine. Where threads have
	// no turns (--fair-sched), one that waits for another can keep it from running, for minutes.
	script := fmt.Sprintf("#!/bin/sh\nGODEBUG=asyncpreemptoff=1 exec valgrind -q --fair-sched=yes --tool=callgrind --callgrind-out-file=%q -- %q \"$@\"\n", out, buildForTest(t))
	counted := filepath.Join(dir, "davit-counted")
	if err := os.WriteFile(counted, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return &countedRig{costRig: newCostRig(t, counted), t: t, out: out}
}

// spent are instructions: those of the program, also by function, and those of Go's runtime.
type spent struct {
	program, runtime float64
	functions        map[string]float64
}

// ofRuntime says whether a function is one of Go's runtime. How often that looks for work
// and sleeps depends on what else the machine does; what it allocates is counted elsewhere.
// The function that copies is not taken for one: who calls it is mostly the program, and
// a copy more of each chunk has to be seen.
func ofRuntime(function string) bool {
	if function == "runtime.memmove" {
		return false
	}
	return strings.HasPrefix(function, "runtime.") || strings.HasPrefix(function, "internal/runtime/") || !strings.Contains(function, ".")
}

// spend has the module fetch n times, and says what the service has spent since the last time.
func (r *countedRig) spend(s costShape, n int) spent {
	r.t.Helper()
	if err := r.fetch(r.t.Context(), s, n); err != nil {
		r.t.Fatal(err)
	}
	r.dump()
	r.dumps++
	return readSpent(r.t, fmt.Sprintf("%s.%d", r.out, r.dumps))
}

// dump has callgrind write what was spent since the last time. vgdb wakes it as a tracer does, as the service waits.
func (r *countedRig) dump() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "vgdb", "--pid="+strconv.Itoa(r.d.cmd.Process.Pid), "dump")
	told, err := cmd.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	said := ""
	for lines := bufio.NewScanner(told); lines.Scan(); {
		if said += lines.Text() + "\n"; strings.Contains(said, "not permitted") { // in a container, say; it would try for ever
			cancel()
			_ = cmd.Wait()
			r.t.Skipf("nobody may trace a process that runs here: %s", said)
		}
	}
	if err := cmd.Wait(); err != nil {
		r.t.Fatalf("callgrind does not tell what was spent: %v\n%s", err, said)
	}
}

var (
	spentFunction = regexp.MustCompile(`^fn=\((\d+)\)(?: (.*))?$`)
	spentCallee   = regexp.MustCompile(`^cfn=\((\d+)\) (.*)$`)
	spentLine     = regexp.MustCompile(`^[+*\d-]\d* (\d+)$`)
)

// readSpent reads a file of callgrind: for each function the lines of it with what each has
// spent. What a line has called stands below that call and counts for what was called.
func readSpent(t *testing.T, name string) spent {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := spent{functions: map[string]float64{}}
	names, function, inCall := map[string]string{}, "", false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		switch m := spentLine.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "calls="):
			inCall = true
		case m != nil && inCall:
			inCall = false
		case m != nil:
			n, _ := strconv.ParseFloat(m[1], 64)
			if name := names[function]; ofRuntime(name) {
				all.runtime += n
			} else {
				all.functions[name] += n
				all.program += n
			}
		default:
			if m := spentCallee.FindStringSubmatch(line); m != nil {
				names[m[1]] = m[2]
			}
			if m := spentFunction.FindStringSubmatch(line); m != nil {
				if function = m[1]; m[2] != "" {
					names[function] = m[2]
				}
			}
		}
	}
	if err := lines.Err(); err != nil || all.program == 0 {
		t.Fatalf("%s tells of no instructions: %v", name, err)
	}
	return all
}

// mostOf lists the functions that have spent most, for one of n fetches.
func mostOf(functions map[string]float64, n int) string {
	var text strings.Builder
	names := slices.SortedFunc(maps.Keys(functions), func(a, b string) int { return int(functions[b] - functions[a]) })
	for _, name := range names[:min(len(names), 12)] {
		fmt.Fprintf(&text, "%8.0f %s\n", functions[name]/float64(n), name)
	}
	return text.String()
}
