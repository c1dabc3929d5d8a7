package afero

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/dialecttest"
	"davit/internal/sim"
	"davit/schemas"
	"davit/schemas/afpro"
)

// listened is an MCU whose every word is heard before the line spoils it.
type listened struct {
	*sim.AferoMCU
	mu  sync.Mutex
	ids map[uint64]bool // what it has reported to run
}

// Run implements sim.Host.
func (l *listened) Run(ctx context.Context, rw io.ReadWriteCloser) error {
	return l.AferoMCU.Run(ctx, &mouth{rw, l})
}

func (l *listened) reported(id uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ids[id]
}

type mouth struct {
	io.ReadWriteCloser
	of *listened
}

// Write hears a message, which is a write of its own.
func (m *mouth) Write(b []byte) (int, error) {
	if message, err := afpro.ParseMessage(b); err == nil && message.Attribute == afpro.VersionAttribute(firmwareType) {
		if id, err := afpro.ParseUint64(message.Value); err == nil {
			m.of.mu.Lock()
			m.of.ids[id] = true
			m.of.mu.Unlock()
		}
	}
	return m.ReadWriteCloser.Write(b)
}

// scenario is what goes wrong in one run of the campaign.
type scenario struct {
	line   sim.LineConfig
	mcu    sim.AferoConfig
	size   int
	unplug time.Duration // after the update began; 0 for never
	kill   time.Duration // of the bridge, likewise
}

func newScenario(seed uint64) scenario {
	r := rand.New(rand.NewPCG(seed, 1))
	sometimes := func(n int) bool { return r.IntN(n) == 0 }
	faults := func() sim.LineFaults {
		if sometimes(3) {
			return sim.LineFaults{}
		}
		scale := []float64{1, 0.1, 0.01}[r.IntN(3)]
		return sim.LineFaults{BitErrorRate: 1e-4 * scale * r.Float64(), DropRate: 2e-4 * scale * r.Float64(), DoubleRate: 2e-4 * scale * r.Float64()}
	}
	s := scenario{
		line: sim.LineConfig{
			Baud: []int{9600, 115_200}[r.IntN(2)], Seed: seed, ToMCU: faults(), FromMCU: faults(),
			Latency: time.Duration(r.IntN(5)) * time.Millisecond, Jitter: time.Duration(r.IntN(10)) * time.Millisecond,
		},
		mcu: sim.AferoConfig{
			MCUConfig: sim.MCUConfig{
				Seed: seed, ConfirmAfter: sim.None, // a reset before it would be a fallback, which is no fault of the line
				Report: []sim.ReportMode{sim.ReportAtStart, sim.ReportOnRequest}[r.IntN(2)],
				Fault: sim.Fault{
					DoubleAcks: sometimes(6), AckDelay: time.Duration(r.IntN(20)) * time.Millisecond,
				},
			},
			Protocol: 1 + r.IntN(2), LosesOffset: sometimes(2), SetVersion: sometimes(3), FullStruct: sometimes(3), KeepsModule: sometimes(2),
			AttributeSize: []int{253, 510, 2046}[r.IntN(3)],
		},
		size: 1500 + r.IntN(4000),
	}
	s.mcu.NoGet = s.mcu.Report == sim.ReportAtStart && sometimes(3)
	if sometimes(2) {
		s.mcu.Fault.LoseAcks = 0.05 * r.Float64()
	}
	if sometimes(3) {
		s.mcu.Traffic = time.Duration(200+r.IntN(2000)) * time.Millisecond
		if s.line.Baud == 9600 {
			s.mcu.Traffic *= time.Duration(s.mcu.AttributeSize / 253) // or it would fill the line by itself
		}
	}
	switch r.IntN(5) {
	case 0:
		s.mcu.Fault.Afero.ResetAtStep = 1 + r.IntN(200)
	case 1:
		s.mcu.Fault.ResetAtByte = 1 + r.IntN(s.size)
	case 2:
		s.unplug = time.Duration(r.IntN(12_000)) * time.Millisecond
	case 3:
		s.kill = time.Duration(r.IntN(12_000)) * time.Millisecond
	}
	switch r.IntN(12) {
	case 0:
		s.mcu.Fault.NoBoot = true
	case 1:
		s.mcu.Fault.BadChecksum = true
	case 2:
		s.mcu.Fault.FlashErrorAt = 1 + r.IntN(8)
	}
	return s
}

// carryOut runs the update with what happens to cable and bridge meanwhile, and
// returns its end.
func (s scenario) carryOut(r *dialecttest.Rig) dialect.Result {
	r.Session.Start(r.Update)
	pause := s.unplug + s.kill
	if pause == 0 {
		return r.Result()
	}
	select {
	case e := <-r.Done:
		return e
	case <-time.After(pause):
	}
	if s.unplug > 0 {
		r.Line.Unplug()
	}
	r.Close()
	if len(r.Done) > 0 {
		r.Open()
		return <-r.Done
	}
	if s.unplug > 0 {
		time.Sleep(20 * time.Second) // virtual
		r.Line.Replug()
		r.Update.Loaded = r.Loaded()
	}
	r.Open()
	states := r.States()
	if n := len(states); n > 0 && states[n-1] == string(schemas.StateBooting) {
		r.Update.ResumeAt = schemas.StateBooting
	}
	r.Session.Start(r.Update)
	return r.Result()
}

// A seeded campaign in virtual time: everything goes wrong at once. Whatever
// happens, the update ends, with a cause unless it succeeded; the MCU runs one of the
// two images byte for byte; what is recorded as succeeded was reported by the MCU
// and runs; and once the faults are over, an update goes through on the same port.
// DAVIT_CAMPAIGN=N runs N seeds, the whole check 2,000; one seed is a line of the form
// -run 'TestCampaign/17$'.
func TestCampaign(t *testing.T) {
	seeds := 60
	if n, err := strconv.Atoi(os.Getenv("DAVIT_CAMPAIGN")); err == nil {
		seeds = n
	}
	ends := map[schemas.Cause]int{}
	for seed := range seeds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			s := newScenario(uint64(seed))
			var mcu *listened
			setup := func() sim.Host {
				s.mcu.VersionID = oldID
				mcu = &listened{AferoMCU: sim.NewAferoMCU(s.mcu), ids: map[uint64]bool{}}
				return mcu
			}
			runHost(t, Dialect{}, s.line, s.mcu, setup, s.size, func(r *dialecttest.Rig) {
				old := r.MCU.RunningImage()
				e := s.carryOut(r)
				ends[e.Cause]++
				if e.State == schemas.StateSucceeded && !mcu.reported(newID) {
					t.Error("succeeded, and the MCU never reported the version")
				}
				if got := r.MCU.RunningImage(); !bytes.Equal(got, old) && !bytes.Equal(got, r.Image) {
					t.Errorf("the MCU runs %d bytes of neither image", len(got))
				}
				if e.State == schemas.StateSucceeded {
					if !bytes.Equal(r.MCU.RunningImage(), r.Image) {
						t.Error("succeeded, and the MCU runs the old image")
					}
					return
				}
				if e.Cause == schemas.CauseNone || e.Detail == "" {
					t.Errorf("ended %s without a cause or a word", e.State)
				}
				t.Logf("ended %s, %s: %s", e.State, e.Cause, e.Detail)
				r.MCU.SetFault(sim.Fault{})
				r.Line.SetFaults(sim.LineFaults{}, sim.LineFaults{})
				r.Update.ResumeAt, r.Update.Loaded = "", 0
				r.Ends(schemas.StateSucceeded, "")
			})
		})
	}
	t.Logf("ends by cause (none is success): %v", ends)
	if n := ends[schemas.CauseNone]; n < seeds/2 || n == seeds {
		t.Errorf("%d of %d updates went through: the faults are too hard or too soft to tell anything", n, seeds)
	}
}
