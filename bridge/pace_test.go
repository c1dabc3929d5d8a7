package bridge

import (
	"testing"
	"time"

	"davit/schemas"
)

// A load that goes on where it was has the pace of what comes, not of what was there.
func TestPaceOfAResumedLoad(t *testing.T) {
	var p pace
	now := time.Unix(0, 0)
	for _, bytes := range []uint64{0, 42_000, 43_000} {
		p.note(schemas.StateInstalling, bytes, now)
		now = now.Add(progressEvery)
	}
	if got, want := p.rate(schemas.StateInstalling, 44_000, now), 1000/progressEvery.Seconds(); got < want*0.99 || got > want*1.01 {
		t.Errorf("%.0f B/s, want %.0f", got, want)
	}
	p.note(schemas.StateInstalling, 0, now) // the MCU begins anew
	if got := p.rate(schemas.StateInstalling, 0, now.Add(time.Second)); got != 0 {
		t.Errorf("%.0f B/s where nothing came", got)
	}
}
