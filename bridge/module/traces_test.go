package module

import (
	"slices"
	"strings"
	"testing"
	"time"

	"davit/schemas"
)

const (
	traceparent  = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	anotherTrace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
)

// TestOffersTraceIsCarried: by what the module says of the update, and by nothing else.
func TestOffersTraceIsCarried(t *testing.T) {
	inWorld(t, 200_000, func(w *world) {
		want := schemas.TraceHeader{Parent: traceparent, State: "vendor=1"}
		w.service.trace = want
		w.await("hello", func() bool { return w.service.look().online })
		w.service.offer(w.service.theOffer())
		w.wantSuccess()
		w.sleep(time.Minute) // virtual
		said := w.service.look()
		for _, h := range said.carried[schemas.KindStatus] {
			if h != want {
				t.Errorf("a status carries %+v", h)
			}
		}
		if f := said.carried[schemas.KindFetch]; len(f) < 2 || f[0] != want || slices.ContainsFunc(f[1:], func(h schemas.TraceHeader) bool { return h != schemas.TraceHeader{} }) {
			t.Errorf("fetches carry %+v, want the first of them alone to carry one", f)
		}
		hellos := said.carried[schemas.KindHello]
		if hellos[0] != (schemas.TraceHeader{}) || !slices.Contains(hellos, want) {
			t.Errorf("hellos carry %+v", hellos)
		}
		for _, h := range said.carried[schemas.KindPresence] {
			if h != (schemas.TraceHeader{}) {
				t.Errorf("a presence carries %+v", h)
			}
		}
		before := len(hellos)
		w.sleep(2 * helloEvery)
		for _, h := range w.service.look().carried[schemas.KindHello][before:] {
			if h != (schemas.TraceHeader{}) {
				t.Errorf("a hello long after the update carries %+v", h)
			}
		}
	})
}

// TestTraceOutlastsARestart: in the middle of a download and before the end is
// acknowledged; and the image's fetch is told once.
func TestTraceOutlastsARestart(t *testing.T) {
	inWorld(t, 600_000, func(w *world) {
		want := schemas.TraceHeader{Parent: traceparent}
		w.service.trace = want
		w.service.offer(w.service.theOffer())
		w.await("half of the image", func() bool { return w.service.look().chunks > 100 })
		w.stop()
		w.service.trace = schemas.TraceHeader{} // a service that traces nothing any more says the offer again
		w.start()
		w.await("the load", func() bool { w.board.mu.Lock(); defer w.board.mu.Unlock(); return w.board.boots > 0 })
		w.service.mu.Lock()
		w.service.deaf = true
		w.service.mu.Unlock()
		w.sleep(time.Minute) // virtual
		w.stop()
		w.service.mu.Lock()
		w.service.deaf = false
		w.service.mu.Unlock()
		w.start()
		w.wantSuccess()
		said := w.service.look()
		for _, h := range said.carried[schemas.KindStatus] {
			if h != want {
				t.Errorf("a status carries %+v", h)
			}
		}
		carrying := slices.DeleteFunc(slices.Clone(said.carried[schemas.KindFetch]), func(h schemas.TraceHeader) bool { return h == schemas.TraceHeader{} })
		if !slices.Equal(carrying, []schemas.TraceHeader{want}) {
			t.Errorf("the fetches that carry a trace: %+v", carrying)
		}
	})
}

// TestTheNextOfferHasItsOwnTrace: also if it came while the one before was booting.
func TestTheNextOfferHasItsOwnTrace(t *testing.T) {
	inWorld(t, 100_000, func(w *world) {
		w.board.silent = true
		w.service.trace.Parent = traceparent
		w.service.offer(w.service.theOffer())
		w.await("the boot", func() bool {
			h := w.service.look().heard
			return len(h) > 0 && h[len(h)-1].State == schemas.StateBooting
		})
		w.service.trace.Parent = anotherTrace
		next := w.service.theOffer()
		next.Execution = "ex-2"
		w.service.offer(next)
		w.sleep(time.Second)
		w.board.mu.Lock()
		w.board.silent = false
		w.board.mu.Unlock()
		if err := w.board.report(w.board.versions()); err != nil {
			t.Fatal(err)
		}
		w.wantEnd("ex-2", schemas.StateSucceeded, "")
		said := w.service.look()
		for i, st := range said.heard {
			if got, want := said.carried[schemas.KindStatus][i].Parent, map[string]string{"ex-1": traceparent, "ex-2": anotherTrace}[st.Execution]; got != want {
				t.Errorf("a status of %s carries %q, want %q", st.Execution, got, want)
			}
		}
	})
}

// TestWithoutATraceNothingIsCarried: nor with one that is not well-formed. A vendors'
// part that is too long is left out.
func TestWithoutATraceNothingIsCarried(t *testing.T) {
	for _, c := range []struct{ came, want schemas.TraceHeader }{
		{}, {came: schemas.TraceHeader{Parent: "nonsense", State: "vendor=1"}}, {came: schemas.TraceHeader{Parent: strings.ToUpper(traceparent)}},
		{schemas.TraceHeader{Parent: traceparent, State: strings.Repeat("x", schemas.MaxTracestate+1)}, schemas.TraceHeader{Parent: traceparent}},
	} {
		inWorld(t, 50_000, func(w *world) {
			w.service.trace = c.came
			w.service.offer(w.service.theOffer())
			w.wantSuccess()
			for kind, all := range w.service.look().carried {
				for _, h := range all {
					if h != c.want && h != (schemas.TraceHeader{}) {
						t.Errorf("%v came, and a %v carries %v", c.came, kind, h)
					}
				}
			}
			if strings.Contains(string(w.state), "trace") != (c.want != schemas.TraceHeader{}) {
				t.Errorf("%v came, and the state is %s", c.came, w.state)
			}
		})
	}
}
