package bridge

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"davit/schemas"
)

// tally counts what happened, by family and kind of fault.
type tally struct {
	mu      sync.Mutex
	entries map[[2]string]*entry
}

// entry is a line of the table. A scenario is in that of each of its kinds.
type entry struct {
	scenarios, atOnce, later, repaired int
	causes                             map[schemas.Cause]int
	took                               []time.Duration
	resent                             int
}

const allKinds = "all"

func newTally() *tally { return &tally{entries: map[[2]string]*entry{}} }

func (t *tally) add(o outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := []string{allKinds}
	for _, k := range o.kinds {
		names = append(names, k.name)
	}
	for _, name := range names {
		e := t.entries[[2]string{o.family, name}]
		if e == nil {
			e = &entry{causes: map[schemas.Cause]int{}}
			t.entries[[2]string{o.family, name}] = e
		}
		e.scenarios++
		switch {
		case o.repaired:
			e.repaired++
		case len(o.failures) > 0:
			e.later++
		default:
			e.atOnce++
		}
		for _, f := range o.failures {
			e.causes[f.Cause]++
		}
		e.took = append(e.took, o.took)
		e.resent += o.resent
	}
}

// String is the table in Markdown.
func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	b.WriteString("| fault | family | scenarios | at once | after offers again | after a repair | attempts that failed | median | worst | frames sent again |\n|---|---|---|---|---|---|---|---|---|---|\n")
	names := []string{}
	for _, k := range faultKinds() {
		names = append(names, k.name)
	}
	for _, name := range append(names, allKinds) {
		for _, f := range families {
			e := t.entries[[2]string{f.name, name}]
			if e == nil {
				continue
			}
			slices.Sort(e.took)
			fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d | %s | %v | %v | %d |\n", name, f.name, e.scenarios, e.atOnce, e.later, e.repaired,
				e.failed(), e.took[len(e.took)/2].Round(100*time.Millisecond), e.took[len(e.took)-1].Round(time.Second), e.resent)
		}
	}
	return b.String()
}

// failed lists the causes with which attempts failed.
func (e *entry) failed() string {
	causes := slices.SortedFunc(maps.Keys(e.causes), func(a, b schemas.Cause) int {
		return cmp.Or(e.causes[b]-e.causes[a], cmp.Compare(a, b))
	})
	var out []string
	for _, c := range causes {
		out = append(out, fmt.Sprintf("%d %s", e.causes[c], c))
	}
	return cmp.Or(strings.Join(out, ", "), "none")
}
