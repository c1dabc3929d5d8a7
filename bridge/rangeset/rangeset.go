// Package rangeset keeps sets of bytes of an image: what is there of it, and with that
// what is missing. It imports schemas only and starts no goroutine.
package rangeset

import (
	"slices"

	"davit/schemas"
)

// Set is a set of bytes: ranges in ascending order that neither touch nor overlap.
// The zero Set is empty. It is not safe for use from several goroutines.
type Set struct {
	ranges []schemas.Range
	total  uint64
}

// Ranges are the set's, in ascending order. They are the set's own.
func (s *Set) Ranges() []schemas.Range { return s.ranges }

// Total is how many bytes are in the set.
func (s *Set) Total() uint64 { return s.total }

// Add puts the bytes from offset to end into the set.
func (s *Set) Add(offset, end uint64) {
	if offset >= end {
		return
	}
	// The ranges from i to j touch or overlap the new one, which swallows them.
	i, _ := slices.BinarySearchFunc(s.ranges, offset, func(r schemas.Range, at uint64) int {
		if r.End() < at {
			return -1
		}
		return 1
	})
	j := i
	for j < len(s.ranges) && s.ranges[j].Offset <= end {
		offset, end = min(offset, s.ranges[j].Offset), max(end, s.ranges[j].End())
		s.total -= s.ranges[j].Length
		j++
	}
	s.total += end - offset
	s.ranges = slices.Replace(s.ranges, i, j, schemas.Range{Offset: offset, Length: end - offset})
}

// Covers says whether every byte from offset to end is in the set.
func (s *Set) Covers(offset, end uint64) bool {
	i, _ := slices.BinarySearchFunc(s.ranges, offset, func(r schemas.Range, at uint64) int {
		if r.End() <= at {
			return -1
		}
		return 1
	})
	return offset >= end || i < len(s.ranges) && s.ranges[i].Offset <= offset && s.ranges[i].End() >= end
}

// Gaps returns the first ranges of r that are not in the set, at most limit.
func (s *Set) Gaps(r schemas.Range, limit int) []schemas.Range {
	var gaps []schemas.Range
	at := r.Offset
	i, _ := slices.BinarySearchFunc(s.ranges, at, func(r schemas.Range, at uint64) int {
		if r.End() <= at {
			return -1
		}
		return 1
	})
	for _, have := range s.ranges[i:] {
		if len(gaps) == limit || have.Offset >= r.End() {
			break
		}
		if have.Offset > at {
			gaps = append(gaps, schemas.Range{Offset: at, Length: have.Offset - at})
		}
		at = have.End()
	}
	if at < r.End() && len(gaps) < limit {
		gaps = append(gaps, schemas.Range{Offset: at, Length: r.End() - at})
	}
	return gaps
}

// Remove takes the bytes from offset to end out of the set.
func (s *Set) Remove(offset, end uint64) {
	if offset >= end {
		return
	}
	var kept []schemas.Range
	s.total = 0
	keep := func(from, to uint64) {
		if from < to {
			kept = append(kept, schemas.Range{Offset: from, Length: to - from})
			s.total += to - from
		}
	}
	for _, r := range s.ranges {
		keep(r.Offset, min(r.End(), max(offset, r.Offset)))
		keep(max(r.Offset, min(end, r.End())), r.End())
	}
	s.ranges = kept
}
