package orchestrator

import (
	"slices"

	"davit/schemas"
)

// spans are bytes of an image: ranges in ascending order that neither overlap nor
// touch.
type spans []schemas.Range

// after is the index of the first range that ends behind at.
func (s spans) after(at uint64) int {
	i, _ := slices.BinarySearchFunc(s, at, func(r schemas.Range, at uint64) int {
		if r.End() <= at {
			return -1
		}
		return 1
	})
	return i
}

// add puts the bytes from begin to end in.
func (s spans) add(begin, end uint64) spans {
	if begin >= end {
		return s
	}
	i := s.after(begin)
	if i > 0 && s[i-1].End() == begin {
		i--
	}
	n := i
	for ; n < len(s) && s[n].Offset <= end; n++ {
		begin, end = min(begin, s[n].Offset), max(end, s[n].End())
	}
	return slices.Replace(s, i, n, schemas.Range{Offset: begin, Length: end - begin})
}

// cut takes the bytes from begin to end out.
func (s spans) cut(begin, end uint64) spans {
	if begin >= end {
		return s
	}
	i := s.after(begin)
	n := i
	var left [2]schemas.Range
	kept := left[:0]
	for ; n < len(s) && s[n].Offset < end; n++ {
		r := s[n]
		if r.Offset < begin {
			kept = append(kept, schemas.Range{Offset: r.Offset, Length: begin - r.Offset})
		}
		if r.End() > end {
			kept = append(kept, schemas.Range{Offset: end, Length: r.End() - end})
		}
	}
	if i == n {
		return s
	}
	return slices.Replace(s, i, n, kept...)
}

// until is where the bytes end that are in s without a gap from at on; at if the one at
// at is not in it.
func (s spans) until(at uint64) uint64 {
	if i := s.after(at); i < len(s) && s[i].Offset <= at {
		return s[i].End()
	}
	return at
}

// next is the first byte in s at or behind at.
func (s spans) next(at uint64) (uint64, bool) {
	i := s.after(at)
	if i == len(s) {
		return 0, false
	}
	return max(at, s[i].Offset), true
}

// size is how many bytes there are.
func (s spans) size() (n uint64) {
	for _, r := range s {
		n += r.Length
	}
	return n
}

// common is how many of the bytes from begin to end are in s.
func (s spans) common(begin, end uint64) (n uint64) {
	for _, r := range s[s.after(begin):] {
		if r.Offset >= end {
			break
		}
		n += min(end, r.End()) - max(begin, r.Offset)
	}
	return n
}
