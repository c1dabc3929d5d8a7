package bridge

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/internal/sim"
	"davit/schemas"
	"davit/schemas/tlv"
)

// counting is an MCU that counts the offers that it hears.
func counting(cfg sim.MCUConfig, offers *atomic.Int64) sim.MCUConfig {
	cfg.OnEvent = func(e sim.Event) {
		if e.Kind == sim.EventOffer {
			offers.Add(1)
		}
	}
	return cfg
}

// fetchIt has the image fetched only, and waits until the service knows that it is there.
func (w *drainWorld) fetchIt() {
	w.Helper()
	o := w.offer
	o.Action = schemas.ActionDownload
	w.service.offer(pump, o)
	w.awaitState(schemas.StateDownloaded)
}

// install offers the image that was fetched, to be installed now.
func (w *drainWorld) install() {
	w.Helper()
	o := w.offer
	o.Attempt = 2
	w.service.offer(pump, o)
	w.await("the end of the second attempt", func() bool { st := w.service.last(theExecution); return st.Attempt == 2 && st.State.Final() })
	w.succeeds()
}

// An image that is only to be fetched is fetched, verified and kept, and the MCU hears
// nothing of it. However the service takes the execution back, and whatever becomes of the
// bridge meanwhile, nothing is fetched again when it is to be installed.
func TestDownloadThenInstall(t *testing.T) {
	const acked, withdrawn, superseded = "acknowledged", "withdrawn", "superseded"
	for _, taken := range []string{acked, withdrawn, superseded} {
		for _, restart := range []string{"no restart", "restart", "killed"} {
			t.Run(taken+", "+restart, func(t *testing.T) {
				bothDialects(t, func(t *testing.T, kind string) {
					var offers atomic.Int64
					inDrainWorld(t, kind, 6_000, counting(sim.MCUConfig{}, &offers), func(w *drainWorld) {
						again := func() {
							switch restart {
							case "restart":
								w.stop()
								w.start()
							case "killed":
								w.kill()
								w.start()
							}
						}
						w.service.setAcks(taken == acked)
						w.fetchIt()
						if got, want := w.service.states(theExecution), "accepted downloading downloaded"; got != want {
							t.Errorf("states %s, want %s", got, want)
						}
						again()
						if taken != acked {
							time.Sleep(2 * time.Minute) // it is said again and again
							if n := w.service.count(theExecution, schemas.StateDownloaded); n < 3 {
								t.Errorf("said %d times that it is there", n)
							}
						}
						if taken == superseded {
							w.service.mu.Lock()
							w.service.attempts[theExecution]++
							w.service.mu.Unlock()
						}
						w.service.setAcks(true)
						if taken != withdrawn {
							w.await("a hello without an execution", func() bool { return w.service.hello(pump).Execution == "" })
						}
						again()
						if taken == superseded {
							w.service.withdrawIf(pump, theExecution)
						} else {
							w.service.retract(pump, theExecution)
						}
						w.await("a hello without an execution", func() bool { return w.service.hello(pump).Execution == "" })
						again()
						time.Sleep(time.Hour)
						if n := offers.Load(); n != 0 {
							t.Errorf("the MCU heard %d offers of an image that was only to be fetched", n)
						}
						w.install()
						w.wantAskedOnce()
						if got, want := w.service.states(theExecution), "accepted downloaded installing booting succeeded"; !strings.HasSuffix(got, want) {
							t.Errorf("states %s, want %s at the end", got, want)
						}
						if kept := w.bridge.line(pump).dev.rec.Kept; len(kept) != 0 {
							t.Errorf("it is kept after it was installed: %q", kept)
						}
					})
				})
			})
		}
	}
}

// The bridge is killed at any moment while it fetches: the next one goes on, and still
// the MCU hears nothing until the image is to be installed.
func TestDownloadKilledAtAnyMoment(t *testing.T) {
	for at := 5 * time.Millisecond; at < 700*time.Millisecond; at += step(30 * time.Millisecond) {
		t.Run(at.String(), func(t *testing.T) {
			bothDialects(t, func(t *testing.T, kind string) {
				var offers atomic.Int64
				inDrainWorld(t, kind, 20_000, counting(sim.MCUConfig{}, &offers), func(w *drainWorld) {
					o := w.offer
					o.Action = schemas.ActionDownload
					w.service.offer(pump, o)
					time.Sleep(at)
					whole := w.service.last(theExecution).State == schemas.StateDownloaded
					w.kill()
					w.start()
					w.awaitState(schemas.StateDownloaded)
					served := w.service.bytes()
					if whole && served != len(w.image) {
						t.Errorf("%d bytes were served for an image of %d that was there", served, len(w.image))
					}
					w.service.retract(pump, theExecution)
					w.kill()
					w.start()
					time.Sleep(time.Minute)
					if n := offers.Load(); n != 0 {
						t.Errorf("the MCU heard %d offers", n)
					}
					w.install()
					if n := w.service.bytes() - served; n != 0 {
						t.Errorf("%d bytes were fetched again", n)
					}
				})
			})
		})
	}
}

// Neither a port that is gone nor a drain has anything to do with an image that is
// only to be fetched.
func TestDownloadNeedsNoPort(t *testing.T) {
	inDrainWorld(t, ayla.Name, 100_000, sim.MCUConfig{}, func(w *drainWorld) {
		w.lines[pump].Unplug()
		time.Sleep(time.Hour)
		longer := time.Now().Add(DefaultPortPatience + time.Minute) // than a port is waited for
		w.service.chunk = func(n int, b []byte) []byte {
			if n >= 50 && time.Now().Before(longer) {
				return nil
			}
			return b
		}
		o := w.offer
		o.Action = schemas.ActionDownload
		w.service.offer(pump, o)
		w.awaitState(schemas.StateDownloading)
		time.Sleep(100 * time.Millisecond)
		if took := w.end(); took > time.Second {
			t.Errorf("the end took %v", took)
		}
		w.start()
		w.awaitState(schemas.StateDownloaded)
		if time.Now().Before(longer) {
			t.Error("the download was not held up")
		}
		w.service.retract(pump, theExecution)
		w.lines[pump].Replug()
		w.install()
	})
}

// The service forgets what it had recorded, and offers the same attempt once more:
// it is told once more.
func TestDownloadOfferedOnceMore(t *testing.T) {
	inDrainWorld(t, ayla.Name, 6_000, sim.MCUConfig{}, func(w *drainWorld) {
		w.fetchIt()
		w.await("a hello without an execution", func() bool { return w.service.hello(pump).Execution == "" })
		said := w.service.count(theExecution, schemas.StateDownloaded)
		w.kill()
		w.start() // finds the offer, which is retained
		time.Sleep(10 * time.Minute)
		if n := w.service.count(theExecution, schemas.StateDownloaded) - said; n != 1 {
			t.Errorf("said %d times more", n)
		}
		if last := w.bridge.Status(w.Context()).Ports[0].Last; last == nil || last.State != schemas.StateDownloaded || !last.Acknowledged {
			t.Errorf("the status has %+v", last)
		}
		w.wantAskedOnce()
	})
}

// Images that are kept make room after others, over a restart as well, and if they
// had to, they are fetched again.
func TestKeptImageMakesRoomLast(t *testing.T) {
	inDrainWorld(t, ayla.Name, 6_000, sim.MCUConfig{AcceptSame: true}, func(w *drainWorld) {
		w.stop()
		w.cfg.Spool.Limit = 20_000
		w.start()
		w.fetchIt()
		w.service.retract(pump, theExecution)
		w.kill()
		w.start()
		pass := func(n, size int) {
			data := sim.BuildDemoImage("3.0.0", size, uint64(n))
			w.service.images["img-other"] = data
			o := w.offerOf("img-other", "3.0.0", data)
			o.Execution, o.Force = fmt.Sprint("ex-other-", n), true
			w.service.offer(pump, o)
			if st := w.awaitEnd(o.Execution); st.State != schemas.StateSucceeded {
				t.Errorf("%s: %s, %s", o.Execution, st.State, st.Detail)
			}
		}
		for n := range 5 {
			pass(n, 6_500)
		}
		if !w.bridge.spool.Whole(w.offer.SHA256) {
			t.Error("the image that is kept made room before others did")
		}
		pass(5, 16_000)
		if w.bridge.spool.Whole(w.offer.SHA256) {
			t.Error("the image that is kept did not make room")
		}
		before := w.service.bytes()
		w.install()
		if n := w.service.bytes() - before; n != len(w.image) {
			t.Errorf("%d bytes were fetched, want the whole image of %d", n, len(w.image))
		}
	})
}

// A device keeps a few images, and no more.
func TestKeptImagesAreFew(t *testing.T) {
	inDrainWorld(t, ayla.Name, 6_000, sim.MCUConfig{}, func(w *drainWorld) {
		var sums []string
		for n := range maxKept + 2 {
			data := sim.BuildDemoImage("3.0.0", 6_000, uint64(n))
			w.service.images["img-other"] = data
			o := w.offerOf("img-other", "3.0.0", data)
			o.Execution, o.Action = fmt.Sprint("ex-other-", n), schemas.ActionDownload
			w.service.offer(pump, o)
			w.await("the image", func() bool { return w.service.last(o.Execution).State == schemas.StateDownloaded })
			w.service.retract(pump, o.Execution)
			sums = append(sums, o.SHA256)
		}
		w.stop()
		rec, err := records{w.dir + "/devices"}.load(pump)
		if err != nil || fmt.Sprint(rec.Kept) != fmt.Sprint(sums[2:]) {
			t.Errorf("kept %q, want %q, %v", rec.Kept, sums[2:], err)
		}
	})
}

// What an MCU that is busy, or says no without a reason, means for each action.
func TestPutOff(t *testing.T) {
	const off = 90 * time.Second
	busy := sim.Fault{Busy: 1 << 20}
	busyService := sim.Fault{Busy: 1 << 20, BusyCode: tlv.CodeServiceBusy}
	for _, c := range []struct {
		kind   string
		action schemas.Action
		fault  sim.Fault
		cause  schemas.Cause
		code   tlv.Code
	}{
		{ayla.Name, schemas.ActionSoft, busy, schemas.CauseDeferred, tlv.CodeBusyRetry},
		{ayla.Name, schemas.ActionConfirm, busy, schemas.CauseDeferred, tlv.CodeBusyRetry},
		{ayla.Name, schemas.ActionInstall, busy, schemas.CauseRejected, tlv.CodeBusyRetry},
		{ayla.Name, schemas.ActionSoft, busyService, schemas.CauseDeferred, tlv.CodeServiceBusy},
		{ayla.Name, schemas.ActionConfirm, busyService, schemas.CauseDeferred, tlv.CodeServiceBusy},
		{ayla.Name, schemas.ActionInstall, busyService, schemas.CauseRejected, tlv.CodeServiceBusy},
		{ayla.Name, schemas.ActionSoft, sim.Fault{RejectTooLarge: true}, schemas.CauseSize, tlv.CodeLength},
		{ayla.Name, schemas.ActionConfirm, sim.Fault{RejectTooLarge: true}, schemas.CauseSize, tlv.CodeLength},
		{afero.Name, schemas.ActionSoft, busy, schemas.CauseDeferred, 0},
		{afero.Name, schemas.ActionConfirm, busy, schemas.CauseRejected, 0}, // no, and no more than that
		{afero.Name, schemas.ActionInstall, busy, schemas.CauseRejected, 0},
	} {
		t.Run(fmt.Sprintf("%s %q %+v", c.kind, c.action, c.fault.Busy > 0), func(t *testing.T) {
			inDrainWorld(t, c.kind, 6_000, sim.MCUConfig{Fault: c.fault}, func(w *drainWorld) {
				w.stop()
				w.cfg.Defer = off
				w.start()
				w.offer.Action, w.offer.Host.AnswerTimeoutMS = c.action, 20_000
				w.service.offer(pump, w.offer)
				st := w.wantEnd(schemas.StateRejected, c.cause)
				want := 0
				if c.cause == schemas.CauseDeferred {
					want = int(off / time.Second)
				}
				if st.DeferS != want || st.Code != int(c.code) {
					t.Errorf("put off for %d s, code %d; want %d s, %d", st.DeferS, st.Code, want, c.code)
				}
				if said := strings.Contains(st.Detail, "put off for 1m30s"); said != (want > 0) || !strings.HasPrefix(st.Detail, "The host MCU") {
					t.Errorf("detail %q", st.Detail)
				}
				w.await("the withdrawal", func() bool { return w.service.hello(pump).Execution == "" })
				w.mcu.SetFault(sim.Fault{})
				time.Sleep(off)
				w.install()
				w.wantAskedOnce() // nothing was fetched for what the MCU did not take
			})
		})
	}
}

// An MCU that is busy for a while only is asked as often as ever, and puts nothing off.
func TestBusyForAMoment(t *testing.T) {
	bothDialects(t, func(t *testing.T, kind string) {
		inDrainWorld(t, kind, 6_000, sim.MCUConfig{Fault: sim.Fault{Busy: 1}}, func(w *drainWorld) {
			w.offer.Action = schemas.ActionSoft
			w.service.offer(pump, w.offer)
			w.succeeds()
		})
	})
}

// That an update was put off is said until it is acknowledged, over restarts as well.
func TestPutOffSurvivesRestart(t *testing.T) {
	inDrainWorld(t, ayla.Name, 6_000, sim.MCUConfig{Fault: sim.Fault{Busy: 1 << 20, BusyCode: tlv.CodeServiceBusy}}, func(w *drainWorld) {
		w.service.setAcks(false)
		w.offer.Action = schemas.ActionSoft
		w.service.offer(pump, w.offer)
		first := w.wantEnd(schemas.StateRejected, schemas.CauseDeferred)
		if first.DeferS != int(DefaultDefer/time.Second) {
			t.Errorf("put off for %d s", first.DeferS)
		}
		said := w.service.count(theExecution, schemas.StateRejected)
		w.kill()
		w.start()
		w.await("the word again", func() bool { return w.service.count(theExecution, schemas.StateRejected) > said })
		w.service.setAcks(true)
		w.await("the ack", func() bool {
			rec, err := w.bridge.records.load(pump)
			return err == nil && len(rec.Ended) == 1 && rec.Ended[0].Acked && *rec.Ended[0].Status == first
		})
	})
}

// An offer with an action that the bridge does not know is not taken up.
func TestUnknownActionIsRefused(t *testing.T) {
	inWorld(t, sim.MCUConfig{}, 3_000, one(), func(w *world) {
		b, err := schemas.Encode(new(w.theOffer()))
		if err != nil {
			t.Fatal(err)
		}
		var o map[string]any
		if err := json.Unmarshal(b, &o); err != nil {
			t.Fatal(err)
		}
		o["action"] = "soon"
		if b, err = json.Marshal(o); err != nil {
			t.Fatal(err)
		}
		w.service.send(topicOf(pump, schemas.KindOffer), b)
		time.Sleep(time.Minute)
		if h := w.service.hello(pump); h.Execution != "" || w.service.last(theExecution).State != "" || w.mcus[pump].Stats().Offers != 0 {
			t.Errorf("it is taken up: %+v", h)
		}
		w.service.offer(pump, w.theOffer())
		w.wantSuccess(pump)
	})
}
