package ayla

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davit/bridge/dialect"
	"davit/internal/sim" // the simulated MCU speaks the wire on its own, as a product would
	"davit/schemas"
	"davit/schemas/tlv"
)

// rig is a session against a simulated MCU, in virtual time.
type rig struct {
	*testing.T
	*recorder
	line    *sim.Line
	mcu     *sim.MCU
	image   []byte
	update  dialect.Update
	session dialect.Session
	stop    func()
	began   time.Time
}

// onRig runs f with a session that has not been asked for an update yet.
func onRig(t *testing.T, line sim.LineConfig, mcu sim.MCUConfig, size int, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, recorder: newRecorder(), line: sim.NewLine(line), image: sim.BuildDemoImage(newVersion, size, mcu.Seed+1)}
		r.mcu = sim.NewMCU(mcu)
		ctx, cancel := context.WithCancel(t.Context())
		mcuEnd := make(chan error, 1)
		go func() { mcuEnd <- r.mcu.Run(ctx, r.line.MCU()) }()
		r.open(line.Baud, mcu.VersionProperty)
		ready := make(chan struct{})
		close(ready)
		r.update = dialect.Update{
			Version: newVersion, Size: uint64(size), Image: bytes.NewReader(r.image), Ready: ready, Reporter: r.recorder,
			VersionProperty: mcu.VersionProperty, BootTimeout: 90 * time.Second,
		}
		f(r)
		r.stop()
		cancel()
		if err := <-mcuEnd; err != nil {
			t.Errorf("MCU: %v", err)
		}
		r.check()
	})
}

// open runs a new session on the line.
func (r *rig) open(baud int, property string) {
	end, err := r.line.Open()
	if err != nil {
		r.Fatal(err)
	}
	cfg := dialect.Config{Baud: baud}
	if property != "" {
		cfg.VersionProperties = []string{property}
	}
	r.session = Dialect{}.NewSession(end, cfg, r.recorder)
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan error, 1)
	s := r.session
	go func() { done <- s.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			r.Errorf("Run: %v", err)
		}
	}
	r.began = time.Now()
}

// check compares the recorded end with what the MCU really runs.
func (r *rig) check() {
	r.Helper()
	if len(r.log) == 0 {
		return
	}
	end := schemas.State(r.log[len(r.log)-1])
	running := r.mcu.RunningVersion()
	if end == schemas.StateSucceeded && (running != newVersion || !bytes.Equal(r.mcu.RunningImage(), r.image)) {
		r.Errorf("recorded as succeeded, the MCU runs %q with %d bytes", running, len(r.mcu.RunningImage()))
	}
	if end.Final() && end != schemas.StateSucceeded && running == newVersion {
		r.Errorf("recorded as %s, the MCU runs the new version", end)
	}
}

func (r *rig) result() dialect.Result {
	r.Helper()
	select {
	case e := <-r.ended:
		return e
	case <-time.After(2 * time.Hour):
		r.Fatalf("the update does not end; so far %v", r.said())
	}
	panic("unreachable")
}

// run carries out the update and checks its end.
func (r *rig) run(state schemas.State, cause schemas.Cause) dialect.Result {
	r.Helper()
	r.session.Start(r.update)
	e := r.result()
	if e.State != state || e.Cause != cause {
		r.Errorf("ended %s, cause %q, code %#x (%s), want %s, %q; %v", e.State, e.Cause, e.Code, e.Detail, state, cause, r.said())
	}
	if state == schemas.StateSucceeded && e.HostVersion != newVersion {
		r.Errorf("succeeded with version %q", e.HostVersion)
	}
	if state != schemas.StateSucceeded && !strings.HasSuffix(e.Detail, ".") {
		r.Errorf("detail %q is no sentence", e.Detail)
	}
	return e
}

// Peers behave differently; with all of these an update works.
func TestPeers(t *testing.T) {
	long := map[string]string{"log": strings.Repeat("x", 700)}
	for _, c := range []struct {
		name string
		mcu  sim.MCUConfig
		line sim.LineConfig
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
		{name: "datapoint confirm", mcu: sim.MCUConfig{Traffic: 100 * time.Millisecond, Features: tlv.FeatureOTA | tlv.FeatureConfirm}},
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
			onRig(t, c.line, c.mcu, 5000, func(r *rig) {
				r.run(schemas.StateSucceeded, "")
				want := []string{"accepted", "installing", "booting"}
				if got := slices.DeleteFunc(r.said(), func(s string) bool { return !slices.Contains(want, s) }); !slices.Equal(got, want) {
					t.Errorf("states %v, want %v", got, want)
				}
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
			onRig(t, sim.LineConfig{}, c.mcu, 5000, func(r *rig) {
				if e := r.run(c.state, c.cause); e.Code != int(c.code) {
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
			onRig(t, sim.LineConfig{}, mcu, 5000, func(r *rig) {
				r.run(state, cause)
				r.log = nil // the image runs, and nobody says so: check would call that wrong
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
				onRig(t, sim.LineConfig{}, sim.MCUConfig{Report: mode, Fault: sim.Fault{ResetAtFrame: n}}, 2000, func(r *rig) {
					r.run(schemas.StateSucceeded, "")
				})
			})
		}
	}
}

func TestNoise(t *testing.T) {
	for _, c := range []struct {
		rate  float64
		seeds uint64
	}{{1e-5, 10}, {1e-4, 10}, {5e-4, 5}} {
		for seed := range c.seeds {
			t.Run(fmt.Sprintf("%g/%d", c.rate, seed), func(t *testing.T) {
				faults := sim.LineFaults{BitErrorRate: c.rate, DropRate: c.rate / 4, DoubleRate: c.rate / 4}
				onRig(t, sim.LineConfig{Seed: seed, ToMCU: faults, FromMCU: faults}, sim.MCUConfig{Seed: seed}, 20_000, func(r *rig) {
					r.run(schemas.StateSucceeded, "")
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
	onRig(t, line, mcu, 5000, func(r *rig) {
		r.run(schemas.StateFailed, schemas.CauseSerial)
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
			onRig(t, line, sim.MCUConfig{}, 1000, func(r *rig) {
				r.run(schemas.StateFailed, schemas.CauseSerial)
			})
		})
	}
}

func TestStuckLine(t *testing.T) {
	for _, at := range []time.Duration{0, 300 * time.Millisecond, 700 * time.Millisecond} {
		t.Run(at.String(), func(t *testing.T) {
			onRig(t, sim.LineConfig{}, sim.MCUConfig{}, 10_000, func(r *rig) {
				go func() {
					time.Sleep(at) // virtual
					r.line.Stall(true)
					time.Sleep(time.Minute)
					r.line.Stall(false)
				}()
				r.run(schemas.StateSucceeded, "")
			})
		})
	}
}
