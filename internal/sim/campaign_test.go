package sim

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// campaign runs scenarios of random faults against a module that knows nothing
// better than to begin again, each with numbers of its own, and counts those whose
// update went through all the same.
func campaign(t *testing.T, stream uint64, scenario func(t *testing.T, rng *rand.Rand, seed uint64) (updated bool)) {
	t.Helper()
	const runs = 100
	updated := 0
	for seed := range uint64(runs) {
		synctest.Test(t, func(t *testing.T) {
			if scenario(t, rand.New(rand.NewPCG(seed, stream)), seed) {
				updated++
			}
		})
		if t.Failed() {
			t.Fatalf("with seed %d", seed)
		}
	}
	t.Logf("%d of %d updates went through the faults", updated, runs)
	if updated == 0 || updated == runs {
		t.Errorf("%d of %d updates went through: the faults are too hard or too soft to tell anything", updated, runs)
	}
}

// TestCampaign throws random combinations of faults of the line and of the MCU
// at a simple module. Whatever happens: the MCU runs one of the two images, byte for
// byte, it ends when it is told to, and once the faults are over an update goes
// through. What the bridge makes of such faults is tested by the bridge's campaign.
func TestCampaign(t *testing.T) {
	campaign(t, 17, func(t *testing.T, rng *rand.Rand, seed uint64) (updated bool) {
		image := BuildDemoImage("2.0.0", MinDemoImage+rng.IntN(6000), seed)
		mc, lc := randomFaults(rng, seed)
		r := newRig(t, mc, lc)
		defer r.close()
		old := r.mcu.RunningImage()
		for range 3 {
			if v, err := r.update("2.0.0", image); err == nil && v == "2.0.0" {
				updated = true
				break
			}
			_, _ = r.await(20 * time.Second)
			if rng.IntN(4) == 0 {
				r.powerOff()
				r.powerOn()
			}
		}
		want := old
		if r.mcu.RunningVersion() == "2.0.0" {
			want = image
		}
		if !bytes.Equal(r.mcu.RunningImage(), want) {
			t.Errorf("runs %q with the bytes of another image", r.mcu.RunningVersion())
		}
		r.mcu.SetFault(Fault{})
		r.line.SetFaults(LineFaults{}, LineFaults{})
		r.powerOff() // whatever was still under way in the MCU
		r.powerOn()
		_, _ = r.await(30 * time.Second)
		last := BuildDemoImage("3.0.0", 3000, seed)
		if v, err := r.update("3.0.0", last); err != nil || v != "3.0.0" || !bytes.Equal(r.mcu.RunningImage(), last) {
			t.Errorf("after the faults: version %q, %v", v, err)
		}
		return updated
	})
}

func randomFaults(rng *rand.Rand, seed uint64) (MCUConfig, LineConfig) {
	sometimes := func(n int) bool { return rng.IntN(n) == 0 }
	mc := MCUConfig{Seed: seed, SlotSize: 64 << 10, NoVerdict: sometimes(3), BootStat: sometimes(3), EraseByOffer: sometimes(6), DoubleFlags: sometimes(4)}
	if sometimes(3) {
		mc.Traffic = time.Duration(100+rng.IntN(2000)) * time.Millisecond
	}
	if sometimes(3) {
		mc.Report = ReportOnRequest
	}
	mc.Fault = Fault{
		DoubleAcks: sometimes(4), BadChecksum: sometimes(10), NoBoot: sometimes(10),
		NeverReturns: sometimes(15), NoVersion: sometimes(15), Silent: sometimes(15),
	}
	if sometimes(4) {
		mc.Fault.ResetAtFrame = 1 + rng.IntN(30)
	}
	if sometimes(4) {
		mc.Fault.LoseAcks = 0.2 * rng.Float64()
	}
	if sometimes(4) {
		mc.Fault.AckDelay = time.Duration(rng.IntN(6000)) * time.Millisecond
	}
	lc := LineConfig{Seed: seed, NoFlowControl: sometimes(2), RxBuffer: 300 + rng.IntN(500)}
	for _, f := range []*LineFaults{&lc.ToMCU, &lc.FromMCU} {
		if sometimes(2) {
			*f = LineFaults{BitErrorRate: 2e-4 * rng.Float64(), DropRate: 5e-4 * rng.Float64(), DoubleRate: 5e-4 * rng.Float64()}
		}
	}
	if sometimes(3) {
		lc.Latency, lc.Jitter = time.Duration(rng.IntN(20))*time.Millisecond, time.Duration(rng.IntN(10))*time.Millisecond
	}
	return mc, lc
}
