package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"davit/bridge/rangeset"
	"davit/schemas"
)

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
func readJournal(f *os.File, size uint64) (rangeset.Set, error) {
	var have rangeset.Set
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
			return rangeset.Set{}, errors.Join(f.Truncate(0), f.Sync()) // of another image
		}
		have.Add(offset, offset+length)
		good += recordSize
	}
	return have, f.Truncate(good)
}
