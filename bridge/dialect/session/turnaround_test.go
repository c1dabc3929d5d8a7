package session

import (
	"testing"
	"time"
)

func TestTurnaround(t *testing.T) {
	timer := NewTurnaround(115_200, 11, 10)
	if w := timer.Wait(285, 1); w < ackFirst || w > ackFirst+50*time.Millisecond {
		t.Errorf("before anything was measured: %v", w)
	}
	line := timer.LineTime(285)
	for range 50 {
		timer.Observe(285, line+2*time.Millisecond)
	}
	if w := timer.Wait(285, 1); w < line+ackMargin || w > line+2*ackMargin {
		t.Errorf("after turn-arounds of 2 ms: %v, the frame alone takes %v", w, line)
	}
	if first, fourth, fifth := timer.Wait(285, 1), timer.Wait(285, flatTries), timer.Wait(285, flatTries+1); first != fourth || fifth != 2*first {
		t.Errorf("waits %v, %v, %v", first, fourth, fifth)
	}
	if w := timer.Wait(285, 100); w != AckCeiling {
		t.Errorf("after many tries %v, want the reference's ceiling", w)
	}
	for range 50 {
		timer.Observe(285, line+4*time.Second)
	}
	if w := timer.Wait(285, 1); w < 4*time.Second || w > AckCeiling {
		t.Errorf("after turn-arounds of 4 s: %v", w)
	}
	slow := NewTurnaround(300, 11, 10)
	if w := slow.Wait(285, 1); w < slow.LineTime(285) {
		t.Errorf("at 300 bit/s it waits %v for a frame that takes %v", w, slow.LineTime(285))
	}
}
