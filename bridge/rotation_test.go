package bridge

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// keptPassword is one that was kept at a time.
type keptPassword time.Time

func (keptPassword) Put(string) error { return nil }

func (k keptPassword) Since() time.Time { return time.Time(k) }

// A password is asked for when the present one is old, and when it was kept in the future,
// as the clock has it: not after a set-back as NTP does it.
func TestRotationByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for age, want := range map[time.Duration]int{0: 0, 23 * time.Hour: 0, 24 * time.Hour: 1, -rotateSlack: 0, -rotateSlack - time.Second: 1, -365 * 24 * time.Hour: 1} {
			asked := 0
			publish := func(context.Context, Message) error { asked++; return nil }
			r := newRotation("rack", keptPassword(time.Now().Add(-age)), 24*time.Hour, publish, slog.New(slog.DiscardHandler))
			if next := r.look(t.Context()); asked != want || (next == rotateLook) != (want == 0) {
				t.Errorf("aged %s it was asked for %d times, and is looked at again in %s", age, asked, next)
			}
		}
	})
}
