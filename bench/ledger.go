package main

import (
	"fmt"

	"davit/schemas"
)

// ledger keeps which chunks of a course one client has asked for and got. A course is
// a number of chunks of the image, from its first byte on and over and over, so that it
// may be longer than the image: chunk k of the course is chunk k%n of the image. What is
// under way at a time is less than the image, so an offset names a chunk of the course.
type ledger struct {
	chunk   int    // bytes
	n       uint64 // chunks in the image
	total   uint64 // chunks in the course
	low     uint64 // all before it have arrived
	next    uint64 // all before it have been asked for
	have    []bool // of those between, by chunk of the image
	missing int    // asked for and not here
	surplus int    // that came and were not wanted, or came twice
}

// begin starts a course. Image and course are whole numbers of chunks.
func (l *ledger) begin(image, chunk int, course int64) error {
	if image%chunk != 0 || course%int64(chunk) != 0 {
		return fmt.Errorf("chunks of %d bytes do not make up an image of %d and a course of %d", chunk, image, course)
	}
	n := image / chunk
	*l = ledger{chunk: chunk, n: uint64(n), total: uint64(course / int64(chunk)), have: make([]bool, n)}
	return nil
}

func (l *ledger) done() bool { return l.low == l.total }

// ask takes the next chunks of the course, at most so many, as one range of the image;
// its length is 0 if there are none that may be asked for now.
func (l *ledger) ask(most int) schemas.Range {
	at := l.next % l.n
	count := min(uint64(most), l.total-l.next, l.n-at, l.low+l.n-l.next)
	l.next += count
	l.missing += int(count)
	return schemas.Range{Offset: at * uint64(l.chunk), Length: count * uint64(l.chunk)}
}

// holes are the ranges of the image that were asked for and are not here, at most as
// many chunks as given.
func (l *ledger) holes(most int) []schemas.Range {
	var holes []schemas.Range
	low := l.low / l.n * l.n // the image's first byte, in chunks of the course
	for i := range l.n {
		k := low + i
		if k < l.low {
			k += l.n
		}
		if k >= l.next || l.have[i] || most == 0 {
			continue
		}
		most--
		size, offset := uint64(l.chunk), i*uint64(l.chunk)
		if last := len(holes) - 1; last >= 0 && holes[last].End() == offset {
			holes[last].Length += size
		} else if len(holes) < schemas.MaxRanges {
			holes = append(holes, schemas.Range{Offset: offset, Length: size})
		}
	}
	return holes
}

// arrived notes a chunk and says whether it was wanted.
func (l *ledger) arrived(offset uint64, length int) (wanted bool, err error) {
	if length != l.chunk || offset%uint64(l.chunk) != 0 {
		return false, fmt.Errorf("a chunk of %d bytes at %d; chunks of %d were asked for", length, offset, l.chunk)
	}
	i := offset / uint64(l.chunk)
	k := l.low/l.n*l.n + i
	if k < l.low {
		k += l.n
	}
	if k >= l.next || l.have[i] {
		l.surplus++
		return false, nil
	}
	l.have[i] = true
	l.missing--
	for l.low < l.next && l.have[l.low%l.n] {
		l.have[l.low%l.n] = false
		l.low++
	}
	return true, nil
}
