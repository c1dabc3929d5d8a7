package ayla

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/dialecttest"
	"davit/internal/sim" // the simulated MCU speaks the wire on its own, as a product would
	"davit/schemas"
	"davit/schemas/tlv"
)

// onRig runs f with a session that has not been asked for an update yet.
func onRig(t *testing.T, line sim.LineConfig, mcu sim.MCUConfig, size int, f func(r *dialecttest.Rig)) {
	t.Helper()
	cfg := dialect.Config{Baud: line.Baud}
	if mcu.VersionProperty != "" {
		cfg.VersionProperties = []string{mcu.VersionProperty}
	}
	dialecttest.Run(t, dialecttest.Setup{
		Dialect: Dialect{}, Config: cfg, Line: line, MCU: func() sim.Host { return sim.NewMCU(mcu) },
		Size: size, Seed: mcu.Seed + 1, Reports: newVersion,
		Update: dialect.Update{VersionProperty: mcu.VersionProperty, BootTimeout: 90 * time.Second},
	}, f)
}

// Peers behave differently; with all of these an update works.
func TestPeers(t *testing.T) {
	long := map[string]string{"log": strings.Repeat("x", 700)}
	const confirm = tlv.FeatureOTA | tlv.FeatureConfirm
	pings := func(s sim.MCUStats) bool { return s.PingsEchoed > 10 }
	confirms := func(s sim.MCUStats) bool { return s.Confirms > 5 }
	unconfirmed := func(s sim.MCUStats) bool { return s.Confirms == 0 }
	for _, c := range []struct {
		name string
		mcu  sim.MCUConfig
		line sim.LineConfig
		saw  func(sim.MCUStats) bool // what the MCU has to have seen beside the update
	}{
		{name: "STAT(0) after the last chunk"},
		{name: "no STAT after the last chunk", mcu: sim.MCUConfig{NoVerdict: true}},
		{name: "STAT(0) after the boot", mcu: sim.MCUConfig{BootStat: true}},
		{name: "INTERNAL while erasing, accepted later", mcu: sim.MCUConfig{EraseByOffer: true}},
		{name: "version at start", mcu: sim.MCUConfig{Report: sim.ReportAtStart}},
		{name: "version on CONNECT", mcu: sim.MCUConfig{Report: sim.ReportOnConnect}},
		{name: "version on request", mcu: sim.MCUConfig{Report: sim.ReportOnRequest}},
		{name: "other version property", mcu: sim.MCUConfig{VersionProperty: "version"}},
		{name: "properties during load, multi-packet strings", mcu: sim.MCUConfig{Traffic: 40 * time.Millisecond, Properties: long}},
		{name: "datapoint confirm", mcu: sim.MCUConfig{Traffic: 100 * time.Millisecond, Features: confirm}, saw: confirms},
		{name: "LEN and OFF of 2 bytes", mcu: sim.MCUConfig{ShortOffsets: true, Traffic: 40 * time.Millisecond, Features: confirm}, saw: confirms},
		{name: "unknown and long TLVs in front", mcu: sim.MCUConfig{Extras: true, BootStat: true, Traffic: 40 * time.Millisecond, Features: confirm}, saw: confirms},
		{name: "unknown TLVs, INTERNAL while erasing", mcu: sim.MCUConfig{Extras: true, EraseByOffer: true, Report: sim.ReportOnRequest}},
		{name: "features and a code", mcu: sim.MCUConfig{FeaturesCode: tlv.CodeUnknownVar, Traffic: 100 * time.Millisecond, Features: confirm}, saw: confirms},
		{name: "a code in the place of features", mcu: sim.MCUConfig{FeaturesCode: tlv.CodeInvalidTLV, NoFeatures: true, Traffic: 100 * time.Millisecond}, saw: unconfirmed},
		{name: "no features and no code", mcu: sim.MCUConfig{NoFeatures: true, Traffic: 100 * time.Millisecond}, saw: unconfirmed},
		{name: "pings during load", mcu: sim.MCUConfig{Ping: 20 * time.Millisecond}, saw: pings},
		{name: "two flags around each frame", mcu: sim.MCUConfig{DoubleFlags: true}},
		{name: "acks twice", mcu: sim.MCUConfig{Fault: sim.Fault{DoubleAcks: true}}},
		{name: "acks 4 s late", mcu: sim.MCUConfig{Fault: sim.Fault{AckDelay: 4 * time.Second}}},
		{name: "loses acks", mcu: sim.MCUConfig{Fault: sim.Fault{LoseAcks: 0.2}, Seed: 3}},
		{name: "boots for 60 s", mcu: sim.MCUConfig{BootTime: time.Minute}},
		{name: "slow flash", mcu: sim.MCUConfig{WriteTime: 30 * time.Millisecond, EraseTime: time.Second}},
		{name: "9600 baud", line: sim.LineConfig{Baud: 9600}},
		{name: "16 ms adapter", line: sim.LineConfig{Latency: 16 * time.Millisecond, Jitter: 8 * time.Millisecond}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onRig(t, c.line, c.mcu, 5000, func(r *dialecttest.Rig) {
				r.Ends(schemas.StateSucceeded, "")
				want := []string{"accepted", "installing", "booting"}
				if got := r.States(); !slices.Equal(got, want) {
					t.Errorf("states %v, want %v", got, want)
				}
				if s := seen(r); s.NAKs != 0 || c.saw != nil && !c.saw(s) {
					t.Errorf("the MCU saw %+v", s)
				}
			})
		})
	}
}

// One that has every habit at once.
func TestPeerOfManyHabits(t *testing.T) {
	for name, code := range map[string]tlv.Code{"loses long frames": tlv.CodeOK, "refuses long frames": tlv.CodeOverflow} {
		t.Run(name, func(t *testing.T) {
			onRig(t, sim.LineConfig{}, sim.MCUConfig{
				EraseByOffer: true, BootStat: true, DoubleFlags: true, ShortOffsets: true, Extras: true, Ping: 50 * time.Millisecond, Traffic: 70 * time.Millisecond,
				Features: tlv.FeatureOTA | tlv.FeatureConfirm, VersionProperty: "version", Report: sim.ReportOnConnect, RxLimit: 200, RxCode: code,
				Fault: sim.Fault{DoubleAcks: true, AckDelay: 30 * time.Millisecond},
			}, 8000, func(r *dialecttest.Rig) {
				r.Ends(schemas.StateSucceeded, "")
			})
		})
	}
}

// Failures of the MCU and their causes.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name  string
		mcu   sim.MCUConfig
		state schemas.State
		cause schemas.Cause
		code  tlv.Code
	}{
		{"too large", sim.MCUConfig{Fault: sim.Fault{RejectTooLarge: true}}, schemas.StateRejected, schemas.CauseSize, tlv.CodeLength},
		{"does not fit the slot", sim.MCUConfig{SlotSize: 4096}, schemas.StateRejected, schemas.CauseSize, tlv.CodeLength},
		{"already, and reports another version", sim.MCUConfig{Fault: sim.Fault{RejectAlready: true}}, schemas.StateRejected, schemas.CauseAlready, tlv.CodeAlready},
		{"already, and says nothing", sim.MCUConfig{Fault: sim.Fault{RejectAlready: true, NoVersion: true}}, schemas.StateRejected, schemas.CauseAlready, tlv.CodeAlready},
		{"older", sim.MCUConfig{Version: "3.0.0", RejectOlder: true}, schemas.StateRejected, schemas.CauseRejected, tlv.CodeInvalidReq},
		{"silent", sim.MCUConfig{Fault: sim.Fault{Silent: true}}, schemas.StateTimedOut, schemas.CauseTimeout, 0},
		{"deaf", sim.MCUConfig{Fault: sim.Fault{Deaf: true}}, schemas.StateTimedOut, schemas.CauseTimeout, 0},
		{"checksum", sim.MCUConfig{Fault: sim.Fault{BadChecksum: true}}, schemas.StateFailed, schemas.CauseChecksum, tlv.CodeChecksum},
		{"checksum told at the boot only", sim.MCUConfig{NoVerdict: true, Fault: sim.Fault{BadChecksum: true}}, schemas.StateFailed, schemas.CauseChecksum, tlv.CodeChecksum},
		{"flash", sim.MCUConfig{Fault: sim.Fault{FlashErrorAt: 7}}, schemas.StateFailed, schemas.CauseFlash, tlv.CodeInternal},
		{"falls back", sim.MCUConfig{Fault: sim.Fault{NoBoot: true}}, schemas.StateFailed, schemas.CauseBoot, tlv.CodeBoot},
		{"falls back, version on request", sim.MCUConfig{Report: sim.ReportOnRequest, Fault: sim.Fault{NoBoot: true}}, schemas.StateFailed, schemas.CauseBoot, tlv.CodeBoot},
		{"never returns", sim.MCUConfig{Fault: sim.Fault{NeverReturns: true}}, schemas.StateTimedOut, schemas.CauseTimeout, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			onRig(t, sim.LineConfig{}, c.mcu, 5000, func(r *dialecttest.Rig) {
				if e := r.Ends(c.state, c.cause); e.Code != int(c.code) {
					t.Errorf("code %#x, want %#x", e.Code, byte(c.code))
				}
			})
		})
	}
}

// An MCU that reports no version, or a wrong one, has not succeeded.
func TestOnlyTheVersionIsProof(t *testing.T) {
	synctestRig := func(name string, mcu sim.MCUConfig, state schemas.State, cause schemas.Cause) {
		t.Run(name, func(t *testing.T) {
			onRig(t, sim.LineConfig{}, mcu, 5000, func(r *dialecttest.Rig) {
				r.Ends(state, cause)
				r.Forget() // the image runs, and nobody says so: check would call that wrong
			})
		})
	}
	synctestRig("no version", sim.MCUConfig{Fault: sim.Fault{NoVersion: true}}, schemas.StateTimedOut, schemas.CauseTimeout)
	synctestRig("another version", sim.MCUConfig{Fault: sim.Fault{WrongVersion: "1.9.9"}}, schemas.StateFailed, schemas.CauseBoot)
}

// The MCU resets at any frame, and the update is finished without a person.
func TestResetAtEveryFrame(t *testing.T) {
	for _, mode := range []sim.ReportMode{sim.ReportAtStart, sim.ReportOnConnect, sim.ReportOnRequest} {
		for n := 1; n <= 16; n++ {
			t.Run(fmt.Sprintf("%s/%d", mode, n), func(t *testing.T) {
				onRig(t, sim.LineConfig{}, sim.MCUConfig{Report: mode, Fault: sim.Fault{ResetAtFrame: n}}, 2000, func(r *dialecttest.Rig) {
					r.Ends(schemas.StateSucceeded, "")
				})
			})
		}
	}
}

func TestNoise(t *testing.T) {
	for _, c := range []struct {
		rate  float64
		seeds uint64
	}{{1e-5, 10}, {1e-4, 10}, {5e-4, 10}, {1e-3, 5}} {
		for seed := range c.seeds {
			t.Run(fmt.Sprintf("%g/%d", c.rate, seed), func(t *testing.T) {
				faults := sim.LineFaults{BitErrorRate: c.rate, DropRate: c.rate / 4, DoubleRate: c.rate / 4}
				onRig(t, sim.LineConfig{Seed: seed, ToMCU: faults, FromMCU: faults}, sim.MCUConfig{Seed: seed}, 20_000, func(r *dialecttest.Rig) {
					r.Ends(schemas.StateSucceeded, "")
				})
			})
		}
	}
}

// A line so bad that no LOAD gets through ends with a cause, not never.
func TestHopelessLine(t *testing.T) {
	c, err := sim.FaultByName("crc-noise")
	if err != nil {
		t.Fatal(err)
	}
	var line sim.LineConfig
	var mcu sim.MCUConfig
	c.Apply(&mcu, &line)
	onRig(t, line, mcu, 5000, func(r *dialecttest.Rig) {
		r.Ends(schemas.StateFailed, schemas.CauseSerial)
	})
}

// An MCU from which nothing is understood, be it dead or drowned in noise, is the
// line's failure; one that acknowledges and does not answer is a timeout.
func TestNothingIsUnderstood(t *testing.T) {
	for name, line := range map[string]sim.LineConfig{
		"noise":        {FromMCU: sim.LineFaults{BitErrorRate: 0.3}},
		"nothing sent": {FromMCU: sim.LineFaults{DropRate: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			onRig(t, line, sim.MCUConfig{}, 1000, func(r *dialecttest.Rig) {
				r.Ends(schemas.StateFailed, schemas.CauseSerial)
			})
		})
	}
}

func TestStuckLine(t *testing.T) {
	for _, at := range []time.Duration{0, 300 * time.Millisecond, 700 * time.Millisecond} {
		t.Run(at.String(), func(t *testing.T) {
			onRig(t, sim.LineConfig{}, sim.MCUConfig{}, 10_000, func(r *dialecttest.Rig) {
				go func() {
					time.Sleep(at) // virtual
					r.Line.Stall(true)
					time.Sleep(time.Minute)
					r.Line.Stall(false)
				}()
				r.Ends(schemas.StateSucceeded, "")
			})
		})
	}
}
