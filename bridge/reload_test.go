package bridge

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/internal/sim"
	"davit/schemas"
)

// A port that the reload leaves as it is: its bytes and its update are those of a
// bridge that is not reloaded, whatever happens to the others.
func TestReloadLeavesAnUpdateAlone(t *testing.T) {
	carriedOut := func(s schemas.State, reload bool) (sent []byte, states string) {
		inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
			w.reach(s)
			if reload {
				w.wantReload("kept pump-1, added mixer-2", pumpPort(), mixerPort())
				w.await("the new device", func() bool { return w.served(mixer) })
				w.wantReload("kept pump-1, removed mixer-2", pumpPort())
				w.await("the end of it", func() bool { return w.gone(mixer) })
			}
			w.wantSuccess(pumpPath)
			time.Sleep(time.Minute) // virtual
			if n := len(w.wires.openings(pumpPath)); n != 1 {
				t.Errorf("the port was opened %d times", n)
			}
			sent, states = w.wires.bytes(pumpPath), w.service.states(theExecution)
		})
		return sent, states
	}
	for _, s := range everyState() {
		t.Run(string(s), func(t *testing.T) {
			want, wantStates := carriedOut(s, false)
			got, states := carriedOut(s, true)
			if len(want) < 5_000 || !bytes.Equal(got, want) {
				t.Errorf("%d bytes went to the MCU, and not the %d of a bridge that is not reloaded", len(got), len(want))
			}
			if states != wantStates {
				t.Errorf("states %s, want %s", states, wantStates)
			}
		})
	}
}

// A device that is added is served on the connection that stands, and updated.
func TestReloadAdds(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.service.offer(mixer, w.theOffer()) // retained: nobody has subscribed to it yet
		w.wantReload("kept pump-1, added mixer-2", pumpPort(), mixerPort())
		w.await("the hello", func() bool { return w.service.hello(mixer).HostVersions[ayla.DefaultVersionProperty] == oldVersion })
		w.wantSuccess(mixPath)
		if !w.served(pump) || !w.served(mixer) {
			t.Error("not both are served")
		}
	})
}

// A device that is added while the broker is away is served when it is back.
func TestReloadAddsWithoutTheBroker(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.service.disconnect()
		w.wantReload("kept pump-1, added mixer-2", pumpPort(), mixerPort())
		time.Sleep(time.Minute) // virtual
		if w.service.isOnline(mixer) {
			t.Error("online without a connection")
		}
		w.service.offer(mixer, w.theOffer())
		w.service.connect()
		w.wantSuccess(mixPath)
	})
}

// A device that is removed while it is updated: the update ends as ever and is
// reported, then the port is closed and the device gone but for its record.
func TestReloadRemovesAfterTheUpdate(t *testing.T) {
	atEveryState(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
		w.wantReload("kept mixer-2, removed pump-1, waiting pump-1", mixerPort())
		w.wantReload("kept mixer-2, removed pump-1, waiting pump-1", mixerPort()) // once more changes nothing
		w.wantSuccess(pumpPath)
		w.await("the end of the device", func() bool { return w.gone(pump) })
		if w.wires.isOpen(pumpPath) || len(w.wires.openings(pumpPath)) != 1 {
			w.Error("the port is open yet, or was opened again")
		}
		rec, err := w.bridge.records.load(pump)
		if err != nil || len(rec.Ended) != 1 || !rec.Ended[0].Acked {
			w.Errorf("the record has %+v, %v", rec, err)
		}
		if !w.served(mixer) {
			w.Error("the other device is not served any more")
		}
	})
}

// A device that has nothing under way goes at once, and comes back as it was.
func TestReloadRemovesAndTakesBack(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
		w.wantReload("kept mixer-2, removed pump-1", mixerPort())
		w.await("the end of the device", func() bool { return w.gone(pump) && !w.wires.isOpen(pumpPath) })
		w.service.offer(pump, w.theOffer())
		time.Sleep(time.Hour) // virtual
		if n := w.mcus[pumpPath].Stats().Offers; n != 0 || !w.gone(pump) {
			t.Errorf("offered %d times to a device that is gone", n)
		}
		w.wantReload("kept mixer-2, added pump-1", mixerPort(), pumpPort())
		w.wantSuccess(pumpPath)
		if !w.served(pump) {
			t.Error("not served")
		}
	})
}

// The newest configuration wins: a device that is back before its update has
// ended notices nothing of having been removed.
func TestReloadTakesARemovalBack(t *testing.T) {
	atEveryState(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
		w.wantReload("kept mixer-2, removed pump-1, waiting pump-1", mixerPort())
		w.wantReload("kept pump-1 mixer-2", pumpPort(), mixerPort())
		w.wantSuccess(pumpPath)
		time.Sleep(time.Hour) // virtual
		if !w.served(pump) || len(w.wires.openings(pumpPath)) != 1 {
			w.Errorf("opened %d times", len(w.wires.openings(pumpPath)))
		}
	})
}

// A device on its way out takes up nothing new, unless it is taken back.
func TestReloadOfferForALeavingDevice(t *testing.T) {
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprintf("back %t", back), func(t *testing.T) {
			inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
				w.service.acks = false // it waits for them
				w.reach(schemas.StateBooting)
				w.wantReload("kept mixer-2, removed pump-1, waiting pump-1", mixerPort())
				second := sim.BuildDemoImage("3.0.0", 4_000, 9)
				w.service.images["img-2"] = second
				o := w.offerOf("img-2", "3.0.0", second)
				o.Execution = "ex-2"
				w.service.offer(pump, o) // to come after the boot
				w.wantSuccess(pumpPath)
				time.Sleep(30 * time.Second) // virtual
				if got := w.service.states("ex-2"); got != "" || w.wires.isOpen(pumpPath) {
					t.Fatalf("the next update is %s", got)
				}
				if back {
					w.wantReload("kept mixer-2 pump-1", mixerPort(), pumpPort())
					if st := w.awaitEnd("ex-2"); st.State != schemas.StateSucceeded {
						t.Errorf("%s: %s", st.State, st.Detail)
					}
					return
				}
				time.Sleep(departPatience) // virtual: the service acknowledges nothing
				w.await("the end of the device", func() bool { return w.gone(pump) })
				rec, err := w.bridge.records.load(pump)
				if err != nil || len(rec.Ended) != 1 || rec.Ended[0].Acked {
					t.Errorf("the record has %+v, %v", rec, err)
				}
			})
		})
	}
}

// A change of the port waits for the end of the update, then it is there.
func TestReloadChangesAfterTheUpdate(t *testing.T) {
	slow := pumpPort()
	slow.Baud = 57_600
	atEveryState(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.wantReload("changed pump-1, waiting pump-1", slow)
		w.wantSuccess(pumpPath)
		w.await("the port with the new speed", func() bool { return len(w.wires.openings(pumpPath)) == 2 })
		if o := w.wires.openings(pumpPath); o[0].Baud != 115_200 || o[1].Baud != 57_600 {
			w.Errorf("opened with %d and %d bit/s", o[0].Baud, o[1].Baud)
		}
		time.Sleep(time.Minute) // virtual
		if len(w.wires.openings(pumpPath)) != 2 || !w.served(pump) {
			w.Error("opened again, or not served")
		}
	})
}

// An update that waits for the end of the one under way is carried out on the
// changed port.
func TestReloadChangesBeforeTheNextUpdate(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.reach(schemas.StateBooting)
		slow := pumpPort()
		slow.Baud = 57_600
		w.wantReload("changed pump-1, waiting pump-1", slow)
		second := sim.BuildDemoImage("3.0.0", 4_000, 9)
		w.service.images["img-2"] = second
		o := w.offerOf("img-2", "3.0.0", second)
		o.Execution = "ex-2"
		w.service.offer(pump, o)
		w.wantSuccess(pumpPath)
		if st := w.service.last("ex-2"); st.State.Final() || len(w.wires.openings(pumpPath)) > 2 {
			t.Errorf("the next update is %s", st.State)
		}
		w.await("the port with the new speed", func() bool { return len(w.wires.openings(pumpPath)) == 2 })
		if w.service.last("ex-2").State.Rank() >= schemas.StateInstalling.Rank() {
			t.Error("the next update was carried out on the port as it was")
		}
		if st := w.awaitEnd("ex-2"); st.State != schemas.StateSucceeded || len(w.wires.openings(pumpPath)) != 2 {
			t.Errorf("%s, %s; opened %d times", st.State, st.Detail, len(w.wires.openings(pumpPath)))
		}
	})
}

// A device that is taken back while it says goodbye: another begins in its place.
func TestReloadTakesBackDuringTheFarewell(t *testing.T) {
	for at := range 8 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
				w.wantReload("kept mixer-2, removed pump-1", mixerPort())
				time.Sleep(time.Duration(at) * 4 * time.Millisecond) // virtual
				slow := pumpPort()
				slow.Baud = 57_600
				if got := w.reload(slow, mixerPort()); !strings.Contains(got, "added pump-1") {
					t.Errorf("the reload did %q", got)
				}
				w.await("the device", func() bool { return w.served(pump) && w.wires.isOpen(pumpPath) })
				if o := w.wires.openings(pumpPath); o[len(o)-1].Baud != 57_600 {
					t.Errorf("opened with %d bit/s", o[len(o)-1].Baud)
				}
				w.service.offer(pump, w.theOffer())
				w.wantSuccess(pumpPath)
				time.Sleep(time.Minute) // virtual: no farewell comes late
				if !w.served(pump) {
					t.Error("not served any more")
				}
			})
		})
	}
}

// What an MCU says on a port that is being closed for a change is not taken for
// the word of the one on the new port.
func TestReloadDoesNotBelieveTheOldPort(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		d := w.bridge.line(pump).dev
		var old speech
		d.do(func() { old = d.speech() })
		moved := pumpPort()
		moved.Path = mixPath
		w.wantReload("changed pump-1", moved)
		(&lineEvents{d: d, over: old.over}).Version("old", "9.9.9")
		d.do(func() {
			if d.believed["old"] || d.rec.Versions["old"] != "" {
				t.Error("believed")
			}
		})
	})
}

// A change that is taken back before it was carried out never happened.
func TestReloadTakesAChangeBack(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.reach(schemas.StateInstalling)
		slow := pumpPort()
		slow.Baud = 57_600
		w.wantReload("changed pump-1, waiting pump-1", slow)
		w.wantReload("kept pump-1", pumpPort())
		w.wantSuccess(pumpPath)
		time.Sleep(time.Minute) // virtual
		if n := len(w.wires.openings(pumpPath)); n != 1 {
			t.Errorf("opened %d times", n)
		}
	})
}

// With nothing under way, a change is there at once, even if the port is missing.
func TestReloadChangesAtOnce(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.lines[pumpPath].Unplug()
		time.Sleep(time.Hour) // virtual: it is tried seldom by now
		began := time.Now()
		moved := pumpPort()
		moved.Path = mixPath
		w.wantReload("changed pump-1", moved)
		w.await("the other port", func() bool { return w.wires.isOpen(mixPath) })
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
		w.service.offer(pump, w.theOffer())
		w.wantSuccess(mixPath)
	})
}

// Two devices change places while one of them is being updated: the other waits
// for its port, and an update that is offered to it meanwhile waits with it.
func TestReloadSwapsPorts(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
		w.reach(schemas.StateInstalling)
		a, b := pumpPort(), mixerPort()
		a.Path, b.Path = b.Path, a.Path
		w.wantReload("changed pump-1 mixer-2, waiting pump-1", a, b)
		second := w.theOffer()
		second.Execution = "ex-2"
		second.Host.AnswerTimeoutMS = 1 // a port that is missing would be waited for no longer
		w.service.offer(mixer, second)
		time.Sleep(100 * time.Millisecond) // virtual
		if w.wires.isOpen(mixPath) || w.state(mixer) != schemas.StateOffered {
			t.Errorf("the port that nobody wants now is open, or the update is at %q", w.state(mixer))
		}
		w.wantSuccess(pumpPath)
		w.await("both ports", func() bool { return len(w.wires.openings(pumpPath)) == 2 && len(w.wires.openings(mixPath)) == 2 })
		if got := w.wires.openings(pumpPath)[1].Device; got != mixer {
			t.Errorf("%s has the pump's port", got)
		}
		if n := w.mcus[pumpPath].Stats().Offers; n != 1 {
			t.Errorf("offered %d times", n)
		}
	})
}

// A device takes the place of another one on its port, whose update ends first.
func TestReloadReplacesADevice(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort()}, func(w *reloadWorld) {
		w.reach(schemas.StateInstalling)
		next := PortConfig{Device: "pump-9", Path: pumpPath, Dialect: ayla.Name}
		w.wantReload("added pump-9, removed pump-1, waiting pump-1", next)
		w.wantSuccess(pumpPath)
		w.await("the new device's hello", func() bool { return w.service.hello("pump-9").HostVersions[ayla.DefaultVersionProperty] == newVersion })
		w.await("the end of the old one", func() bool { return w.gone(pump) })
	})
}

// Another dialect: what was reported under the names of the old one is forgotten.
func TestReloadChangesTheDialect(t *testing.T) {
	inReloadWorld(t, []PortConfig{pumpPort(), mixerPort()}, func(w *reloadWorld) {
		other := pumpPort()
		other.Dialect = afero.Name
		w.wantReload("kept mixer-2, changed pump-1", other, mixerPort())
		w.await("the hello", func() bool { return w.service.hello(pump).Dialect == afero.Name })
		if v := w.service.hello(pump).HostVersions; len(v) != 0 {
			t.Errorf("the hello has versions %v", v)
		}
		open := pumpPort()
		open.Dialect = ""
		w.service.mu.Lock()
		w.service.profiles = map[string]schemas.Profile{
			pump: {V: schemas.Version, DeviceType: "board", Dialect: ayla.Name, VersionProperties: []string{ayla.DefaultVersionProperty}},
		}
		w.service.mu.Unlock()
		w.wantReload("kept mixer-2, changed pump-1", open, mixerPort())
		w.await("the service's word", func() bool {
			h := w.service.hello(pump)
			return h.Dialect == ayla.Name && h.HostVersions[ayla.DefaultVersionProperty] == oldVersion
		})
	})
}
