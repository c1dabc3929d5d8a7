package bridge

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/internal/sim"
	"davit/schemas"
)

// faultCase is something that goes wrong between a bridge and a host MCU.
type faultCase struct {
	name string
	only string // the dialect that it is for, "" for both
	mcu  sim.MCUConfig
	line sim.LineConfig // faults; the speed is the dialect's
	// babble is what the MCU's line carries before each of its writes.
	babble func() []byte
	// meanwhile runs beside the update.
	meanwhile func(line *sim.Line)
	state     schemas.State
	cause     schemas.Cause
	// unsaid is set if the MCU may run the new image without having said so.
	unsaid bool
}

// faulty is a world with one MCU, on either wire, and a fault.
type faulty struct {
	*world
	mcu    sim.Host
	offers atomic.Int32 // to the MCU
	offer  schemas.Offer
}

// inFaultyWorld runs f with an MCU of a dialect and what is wrong with it.
func inFaultyWorld(t *testing.T, name string, c faultCase, f func(w *faulty)) {
	t.Helper()
	w := &faulty{}
	size := map[string]int{ayla.Name: 60_000, afero.Name: 3_000}[name] // both take some seconds
	c.mcu.OnEvent = func(e sim.Event) {
		if e.Kind == sim.EventOffer {
			w.offers.Add(1)
		}
	}
	inBareWorld(t, size, func(bare *world) {
		w.world = bare
		if name == afero.Name {
			c.line.Baud, c.line.BitsPerByte, c.line.NoFlowControl = 9600, 10, true
			w.mcu = sim.NewAferoMCU(sim.AferoConfig{VersionID: beforeID, MCUConfig: c.mcu})
		} else {
			w.mcu = sim.NewMCU(c.mcu)
		}
		w.lines[pump] = sim.NewLine(c.line)
		w.cfg.Ports = []PortConfig{{Device: pump, Path: pump, Dialect: name}}
		end := io.ReadWriteCloser(w.lines[pump].MCU())
		if c.babble != nil {
			end = &babbler{end, c.babble}
		}
		w.runOn(pump, w.mcu, end)
	}, func(*world) {
		w.offer = w.theOffer()
		if name == afero.Name {
			w.offer.VersionID = theID
			w.offer.Host.Dialect, w.offer.Host.NumericType, w.offer.Host.VersionProperty = afero.Name, firmwareType, property
		}
		f(w)
	})
}

// babbler is a line on which there is noise before everything that is written.
type babbler struct {
	io.ReadWriteCloser
	noise func() []byte
}

func (b *babbler) Write(p []byte) (int, error) {
	if _, err := b.ReadWriteCloser.Write(b.noise()); err != nil {
		return 0, err
	}
	return b.ReadWriteCloser.Write(p)
}

// garbage returns a source of short runs of bytes that mean nothing.
func garbage(seed uint64) func() []byte {
	r := rand.New(rand.NewPCG(seed, 5))
	return func() []byte {
		b := make([]byte, r.IntN(20))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
}

// dead takes the line away in both directions.
func dead(line *sim.Line, is bool) {
	line.SetFaults(sim.LineFaults{Dead: is}, sim.LineFaults{Dead: is})
}

// Everything that goes wrong on a line or in an MCU: the recorded end is what
// the MCU runs, byte for byte, and nothing is offered again after it.
func TestFaults(t *testing.T) {
	both := func(f sim.LineFaults) sim.LineConfig { return sim.LineConfig{Seed: 1, ToMCU: f, FromMCU: f} }
	fault := func(f sim.Fault) sim.MCUConfig { return sim.MCUConfig{Fault: f} }
	const ok = schemas.StateSucceeded
	cases := []faultCase{
		{name: "none", state: ok},
		{name: "bit errors", only: ayla.Name, line: both(sim.LineFaults{BitErrorRate: 1e-4}), state: ok},
		// Messages of the Afero wire have no checksum: what spoils the image is found by its SHA-256 in the end.
		{name: "few bit errors", only: afero.Name, line: both(sim.LineFaults{BitErrorRate: 1e-5}), state: ok},
		{name: "bit errors", only: afero.Name, line: both(sim.LineFaults{BitErrorRate: 1e-4}), state: schemas.StateFailed, cause: schemas.CauseChecksum},
		{name: "lost bytes", line: both(sim.LineFaults{DropRate: 5e-4}), state: ok},
		{name: "doubled bytes", line: both(sim.LineFaults{DoubleRate: 5e-4}), state: ok},
		{name: "bursts", only: ayla.Name, state: ok, meanwhile: bursts(700*time.Millisecond, 60)},
		{name: "bursts", only: afero.Name, state: ok, meanwhile: bursts(4*time.Second, 3)},
		{name: "garbage between frames", babble: garbage(1), state: ok},
		{name: "dead line for a minute", state: ok, meanwhile: func(line *sim.Line) {
			time.Sleep(2 * time.Second)
			dead(line, true)
			time.Sleep(time.Minute)
			dead(line, false)
		}},
		{name: "dead line", state: schemas.StateFailed, cause: schemas.CauseSerial, meanwhile: func(line *sim.Line) {
			time.Sleep(2 * time.Second)
			dead(line, true)
		}},
		{name: "RTS low for a minute", state: ok, meanwhile: rtsLow(time.Minute)},
		{name: "RTS low for a minute, no room in the driver", line: sim.LineConfig{TxBuffer: 64}, state: ok, meanwhile: rtsLow(time.Minute)},
		{name: "RTS low for 5 minutes, no room in the driver", line: sim.LineConfig{TxBuffer: 64}, state: ok, meanwhile: rtsLow(5 * time.Minute)},
		{name: "RTS low for ever", state: schemas.StateFailed, cause: schemas.CauseSerial, meanwhile: rtsLow(0)},
		{name: "RTS low for ever, no room in the driver", line: sim.LineConfig{TxBuffer: 64}, state: schemas.StateFailed, cause: schemas.CauseSerial, meanwhile: rtsLow(0)},
		{name: "acks 4 s late", only: ayla.Name, mcu: fault(sim.Fault{AckDelay: 4 * time.Second}), state: ok},
		{name: "reacts 900 ms late", only: afero.Name, mcu: fault(sim.Fault{AckDelay: 900 * time.Millisecond}), state: ok},
		{name: "acks twice", mcu: fault(sim.Fault{DoubleAcks: true}), state: ok},
		{name: "flash error", mcu: fault(sim.Fault{FlashErrorAt: 7}), state: schemas.StateFailed, cause: schemas.CauseFlash},
		{name: "boots for 60 s", mcu: sim.MCUConfig{BootTime: time.Minute}, state: ok},
		{name: "boots the old image", mcu: fault(sim.Fault{NoBoot: true}), state: schemas.StateFailed, cause: schemas.CauseBoot},
		{name: "never returns", mcu: fault(sim.Fault{NeverReturns: true}), state: schemas.StateTimedOut, cause: schemas.CauseTimeout, unsaid: true},
		{name: "resets during the load", mcu: fault(sim.Fault{ResetAtByte: 1500}), state: ok},
	}
	for _, name := range []string{ayla.Name, afero.Name} {
		for _, c := range cases {
			if c.only != "" && c.only != name {
				continue
			}
			t.Run(name+"/"+c.name, func(t *testing.T) { c.run(t, name) })
		}
	}
}

// bursts drowns the line for 60 ms, n times with a pause before each.
func bursts(pause time.Duration, n int) func(*sim.Line) {
	return func(line *sim.Line) {
		noise := sim.LineFaults{BitErrorRate: 0.3}
		for range n {
			time.Sleep(pause) // virtual
			line.SetFaults(noise, noise)
			time.Sleep(60 * time.Millisecond)
			line.SetFaults(sim.LineFaults{}, sim.LineFaults{})
		}
	}
}

// rtsLow has the MCU hold back what it is sent, from the middle of the load on,
// for d or for ever.
func rtsLow(d time.Duration) func(*sim.Line) {
	return func(line *sim.Line) {
		time.Sleep(3 * time.Second) // virtual
		line.Stall(true)
		if d > 0 {
			time.Sleep(d)
			line.Stall(false)
		}
	}
}

func (c faultCase) run(t *testing.T, name string) {
	inFaultyWorld(t, name, c, func(w *faulty) {
		old := w.mcu.RunningImage()
		w.offer.Host.BootTimeoutMS = 150_000
		w.service.offer(pump, w.offer)
		began := time.Now()
		if c.meanwhile != nil {
			done := make(chan struct{})
			go func() { defer close(done); c.meanwhile(w.lines[pump]) }()
			defer func() { <-done }()
		}
		st := w.awaitEnd(theExecution)
		t.Logf("%s %s after %v: %s", st.State, st.Cause, time.Since(began).Round(time.Second), st.Detail)
		if st.State != c.state || st.Cause != c.cause {
			t.Errorf("recorded %s, cause %q (%s); want %s, %q", st.State, st.Cause, st.Detail, c.state, c.cause)
		}
		if took := time.Since(began); took > time.Hour {
			t.Errorf("it took %v", took)
		}
		want := old
		if st.State == schemas.StateSucceeded {
			want = w.image
		}
		if !c.unsaid && !bytes.Equal(w.mcu.RunningImage(), want) {
			t.Errorf("recorded %s, and the MCU runs %q", st.State, w.mcu.RunningVersion())
		}
		if st.State != schemas.StateSucceeded && !strings.HasSuffix(st.Detail, ".") {
			t.Errorf("detail %q is no sentence", st.Detail)
		}
		offers := w.offers.Load()
		time.Sleep(time.Hour)
		if n := w.offers.Load() - offers; n != 0 {
			t.Errorf("offered %d times more after the end", n)
		}
	})
}
