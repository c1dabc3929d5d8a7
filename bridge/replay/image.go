package replay

import (
	"crypto/sha256"
	"io"
)

// pageSize is how many bytes of an image are kept together.
const pageSize = 256

// maxPages bounds what pieces that are scattered over an image may take.
const maxPages = 64 << 20 / pageSize

// page is a part of an image of which some bytes are known.
type page struct {
	data [pageSize]byte
	has  [pageSize / 8]byte
}

// image is what is known of one. It is an io.ReaderAt; what is not known is zero.
type image struct {
	pages map[uint64]*page
	known uint64 // bytes
}

// put takes a piece. What is known already stays: an image does not change. It
// says whether there was room for the piece.
func (m *image) put(offset uint64, data []byte) bool {
	if m.pages == nil {
		m.pages = map[uint64]*page{}
	}
	for i, c := range data {
		at := offset + uint64(i)
		p := m.pages[at/pageSize]
		if p == nil {
			if len(m.pages) == maxPages {
				return false
			}
			p = &page{}
			m.pages[at/pageSize] = p
		}
		k := at % pageSize
		if bit := byte(1) << (k % 8); p.has[k/8]&bit == 0 {
			p.has[k/8] |= bit
			p.data[k] = c
			m.known++
		}
	}
	return true
}

// ReadAt implements io.ReaderAt.
func (m *image) ReadAt(b []byte, offset int64) (int, error) {
	for n := 0; n < len(b); {
		at := uint64(offset) + uint64(n)
		rest := b[n:min(len(b), n+pageSize-int(at%pageSize))]
		if p := m.pages[at/pageSize]; p != nil {
			copy(rest, p.data[at%pageSize:])
		} else {
			clear(rest)
		}
		n += len(rest)
	}
	return len(b), nil
}

// sum is the SHA-256 of the first size bytes; false if not all are known.
func (m *image) sum(size uint64) (sum [sha256.Size]byte, ok bool) {
	if m.known != size {
		return sum, false
	}
	h := sha256.New()
	_, _ = io.Copy(h, io.NewSectionReader(m, 0, int64(size)))
	return [sha256.Size]byte(h.Sum(nil)), true
}
