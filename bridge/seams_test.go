package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"davit/bridge/dialect/ayla"
	"davit/internal/sim"
	"davit/schemas"
)

// restart ends the bridge as a signal does and starts another, on ports and with open
// around the opening of a port, if it is not nil.
func (w *reloadWorld) restart(ports []PortConfig, open func(PortConfig)) {
	w.Helper()
	w.stop()
	w.cfg.Ports = ports
	if inner := w.cfg.OpenPort; open != nil {
		w.cfg.OpenPort = func(p PortConfig) (io.ReadWriteCloser, error) {
			open(p)
			return inner(p)
		}
	}
	w.start()
}

// A port that is configured anew while it is being opened: nothing goes to the MCU on
// the old one.
func TestReloadWhileAPortIsOpened(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		let := make(chan struct{})
		w.restart([]PortConfig{pumpPort()}, func(p PortConfig) {
			if p.Path == pumpPath {
				<-let
			}
		})
		synctest.Wait()
		before := len(w.wires.bytes(pumpPath))
		moved := pumpPort()
		moved.Path = mixPath
		w.wantReload("changed pump-1", moved)
		d := w.bridge.line(pump).dev
		w.service.offer(pump, w.theOffer())
		w.await("the offer", func() bool { return w.state(pump) != "" })
		d.do(func() {
			go close(let)
			time.Sleep(time.Millisecond)
		})
		w.wantSuccess(mixPath)
		if n := len(w.wires.bytes(pumpPath)) - before; n != 0 || w.wires.isOpen(pumpPath) {
			t.Errorf("%d bytes went to the old port, open %t", n, w.wires.isOpen(pumpPath))
		}
	})
}

// A port that took nothing, and is another one now, which another device has yet: its
// next update waits.
func TestReloadOfAPortThatTookNothing(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
		o := w.theOffer()
		w.lines[mixPath].Stall(true)
		first := o
		first.Execution, first.Host.AnswerTimeoutMS = "ex-0", 60_000
		w.service.offer(mixer, first)
		w.awaitEnd("ex-0")
		d := w.bridge.line(mixer).dev
		w.await("a port that is held back and closed", func() (held bool) {
			d.do(func() { held = !d.held.since.IsZero() && d.session == nil })
			return held
		})
		w.reach(schemas.StateInstalling)
		a, b := pumpPort(), mixerPort()
		a.Path, b.Path = b.Path, a.Path
		w.wantReload("changed pump-1 mixer-2, waiting pump-1", a, b)
		second := o
		second.Execution, second.Host.AnswerTimeoutMS = "ex-2", 1
		w.service.offer(mixer, second)
		time.Sleep(100 * time.Millisecond) // virtual
		if s := w.state(mixer); s != schemas.StateOffered {
			t.Errorf("the update is at %q, the last result is %+v", s, w.status().Ports[1].Last)
		}
		w.lines[mixPath].Stall(false)
	})
}

// A port that waits for another line says so, and what it is configured for.
func TestStatusOfAPortThatWaits(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
		w.reach(schemas.StateInstalling)
		a, b := pumpPort(), mixerPort()
		a.Path, b.Path = b.Path, a.Path
		b.Baud = 57_600
		w.wantReload("changed pump-1 mixer-2, waiting pump-1", a, b)
		time.Sleep(100 * time.Millisecond) // virtual
		s := w.status().Ports[1]
		if s.Port != pumpPath || s.Baud != 57_600 || s.State == PortOpen || s.Reason == "" {
			t.Errorf("%+v", s)
		}
	})
}

// Taken back while it says goodbye: the order is the configuration's.
func TestReloadKeepsTheOrder(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
		w.wantReload("kept mixer-2, removed pump-1", mixerPort())
		w.reload(pumpPort(), mixerPort())
		w.await("the device", func() bool { return w.served(pump) && w.wires.isOpen(pumpPath) })
		var ids []string
		for _, p := range w.status().Ports {
			ids = append(ids, p.Device)
		}
		if !slices.Equal(ids, []string{pump, mixer}) {
			t.Errorf("the ports are %v", ids)
		}
	})
}

// A drain while two ports are to change places.
func TestDrainOfASwap(t *testing.T) {
	for _, s := range everyState() {
		t.Run(string(s), func(t *testing.T) {
			inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
				w.cfg.DrainTimeout = drainLimit
				w.restart(w.cfg.Ports, nil)
				w.reach(s)
				a, b := pumpPort(), mixerPort()
				a.Path, b.Path = b.Path, a.Path
				w.wantReload("changed pump-1 mixer-2, waiting pump-1", a, b)
				second := w.theOffer()
				second.Execution = "ex-2"
				w.service.offer(mixer, second)
				time.Sleep(50 * time.Millisecond) // virtual
				began := time.Now()
				w.stop()
				if took := time.Since(began); took > drainLimit-time.Second {
					t.Errorf("the end took %v", took)
				}
				if st := w.service.last(theExecution).State; s.Rank() >= schemas.StateInstalling.Rank() && st != schemas.StateSucceeded {
					t.Errorf("the update is %s", st)
				}
				w.cfg.Ports = []PortConfig{a, b}
				w.start()
				for _, e := range []string{theExecution, "ex-2"} {
					if st := w.awaitEnd(e); st.State != schemas.StateSucceeded {
						t.Errorf("%s is %s: %s", e, st.State, st.Detail)
					}
				}
			})
		})
	}
}

// A drain while a device is on its way out, and while its result is not acknowledged.
func TestDrainOfARemoval(t *testing.T) {
	for _, acks := range []bool{true, false} {
		for _, s := range everyState() {
			t.Run(fmt.Sprintf("%s, acks %t", s, acks), func(t *testing.T) {
				inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
					w.cfg.DrainTimeout = drainLimit
					w.restart(w.cfg.Ports, nil)
					w.reach(s)
					w.wantReload("kept mixer-2, removed pump-1, waiting pump-1", mixerPort())
					w.service.setAcks(acks)
					began := time.Now()
					w.stop()
					if took := time.Since(began); acks && took > drainLimit-time.Second || took > drainLimit+time.Second {
						t.Errorf("the end took %v", took)
					}
					if w.service.isOnline(pump) {
						t.Error("still online")
					}
					w.service.setAcks(true)
					w.start() // with the device
					w.wantSuccess(pumpPath)
					w.await("the ack", func() bool {
						rec, err := w.bridge.records.load(pump)
						return err == nil && len(rec.Ended) == 1 && rec.Ended[0].Acked
					})
				})
			})
		}
	}
}

// The next offer is not lost by a drain.
func TestDrainKeepsTheNextOffer(t *testing.T) {
	inDrainWorld(t, ayla.Name, 3_000, sim.MCUConfig{}, func(w *drainWorld) {
		w.service.offer(pump, w.offer)
		w.awaitState(schemas.StateBooting)
		next := w.offer
		next.Execution, next.Force = "ex-2", true
		w.service.offer(pump, next)
		time.Sleep(50 * time.Millisecond)
		w.end()
		w.succeeds()
		w.start()
		if st := w.awaitEnd("ex-2"); st.State != schemas.StateSucceeded {
			t.Errorf("ex-2 is %s, %s", st.State, st.Detail)
		}
	})
}

// Stop before Run, and a Run whose context has ended already.
func TestStopBeforeRun(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 1_000, one(), func(w *world) {
		w.stop()
		w.cfg.DrainTimeout = drainLimit
		for _, early := range []bool{true, false} {
			b, err := New(w.cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(w.Context())
			defer cancel()
			if early {
				b.Stop()
			} else {
				cancel()
			}
			began := time.Now()
			if err := b.Run(ctx); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("took %v", took)
			}
		}
	})
}

// broken is a transport that fails after a while.
type broken struct {
	*service
	after time.Duration
}

var errBroken = errors.New("broken")

func (b broken) Run(ctx context.Context, c Client) error {
	ctx, cancel := context.WithTimeout(ctx, b.after)
	defer cancel()
	return errors.Join(b.service.Run(ctx, c), errBroken)
}

// A transport that ends by itself ends the bridge, with its error, at any moment.
func TestTransportEnds(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.stop()
		w.cfg.DataDir, w.cfg.DrainTimeout = w.dir, drainLimit
		for _, after := range []time.Duration{0, 10 * time.Millisecond, time.Second} {
			w.cfg.Transport = broken{w.service, after}
			b, err := New(w.cfg)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				time.Sleep(after)
				_, _ = b.Reconfigure(w.Context(), Settings{Ports: []PortConfig{mixerPort()}})
			}()
			w.service.offer(pump, w.theOffer())
			began := time.Now()
			if err := b.Run(w.Context()); !errors.Is(err, errBroken) {
				t.Errorf("%v: %v", after, err)
			}
			if took := time.Since(began); took > after+2*goodbye {
				t.Errorf("%v: took %v", after, took)
			}
		}
		w.cfg.Transport = w.service
		w.start()
		w.wantSuccess(pumpPath)
	})
}

// rack is n ports.
func fullRack(n int) []PortConfig {
	var ports []PortConfig
	for i := range n {
		ports = append(ports, PortConfig{Device: fmt.Sprintf("d%02d", i), Path: fmt.Sprintf("/dev/p%02d", i), Dialect: ayla.Name})
	}
	return ports
}

// All ports of a full rack change at once, each to the next one's place; then the bridge ends.
func TestReloadOfAFullRack(t *testing.T) {
	ports := fullRack(MaxPorts)
	ws := &wires{opened: map[string][]PortConfig{}, open: map[string]int{}, sent: map[string]*bytes.Buffer{}}
	inBareWorld(t, 1_000, func(w *world) {
		w.cfg.Ports = ports
		w.service.delay = 20 * time.Millisecond
		for _, p := range ports {
			w.lines[p.Path] = sim.NewLine(sim.LineConfig{})
			w.power(p.Path, sim.MCUConfig{})
		}
		w.cfg.OpenPort = func(p PortConfig) (io.ReadWriteCloser, error) {
			port, err := w.lines[p.Path].Open()
			if err != nil {
				return nil, err
			}
			return ws.add(p.Path, p, port), nil
		}
	}, func(w *world) {
		all := func() bool {
			return !slices.ContainsFunc(ports, func(p PortConfig) bool {
				return !w.service.isOnline(p.Device) || !ws.isOpen(p.Path)
			})
		}
		w.await("all", all)
		moved := slices.Clone(ports)
		for i := range moved {
			moved[i].Path = ports[(i+1)%len(ports)].Path
		}
		if c, err := w.bridge.Reconfigure(w.Context(), Settings{Ports: moved}); err != nil || len(c.Changed) != MaxPorts {
			t.Fatalf("%+v, %v", c, err)
		}
		w.await("all in the new places", func() bool {
			return !slices.ContainsFunc(moved, func(p PortConfig) bool {
				o := ws.openings(p.Path)
				return o[len(o)-1].Device != p.Device
			})
		})
		time.Sleep(time.Minute)
		w.stop()
		for _, p := range ports {
			if w.service.isOnline(p.Device) {
				t.Errorf("%s is still online", p.Device)
			}
		}
	})
}

// Everything that an operator can do to a bridge at random, while updates go on: reloads,
// drains and their being cut short, with the broker and the adapters coming and going. No
// update is lost, and the status is there at every moment. With DAVIT_CAMPAIGN there is more of it.
func TestOperatedAtRandom(t *testing.T) {
	seeds := uint64(3)
	if os.Getenv(scenariosVariable) != "" {
		seeds = 200
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) { operateAtRandom(w, rand.New(rand.NewPCG(seed, 3))) })
		})
	}
}

func operateAtRandom(w *reloadWorld, r *rand.Rand) {
	other := w.theOffer()
	other.Execution = "ex-2"
	w.service.offer(pump, w.theOffer())
	w.service.offer(mixer, other)
	ports := []PortConfig{pumpPort(), mixerPort()}
	pause := func(most int) time.Duration { return time.Duration(r.IntN(most)) * time.Millisecond }
	for range 20 {
		time.Sleep(pause(700)) // virtual
		b, now := w.bridge, ports
		switch r.IntN(6) {
		case 0, 1:
			ports = drawPorts(r)
			w.reload(ports...)
		case 2:
			w.cfg.DrainTimeout = drainLimit
			cut := r.IntN(2) == 0
			look := time.AfterFunc(pause(3000), func() {
				b.Status(w.Context())
				_, _ = b.Reconfigure(w.Context(), Settings{Ports: now})
				if cut {
					b.Stop()
				}
			})
			ports = drawPorts(r)
			w.restart(ports, nil)
			look.Stop()
		case 3:
			w.service.disconnect()
			time.Sleep(pause(6000)) // virtual
			w.service.connect()
		case 4:
			line := w.lines[[]string{pumpPath, mixPath}[r.IntN(2)]]
			line.Unplug()
			time.AfterFunc(pause(3000), line.Replug)
		case 5:
			go b.Status(w.Context())
			go func() { _, _ = b.Reconfigure(w.Context(), Settings{Ports: now}) }()
		}
	}
	time.Sleep(10 * time.Minute) // virtual: everything is settled, with the ports as they are
	w.reload(pumpPort(), mixerPort())
	for _, execution := range []string{theExecution, "ex-2"} {
		if st := w.awaitEnd(execution); st.State != schemas.StateSucceeded {
			w.Errorf("%s: %s, %s", execution, st.State, st.Detail)
		}
	}
	time.Sleep(time.Minute) // virtual
	for _, id := range []string{pump, mixer} {
		if !w.served(id) {
			w.Errorf("%s is not served", id)
		}
	}
}

// A disk that does not answer while a device's record is read for a reload holds up the
// reload, and neither the other devices' messages nor the status.
func TestReloadOnAStuckDisk(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		path := w.bridge.records.path(mixer)
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.wantReload("kept pump-1, added mixer-2", pumpPort(), mixerPort())
		}()
		var pipe *os.File
		for pipe == nil { // until it is read
			pipe, _ = os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
			runtime.Gosched()
		}
		if w.bridge.mu.TryRLock() {
			w.bridge.mu.RUnlock()
		} else {
			t.Error("everything waits for the disk")
		}
		if _, err := fmt.Fprintf(pipe, `{"v":1,"device":%q}`, mixer); err != nil {
			t.Error(err)
		}
		if err := errors.Join(pipe.Close(), os.Remove(path)); err != nil {
			t.Error(err)
		}
		<-done
		w.await("the new device", func() bool { return w.served(mixer) })
	})
}
