package orchestrator

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// chainOf reads "1.0>1.5 any>1.6 1.5>2.0", the goal last; images are named after
// their place.
func chainOf(s string) (links []link, goal link) {
	for i, f := range strings.Fields(s) {
		from, to, _ := strings.Cut(f, ">")
		if from == "any" {
			from = ""
		}
		links = append(links, link{Image: fmt.Sprintf("img-%d", i), MinVersion: from, Version: to})
	}
	return links[:len(links)-1], links[len(links)-1]
}

func TestChainPaths(t *testing.T) {
	for _, c := range []struct{ chain, running, path string }{
		{"1.0>1.5 1.5>2.0", "1.0", "1.0 1.5 2.0"},
		{"1.0>1.5 1.5>2.0", "1.5", "1.5 2.0"},
		{"1.0>1.5 1.5>2.0", "2.0", "2.0"},
		{"1.0>1.5 1.5>2.0", "1.2", ""},
		{"any>1.5 1.5>2.0", "1.2", "1.2 1.5 2.0"},
		{"any>1.5 1.5>2.0", "1.5", "1.5 2.0"},
		{"any>2.0", "9", "9 2.0"},
		{"1.0>1.5 any>2.0", "1.0", "1.0 2.0"},
		{"1>2 2>3 3>4 1>3 4>5", "1", "1 3 4 5"},
		{"1>2 1>3 2>4 3>4", "1", "1 2 4"}, // a tie goes by the order of the list
		{"1>3 1>2 2>4 3>4", "1", "1 3 4"},
		{"1>2 2>1 5>6", "1", ""}, // circles end the search
		{"1.5>2.0 1.0>2.0", "1.5", "1.5 2.0"},
	} {
		links, goal := chainOf(c.chain)
		path := chainPath(links, goal, c.running)
		if got := strings.Join(path, " "); got != c.path {
			t.Errorf("from %s over %s: %s, want %s", c.running, c.chain, got, c.path)
		}
		first, ok := nextLink(links, goal, c.running)
		if ok != (len(path) > 1) || ok && (first.Version != path[1] || !first.from(c.running)) {
			t.Errorf("from %s over %s: first %+v %v", c.running, c.chain, first, ok)
		}
	}
}

func TestCheckChain(t *testing.T) {
	for _, c := range []struct{ chain, field, words string }{
		{"2.0>3.0", "", ""},
		{"1.0>1.5 1.5>2.0", "", ""},
		{"any>1.5 1.5>2.0", "", ""},
		{"any>1.5 1.0>1.5 1.5>2.0", "rollout/via/1", ""}, // the other serves it as well
		{"1.0>1.5 any>1.5 1.5>2.0", "", ""},
		{"1.0>2.0 1.5>2.0", "", ""},
		{"1>2 1>3 2>4 3>4", "rollout/via/1", "never be used"}, // two ways of the same length
		{"1.0>1.5 1.5>1.0 1.5>2.0", "rollout/via", "(1.0 > 1.5 > 1.0)"},
		{"1>2 2>3 3>1 3>4", "rollout/via", "(1 > 2 > 3 > 1)"},
		{"2.0>1.0 1.0>2.0", "rollout/via", "(2.0 > 1.0 > 2.0)"},
		{"1.0>1.0 1.0>2.0", "rollout/via", "(1.0 > 1.0)"},
		{"2.0>2.0", "rollout/via", "(2.0 > 2.0)"},
		{"1.0>1.5 1.0>1.5 1.5>2.0", "rollout/via", `images "img-0" and "img-1" lead both from the same version to the same (1.0 > 1.5)`},
		{"1.5>2.0 1.5>2.0", "rollout/via", `images "img-0" and "img-1"`},
		{"1.0>1.5 1.5>1.6 1.5>2.0", "rollout/via/1", `"img-1" (1.5 > 1.6) leads nowhere: none of the others goes on from 1.6 to 2.0`},
		{"1.0>1.5 any>2.0", "rollout/via/0", `"img-0" (1.0 > 1.5) would never be used: another way to 2.0 is as short or shorter`},
		{"any>1.4 any>1.5 1.4>1.5 1.5>2.0", "rollout/via/0", "never be used"},
	} {
		links, goal := chainOf(c.chain)
		err := checkChain(links, goal)
		var f *FieldError
		switch {
		case c.field == "" && err != nil:
			t.Errorf("%s: %v", c.chain, err)
		case c.field == "":
		case !errors.As(err, &f) || !errors.Is(err, ErrInvalid) || f.Field != c.field || !strings.Contains(err.Error(), c.words):
			t.Errorf("%s: %v, want %s: %s", c.chain, err, c.field, c.words)
		}
	}
}

func chainGen(t *rapid.T) ([]link, link) {
	version := rapid.SampledFrom(strings.Fields("1 2 3 4 5 6"))
	var all []link
	for i := range rapid.IntRange(1, 7).Draw(t, "links") {
		l := link{Image: fmt.Sprint(i), Version: version.Draw(t, "version")}
		if rapid.IntRange(0, 4).Draw(t, "min") > 0 {
			l.MinVersion = version.Draw(t, "min version")
		}
		all = append(all, l)
	}
	return all[:len(all)-1], all[len(all)-1]
}

// A device that asks anew from each version arrives, and by no detour; and a
// chain that was let pass has no image of which that makes no use.
func TestChainArrives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		links, goal := chainGen(t)
		got := map[string]bool{}
		for _, running := range strings.Fields("0 1 2 3 4 5 6") {
			path := chainPath(links, goal, running)
			for at, steps := running, 0; at != goal.Version; steps++ {
				l, ok := nextLink(links, goal, at)
				if !ok {
					if path != nil {
						t.Fatalf("stuck at %s on the way %v", at, path)
					}
					break
				}
				if got[l.Image] = true; !l.from(at) || path == nil || steps == len(path) {
					t.Fatalf("%v from %s on the way %v", l, at, path)
				}
				if at = l.Version; at == goal.Version && steps != len(path)-2 {
					t.Fatalf("%d steps for %v", steps, path)
				}
			}
		}
		if checkChain(links, goal) == nil {
			for _, l := range links {
				if !got[l.Image] {
					t.Fatalf("%v of %v to %v was let pass and is never used", l, links, goal)
				}
			}
		}
	})
}
