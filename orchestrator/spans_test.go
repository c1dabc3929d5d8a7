package orchestrator

import (
	"math/rand/v2"
	"testing"

	"davit/schemas"
)

// TestSpans compares with one mark for each byte.
func TestSpans(t *testing.T) {
	const size = 64
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var s spans
		var marks [size + 1]bool
		for range 40 {
			begin := random.Uint64N(size)
			end := begin + random.Uint64N(size-begin+1)
			add := random.IntN(2) == 0
			if add {
				s = s.add(begin, end)
			} else {
				s = s.cut(begin, end)
			}
			for i := begin; i < end; i++ {
				marks[i] = add
			}
			checkSpans(t, s, marks[:])
		}
	}
}

func checkSpans(t *testing.T, s spans, marks []bool) {
	t.Helper()
	var want spans
	n := uint64(0)
	for i, m := range marks {
		if !m {
			continue
		}
		n++
		if last := len(want) - 1; last >= 0 && want[last].End() == uint64(i) {
			want[last].Length++
		} else {
			want = append(want, schemas.Range{Offset: uint64(i), Length: 1})
		}
	}
	if len(s) != len(want) || s.size() != n || s.common(0, uint64(len(marks))) != n {
		t.Fatalf("%v, want %v", s, want)
	}
	for i, r := range want {
		if s[i] != r {
			t.Fatalf("%v, want %v", s, want)
		}
		if at, ok := s.next(r.Offset); !ok || at != r.Offset || s.until(at) != r.End() || s.common(r.Offset, r.End()+1) != r.Length {
			t.Fatalf("%v is not found in %v", r, s)
		}
		if s.until(r.End()) != r.End() {
			t.Fatalf("%d passes for in %v", r.End(), s)
		}
	}
	if _, ok := s.next(uint64(len(marks))); ok {
		t.Fatalf("something behind the end of %v", s)
	}
}
