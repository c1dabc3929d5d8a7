package ayla

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"davit/bridge/dialect/dialecttest"
	"davit/internal/sim"
	"davit/schemas"
)

// A seeded campaign: everything goes wrong a little at once, and the update is
// finished all the same. DAVIT_CAMPAIGN=N runs N seeds; one seed is a line of
// the form -run 'TestCampaign/17$'.
func TestCampaign(t *testing.T) {
	seeds := 40
	if n, err := strconv.Atoi(os.Getenv("DAVIT_CAMPAIGN")); err == nil {
		seeds = n
	}
	for seed := range seeds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(seed), 1))
			faults := func() sim.LineFaults {
				return sim.LineFaults{BitErrorRate: 2e-4 * r.Float64(), DropRate: 5e-5 * r.Float64(), DoubleRate: 5e-5 * r.Float64()}
			}
			line := sim.LineConfig{
				Seed: uint64(seed), ToMCU: faults(), FromMCU: faults(), Latency: time.Duration(r.IntN(5)) * time.Millisecond,
				Jitter: time.Duration(r.IntN(10)) * time.Millisecond,
			}
			mcu := sim.MCUConfig{
				Seed: uint64(seed), NoVerdict: r.IntN(2) == 0, BootStat: r.IntN(2) == 0, EraseByOffer: r.IntN(3) == 0, DoubleFlags: r.IntN(3) == 0,
				ConfirmAfter: sim.None, // a reset before it would be a fallback, which is no fault of the line
				Report:       []sim.ReportMode{sim.ReportAtStart, sim.ReportOnConnect, sim.ReportOnRequest}[r.IntN(3)],
				Fault:        sim.Fault{DoubleAcks: r.IntN(3) == 0, LoseAcks: 0.05 * r.Float64(), AckDelay: time.Duration(r.IntN(20)) * time.Millisecond},
			}
			if r.IntN(2) == 0 {
				mcu.Traffic = time.Duration(20+r.IntN(200)) * time.Millisecond
			}
			if r.IntN(2) == 0 {
				mcu.Fault.ResetAtFrame = 1 + r.IntN(40)
			}
			onRig(t, line, mcu, 3000+r.IntN(6000), func(r *dialecttest.Rig) {
				r.Ends(schemas.StateSucceeded, "")
			})
		})
	}
}
