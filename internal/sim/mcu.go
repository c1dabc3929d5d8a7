package sim

import (
	"errors"
	"io"
	"slices"
	"time"

	"davit/schemas/tlv"
)

// MCU is a simulated host MCU that speaks the Ayla-compatible wire: the
// application with its frame layer on a board of flash with two slots and a
// boot loader that boots an image once and goes back unless it confirms
// itself. What the flash holds survives resets and further calls of Run;
// everything else does not.
type MCU struct {
	*board
	stats MCUStats
	app   app
}

// app is the volatile state: gone after a reset.
type app struct {
	link      link
	ota       load
	nextReq   uint16
	traffic   int
	pings     int
	strayLoad bool // a piece that nobody had offered was answered
}

// NewMCU makes an MCU. It panics on a configuration that makes no sense, for
// example an Image larger than a slot.
func NewMCU(cfg MCUConfig) *MCU {
	cfg.setDefaults()
	m := &MCU{}
	m.board = newBoard(&cfg, m)
	return m
}

// received is a frame of the line, or what was wrong with it.
type received struct {
	frame tlv.Frame
	err   error
}

// listen returns what waits for the next frame.
func (m *MCU) listen(r io.Reader) func() (func(now time.Time), error) {
	if m.cfg.DoubleFlags {
		r = &doubleFlagReader{src: r}
	}
	in := tlv.NewReader(r)
	return func() (func(now time.Time), error) {
		f, err := in.Next()
		if err != nil && !errors.Is(err, tlv.ErrFrame) {
			return nil, err
		}
		f.Payload = slices.Clone(f.Payload)
		return func(now time.Time) { m.onFrame(received{f, err}, now) }, nil
	}
}

func (m *MCU) forget() { m.app = app{} }

// Stats returns the counters.
func (m *MCU) Stats() MCUStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.PagesWritten, s.SectorsErased = m.flashed.pages, m.flashed.sectors
	return s
}
