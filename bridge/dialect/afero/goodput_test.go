package afero

import (
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/dialecttest"
	"davit/internal/sim"
	"davit/schemas"
	"davit/schemas/afpro"
)

// ceiling is how long loading an image of size bytes takes on a line that never
// rests, with an MCU that reacts at once: every byte of the two transactions of each
// chunk, one after the other (docs/afero-wire.md section 6).
func ceiling(size, attributeSize, baud int) time.Duration {
	const (
		fromASR = 1 + afpro.SyncSize + afpro.SyncSize + 1 + afpro.SyncSize + 1 + 1 // ready, request, response, ready, ack, ready, ready
		fromMCU = afpro.SyncSize + afpro.SyncSize + 1 + afpro.SyncSize + 1 + 1     // request, response, ready, ack, ready, ready
		answer  = afpro.UpdateOverhead + 2 + 4
	)
	n, chunk := 0, afpro.ChunkSize(attributeSize)
	for at := 0; at < size; at += chunk {
		n += fromASR + afpro.UpdateOverhead + 2 + 4 + min(chunk, size-at)
		n += fromMCU + answer
	}
	return time.Duration(n) * bitsPerByte * time.Second / time.Duration(baud)
}

// Goodput in virtual time: exact, and relative to the ceiling of the same bytes
// on the same line.
func TestGoodput(t *testing.T) {
	for _, c := range []struct {
		baud, attribute int
		write           time.Duration
		want            float64
	}{
		{9600, 253, sim.None, 0.95},
		{115_200, 253, sim.None, 0.95},
		{9600, 510, sim.None, 0.95},
		{115_200, 510, sim.None, 0.95},
		{9600, 2046, sim.None, 0.95},
		{115_200, 2046, sim.None, 0.95},
		{9600, 253, time.Millisecond, 0.95},
		{115_200, 253, time.Millisecond, 0.9},
	} {
		t.Run(fmt.Sprintf("%d baud attribute %d write %v", c.baud, c.attribute, max(c.write, 0)), func(t *testing.T) {
			mcu := sim.AferoConfig{AttributeSize: c.attribute, MCUConfig: sim.MCUConfig{
				SlotSize: 1 << 20, EraseTime: sim.None, WriteTime: c.write, VerifyTime: sim.None,
			}}
			onRig(t, sim.LineConfig{Baud: c.baud}, mcu, 100_000, func(r *dialecttest.Rig) {
				l := r.TimeLoad()
				r.Ends(schemas.StateSucceeded, "")
				took := l.Took()
				ratio := ceiling(len(r.Image), c.attribute, c.baud).Seconds() / took.Seconds()
				t.Logf("%.1f B/s, %.4f of the ceiling, %d messages sent again", float64(len(r.Image))/took.Seconds(), ratio, r.Count(dialect.FramesRetried))
				if ratio < c.want || math.IsNaN(ratio) {
					t.Errorf("ratio %.4f, want at least %.2f", ratio, c.want)
				}
			})
		})
	}
}

// Updates on a noisy line, over many seeds. Messages of this wire have no
// checksum: a bit error in the image is found by its SHA-256 at the end, and all of
// it is sent again, a few times. With DAVIT_CAMPAIGN there are a thousand seeds.
func TestUpdatesUnderNoise(t *testing.T) {
	seeds := 15
	if os.Getenv("DAVIT_CAMPAIGN") != "" {
		seeds = 1000
	}
	const size, baud, attribute = 4 << 10, 115_200, 253
	for _, c := range []struct{ rate, succeed float64 }{{1e-6, 0.99}, {1e-5, 0.9}} {
		t.Run(fmt.Sprint(c.rate), func(t *testing.T) {
			ends, sum := map[schemas.Cause]int{}, 0.0
			for seed := range uint64(seeds) {
				noise := sim.LineFaults{BitErrorRate: c.rate}
				line := sim.LineConfig{Baud: baud, ToMCU: noise, FromMCU: noise, Seed: seed}
				mcu := sim.AferoConfig{AttributeSize: attribute, MCUConfig: sim.MCUConfig{Seed: seed, EraseTime: sim.None, WriteTime: sim.None, VerifyTime: sim.None}}
				onRig(t, line, mcu, size, func(r *dialecttest.Rig) {
					l := r.TimeLoad()
					r.Session.Start(r.Update)
					e := r.Result()
					ends[e.Cause]++
					if e.State == schemas.StateSucceeded {
						sum += ceiling(size, attribute, baud).Seconds() / l.Took().Seconds()
					}
				})
				if t.Failed() {
					t.Fatalf("with seed %d", seed)
				}
			}
			n := ends[schemas.CauseNone]
			t.Logf("%d of %d updates of %d bytes succeeded at once, the last transfer of each at %.4f of the ceiling on average; causes %v", n, seeds, size, sum/float64(n), ends)
			if float64(n) < c.succeed*float64(seeds) {
				t.Errorf("%d of %d succeeded, want %.2f", n, seeds, c.succeed)
			}
		})
	}
}

// An MCU whose word about what it received got lost on the line, time after time, is not one that could not write it.
func TestWordOfTheWholeImageIsLost(t *testing.T) {
	noise := sim.LineFaults{DropRate: 1e-2}
	for _, seed := range []uint64{12, 18, 23, 25, 34, 126} { // of those from 0 to 149, the ones that lose three in a row
		line := sim.LineConfig{Baud: 115_200, FromMCU: noise, Seed: seed}
		onRig(t, line, sim.AferoConfig{MCUConfig: sim.MCUConfig{Seed: seed}}, 2000, func(r *dialecttest.Rig) {
			r.Ends(schemas.StateSucceeded, "")
		})
	}
}
