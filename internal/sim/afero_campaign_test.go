package sim

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestAferoCampaign is TestCampaign for the other wire: random combinations of
// faults of the line and of the MCU against a simple module. Messages of this
// wire have no checksum: what the line spoils gets into the flash, and the sum over
// the whole image must find it.
func TestAferoCampaign(t *testing.T) {
	campaign(t, 23, func(t *testing.T, rng *rand.Rand, seed uint64) (updated bool) {
		image := BuildDemoImage("2.0.0", MinDemoImage+rng.IntN(6000), seed)
		if rng.IntN(3) == 0 {
			image = randomBytes(seed, len(image)) // nothing in it can be checked
		}
		mc, lc := randomAferoFaults(rng, seed)
		r := newAferoRig(t, mc, lc)
		defer r.close()
		r.collide = rng.IntN(2) == 0
		old := r.mcu.RunningImage()
		for range 3 {
			if id, err := r.update(7, image); err == nil && id == 7 {
				updated = true
				break
			}
			if rng.IntN(4) == 0 {
				r.powerOff()
				r.powerOn()
			}
		}
		if !r.runs(7, image) && !r.runs(DefaultVersionID, old) {
			t.Errorf("runs version %d with the bytes of another image", r.mcu.RunningVersionID())
		}
		r.mcu.SetFault(Fault{})
		r.line.SetFaults(LineFaults{}, LineFaults{})
		r.powerOff() // whatever was still under way in the MCU
		r.powerOn()
		last := BuildDemoImage("3.0.0", 3000, seed)
		if id, err := r.update(9, last); err != nil || id != 9 || !r.runs(9, last) {
			t.Errorf("after the faults: version %d, %v; %+v", id, err, r.mcu.Stats())
		}
		return updated
	})
}

func randomAferoFaults(rng *rand.Rand, seed uint64) (AferoConfig, LineConfig) {
	sometimes := func(n int) bool { return rng.IntN(n) == 0 }
	mc := AferoConfig{
		Protocol: 1 + rng.IntN(2), LosesOffset: sometimes(3), SetVersion: sometimes(4),
		FullStruct: sometimes(4), KeepsModule: sometimes(2),
	}
	mc.Seed, mc.SlotSize = seed, 64<<10
	if sometimes(3) {
		mc.Traffic = time.Duration(500+rng.IntN(2000)) * time.Millisecond // slower than a line with latency is
	}
	switch rng.IntN(4) {
	case 0:
		mc.Report = ReportOnRequest
	case 1:
		mc.NoGet = true
	}
	mc.Fault = Fault{
		DoubleAcks: sometimes(6), BadChecksum: sometimes(12), NoBoot: sometimes(12), NeverReturns: sometimes(15), NoVersion: sometimes(15),
		Silent: sometimes(15), Deaf: sometimes(25), RejectAlready: sometimes(25), RejectTooLarge: sometimes(25),
	}
	mc.Fault.Afero = AferoFault{
		NeverAcks: sometimes(25), BadSyncs: sometimes(25), HugeCounts: sometimes(25), OffsetBeyond: sometimes(25), Backwards: sometimes(25),
	}
	for _, n := range []*int{&mc.Fault.ResetAtFrame, &mc.Fault.ResetAtByte, &mc.Fault.FlashErrorAt, &mc.Fault.Afero.ResetAtStep} {
		if sometimes(8) {
			*n = 1 + rng.IntN(100)
		}
	}
	if sometimes(4) {
		mc.Fault.LoseAcks = 0.02 * rng.Float64()
	}
	if sometimes(4) {
		mc.Fault.AckDelay = time.Duration(rng.IntN(500)) * time.Millisecond
	}
	lc := LineConfig{Seed: seed, BitsPerByte: 10, NoFlowControl: true, RxBuffer: 300 + rng.IntN(500)}
	for _, f := range []*LineFaults{&lc.ToMCU, &lc.FromMCU} {
		if sometimes(2) {
			*f = LineFaults{BitErrorRate: 2e-5 * rng.Float64(), DropRate: 1e-4 * rng.Float64(), DoubleRate: 1e-4 * rng.Float64()}
		}
	}
	if sometimes(3) {
		lc.Latency, lc.Jitter = time.Duration(rng.IntN(20))*time.Millisecond, time.Duration(rng.IntN(10))*time.Millisecond
	}
	return mc, lc
}

// TestAferoMCUFaultByName: the cases of the demo fail on this wire too.
func TestAferoMCUFaultByName(t *testing.T) {
	for _, name := range append(slices.Clone(FaultNames()), "none") {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mcu, line := AferoConfig{}, aferoLine()
				c, err := FaultByName(name)
				if broken := err == nil; broken == (name == "none") {
					t.Fatal(err)
				}
				c.Apply(&mcu.MCUConfig, &line)
				r := newAferoRig(t, mcu, line)
				defer r.close()
				id, _ := r.update(7, BuildDemoImage("2.0.0", 20_000, 1))
				want, version := uint64(7), "2.0.0"
				if name != "none" {
					want, version = DefaultVersionID, DefaultMCUVersion
				}
				if id != want && id != 0 || id == 0 && name == "none" || r.mcu.RunningVersion() != version {
					t.Errorf("reports %d and runs %q", id, r.mcu.RunningVersion())
				}
			})
		})
	}
}
