package bridge

import (
	"testing"
	"time"

	"davit/internal/sim"
	"davit/schemas"
)

// An execution that has failed here is carried out once more when it is offered
// as a new attempt, also by a bridge that was restarted since.
func TestSecondAttempt(t *testing.T) {
	inWorld(t, sim.MCUConfig{Fault: sim.Fault{BadChecksum: true}}, 3_000, one(), func(w *world) {
		first := w.theOffer()
		w.service.offer(pump, first)
		if st := w.awaitEnd(theExecution); st.State != schemas.StateFailed {
			t.Fatalf("with a faulty MCU: %+v", st)
		}
		time.Sleep(time.Minute)
		w.kill()
		w.swap(pump, sim.MCUConfig{})
		w.start()
		second := first
		second.Attempt = 2
		w.service.offer(pump, second)
		w.await("the end of the second attempt", func() bool { st := w.service.last(theExecution); return st.Attempt == 2 && st.State.Final() })
		w.wantSuccess(pump)
		offers := w.mcus[pump].Stats().Offers
		w.service.offer(pump, first) // delivered late
		time.Sleep(10 * time.Minute)
		w.service.offer(pump, second) // delivered once more
		time.Sleep(10 * time.Minute)
		if n := w.mcus[pump].Stats().Offers; n != offers {
			t.Errorf("the MCU was offered the image %d times more", n-offers)
		}
	})
}

// A job is paused and goes on at any moment of an update: the offer is withdrawn,
// and the execution comes back as a new attempt, at once or later.
func TestNewAttemptAtAnyMoment(t *testing.T) {
	for at := 10 * time.Millisecond; at < 4*time.Second; at += step(270 * time.Millisecond) {
		for _, pause := range []time.Duration{0, time.Minute} {
			t.Run((at + pause).String(), func(t *testing.T) {
				inWorld(t, sim.MCUConfig{}, 10_000, one(), func(w *world) {
					o := w.theOffer()
					w.service.offer(pump, o)
					time.Sleep(at)
					w.service.withdraw(pump)
					time.Sleep(pause)
					if w.service.last(theExecution).State.Final() {
						return // it was booting
					}
					o.Attempt = 2
					w.service.offer(pump, o)
					w.await("the end", func() bool { st := w.service.last(theExecution); return st.Attempt == 2 && st.State.Final() })
					w.wantImage(pump)
				})
			})
		}
	}
}
