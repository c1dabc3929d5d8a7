package dialecttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davit/bridge/dialect"
	"davit/internal/sim"
	"davit/schemas"
)

// NewVersion is what the rigs update to.
const NewVersion = "2.1.0"

// patience is how long, in virtual time, an update may take to end.
const patience = 6 * time.Hour

// Setup describes a Rig.
type Setup struct {
	Dialect dialect.Dialect
	Config  dialect.Config
	Line    sim.LineConfig
	// MCU is called inside the virtual time.
	MCU func() sim.Host
	// Size and Seed of the image, which calls itself NewVersion.
	Size int
	Seed uint64
	// Update is completed with the image, Reporter and Ready.
	Update dialect.Update
	// Reports is what the MCU reports when it runs the image.
	Reports string
}

// Rig is a session against a simulated MCU, in virtual time.
type Rig struct {
	*testing.T
	*Recorder
	Line    *sim.Line
	MCU     sim.Host
	Image   []byte
	Update  dialect.Update
	Session dialect.Session

	setup Setup
	stop  func()
	power func()
}

// Run runs f with a session that has not been asked for an update yet, and in
// the end holds what was recorded against what the MCU really runs.
func Run(t *testing.T, s Setup, f func(r *Rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &Rig{T: t, Recorder: NewRecorder(), Line: sim.NewLine(s.Line), MCU: s.MCU(), setup: s}
		r.Image = sim.BuildDemoImage(NewVersion, s.Size, s.Seed)
		r.PowerOn()
		r.Open()
		ready := make(chan struct{})
		close(ready)
		r.Update = s.Update
		r.Update.Version, r.Update.Size, r.Update.SHA256 = NewVersion, uint64(s.Size), sha256.Sum256(r.Image)
		r.Update.Image, r.Update.Ready, r.Update.Reporter = bytes.NewReader(r.Image), ready, r.Recorder
		f(r)
		r.Close()
		r.PowerOff()
		r.check()
	})
}

// PowerOn has the MCU run, PowerOff ends it.
func (r *Rig) PowerOn() {
	ctx, cancel := context.WithCancel(r.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.MCU.Run(ctx, r.Line.MCU()) }()
	r.power = func() {
		cancel()
		if err := <-ended; err != nil {
			r.Errorf("MCU: %v", err)
		}
	}
}

// PowerOff takes the MCU's power away.
func (r *Rig) PowerOff() { r.power() }

// Open runs a new session on the line, which has none.
func (r *Rig) Open() {
	end, err := r.Line.Open()
	if err != nil {
		r.Fatal(err)
	}
	r.Session = r.setup.Dialect.NewSession(end, r.setup.Config, r.Recorder)
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan error, 1)
	s := r.Session
	go func() { done <- s.Run(ctx) }()
	r.stop = func() {
		cancel()
		<-done // an error is the line's end, which the test may have brought about
	}
}

// Close ends the session.
func (r *Rig) Close() { r.stop() }

// check compares the recorded end with what the MCU really runs.
func (r *Rig) check() {
	r.Helper()
	said := r.Said()
	if len(said) == 0 {
		return
	}
	end := schemas.State(said[len(said)-1])
	running := r.MCU.RunningVersion()
	if end == schemas.StateSucceeded && (running != NewVersion || !bytes.Equal(r.MCU.RunningImage(), r.Image)) {
		r.Errorf("recorded as succeeded, the MCU runs %q with %d bytes", running, len(r.MCU.RunningImage()))
	}
	if end.Final() && end != schemas.StateSucceeded && running == NewVersion {
		r.Errorf("recorded as %s, the MCU runs the new version", end)
	}
}

// Result waits for the end of the update.
func (r *Rig) Result() dialect.Result {
	r.Helper()
	select {
	case e := <-r.Done:
		return e
	case <-time.After(patience):
		r.Fatalf("the update does not end; so far %v", r.Said())
	}
	panic("unreachable")
}

// Ends carries out the update and checks its end.
func (r *Rig) Ends(state schemas.State, cause schemas.Cause) dialect.Result {
	r.Helper()
	r.Session.Start(r.Update)
	return r.WantEnd(state, cause)
}

// WantEnd waits for the end of the update and checks it.
func (r *Rig) WantEnd(state schemas.State, cause schemas.Cause) dialect.Result {
	r.Helper()
	e := r.Result()
	if e.State != state || e.Cause != cause {
		r.Errorf("ended %s, cause %q, code %#x (%s), want %s, %q; %v", e.State, e.Cause, e.Code, e.Detail, state, cause, r.Said())
	}
	if state == schemas.StateSucceeded && e.HostVersion != r.setup.Reports {
		r.Errorf("succeeded with version %q", e.HostVersion)
	}
	if state != schemas.StateSucceeded && !strings.HasSuffix(e.Detail, ".") {
		r.Errorf("detail %q is no sentence", e.Detail)
	}
	return e
}

// States are the states told so far that are not final, in order.
func (r *Rig) States() []string {
	states := []string{string(schemas.StateAccepted), string(schemas.StateInstalling), string(schemas.StateBooting)}
	return slices.DeleteFunc(r.Said(), func(s string) bool { return !slices.Contains(states, s) })
}
