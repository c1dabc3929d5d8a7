package mqtt

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Two bridges with one user name end each other's connections; they come to do
// so a few times a minute and not without a pause.
func TestTwoBridgesTakeTurnsSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var both [2]reconnects
		takeovers, until := 0, time.Now().Add(10*time.Minute)
		both[0].connected()
		for in := 0; time.Now().Before(until); takeovers++ {
			in = 1 - in
			both[in].connected()
			both[1-in].lost()
			time.Sleep(both[1-in].wait(0))
		}
		if takeovers > 60 {
			t.Errorf("%d times within 10 minutes", takeovers)
		}
	})
}

// A connection that has held is made again at once, and as often as that happens.
func TestReconnectAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r reconnects
		if d := r.wait(0); d != 0 {
			t.Errorf("the first attempt waits %v", d)
		}
		for range 3 {
			r.connected()
			time.Sleep(2 * firstReconnect)
			r.lost()
			if d := r.wait(0); d != 0 {
				t.Errorf("after a connection that held, %v", d)
			}
		}
		for attempt, most := range []time.Duration{0, firstReconnect, 2 * firstReconnect, 4 * firstReconnect} {
			if d := r.wait(attempt); d > most || d < most/2 {
				t.Errorf("attempt %d waits %v, not %v to %v", attempt, d, most/2, most)
			}
		}
		r.connected()
		r.lost()
		if d := r.wait(0); d < firstReconnect/2 {
			t.Errorf("after a connection that was lost at once, %v", d)
		}
	})
}
