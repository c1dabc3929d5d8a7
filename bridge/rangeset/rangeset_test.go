package rangeset

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"davit/schemas"
)

// A Set against the plainest model there is: one bool for each byte.
func TestSetAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 64
		var s Set
		var model [size]bool
		for range rapid.IntRange(0, 30).Draw(t, "changes") {
			from := rapid.IntRange(0, size).Draw(t, "from")
			to := rapid.IntRange(from, size).Draw(t, "to")
			add := rapid.IntRange(0, 3).Draw(t, "add") > 0
			if add {
				s.Add(uint64(from), uint64(to))
			} else {
				s.Remove(uint64(from), uint64(to))
			}
			for i := from; i < to; i++ {
				model[i] = add
			}
		}
		var total uint64
		missing := [size]bool{}
		for _, h := range s.Gaps(schemas.Range{Length: size}, size) {
			for i := h.Offset; i < h.End(); i++ {
				missing[i] = true
			}
		}
		for i, has := range model {
			if has {
				total++
			}
			if missing[i] == has || s.Covers(uint64(i), uint64(i)+1) != has {
				t.Fatalf("byte %d: model %t, hole %t, ranges %v", i, has, missing[i], s.ranges)
			}
		}
		if total != s.total {
			t.Fatalf("total %d, want %d", s.total, total)
		}
		checkGaps(t, &s, model[:])
		for i := 1; i < len(s.ranges); i++ {
			if s.ranges[i-1].End() >= s.ranges[i].Offset {
				t.Fatalf("ranges touch: %v", s.ranges)
			}
		}
	})
}

// checkGaps asks for the gaps of any part, all of them and the first few.
func checkGaps(t *rapid.T, s *Set, model []bool) {
	from := rapid.IntRange(0, len(model)).Draw(t, "part from")
	to := rapid.IntRange(from, len(model)).Draw(t, "part to")
	var want []schemas.Range
	for i := from; i < to; i++ {
		switch n := len(want); {
		case model[i]:
		case n > 0 && want[n-1].End() == uint64(i):
			want[n-1].Length++
		default:
			want = append(want, schemas.Range{Offset: uint64(i), Length: 1})
		}
	}
	part := schemas.Range{Offset: uint64(from), Length: uint64(to - from)}
	for limit := range len(want) + 2 {
		if got := s.Gaps(part, limit); !slices.Equal(got, want[:min(limit, len(want))]) {
			t.Fatalf("gaps of %v, at most %d: %v, want %v", part, limit, got, want)
		}
	}
}
