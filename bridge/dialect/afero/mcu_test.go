package afero

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/dialecttest"
	"davit/internal/sim"
	"davit/schemas"
	"davit/schemas/afpro"
)

// Peers behave differently; with all of these an update works.
func TestPeers(t *testing.T) {
	for _, c := range []struct {
		name string
		mcu  sim.AferoConfig
		line sim.LineConfig
		boot time.Duration // limit; 0 for the rig's
	}{
		{name: "protocol version 2"},
		{name: "protocol version 1", mcu: sim.AferoConfig{Protocol: 1}},
		{name: "protocol version 1 without GET", mcu: sim.AferoConfig{Protocol: 1, NoGet: true}},
		{name: "version on request", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{Report: sim.ReportOnRequest}}},
		{name: "GET of the version is not known", mcu: sim.AferoConfig{NoGet: true}},
		{name: "SET in the place of UPDATE", mcu: sim.AferoConfig{SetVersion: true}},
		{name: "the whole struct in each OTA info", mcu: sim.AferoConfig{FullStruct: true}},
		{name: "attribute of 510", mcu: sim.AferoConfig{AttributeSize: 510}},
		{name: "attribute of 2046", mcu: sim.AferoConfig{AttributeSize: 2046}},
		{name: "forgets its offset", mcu: sim.AferoConfig{LosesOffset: true}},
		{name: "leaves the module alone", mcu: sim.AferoConfig{KeepsModule: true}},
		{name: "traffic of the product", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{Traffic: 200 * time.Millisecond}}},
		{name: "reacts late", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{Fault: sim.Fault{AckDelay: 300 * time.Millisecond}}}},
		// As late as it can: the wire repeats a ready byte after a second.
		{name: "reacts very late", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{Fault: sim.Fault{AckDelay: 950 * time.Millisecond}}}, boot: DefaultBootTimeout},
		{name: "syncs twice", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{Fault: sim.Fault{DoubleAcks: true}}}},
		{name: "misses ready bytes", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{Seed: 3, Fault: sim.Fault{LoseAcks: 0.1}}}},
		{name: "boots for 60 s", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{BootTime: time.Minute}}},
		{name: "slow flash", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{WriteTime: 30 * time.Millisecond, EraseTime: time.Second}}},
		{name: "115200 baud", line: sim.LineConfig{Baud: 115_200}},
		{name: "16 ms adapter", line: sim.LineConfig{Latency: 16 * time.Millisecond, Jitter: 8 * time.Millisecond}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onRig(t, c.line, c.mcu, 5000, func(r *dialecttest.Rig) {
				if c.boot > 0 {
					r.Update.BootTimeout = c.boot
				}
				r.Ends(schemas.StateSucceeded, "")
				if want := []string{"accepted", "installing", "booting"}; !slices.Equal(r.States(), want) {
					t.Errorf("states %v, want %v", r.States(), want)
				}
			})
		})
	}
}

// Failures of the MCU and bad input, with their causes. Each is bounded, and the
// port stays usable: once the fault is over, an update on the same session works.
func TestFailures(t *testing.T) {
	afero := func(f sim.AferoFault) sim.Fault { return sim.Fault{Afero: f} }
	for _, c := range []struct {
		name  string
		mcu   sim.AferoConfig
		fault sim.Fault
		state schemas.State
		cause schemas.Cause
	}{
		{name: "refuses", fault: sim.Fault{RejectTooLarge: true}, state: schemas.StateRejected, cause: schemas.CauseRejected},
		{name: "does not fit the slot", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{SlotSize: 4096}}, state: schemas.StateRejected, cause: schemas.CauseRejected},
		{name: "silent", fault: sim.Fault{Silent: true}, state: schemas.StateTimedOut, cause: schemas.CauseTimeout},
		{name: "deaf", fault: sim.Fault{Deaf: true}, state: schemas.StateFailed, cause: schemas.CauseSerial},
		{name: "never acknowledges", fault: afero(sim.AferoFault{NeverAcks: true}), state: schemas.StateFailed, cause: schemas.CauseSerial},
		{name: "wrong checksums", fault: afero(sim.AferoFault{BadSyncs: true}), state: schemas.StateFailed, cause: schemas.CauseSerial},
		{name: "byte counts over the attribute's size", fault: afero(sim.AferoFault{HugeCounts: true}), state: schemas.StateFailed, cause: schemas.CauseProtocol},
		{name: "offsets beyond the image", fault: afero(sim.AferoFault{OffsetBeyond: true}), state: schemas.StateFailed, cause: schemas.CauseProtocol},
		{name: "goes backwards for ever", fault: afero(sim.AferoFault{Backwards: true}), state: schemas.StateFailed, cause: schemas.CauseProtocol},
		{name: "wrong SHA-256", fault: sim.Fault{BadChecksum: true}, state: schemas.StateFailed, cause: schemas.CauseChecksum},
		{name: "flash error", fault: sim.Fault{FlashErrorAt: 7}, state: schemas.StateFailed, cause: schemas.CauseFlash},
		{name: "flash error at the last page", fault: sim.Fault{FlashErrorAt: 20}, state: schemas.StateFailed, cause: schemas.CauseFlash},
		{name: "falls back", fault: sim.Fault{NoBoot: true}, state: schemas.StateFailed, cause: schemas.CauseBoot},
		{name: "falls back, version on request", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{Report: sim.ReportOnRequest}},
			fault: sim.Fault{NoBoot: true}, state: schemas.StateFailed, cause: schemas.CauseBoot},
		{name: "falls back, GET not known", mcu: sim.AferoConfig{NoGet: true}, fault: sim.Fault{NoBoot: true}, state: schemas.StateFailed, cause: schemas.CauseBoot},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.mcu.Fault = c.fault
			onRig(t, sim.LineConfig{}, c.mcu, 5000, func(r *dialecttest.Rig) {
				began := time.Now()
				if e := r.Ends(c.state, c.cause); e.Busy || e.Unexplained != (c.state == schemas.StateRejected) {
					t.Errorf("busy %t, unexplained %t", e.Busy, e.Unexplained)
				}
				if took := time.Since(began); took > 20*time.Minute {
					t.Errorf("it took %v to find out", took)
				}
				if c.mcu.SlotSize != 0 {
					return // it would need another MCU
				}
				r.MCU.SetFault(sim.Fault{})
				r.Ends(schemas.StateSucceeded, "")
			})
		})
	}
}

// An MCU that reports no version, or a wrong one, has not succeeded.
func TestOnlyTheVersionIsProof(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault sim.Fault
		state schemas.State
		cause schemas.Cause
	}{
		{"no version", sim.Fault{NoVersion: true}, schemas.StateTimedOut, schemas.CauseTimeout},
		{"another version", sim.Fault{Afero: sim.AferoFault{WrongVersionID: 9}}, schemas.StateFailed, schemas.CauseBoot},
		{"never returns", sim.Fault{NeverReturns: true}, schemas.StateTimedOut, schemas.CauseTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			onRig(t, sim.LineConfig{}, sim.AferoConfig{MCUConfig: sim.MCUConfig{Fault: c.fault}}, 5000, func(r *dialecttest.Rig) {
				r.Ends(c.state, c.cause)
				r.Forget() // the image runs, and nobody says so: the rig's check would call that wrong
			})
		})
	}
}

// An update that cannot be put on the wire ends before anything is said.
func TestUpdatesThatTheWireCannotCarry(t *testing.T) {
	for name, spoil := range map[string]func(u *dialect.Update){
		"no version id":   func(u *dialect.Update) { u.VersionID = 0 },
		"no numeric type": func(u *dialect.Update) { u.NumericType = 0 },
		"module's type":   func(u *dialect.Update) { u.NumericType = 3 },
		"no bytes":        func(u *dialect.Update) { u.Size = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			onRig(t, sim.LineConfig{}, sim.AferoConfig{}, 3000, func(r *dialecttest.Rig) {
				u := r.Update
				spoil(&r.Update)
				r.Ends(schemas.StateFailed, schemas.CauseProtocol)
				r.Update = u
				r.Ends(schemas.StateSucceeded, "")
			})
		})
	}
}

// The MCU resets at any step of its transport, and the update is finished
// without a person, whether the MCU keeps what it has received or not.
func TestMCUResetsAtEveryStep(t *testing.T) {
	for _, loses := range []bool{false, true} {
		for n := 1; n <= 120; n++ {
			t.Run(fmt.Sprintf("loses its offset %v/%d", loses, n), func(t *testing.T) {
				mcu := sim.AferoConfig{LosesOffset: loses, MCUConfig: sim.MCUConfig{
					ConfirmAfter: sim.None, // a reset before it would be a fallback, which is no fault of the line
					Fault:        sim.Fault{Afero: sim.AferoFault{ResetAtStep: n}},
				}}
				onRig(t, sim.LineConfig{}, mcu, 2000, func(r *dialecttest.Rig) {
					r.Ends(schemas.StateSucceeded, "")
				})
			})
		}
	}
}

// The bridge is killed at any moment and another one takes the update up. With
// DAVIT_CAMPAIGN, the moments are as dense as the steps of the transport are: a
// sync message takes 7 ms.
func TestBridgeRestartsAtAnyMoment(t *testing.T) {
	every := 35 * time.Millisecond
	if os.Getenv("DAVIT_CAMPAIGN") != "" {
		every = 7 * time.Millisecond
	}
	for at := 100 * time.Millisecond; at < 8*time.Second; at += every {
		t.Run(at.String(), func(t *testing.T) {
			onRig(t, sim.LineConfig{}, sim.AferoConfig{}, 2500, func(r *dialecttest.Rig) {
				r.Session.Start(r.Update)
				select {
				case e := <-r.Done:
					r.Done <- e
				case <-time.After(at):
					r.Close()
					r.Open()
					if slices.Contains(r.States(), string(schemas.StateBooting)) {
						r.Update.ResumeAt = schemas.StateBooting
					}
					r.Session.Start(r.Update)
				}
				r.WantEnd(schemas.StateSucceeded, "")
			})
		})
	}
}

// unplugged carries an update to a while after the byte at which the cable is
// pulled, and has a new session take it up with what is known of it.
func unplugged(r *dialecttest.Rig, at uint64, after time.Duration) {
	r.Session.Start(r.Update)
	for r.Loaded() < at {
		time.Sleep(5 * time.Millisecond) // virtual
	}
	time.Sleep(after)
	r.Line.Unplug()
	r.Close()
	time.Sleep(30 * time.Second)
	r.Line.Replug()
	r.Update.Loaded = r.Loaded()
	r.Open()
	r.Ends(schemas.StateSucceeded, "")
}

// After an unplug at 90 % at most one chunk is sent again if the MCU has kept its
// offset, and all of it if not.
func TestResumeAfterUnplug(t *testing.T) {
	const size = 20_000
	for _, c := range []struct {
		name           string
		mcu            sim.AferoConfig
		chunk          int
		atLeast, again int // bytes that are sent twice
	}{
		{name: "keeps its offset", chunk: 249, again: 249},
		{name: "keeps its offset, attribute of 2046", mcu: sim.AferoConfig{AttributeSize: 2046}, chunk: 2042, again: 2042},
		{name: "loses its offset", mcu: sim.AferoConfig{LosesOffset: true}, chunk: 249, again: size, atLeast: size * 9 / 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			const steps = 16 // through the transaction of a chunk, which takes 1.36 ms a byte
			worst := 0
			for i := range steps {
				again := resentAfterUnplug(t, c.mcu, size, time.Duration(i*c.chunk)*1360*time.Microsecond/steps)
				if again > c.again || again < c.atLeast {
					t.Errorf("step %d: %d bytes were sent twice, want %d to %d", i, again, c.atLeast, c.again)
				}
				worst = max(worst, again)
			}
			t.Logf("at most %d bytes were sent twice, a chunk has %d", worst, c.chunk)
		})
	}
}

// resentAfterUnplug is how many bytes of the image are sent twice if the cable is
// pulled a while after 90 % of it.
func resentAfterUnplug(t *testing.T, mcu sim.AferoConfig, size int, after time.Duration) int {
	t.Helper()
	again := -size
	count := func(m afpro.Message) {
		if a, value, err := afpro.ParseTunnel(m.Value); err == nil && a == afpro.OTATransfer {
			again += len(value) - 4
		}
	}
	run(t, tapped{sent: count}, sim.LineConfig{}, mcu, size, func(r *dialecttest.Rig) {
		unplugged(r, uint64(size)*9/10, after)
	})
	return again
}
