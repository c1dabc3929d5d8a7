package query_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"davit/orchestrator/query"
)

// TestVersionsInOrder holds lines of versions, each line before the next;
// those in one line are equal.
func TestVersionsInOrder(t *testing.T) {
	for _, lines := range []string{
		// Semantic Versioning 2.0.0 section 11, its own example.
		`1.0.0-alpha
1.0.0-alpha.1
1.0.0-alpha.beta
1.0.0-beta
1.0.0-beta.2
1.0.0-beta.11
1.0.0-rc.1
1.0.0 1.0.0+build.7 v1.0.0 1.0 1
2.0.0
2.1.0
2.1.1`,
		`0 0.0
0.0.1-rc
0.0.1
0.1 0.1.0
2.9 2.09
2.10 2.10.0
2.10.1
10 10.0
100 0100.0`,
		// The ends of SemVer's grammar.
		`1-
1-a
1-a.0 1-a.00
1-a.1
1-a.a
1-a-b
1`,
		// Natural order.
		`beta
r9
r10
r10.1
r11`,
		`1.0
1.0a
1.0b2
1.0b10
1.0.1
1.0.99999999999999999999999998
1.0.99999999999999999999999999`,
		`2026-01-31
2026
2026.02.01`,
	} {
		var all []string
		line := map[string]int{}
		for i, l := range strings.Split(lines, "\n") {
			for _, v := range strings.Fields(l) {
				all = append(all, v)
				line[v] = i
			}
		}
		for _, a := range all {
			for _, b := range all {
				want := min(max(line[a]-line[b], -1), 1)
				if got := query.CompareVersions(a, b); got != want {
					t.Errorf("%s and %s compare as %d, want %d", a, b, got, want)
				}
			}
		}
	}
}

// TestVersionsHaveATotalOrder compares any three strings.
func TestVersionsHaveATotalOrder(t *testing.T) {
	version := rapid.OneOf(
		rapid.StringMatching(`v?[0-9]{1,2}(\.[0-9]{1,2}){0,3}(-[a-z0-9]{0,3}(\.[a-z0-9]{0,3}){0,2})?(\+[a-z]{0,2})?`),
		rapid.StringMatching(`[0-2.a_+-]{0,6}`),
		rapid.String(),
	)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := version.Draw(t, "a"), version.Draw(t, "b"), version.Draw(t, "c")
		if query.CompareVersions(a, a) != 0 {
			t.Fatalf("%q is not equal to itself", a)
		}
		ab, bc := query.CompareVersions(a, b), query.CompareVersions(b, c)
		if ba := query.CompareVersions(b, a); ba != -ab {
			t.Fatalf("%q and %q compare as %d and the other way round as %d", a, b, ab, ba)
		}
		if ab <= 0 && bc <= 0 {
			want := min(ab, bc)
			if got := query.CompareVersions(a, c); got != want {
				t.Fatalf("%q, %q, %q: %d, %d, but the first and the last compare as %d", a, b, c, ab, bc, got)
			}
		}
	})
}
