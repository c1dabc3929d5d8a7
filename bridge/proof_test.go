package bridge

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davit/internal/sim"
	"davit/schemas"
)

// versionProperty is the one that the simulated MCUs have.
const versionProperty = sim.DefaultVersionProperty

// told is the version in the device's last hello.
func (w *world) told(device string) string {
	return w.service.hello(device).HostVersions[versionProperty]
}

// An MCU that says nothing by itself is exchanged for one with the old version.
// What the first one ran is no proof for the second.
func TestExchangedMCU(t *testing.T) {
	for _, mode := range []sim.ReportMode{sim.ReportAtStart, sim.ReportOnRequest} {
		t.Run("mode "+string(mode), func(t *testing.T) {
			cfg := sim.MCUConfig{Report: mode}
			inWorld(t, cfg, 10_000, one(), func(w *world) {
				w.service.offer(pump, w.theOffer())
				w.wantSuccess(pump)
				time.Sleep(time.Minute)
				w.swap(pump, cfg)
				time.Sleep(time.Minute)
				o := w.theOffer()
				o.Execution = "ex-2"
				w.service.offer(pump, o)
				if st := w.awaitEnd("ex-2"); st.State != schemas.StateSucceeded {
					t.Errorf("%s, %s", st.State, st.Detail)
				}
				w.wantImage(pump)
			})
		})
	}
}

// What the bridge cannot vouch for any more is told as unknown.
func TestVersionIsUnknownUntilReported(t *testing.T) {
	inWorld(t, sim.MCUConfig{Traffic: 10 * time.Second}, 1_000, one(), func(w *world) {
		w.await("version", func() bool { return w.told(pump) == oldVersion })
		w.mcus[pump].SetFault(sim.Fault{NoVersion: true})
		w.mcus[pump].Reset()
		time.Sleep(time.Minute)
		if v, ok := w.service.hello(pump).HostVersions[versionProperty]; !ok || v != "" {
			t.Errorf("after a restart without a report the hello says %q", v)
		}
		w.mcus[pump].SetFault(sim.Fault{})
		w.await("version", func() bool { return w.told(pump) == oldVersion })
		w.lines[pump].Unplug()
		time.Sleep(time.Minute)
		if v := w.told(pump); v != "" {
			t.Errorf("with its port gone the hello says %q", v)
		}
		w.lines[pump].Replug()
		w.await("version", func() bool { return w.told(pump) == oldVersion })
	})
}

// An MCU that says nothing by itself is asked now and then.
func TestExchangedMCUIsNoticed(t *testing.T) {
	cfg := sim.MCUConfig{Report: sim.ReportOnRequest}
	inWorld(t, cfg, 1_000, one(), func(w *world) {
		w.await("version", func() bool { return w.told(pump) == oldVersion })
		w.swap(pump, sim.MCUConfig{Report: sim.ReportOnRequest, Version: "7.0.0"})
		began := time.Now()
		w.await("the other MCU's version", func() bool { return w.told(pump) == "7.0.0" })
		if took := time.Since(began); took > 15*time.Minute {
			t.Errorf("noticed after %v", took)
		}
		w.halt[pump]()
		w.await("an unknown version", func() bool { return w.told(pump) == "" })
	})
}

// A forced update to the version that runs already: what is recorded as
// success is the image, byte for byte, whatever goes wrong and whenever the
// bridge is killed.
func TestForcedToTheSameVersion(t *testing.T) {
	same := sim.MCUConfig{Version: newVersion, Image: sim.BuildDemoImage(newVersion, 3_000, 7), AcceptSame: true}
	run := func(name string, fault sim.Fault, f func(w *world)) {
		t.Run(name, func(t *testing.T) {
			cfg := same
			cfg.Fault = fault
			inWorld(t, cfg, 2_000, one(), func(w *world) {
				o := w.theOffer()
				o.Force = true
				w.service.offer(pump, o)
				f(w)
				st := w.awaitEnd(theExecution)
				really := bytes.Equal(w.mcus[pump].RunningImage(), w.image)
				if succeeded := st.State == schemas.StateSucceeded; succeeded != really {
					t.Errorf("recorded %s (%s), the MCU runs the image: %t", st.State, st.Detail, really)
				}
			})
		})
	}
	nothing := func(*world) {}
	run("plain", sim.Fault{}, nothing)
	run("falls back", sim.Fault{NoBoot: true}, nothing)
	for n := 1; n <= 18; n += 2 {
		run(fmt.Sprintf("reset at frame %d", n), sim.Fault{ResetAtFrame: n}, nothing)
	}
	for at := 100 * time.Millisecond; at < 3*time.Second; at += 390 * time.Millisecond {
		run("killed after "+at.String(), sim.Fault{}, func(w *world) {
			time.Sleep(at)
			w.kill()
			w.start()
		})
	}
}

// The leg of an execution that was replaced or withdrawn is told so before the
// MCU is told to boot.
func TestDroppedLegDoesNotBoot(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 1_000, one(), func(w *world) {
		w.service.offer(pump, w.theOffer())
		w.awaitState(schemas.StateAccepted)
		gone := &leg{w.bridge.devices[pump].dev, &execution{offer: w.theOffer()}}
		for _, s := range []schemas.State{schemas.StateAccepted, schemas.StateInstalling, schemas.StateBooting} {
			if gone.State(s, 0) == nil {
				t.Errorf("%s of an execution that is not carried out any more is taken", s)
			}
		}
		w.wantSuccess(pump)
	})
}

// SIGTERM at any moment leaves a record that the next run takes up.
func TestStoppedAtAnyMoment(t *testing.T) {
	for at := 30 * time.Millisecond; at < 5*time.Second; at += step(430 * time.Millisecond) {
		t.Run(at.String(), func(t *testing.T) {
			inWorld(t, sim.MCUConfig{}, 20_000, one(), func(w *world) {
				w.service.offer(pump, w.theOffer())
				time.Sleep(at)
				w.stop()
				time.Sleep(time.Minute)
				w.start()
				w.wantSuccess(pump)
			})
		})
	}
}

// An offer of an attempt that a later one has overtaken comes too late.
func TestOvertakenAttempt(t *testing.T) {
	inWorld(t, sim.MCUConfig{AcceptSame: true}, 1_000, one(), func(w *world) {
		late := w.theOffer()
		late.Force = true
		o := late
		o.Attempt = 2
		w.service.offer(pump, o)
		w.wantSuccess(pump)
		offers := w.mcus[pump].Stats().Offers
		w.service.offer(pump, late)
		time.Sleep(10 * time.Minute)
		if n := w.mcus[pump].Stats().Offers; n != offers {
			t.Errorf("the MCU was offered the image %d times more", n-offers)
		}
	})
}

// A result that could not be written is, as soon as it can be.
func TestResultIsWrittenLater(t *testing.T) {
	inWorld(t, sim.MCUConfig{Fault: sim.Fault{NoBoot: true}}, 2_000, one(), func(w *world) {
		w.service.setAcks(false)
		w.service.offer(pump, w.theOffer())
		w.awaitState(schemas.StateBooting)
		devices := filepath.Join(w.dir, "devices")
		if err := os.Rename(devices, devices+"-away"); err != nil {
			t.Fatal(err)
		}
		w.wantEnd(schemas.StateFailed, schemas.CauseBoot)
		if err := os.Rename(devices+"-away", devices); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * saveAgain)
		offers := w.mcus[pump].Stats().Offers
		w.kill()
		w.service.setAcks(true)
		w.start()
		time.Sleep(10 * time.Minute)
		if n := w.mcus[pump].Stats().Offers; n != offers {
			t.Errorf("the MCU was offered the image %d times more after the end", n-offers)
		}
	})
}

// Hellos are repeated, each device at its own pace, and heal what was lost.
func TestHelloIsRepeated(t *testing.T) {
	devices := []string{"a", "b", "c"}
	inWorld(t, sim.MCUConfig{}, 1_000, devices, func(w *world) {
		time.Sleep(time.Minute)
		before := map[string]int{}
		paces := map[time.Duration]bool{}
		for _, d := range devices {
			before[d] = w.service.helloCount(d)
			pace := helloInterval(d)
			if paces[pace] = true; pace < 8*time.Minute || pace > 12*time.Minute {
				t.Errorf("%s repeats its hello every %v", d, pace)
			}
		}
		if len(paces) != len(devices) {
			t.Errorf("the paces are %v", paces)
		}
		const hours = 10
		time.Sleep(hours * time.Hour)
		synctest.Wait()
		for _, d := range devices {
			want := int(hours * time.Hour / helloInterval(d))
			if n := w.service.helloCount(d) - before[d]; n < want-1 || n > want+1 {
				t.Errorf("%s said %d hellos in %d hours, want about %d", d, n, hours, want)
			}
		}
		if w.told("a") != oldVersion {
			t.Errorf("the last one says version %q", w.told("a"))
		}
	})
}

// Names and versions that are allowed one by one may be too much for one hello.
func TestHelloThatIsTooLong(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 1_000, one(), func(w *world) {
		w.await("version", func() bool { return w.told(pump) == oldVersion })
		d := w.bridge.devices[pump].dev
		d.do(func() {
			for i := range schemas.MaxHostVersions - 1 {
				property := strings.Repeat("p", 200) + fmt.Sprint(i)
				d.rec.report(property, strings.Repeat("<", schemas.MaxVersionLength))
				d.believed[property] = true
			}
			d.hello()
		})
		w.await("a long hello", func() bool { return len(w.service.hello(pump).HostVersions) > 1 })
		if v := w.told(pump); v != oldVersion {
			t.Errorf("the version that matters is told as %q", v)
		}
	})
}
