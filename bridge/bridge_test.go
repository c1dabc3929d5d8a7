package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"davit/internal/sim"
	"davit/schemas"
)

const pump = "pump-1"

func one() []string { return []string{pump} }

func TestUpdate(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 20_000, one(), func(w *world) {
		w.await("hello", func() bool { return w.service.hello(pump).HostVersions["oem_host_version"] == oldVersion })
		w.service.offer(pump, w.theOffer())
		w.wantSuccess(pump)
		if got, want := w.service.states(theExecution), "accepted downloading downloaded installing booting succeeded"; got != want {
			t.Errorf("states %s, want %s", got, want)
		}
		time.Sleep(time.Minute) // virtual
		h := w.service.hello(pump)
		if h.HostVersions["oem_host_version"] != newVersion || h.Execution != "" || h.Dialect != "ayla" || h.Module != "davit test" {
			t.Errorf("hello after the update: %+v", h)
		}
		if !w.service.isOnline(pump) {
			t.Error("not online")
		}
		if offers := w.mcus[pump].Stats().Offers; offers != 1 {
			t.Errorf("the MCU was offered the image %d times", offers)
		}
	})
}

func TestFarewell(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 1000, []string{"a", "b"}, func(w *world) {
		w.await("presence", func() bool { return w.service.isOnline("a") && w.service.isOnline("b") })
		w.stop()
		if w.service.isOnline("a") || w.service.isOnline("b") {
			t.Error("still online after the bridge went")
		}
		w.start()
		w.await("presence", func() bool { return w.service.isOnline("a") && w.service.isOnline("b") })
	})
}

// The bridge is killed at any moment, and the next one finishes the update:
// not twice, and with what the MCU really runs.
func TestKilledAtAnyMoment(t *testing.T) {
	for at := 50 * time.Millisecond; at < 6500*time.Millisecond; at += step(150 * time.Millisecond) {
		t.Run(at.String(), func(t *testing.T) {
			inWorld(t, sim.MCUConfig{}, 20_000, one(), func(w *world) {
				w.service.offer(pump, w.theOffer())
				time.Sleep(at) // virtual
				w.kill()
				w.start()
				w.wantSuccess(pump)
				offers := w.mcus[pump].Stats().Offers
				time.Sleep(10 * time.Minute)
				if n := w.mcus[pump].Stats().Offers; n != offers {
					t.Errorf("offered %d times more after success", n-offers)
				}
			})
		})
	}
}

// Killed again and again: every run gets a little further.
func TestKilledOften(t *testing.T) {
	inWorld(t, sim.MCUConfig{Report: sim.ReportOnRequest}, 20_000, one(), func(w *world) {
		w.service.offer(pump, w.theOffer())
		for i := range 12 {
			time.Sleep(time.Duration(300+170*i) * time.Millisecond)
			w.kill()
			w.start()
		}
		w.wantSuccess(pump)
	})
}

// The broker goes away for a minute at any moment.
func TestBrokerGone(t *testing.T) {
	for at := 20 * time.Millisecond; at < 5*time.Second; at += step(310 * time.Millisecond) {
		t.Run(at.String(), func(t *testing.T) {
			inWorld(t, sim.MCUConfig{}, 20_000, one(), func(w *world) {
				w.service.offer(pump, w.theOffer())
				time.Sleep(at)
				w.service.disconnect()
				time.Sleep(time.Minute)
				w.service.connect()
				w.wantSuccess(pump)
			})
		})
	}
}

// The MCU ends the update while nobody listens, and the bridge restarts before
// it can say so.
func TestResultSurvivesRestart(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 5_000, one(), func(w *world) {
		w.service.offer(pump, w.theOffer())
		w.awaitState(schemas.StateInstalling)
		w.service.disconnect()
		time.Sleep(time.Minute)
		w.kill()
		w.service.withdraw(pump) // the result comes even if the offer does not stand any more
		w.start()
		w.wantSuccess(pump)
	})
}

func TestStatusIsRepeatedUntilItsAck(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 3_000, one(), func(w *world) {
		w.service.acks = false
		w.service.offer(pump, w.theOffer())
		w.wantSuccess(pump)
		count := func() int { return w.service.count(theExecution, schemas.StateSucceeded) }
		before := count()
		time.Sleep(3 * time.Minute)
		if n := count() - before; n < 3 || n > 10 {
			t.Errorf("said %d times in three minutes", n)
		}
		w.service.setAcks(true)
		time.Sleep(2 * time.Minute)
		settled := count()
		time.Sleep(time.Hour)
		if count() != settled {
			t.Error("repeated after the ack")
		}
		// Offered once more, the result is said again and nothing is done.
		offers := w.mcus[pump].Stats().Offers
		w.service.offer(pump, w.theOffer())
		time.Sleep(time.Minute)
		if count() != settled+1 || w.mcus[pump].Stats().Offers != offers {
			t.Errorf("said %d times more, offered %d times more", count()-settled, w.mcus[pump].Stats().Offers-offers)
		}
	})
}

func TestWithdrawnOffer(t *testing.T) {
	for _, state := range []schemas.State{schemas.StateAccepted, schemas.StateInstalling} {
		t.Run(string(state), func(t *testing.T) {
			inWorld(t, sim.MCUConfig{}, 20_000, one(), func(w *world) {
				w.service.offer(pump, w.theOffer())
				w.awaitState(state)
				w.service.withdraw(pump)
				time.Sleep(10 * time.Minute)
				if v := w.mcus[pump].RunningVersion(); v != oldVersion {
					t.Errorf("the MCU runs %q", v)
				}
				if h := w.service.hello(pump); h.Execution != "" {
					t.Errorf("hello still names %s", h.Execution)
				}
			})
		})
	}
	t.Run("booting", func(t *testing.T) {
		inWorld(t, sim.MCUConfig{}, 5_000, one(), func(w *world) {
			w.service.offer(pump, w.theOffer())
			w.awaitState(schemas.StateBooting)
			w.service.withdraw(pump)
			w.wantSuccess(pump)
		})
	})
}

func TestAnotherExecutionReplaces(t *testing.T) {
	for _, state := range []schemas.State{schemas.StateAccepted, schemas.StateInstalling, schemas.StateBooting} {
		t.Run(string(state), func(t *testing.T) {
			inWorld(t, sim.MCUConfig{}, 10_000, one(), func(w *world) {
				second := sim.BuildDemoImage("3.0.0", 8_000, 9)
				w.service.images["img-2"] = second
				w.service.offer(pump, w.theOffer())
				w.awaitState(state)
				o := w.offerOf("img-2", "3.0.0", second)
				o.Execution = "ex-2"
				w.service.offer(pump, o)
				st := w.awaitEnd("ex-2")
				if st.State != schemas.StateSucceeded || w.mcus[pump].RunningVersion() != "3.0.0" {
					t.Errorf("%s %s; the MCU runs %q", st.State, st.Detail, w.mcus[pump].RunningVersion())
				}
				if first := w.service.last(theExecution); first.State.Final() != (state == schemas.StateBooting) {
					t.Errorf("the first execution is %s", first.State)
				}
			})
		})
	}
}

func TestNewAttemptReplacesAndOldOneIsIgnored(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 10_000, one(), func(w *world) {
		w.service.offer(pump, w.theOffer())
		w.awaitState(schemas.StateInstalling)
		o := w.theOffer()
		o.Attempt = 2
		w.service.offer(pump, o)
		synctest.Wait() // of two offers at once only the second would count
		w.service.offer(pump, w.theOffer())
		w.wantSuccess(pump)
		if st := w.service.last(theExecution); st.Attempt != 2 {
			t.Errorf("attempt %d", st.Attempt)
		}
	})
}

func TestAckThatEndsTheExecution(t *testing.T) {
	for _, a := range []schemas.Ack{
		{Superseded: true, State: schemas.StateQueued}, {State: schemas.StateCanceled},
	} {
		t.Run(string(a.State), func(t *testing.T) {
			inWorld(t, sim.MCUConfig{}, 20_000, one(), func(w *world) {
				w.service.offer(pump, w.theOffer())
				w.awaitState(schemas.StateInstalling)
				a.V, a.Execution, a.Attempt, a.Seq = schemas.Version, theExecution, 1, 1
				b, err := schemas.Encode(&a)
				if err != nil {
					t.Fatal(err)
				}
				w.service.send(topicOf(pump, schemas.KindAck), b)
				time.Sleep(10 * time.Minute)
				if v := w.mcus[pump].RunningVersion(); v != oldVersion {
					t.Errorf("the MCU runs %q", v)
				}
			})
		})
	}
}

func TestPortGone(t *testing.T) {
	t.Run("for good", func(t *testing.T) {
		inWorld(t, sim.MCUConfig{}, 20_000, one(), func(w *world) {
			w.service.offer(pump, w.theOffer())
			w.awaitState(schemas.StateInstalling)
			w.lines[pump].Unplug()
			st := w.wantEnd(schemas.StateFailed, schemas.CauseSerial)
			if !strings.Contains(st.Detail, pump) {
				t.Errorf("detail %q does not name the port", st.Detail)
			}
		})
	})
	for _, state := range []schemas.State{schemas.StateAccepted, schemas.StateInstalling, schemas.StateBooting} {
		t.Run("and back, "+string(state), func(t *testing.T) {
			inWorld(t, sim.MCUConfig{}, 20_000, one(), func(w *world) {
				w.service.offer(pump, w.theOffer())
				w.awaitState(state)
				w.lines[pump].Unplug()
				time.Sleep(time.Minute)
				w.lines[pump].Replug()
				w.wantSuccess(pump)
			})
		})
	}
	t.Run("before the offer", func(t *testing.T) {
		inWorld(t, sim.MCUConfig{}, 5_000, one(), func(w *world) {
			w.lines[pump].Unplug()
			time.Sleep(time.Hour)
			w.service.offer(pump, w.theOffer())
			time.Sleep(time.Minute)
			w.lines[pump].Replug()
			w.wantSuccess(pump)
		})
	})
}

// A version that changes without an update is told.
func TestVersionChangeIsTold(t *testing.T) {
	inWorld(t, sim.MCUConfig{Fault: sim.Fault{WrongVersion: "9.9.9"}}, 5_000, one(), func(w *world) {
		w.service.offer(pump, w.theOffer())
		w.wantEnd(schemas.StateFailed, schemas.CauseBoot)
		w.await("hello with the version", func() bool { return w.service.hello(pump).HostVersions["oem_host_version"] == "9.9.9" })
		w.stop()
		w.mcus[pump].SetFault(sim.Fault{Deaf: true})
		w.start()
		time.Sleep(time.Minute)
		if v, ok := w.service.hello(pump).HostVersions["oem_host_version"]; !ok || v != "" {
			t.Errorf("after a restart the bridge tells version %q of an MCU that says nothing", v)
		}
	})
}

func TestImageInTheSpoolIsNotFetched(t *testing.T) {
	inWorld(t, sim.MCUConfig{AcceptSame: true}, 10_000, one(), func(w *world) {
		w.service.offer(pump, w.theOffer())
		w.wantSuccess(pump)
		served := w.service.bytes()
		o := w.theOffer()
		o.Execution, o.Force = "ex-2", true
		w.service.offer(pump, o)
		if st := w.awaitEnd("ex-2"); st.State != schemas.StateSucceeded {
			t.Errorf("%s: %s", st.State, st.Detail)
		}
		if got, want := w.service.states("ex-2"), "accepted downloaded installing booting succeeded"; got != want {
			t.Errorf("states %s, want %s", got, want)
		}
		if w.service.bytes() != served {
			t.Errorf("%d bytes were fetched again", w.service.bytes()-served)
		}
	})
}

func TestImageLargerThanTheSpool(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 10_000, one(), func(w *world) {
		w.stop()
		w.cfg.Spool.Limit = 9_000
		w.start()
		w.service.offer(pump, w.theOffer())
		w.wantEnd(schemas.StateFailed, schemas.CauseStorage)
	})
}

func TestMalformedMessagesChangeNothing(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 10_000, one(), func(w *world) {
		bad := [][]byte{[]byte("{"), []byte("null"), []byte(`{"v":2}`), make([]byte, 100_000), []byte(`{"v":1,"execution":"../x","attempt":1}`)}
		say := func() {
			for _, b := range bad {
				for _, k := range []schemas.Kind{schemas.KindOffer, schemas.KindAck, schemas.KindChunk} {
					w.service.send(topicOf(pump, k), b)
					synctest.Wait()
				}
			}
			w.service.send(topicOf("other", schemas.KindOffer), bad[0])
			w.service.send("davit/v1/"+pump+"/fetch", bad[0])
			w.service.send("$SYS/x", bad[0])
		}
		say()
		o := w.theOffer()
		o.Expires = time.Now().Add(-time.Hour)
		w.service.offer(pump, o)
		time.Sleep(time.Second)
		if h := w.service.hello(pump); h.Execution != "" {
			t.Error("an expired offer was taken up")
		}
		w.service.offer(pump, w.theOffer())
		w.awaitState(schemas.StateDownloading)
		say()
		w.wantSuccess(pump)
	})
}

// Sequence numbers grow over restarts, or the service would ignore progress.
func TestNumbersGrowOverRestarts(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 60_000, one(), func(w *world) {
		w.service.offer(pump, w.theOffer())
		w.awaitState(schemas.StateInstalling)
		time.Sleep(2 * time.Second)
		before := w.service.last(theExecution)
		w.kill()
		w.start()
		w.await("news", func() bool {
			st := w.service.last(theExecution)
			return st.Seq > before.Seq && st.State == before.State
		})
		w.wantSuccess(pump)
	})
}

func TestProgressIsThrottled(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 100_000, one(), func(w *world) {
		w.service.offer(pump, w.theOffer())
		w.wantSuccess(pump)
		var last time.Time
		var n int
		w.service.mu.Lock()
		defer w.service.mu.Unlock()
		for i, st := range w.service.statuses {
			at := w.service.times[i]
			if st.State == schemas.StateInstalling && st.BytesDone > 0 {
				if n++; n > 1 && at.Sub(last) < progressEvery {
					t.Errorf("two reports within %v", at.Sub(last))
				}
				last = at
			}
		}
		if n < 10 || n > 30 {
			t.Errorf("%d reports of progress in about 11 s", n)
		}
	})
}

func TestFailuresOfTheMCU(t *testing.T) {
	for _, c := range []struct {
		name  string
		state schemas.State
		cause schemas.Cause
	}{
		{"reject-too-large", schemas.StateRejected, schemas.CauseSize},
		{"reject-already", schemas.StateRejected, schemas.CauseAlready},
		{"checksum", schemas.StateFailed, schemas.CauseChecksum},
		{"no-boot", schemas.StateFailed, schemas.CauseBoot},
		{"silent", schemas.StateTimedOut, schemas.CauseTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			fault, err := sim.FaultByName(c.name)
			if err != nil {
				t.Fatal(err)
			}
			inWorld(t, sim.MCUConfig{Fault: fault.MCU}, 5_000, one(), func(w *world) {
				w.service.offer(pump, w.theOffer())
				w.wantEnd(c.state, c.cause)
				if v := w.mcus[pump].RunningVersion(); v != oldVersion {
					t.Errorf("the MCU runs %q", v)
				}
			})
		})
	}
}

func TestNewRefuses(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 1_000, one(), func(w *world) {
		if _, err := New(w.cfg); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("a second bridge on one folder: %v", err)
		}
		w.stop()
		base := w.cfg
		for name, change := range map[string]func(*Config){
			"no data folder":  func(c *Config) { c.DataDir = "" },
			"no ports":        func(c *Config) { c.Ports = nil },
			"65 ports":        func(c *Config) { c.Ports = manyPorts(65) },
			"device twice":    func(c *Config) { c.Ports = []PortConfig{{Device: "a", Path: "x"}, {Device: "a", Path: "y"}} },
			"path twice":      func(c *Config) { c.Ports = []PortConfig{{Device: "a", Path: "x"}, {Device: "b", Path: "x"}} },
			"unknown dialect": func(c *Config) { c.Ports = []PortConfig{{Device: "a", Path: "x", Dialect: "klingon"}} },
			"device id":       func(c *Config) { c.Ports = []PortConfig{{Device: "a/b", Path: "x"}} },
			"window":          func(c *Config) { c.Window = 17 },
			"window, larger":  func(c *Config) { c.Window = 1 << 30 },
			"defer":           func(c *Config) { c.Defer = time.Millisecond },
			"defer, longer":   func(c *Config) { c.Defer = 31 * 24 * time.Hour },
			"max chunk":       func(c *Config) { c.MaxChunk = 1 },
			"broker URL":      func(c *Config) { c.Transport, c.MQTT.URL = nil, "http://x" },
			"broker host":     func(c *Config) { c.Transport, c.MQTT.URL = nil, "mqtt://" },
		} {
			cfg := base
			change(&cfg)
			if b, err := New(cfg); err == nil {
				t.Errorf("%s: accepted", name)
				_ = b.Close()
			}
		}
		w.start()
	})
}

func manyPorts(n int) []PortConfig {
	var out []PortConfig
	for i := range n {
		out = append(out, PortConfig{Device: fmt.Sprint("d", i), Path: fmt.Sprint("p", i)})
	}
	return out
}

func TestFailureCauses(t *testing.T) {
	for _, c := range []struct {
		err  error
		want schemas.Cause
	}{
		{fmt.Errorf("x: %w", errNetwork), schemas.CauseNetwork},
		{fmt.Errorf("x: %w", errChecksum), schemas.CauseChecksum},
		{&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, schemas.CauseStorage},
		{errors.New("input/output error"), schemas.CauseStorage},
	} {
		if r := failure(c.err); r.Cause != c.want || r.State != schemas.StateFailed || r.Detail == "" {
			t.Errorf("%v: %+v, want cause %s", c.err, r, c.want)
		}
	}
}
