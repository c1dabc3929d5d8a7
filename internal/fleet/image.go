package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"sync/atomic"

	"davit/schemas"
)

// images are those that the fleet fetches, by SHA-256: each is kept once.
type images struct {
	mu   sync.Mutex
	byID map[string]*image
}

// image is made of the first chunks that any device got. All others are compared with it,
// and when it is whole its SHA-256 has to be what was offered: then every byte that agreed
// with it was right, and those that did not were wrong.
type image struct {
	sum  string
	size uint64
	tag  schemas.ImageTag

	whole atomic.Bool // and its SHA-256 agrees; data does not change any more

	mu      sync.RWMutex
	data    []byte
	missing []schemas.Range
}

// find is the image of an offer.
func (s *images) find(o *schemas.Offer) *image {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = map[string]*image{}
	}
	i := s.byID[o.SHA256]
	if i == nil || i.size != o.Size {
		tag, _ := schemas.TagOf(o.SHA256) // the offer was validated
		i = &image{sum: o.SHA256, size: o.Size, tag: tag}
		s.byID[o.SHA256] = i
	}
	return i
}

// check says whether data is what the image has at offset, or may have as far as is known.
func (i *image) check(offset uint64, data []byte) bool {
	end := offset + uint64(len(data))
	if end > i.size {
		return false
	}
	if i.whole.Load() {
		return bytes.Equal(i.data[offset:end], data)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.data == nil {
		i.data = make([]byte, i.size)
		i.missing = []schemas.Range{{Offset: 0, Length: i.size}}
	}
	i.missing, _ = cut(i.missing, schemas.Range{Offset: offset, Length: uint64(len(data))}, func(r schemas.Range) {
		copy(i.data[r.Offset:r.End()], data[r.Offset-offset:])
	})
	return bytes.Equal(i.data[offset:end], data)
}

// verify says whether the image is whole and its SHA-256 is right. If it is not right, the
// image begins anew: any chunk of it may have been wrong.
func (i *image) verify() bool {
	if i.whole.Load() {
		return true
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.whole.Load() {
		return true
	}
	if i.data == nil || len(i.missing) > 0 {
		return false
	}
	sum := sha256.Sum256(i.data)
	if hex.EncodeToString(sum[:]) != i.sum {
		i.data, i.missing = nil, nil
		return false
	}
	i.whole.Store(true)
	return true
}

// cut takes r out of ranges, which are in ascending order, calls taken for what it took and
// returns how many bytes that was.
func cut(ranges []schemas.Range, r schemas.Range, taken func(schemas.Range)) (rest []schemas.Range, n uint64) {
	for k := 0; k < len(ranges); k++ {
		h := ranges[k]
		from, to := max(h.Offset, r.Offset), min(h.End(), r.End())
		if from >= to {
			continue
		}
		n += to - from
		if taken != nil {
			taken(schemas.Range{Offset: from, Length: to - from})
		}
		before := schemas.Range{Offset: h.Offset, Length: from - h.Offset}
		after := schemas.Range{Offset: to, Length: h.End() - to}
		switch {
		case before.Length == 0 && after.Length == 0:
			ranges = append(ranges[:k], ranges[k+1:]...)
			k--
		case before.Length == 0:
			ranges[k] = after
		case after.Length == 0:
			ranges[k] = before
		default:
			ranges = append(ranges[:k+1], ranges[k:]...)
			ranges[k], ranges[k+1] = before, after
			k++
		}
	}
	return ranges, n
}

// add puts r, none of which is in ranges, in its place.
func add(ranges []schemas.Range, r schemas.Range) []schemas.Range {
	k := 0
	for k < len(ranges) && ranges[k].Offset < r.Offset {
		k++
	}
	if k > 0 && ranges[k-1].End() == r.Offset {
		ranges[k-1].Length += r.Length
		if k < len(ranges) && ranges[k-1].End() == ranges[k].Offset {
			ranges[k-1].Length += ranges[k].Length
			ranges = append(ranges[:k], ranges[k+1:]...)
		}
		return ranges
	}
	if k < len(ranges) && r.End() == ranges[k].Offset {
		ranges[k] = schemas.Range{Offset: r.Offset, Length: r.Length + ranges[k].Length}
		return ranges
	}
	ranges = append(ranges, schemas.Range{})
	copy(ranges[k+1:], ranges[k:])
	ranges[k] = r
	return ranges
}
