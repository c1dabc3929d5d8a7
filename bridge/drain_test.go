package bridge

import (
	"bytes"
	"io"
	"sync"
	"testing"
	"time"

	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/internal/sim"
	"davit/schemas"
	"davit/schemas/tlv"
)

// passage is what went down a line: what each write of the bridge had, and what
// of that the MCU's end has received.
type passage struct {
	mu            sync.Mutex
	written, came []byte
}

// near is the bridge's end of a line with a passage, far the MCU's.
type near struct {
	io.ReadWriteCloser
	p *passage
}

func (n near) Write(b []byte) (int, error) {
	n.p.mu.Lock()
	n.p.written = append(n.p.written, b...)
	n.p.mu.Unlock()
	return n.ReadWriteCloser.Write(b)
}

type far struct {
	io.ReadWriteCloser
	p *passage
}

func (f far) Read(b []byte) (int, error) {
	n, err := f.ReadWriteCloser.Read(b)
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	f.p.came = append(f.p.came, b[:n]...)
	return n, err
}

// drainWorld is a world with one MCU of either wire, on a line whose driver holds
// a few bytes only: a write that is cut off is a frame that is cut off.
type drainWorld struct {
	*world
	mcu     sim.Host
	before  []byte // what the MCU ran at first
	version string // what it reports when it runs the image
	passage passage
	offer   schemas.Offer
	kind    string
}

const drainLimit = 20 * time.Second

func inDrainWorld(t *testing.T, kind string, size int, cfg sim.MCUConfig, f func(w *drainWorld)) {
	t.Helper()
	d := &drainWorld{kind: kind, version: newVersion}
	inBareWorld(t, size, func(w *world) {
		d.world = w
		w.cfg.DrainTimeout = drainLimit
		w.cfg.Ports = []PortConfig{{Device: pump, Path: pump, Dialect: kind}}
		line := sim.LineConfig{TxBuffer: 16}
		d.offer = w.theOffer()
		if kind == afero.Name {
			line.Baud, line.BitsPerByte, line.NoFlowControl = 9600, 10, true
			d.mcu, d.version = sim.NewAferoMCU(sim.AferoConfig{MCUConfig: cfg, VersionID: beforeID}), theIDText
			d.offer.VersionID = theID
			d.offer.Host.Dialect, d.offer.Host.NumericType, d.offer.Host.VersionProperty = afero.Name, firmwareType, property
		} else {
			w.mcus[pump] = sim.NewMCU(cfg)
			d.mcu = w.mcus[pump]
		}
		d.before = bytes.Clone(d.mcu.RunningImage())
		w.lines[pump] = sim.NewLine(line)
		w.cfg.OpenPort = func(PortConfig) (io.ReadWriteCloser, error) {
			end, err := w.lines[pump].Open()
			if err != nil {
				return nil, err
			}
			return near{end, &d.passage}, nil
		}
		w.runOn(pump, d.mcu, far{w.lines[pump].MCU(), &d.passage})
	}, func(*world) { f(d) })
}

// end ends the bridge as a signal does and returns how long that took.
func (w *drainWorld) end() time.Duration {
	w.Helper()
	began := time.Now()
	w.stop()
	took := time.Since(began)
	if w.service.isOnline(pump) {
		w.Error("still online after the bridge went")
	}
	w.runsOneOfBoth()
	return took
}

// runsOneOfBoth: the MCU runs what it ran, or the image, and nothing else.
func (w *drainWorld) runsOneOfBoth() {
	w.Helper()
	if got := w.mcu.RunningImage(); !bytes.Equal(got, w.before) && !bytes.Equal(got, w.image) {
		w.Errorf("the MCU runs %d bytes that are neither the old image nor the new one", len(got))
	}
}

// wholeFrames: what arrived is every write, completely, and makes sense.
func (w *drainWorld) wholeFrames() {
	w.Helper()
	time.Sleep(time.Second) // virtual: for what the driver holds
	w.passage.mu.Lock()
	defer w.passage.mu.Unlock()
	if !bytes.Equal(w.passage.written, w.passage.came) {
		w.Errorf("%d bytes in whole frames were written, %d arrived", len(w.passage.written), len(w.passage.came))
	}
	if w.kind != ayla.Name {
		return
	}
	var d tlv.Decoder
	d.Feed(w.passage.came)
	frames := 0
	for d.Next() {
		if _, err := d.Frame(); err != nil {
			w.Errorf("frame %d: %v", frames, err)
		}
		frames++
	}
	if frames == 0 {
		w.Error("no frame arrived")
	}
}

// goesOn: the next bridge brings the update to its end.
func (w *drainWorld) goesOn() {
	w.Helper()
	w.start()
	w.succeeds()
}

func (w *drainWorld) succeeds() {
	w.Helper()
	if st := w.awaitEnd(theExecution); st.State != schemas.StateSucceeded || st.HostVersion != w.version {
		w.Errorf("recorded %s, cause %q, version %q, %s", st.State, st.Cause, st.HostVersion, st.Detail)
	}
	if !bytes.Equal(w.mcu.RunningImage(), w.image) {
		w.Error("the MCU does not run the image")
	}
}

// wantSettled: the result is on disk and the service has confirmed it.
func (w *drainWorld) wantSettled(acked bool) {
	w.Helper()
	rec, err := records{w.dir + "/devices"}.load(pump)
	if err != nil {
		w.Error(err)
	}
	if e := rec.ended(theExecution, 1); rec.Open != nil || e == nil || e.Acked != acked || e.At.IsZero() {
		w.Errorf("record %+v, end %+v", rec, e)
	}
}

func bothDialects(t *testing.T, f func(t *testing.T, kind string)) {
	for _, kind := range []string{ayla.Name, afero.Name} {
		t.Run(kind, func(t *testing.T) { f(t, kind) })
	}
}

// An MCU leg that is under way when the bridge is told to end comes to its end
// first: its result is reported and acknowledged, and then comes the farewell.
func TestDrainFinishesTheLeg(t *testing.T) {
	bothDialects(t, func(t *testing.T, kind string) {
		for _, state := range []schemas.State{schemas.StateInstalling, schemas.StateBooting} {
			t.Run(string(state), func(t *testing.T) {
				inDrainWorld(t, kind, 6_000, sim.MCUConfig{}, func(w *drainWorld) {
					w.service.offer(pump, w.offer)
					w.awaitState(state)
					took := w.end()
					if took < time.Second || took >= drainLimit {
						t.Errorf("draining took %v", took)
					}
					w.succeeds()
					w.wantSettled(true)
					w.wholeFrames()
					boots := w.mcu.Boots()
					w.start()
					time.Sleep(10 * time.Minute)
					if n := w.mcu.Boots(); n != boots {
						t.Errorf("the MCU booted %d times more after its success", n-boots)
					}
				})
			})
		}
	})
}

// An offer that the MCU has not answered yet is under way if the image is there.
func TestDrainFinishesAnOffer(t *testing.T) {
	inDrainWorld(t, ayla.Name, 6_000, sim.MCUConfig{AcceptSame: true, EraseTime: 300 * time.Millisecond}, func(w *drainWorld) {
		w.service.offer(pump, w.offer)
		w.succeeds()
		again := w.offer
		again.Execution, again.Force = "ex-2", true
		w.service.offer(pump, again)
		time.Sleep(100 * time.Millisecond)
		if u := w.bridge.Status(w.Context()).Ports[0].Update; u == nil || u.State != schemas.StateOffered {
			t.Errorf("under way is %+v", u)
		}
		w.end()
		if st := w.service.last("ex-2"); st.State != schemas.StateSucceeded {
			t.Errorf("ex-2 is %s", st.State)
		}
	})
}

// What waits for its image is left to the next start at once, whatever time
// there would be.
func TestDrainStopsFetching(t *testing.T) {
	bothDialects(t, func(t *testing.T, kind string) {
		inDrainWorld(t, kind, 300_000, sim.MCUConfig{}, func(w *drainWorld) {
			w.service.offer(pump, w.offer)
			w.awaitState(schemas.StateDownloading)
			time.Sleep(100 * time.Millisecond)
			if took := w.end(); took > time.Second {
				t.Errorf("draining took %v", took)
			}
			fetched := w.service.bytes()
			if fetched == 0 || fetched >= len(w.image) {
				t.Errorf("%d bytes of %d were fetched", fetched, len(w.image))
			}
			time.Sleep(time.Minute)
			if n := w.service.bytes(); n != fetched {
				t.Errorf("%d bytes were fetched after the end", n-fetched)
			}
			w.wholeFrames()
		})
	})
	inDrainWorld(t, ayla.Name, 60_000, sim.MCUConfig{}, func(w *drainWorld) {
		w.service.offer(pump, w.offer)
		w.awaitState(schemas.StateDownloading)
		w.end()
		w.goesOn()
	})
}

// A bridge with nothing to do ends at once, and so does one whose port is gone.
func TestDrainOfNothing(t *testing.T) {
	inDrainWorld(t, ayla.Name, 1_000, sim.MCUConfig{}, func(w *drainWorld) {
		w.await("the version", func() bool { return w.told(pump) == oldVersion })
		if took := w.end(); took > time.Second {
			t.Errorf("draining took %v", took)
		}
		w.start()
		w.service.offer(pump, w.offer)
		w.awaitState(schemas.StateInstalling)
		w.lines[pump].Unplug()
		if took := w.end(); took > time.Second {
			t.Errorf("draining with the port gone took %v", took)
		}
		w.lines[pump].Replug()
		w.goesOn()
	})
}

// An MCU that boots may take its port along: the adapter is waited for.
func TestDrainWaitsForAPortThatReboots(t *testing.T) {
	inDrainWorld(t, ayla.Name, 3_000, sim.MCUConfig{}, func(w *drainWorld) {
		w.service.offer(pump, w.offer)
		w.awaitState(schemas.StateBooting)
		w.lines[pump].Unplug()
		time.AfterFunc(2*time.Second, w.lines[pump].Replug)
		if took := w.end(); took < 2*time.Second || took >= drainLimit {
			t.Errorf("the end took %v", took)
		}
		w.succeeds()
		w.wantSettled(true)
	})
}

// At the limit, and at a second signal, the leg is stopped between two frames.
// The next bridge brings it to its end.
func TestDrainIsCutShort(t *testing.T) {
	for name, c := range map[string]struct {
		kind  string
		state schemas.State
		mcu   sim.MCUConfig
		// at and limit bound the end; stop is when Stop is called, 0 for never.
		limit, stop time.Duration
	}{
		"ayla installing":         {ayla.Name, schemas.StateInstalling, sim.MCUConfig{}, 1500 * time.Millisecond, 0},
		"afero installing":        {afero.Name, schemas.StateInstalling, sim.MCUConfig{}, 1500 * time.Millisecond, 0},
		"ayla booting":            {ayla.Name, schemas.StateBooting, sim.MCUConfig{BootTime: 10 * time.Second}, 2 * time.Second, 0},
		"afero booting":           {afero.Name, schemas.StateBooting, sim.MCUConfig{BootTime: 10 * time.Second}, 2 * time.Second, 0},
		"ayla installing, again":  {ayla.Name, schemas.StateInstalling, sim.MCUConfig{}, drainLimit, 777 * time.Millisecond},
		"afero installing, again": {afero.Name, schemas.StateInstalling, sim.MCUConfig{}, drainLimit, 777 * time.Millisecond},
		"no drain":                {ayla.Name, schemas.StateInstalling, sim.MCUConfig{}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			size := 40_000
			if c.kind == afero.Name {
				size = 6_000
			}
			inDrainWorld(t, c.kind, size, c.mcu, func(w *drainWorld) {
				w.stop()
				w.cfg.DrainTimeout = c.limit
				w.start()
				w.service.offer(pump, w.offer)
				w.awaitState(c.state)
				limit := c.limit
				if c.stop > 0 {
					limit = c.stop
					time.AfterFunc(c.stop, w.bridge.Stop)
				}
				if took := w.end(); took < limit || took > limit+time.Second {
					t.Errorf("the end took %v, want %v and not much more", took, limit)
				}
				if st := w.service.last(theExecution); st.State.Final() {
					t.Errorf("reported as %s", st.State)
				}
				rec, err := records{w.dir + "/devices"}.load(pump)
				if err != nil || rec.Open == nil || rec.Open.State != c.state {
					t.Errorf("on disk: %+v, %v", rec.Open, err)
				}
				w.wholeFrames()
				w.goesOn()
			})
		})
	}
}

// Ended at any moment of a leg: only whole frames, and the next bridge goes on.
func TestDrainIsCutShortAtAnyMoment(t *testing.T) {
	for at := time.Millisecond; at < 2500*time.Millisecond; at += step(173 * time.Millisecond) {
		t.Run(at.String(), func(t *testing.T) {
			inDrainWorld(t, ayla.Name, 8_000, sim.MCUConfig{}, func(w *drainWorld) {
				w.service.offer(pump, w.offer)
				w.awaitState(schemas.StateAccepted)
				time.AfterFunc(at+time.Second, w.bridge.Stop)
				time.Sleep(at)
				w.end()
				w.wholeFrames()
				w.goesOn()
			})
		})
	}
}

// A line that takes nothing holds the end up by no more than a frame's time and
// the slack behind the limit.
func TestDrainOnAStuckLine(t *testing.T) {
	inDrainWorld(t, ayla.Name, 20_000, sim.MCUConfig{}, func(w *drainWorld) {
		w.stop()
		w.cfg.DrainTimeout = 2 * time.Second
		w.start()
		w.service.offer(pump, w.offer)
		w.awaitState(schemas.StateInstalling)
		time.Sleep(500 * time.Millisecond)
		w.lines[pump].Stall(true)
		if took, most := w.end(), 3*time.Second; took < 2*time.Second || took > most {
			t.Errorf("the end took %v, want at most %v", took, most)
		}
		w.lines[pump].Stall(false)
		w.goesOn()
	})
}

// No update is begun any more; an offer is there again after the next start.
func TestDrainBeginsNothing(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 20_000, []string{"a", "b"}, func(w *world) {
		w.stop()
		w.cfg.DrainTimeout = drainLimit
		w.start()
		o := w.theOffer()
		o.Execution = "ex-a"
		w.service.offer("a", o)
		w.await("the load", func() bool { return w.service.last("ex-a").State == schemas.StateInstalling })
		time.AfterFunc(500*time.Millisecond, func() {
			if s := w.bridge.Status(w.Context()); s.Draining == nil || s.Ports[1].State != PortClosed || s.Ports[0].State != PortOpen {
				t.Errorf("while it drains: %+v", s)
			}
			o := w.theOffer()
			o.Execution = "ex-b"
			w.service.offer("b", o)
		})
		w.stop()
		if st := w.service.last("ex-a"); st.State != schemas.StateSucceeded {
			t.Errorf("ex-a is %s", st.State)
		}
		if n := w.mcus["b"].Stats().Offers; n != 0 || w.service.last("ex-b").State != "" {
			t.Errorf("b was offered an image %d times", n)
		}
		w.start()
		if st := w.awaitEnd("ex-b"); st.State != schemas.StateSucceeded {
			t.Errorf("ex-b is %s, %s", st.State, st.Detail)
		}
		w.wantImage("b")
	})
}

// The service may take the leg back, or put another in its place, which then
// waits for the next start.
func TestDrainOfADroppedLeg(t *testing.T) {
	inDrainWorld(t, ayla.Name, 20_000, sim.MCUConfig{}, func(w *drainWorld) {
		w.service.offer(pump, w.offer)
		w.awaitState(schemas.StateInstalling)
		other := w.offer
		other.Execution = "ex-2"
		time.AfterFunc(300*time.Millisecond, func() { w.service.offer(pump, other) })
		if took := w.end(); took > time.Second {
			t.Errorf("the end took %v", took)
		}
		w.start()
		if st := w.awaitEnd("ex-2"); st.State != schemas.StateSucceeded {
			t.Errorf("ex-2 is %s, %s", st.State, st.Detail)
		}
	})
}

// A result that nobody acknowledges is waited for until the limit, and one for
// which there is no connection not at all; both are said again.
func TestDrainAwaitsAcks(t *testing.T) {
	inDrainWorld(t, ayla.Name, 3_000, sim.MCUConfig{}, func(w *drainWorld) {
		w.service.offer(pump, w.offer)
		w.awaitState(schemas.StateInstalling)
		w.service.setAcks(false)
		if took := w.end(); took < drainLimit || took > drainLimit+time.Second {
			t.Errorf("the end took %v", took)
		}
		w.wantSettled(false)
		said := w.service.count(theExecution, schemas.StateSucceeded)
		w.service.setAcks(true)
		w.start()
		time.Sleep(time.Minute)
		if n := w.service.count(theExecution, schemas.StateSucceeded); n <= said {
			t.Errorf("said %d times, and %d after the restart", said, n)
		}
	})
	inDrainWorld(t, ayla.Name, 3_000, sim.MCUConfig{}, func(w *drainWorld) {
		w.service.offer(pump, w.offer)
		w.awaitState(schemas.StateInstalling)
		w.service.disconnect()
		began := time.Now()
		w.stop()
		if took := time.Since(began); took < time.Second || took > drainLimit/2 {
			t.Errorf("the end took %v", took)
		}
		w.wantSettled(false)
		w.service.connect()
		w.start()
		w.succeeds()
	})
}
