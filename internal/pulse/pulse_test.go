package pulse

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestBusyIsThePresentPieceOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New()
		if got := p.Busy(); got != 0 {
			t.Errorf("before the first piece: %s", got)
		}
		p.Begin()
		if got := p.Busy(); got <= 0 {
			t.Errorf("at once after the beginning: %s, which says that nothing is under way", got)
		}
		time.Sleep(3 * time.Second)
		if got := p.Busy(); got < 3*time.Second-time.Microsecond || got > 3*time.Second {
			t.Errorf("after three seconds: %s", got)
		}
		p.Begin() // a second piece without an end of the first
		time.Sleep(time.Second)
		if got := p.Busy(); got > time.Second {
			t.Errorf("the piece before counts: %s", got)
		}
		p.End()
		time.Sleep(time.Hour)
		if got := p.Busy(); got != 0 {
			t.Errorf("a loop that waits: %s", got)
		}
	})
}
