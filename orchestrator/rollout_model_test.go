package orchestrator_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"

	"pgregory.net/rapid"

	"davit/orchestrator"
	"davit/schemas"
)

// modelStats are what schedules of the model came to.
type modelStats struct {
	schedules, steps, crashes, faults, jumps, moved, commits, checks, quiet int
	jobs, refused, rollBacks, stops, waves, retries, offers, publications   int
	reports, fallBacks, deleted, inProgress                                 int
	kinds, asked, reasons                                                   map[string]int
	states                                                                  map[orchestrator.JobState]int
	ends                                                                    map[schemas.State]int
}

func newModelStats() *modelStats {
	return &modelStats{
		kinds: map[string]int{}, asked: map[string]int{}, reasons: map[string]int{}, states: map[orchestrator.JobState]int{}, ends: map[schemas.State]int{},
	}
}

// table is the statistics as a table in Markdown.
func (s *modelStats) table() string {
	var b strings.Builder
	b.WriteString("| what | how many |\n|---|---:|\n")
	row := func(what string, n int) { fmt.Fprintf(&b, "| %s | %d |\n", what, n) }
	row("schedules", s.schedules)
	row("steps", s.steps)
	for _, x := range modelSteps {
		row("steps: "+x.name, s.kinds[x.name])
	}
	row("crashes", s.crashes)
	row("failures of the store", s.faults)
	row("jumps of the clock", s.jumps)
	row("executions whose times were moved back", s.moved)
	row("updates of the store, each judged", s.commits)
	row("checks of all records", s.checks)
	row("moments at which the service had nothing left to do", s.quiet)
	row("jobs", s.jobs)
	row("jobs refused", s.refused)
	for _, x := range sortedKeys(s.states) {
		row("jobs that came to be "+string(x), s.states[x])
	}
	row("jobs stopped by a rule or a wave that could not be reached", s.stops)
	row("roll-back jobs", s.rollBacks)
	row("waves released after the first", s.waves)
	row("offers", s.offers)
	row("offers published", s.publications)
	row("reports", s.reports)
	row("most devices in progress at once", s.inProgress)
	for _, x := range sortedKeys(s.ends) {
		row("attempts that ended "+string(x), s.ends[x])
	}
	row("retries by the policy", s.retries)
	row("falls back to an old version", s.fallBacks)
	for _, x := range sortedKeys(s.asked) {
		row("asked by people: "+x, s.asked[x])
	}
	for _, x := range sortedKeys(s.reasons) {
		row("waits: "+x, s.reasons[x])
	}
	return b.String()
}

// stepsPerSchedule is how many steps a schedule has on average.
const stepsPerSchedule = 120

// uniform draws numbers of 30 bits that are equally likely, which rapid's own
// generators for integers are not.
var uniform = rapid.Custom(func(t *rapid.T) uint64 {
	var n uint64
	for range 30 {
		n <<= 1
		if rapid.Bool().Draw(t, "bit") {
			n |= 1
		}
	}
	return n
})

// TestModel runs random schedules of events, crashes and jumps of the clock against
// the service and a reference model. Each step of a schedule is a number from which
// everything about it is drawn, so that rapid can leave steps out to make a failing
// schedule shorter; it says how that is run again.
//
// DAVIT_MODEL is how many steps there are in all, DAVIT_MODEL_TABLE a file for the
// statistics. Without them a few schedules are run, the same ones each time, so that
// nobody is held up by what he has not done; -rapid.seed=N chooses others.
func TestModel(t *testing.T) {
	want := 1500
	if v := os.Getenv("DAVIT_MODEL"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatalf("DAVIT_MODEL: %v", err)
		}
		want = n
	}
	base, stats := newModelBase(t), newModelStats()
	checks := flag.Lookup("rapid.checks").Value
	defer checks.Set(checks.String())
	seed := flag.Lookup("rapid.seed").Value
	defer seed.Set(seed.String())
	first, fixed := seed.String(), os.Getenv("DAVIT_MODEL") == "" || seed.String() != "0"
	for round := uint64(0); stats.steps < want && !t.Failed(); round++ {
		if err := checks.Set(fmt.Sprint((want-stats.steps)/stepsPerSchedule + 1)); err != nil {
			t.Fatal(err)
		}
		if n, err := strconv.ParseUint(first, 10, 64); err == nil && fixed {
			if err := seed.Set(fmt.Sprint(max(1, n) + round)); err != nil {
				t.Fatal(err)
			}
		}
		rapid.Check(t, func(rt *rapid.T) {
			seed := uniform.Draw(rt, "world")
			parts := rapid.SliceOfN(rapid.SliceOfN(uniform, 5, -1), 6, -1).Draw(rt, "steps")
			cryptotest.SetGlobalRandom(t, seed) // the ids of executions, from which jitter is drawn
			r := newModelRig(rt, base, stats, seed)
			stats.schedules++
			for _, step := range slices.Concat(parts...) {
				r.reseed(step)
				r.step()
			}
			r.reseed(seed)
			r.heal()
		})
	}
	t.Logf("%d schedules, %d steps, %d crashes", stats.schedules, stats.steps, stats.crashes)
	if file := os.Getenv("DAVIT_MODEL_TABLE"); file != "" {
		if err := os.WriteFile(file, []byte(stats.table()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
