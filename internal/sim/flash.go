package sim

import (
	"errors"
	"fmt"
)

// Errors of Flash.
var (
	// ErrFlashRange: the address is outside the flash or not where a page or
	// sector begins.
	ErrFlashRange = errors.New("flash address out of range")
	// ErrNotErased: programming would have to turn a 0 into a 1.
	ErrNotErased = errors.New("flash is not erased")
)

// Flash is NOR flash: erasing a sector sets all its bits, programming a page
// can only clear bits. The caller waits for as long as a real part would take.
type Flash struct {
	mem          []byte
	page, sector int
}

// NewFlash makes erased flash. It panics unless size is a multiple of sector
// and sector one of page.
func NewFlash(size, page, sector int) *Flash {
	if size < 1 || page < 1 || sector < 1 || size%sector != 0 || sector%page != 0 {
		panic(fmt.Sprintf("sim: no flash of %d bytes with sectors of %d and pages of %d: each must divide the one before", size, sector, page))
	}
	f := &Flash{mem: make([]byte, size), page: page, sector: sector}
	fill(f.mem, erased)
	return f
}

const erased = 0xff

func fill(b []byte, v byte) {
	b[0] = v
	for n := 1; n < len(b); n *= 2 { // ever more at once: a rack of MCUs has much flash
		copy(b[n:], b[:n])
	}
}

// Size of the flash in bytes.
func (f *Flash) Size() int { return len(f.mem) }

// Sectors is how many sectors the first n bytes touch.
func (f *Flash) Sectors(n int) int { return (n + f.sector - 1) / f.sector }

// Erased says whether sector i is.
func (f *Flash) Erased(i int) bool {
	for _, b := range f.mem[i*f.sector : (i+1)*f.sector] {
		if b != erased {
			return false
		}
	}
	return true
}

// Erase erases sector i.
func (f *Flash) Erase(i int) error {
	if i < 0 || (i+1)*f.sector > len(f.mem) {
		return fmt.Errorf("%w: no sector %d", ErrFlashRange, i)
	}
	fill(f.mem[i*f.sector:(i+1)*f.sector], erased)
	return nil
}

// Program writes data, at most one page, from the beginning of the page at
// off. Bits can only be cleared: where data asks for more the cells keep the
// AND of old and new, as real cells do, and ErrNotErased is returned.
func (f *Flash) Program(off int, data []byte) error {
	if off < 0 || off%f.page != 0 || len(data) > f.page || off+len(data) > len(f.mem) {
		return fmt.Errorf("%w: %d bytes at %#x, a page has %d", ErrFlashRange, len(data), off, f.page)
	}
	var bad error
	for i, b := range data {
		cell := &f.mem[off+i]
		if *cell &= b; *cell != b && bad == nil {
			bad = fmt.Errorf("%w at %#x", ErrNotErased, off+i)
		}
	}
	return bad
}

// Bytes returns a copy of the first n bytes.
func (f *Flash) Bytes(n int) []byte { return append([]byte(nil), f.mem[:n]...) }

// slot is one of the two places for an image, with what the boot loader keeps
// about it. It survives resets.
type slot struct {
	flash   *Flash
	version string // as offered, or read from the image's header
	id      uint64 // version id, on a wire that numbers versions
	size    int    // 0: no image
	state   slotState
}

type slotState string

const (
	slotEmpty     slotState = "empty"     // nothing that could be booted
	slotTrial     slotState = "trial"     // to be booted once
	slotTried     slotState = "tried"     // booted, not confirmed yet
	slotConfirmed slotState = "confirmed" // good
)

func (s *slot) image() []byte { return s.flash.mem[:s.size] }

// setVersion notes what the image calls itself, or else what it was offered as.
func (s *slot) setVersion(offered string) {
	s.version = offered
	if h, ok := ReadDemoHeader(s.image()); ok {
		s.version = h.Version
	}
}
