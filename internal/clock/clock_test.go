package clock

import (
	"testing"
	"time"
)

func TestToCome(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for ahead, want := range map[time.Duration]bool{
		-365 * 24 * time.Hour:   false,
		0:                       false,
		Slack:                   false,
		Slack + time.Nanosecond: true,
		365 * 24 * time.Hour:    true,
	} {
		if got := ToCome(now.Add(ahead), now); got != want {
			t.Errorf("%v ahead of the clock: to come is %v, want %v", ahead, got, want)
		}
	}
	if ToCome(time.Time{}, now) {
		t.Error("a moment that was never noted is to come")
	}
}
