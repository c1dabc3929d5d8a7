package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"davit/schemas"
)

// rangeSet is a set of bytes as ranges in ascending order that neither touch
// nor overlap.
type rangeSet struct {
	ranges []schemas.Range
	total  uint64
}

// add puts the bytes from offset to end into the set.
func (s *rangeSet) add(offset, end uint64) {
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

// covers says whether every byte from offset to end is in the set.
func (s *rangeSet) covers(offset, end uint64) bool {
	i, _ := slices.BinarySearchFunc(s.ranges, offset, func(r schemas.Range, at uint64) int {
		if r.End() <= at {
			return -1
		}
		return 1
	})
	return offset >= end || i < len(s.ranges) && s.ranges[i].Offset <= offset && s.ranges[i].End() >= end
}

// holes returns the first ranges below size that are not in the set, at most
// limit.
func (s *rangeSet) holes(size uint64, limit int) []schemas.Range {
	var holes []schemas.Range
	at := uint64(0)
	for _, r := range s.ranges {
		if len(holes) == limit {
			return holes
		}
		if r.Offset > at {
			holes = append(holes, schemas.Range{Offset: at, Length: r.Offset - at})
		}
		at = r.End()
	}
	if at < size && len(holes) < limit {
		holes = append(holes, schemas.Range{Offset: at, Length: size - at})
	}
	return holes
}

// recordSize is a journal entry: offset(8) | length(8) | CRC-32C of both (4),
// MSB first.
const recordSize = 20

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// appendJournal adds ranges to the journal and makes them durable.
func appendJournal(f *os.File, ranges []schemas.Range) error {
	b := make([]byte, 0, len(ranges)*recordSize)
	for _, r := range ranges {
		n := len(b)
		b = binary.BigEndian.AppendUint64(b, r.Offset)
		b = binary.BigEndian.AppendUint64(b, r.Length)
		b = binary.BigEndian.AppendUint32(b, castagnoli(b[n:]))
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		// Half an entry would hide every later one from readJournal.
		return errors.Join(err, f.Truncate(end))
	}
	return f.Sync()
}

// readJournal returns what the journal says is on disk. It stops at the first
// entry that is not whole, which is where a crash cut it off, and removes the
// rest, so that later entries are found.
func readJournal(f *os.File, size uint64) (rangeSet, error) {
	var have rangeSet
	b, err := io.ReadAll(f)
	if err != nil {
		return have, err
	}
	good := int64(0)
	for r := range slices.Chunk(b, recordSize) {
		if len(r) < recordSize || binary.BigEndian.Uint32(r[16:]) != castagnoli(r[:16]) {
			break
		}
		offset, length := binary.BigEndian.Uint64(r), binary.BigEndian.Uint64(r[8:])
		if offset > size || length > size-offset {
			return rangeSet{}, errors.Join(f.Truncate(0), f.Sync()) // of another image
		}
		have.add(offset, offset+length)
		good += recordSize
	}
	return have, f.Truncate(good)
}
