package sim

import "time"

// otaPhase is where an MCU stands in an update (docs/wire.md section 5,
// docs/afero-wire.md section 5).
type otaPhase string

const (
	otaIdle    otaPhase = ""
	otaErasing otaPhase = "erasing" // an offer is taken, its go is owed
	otaLoading otaPhase = "loading"
	otaLoaded  otaPhase = "loaded" // complete and checked
)

// load is an image on its way into the spare slot.
type load struct {
	phase   otaPhase
	version string
	size    uint32
	next    uint32 // offset of the next piece
	page    []byte // bytes of the page that is not full yet
	pages   int    // pages programmed
}

// vacate notes that the spare slot holds no image any more.
func (b *board) vacate() {
	spare := b.spare()
	spare.state, spare.size, spare.version, spare.id = slotEmpty, 0, "", 0
}

// dirtySector is the first sector that an image of size bytes needs and that
// is not erased, or -1.
func (b *board) dirtySector(size uint32) int {
	flash := b.spare().flash
	for i := range flash.Sectors(int(size)) {
		if !flash.Erased(i) {
			return i
		}
	}
	return -1
}

func (b *board) erase(sector int) {
	if err := b.spare().flash.Erase(sector); err != nil {
		panic("sim: " + err.Error())
	}
	b.flashed.sectors++
}

// eraseAll erases what an image of size bytes needs, sector by sector, deaf
// meanwhile or not, and then calls done. The timer is called "ota".
func (b *board) eraseAll(size uint32, deaf bool, now time.Time, done func(now time.Time)) {
	sector := b.dirtySector(size)
	if sector < 0 {
		done(now)
		return
	}
	if deaf {
		b.busyUntil = later(b.busyUntil, now).Add(b.cfg.EraseTime)
	}
	b.after(now, b.cfg.EraseTime, "ota", func(now time.Time) {
		b.erase(sector)
		b.eraseAll(size, deaf, now, done)
	})
}

// store takes the next piece of an image, programs the pages that it fills,
// the last one whatever it holds, and says whether the flash took them.
func (b *board) store(l *load, data []byte, now time.Time) bool {
	l.next += uint32(len(data))
	l.page = append(l.page, data...)
	last := l.next == l.size
	for len(l.page) >= b.cfg.PageSize || last && len(l.page) > 0 {
		if !b.program(l, now) {
			return false
		}
	}
	return true
}

// program writes the next page, or what there is of it, and says whether the
// flash took it.
func (b *board) program(l *load, now time.Time) bool {
	n := min(len(l.page), b.cfg.PageSize)
	b.busyUntil = later(b.busyUntil, now).Add(b.cfg.WriteTime)
	l.pages++
	if l.pages == b.cfg.Fault.FlashErrorAt {
		return false
	}
	if err := b.spare().flash.Program((l.pages-1)*b.cfg.PageSize, l.page[:n]); err != nil {
		return false
	}
	b.flashed.pages++
	l.page = l.page[n:]
	return true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// dueResetAtByte says whether a fault wants a reset now that so much is loaded.
func (b *board) dueResetAtByte(l *load) bool {
	n := b.cfg.Fault.ResetAtByte
	return n > 0 && int64(l.next) >= int64(n) && !b.resetDone
}

// sound checks the spare slot's image as far as it can be checked.
func (b *board) sound() bool {
	return !b.cfg.Fault.BadChecksum && CheckDemoImage(b.spare().image()) == nil
}
