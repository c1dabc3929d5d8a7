package ayla

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
	"davit/schemas/tlv"
)

// ceiling is how long loading image takes on a line that never rests, with an
// MCU that answers at once: every LOAD as it stands on the line, stuffing
// included, followed by an ack (docs/wire.md section 6). With ack false the
// acks cost nothing. A session that shares flags saves one of the two of a LOAD.
func ceiling(image []byte, baud int, ack bool) time.Duration {
	n, acks := sim.LoadBytes(image)
	if ack {
		n += acks
	}
	return time.Duration(n) * bitsPerByte * time.Second / time.Duration(baud)
}

// Goodput in virtual time: exact, and relative to the ceiling of the same
// bytes on the same line.
func TestGoodput(t *testing.T) {
	instant := sim.MCUConfig{EraseTime: sim.None, WriteTime: sim.None, VerifyTime: sim.None}
	after := func(d time.Duration) sim.MCUConfig {
		c := instant
		c.Fault.AckDelay = d
		return c
	}
	noise := func(rate float64) sim.LineConfig {
		return sim.LineConfig{ToMCU: sim.LineFaults{BitErrorRate: rate}, FromMCU: sim.LineFaults{BitErrorRate: rate}, Seed: 7}
	}
	for _, c := range []struct {
		name string
		line sim.LineConfig
		mcu  sim.MCUConfig
		want float64
	}{
		{"115200 instant", sim.LineConfig{}, instant, 0.98},
		{"115200 turn-around 1 ms", sim.LineConfig{}, after(time.Millisecond), 0.95},
		{"115200 bit errors 1e-5", noise(1e-5), instant, 0.92},
		{"115200 bit errors 1e-4", noise(1e-4), instant, 0.5},
		{"115200 bit errors 1e-3", noise(1e-3), instant, 0.05},
		{"921600 turn-around 100 us", sim.LineConfig{Baud: 921_600}, after(100 * time.Microsecond), 0.9},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.mcu.SlotSize = 1 << 20
			onRig(t, c.line, c.mcu, 200_000, func(r *dialecttest.Rig) {
				l := r.TimeLoad()
				r.Ends(schemas.StateSucceeded, "")
				baud := c.line.Baud
				if baud == 0 {
					baud = sim.DefaultBaud
				}
				took := l.Took()
				ratio := ceiling(r.Image, baud, true).Seconds() / took.Seconds()
				bare := ceiling(r.Image, baud, false).Seconds() / took.Seconds()
				t.Logf("%.0f B/s, %.4f of the ceiling (%.4f of one without acks), %d frames sent again",
					float64(len(r.Image))/took.Seconds(), ratio, bare, r.Count(dialect.FramesRetried))
				if most := 1 + 1.0/270; ratio < c.want || ratio > most || math.IsNaN(ratio) {
					t.Errorf("ratio %.4f, want at least %.2f and at most %.4f", ratio, c.want, most)
				}
			})
		})
	}
}

// Goodput on a noisy line, over many seeds: no update fails, and the time that
// repetitions cost is bounded. With DAVIT_CAMPAIGN there are a thousand seeds.
func TestGoodputUnderNoise(t *testing.T) {
	seeds := 15
	if os.Getenv("DAVIT_CAMPAIGN") != "" {
		seeds = 1000
	}
	const size = 64 << 10
	for _, c := range []struct{ rate, want float64 }{{1e-5, 0.92}, {1e-4, 0.5}} {
		t.Run(fmt.Sprint(c.rate), func(t *testing.T) {
			least, sum := math.Inf(1), 0.0
			for seed := range uint64(seeds) {
				noise := sim.LineFaults{BitErrorRate: c.rate}
				line := sim.LineConfig{ToMCU: noise, FromMCU: noise, Seed: seed}
				mcu := sim.MCUConfig{Seed: seed, EraseTime: sim.None, WriteTime: sim.None, VerifyTime: sim.None}
				onRig(t, line, mcu, size, func(r *dialecttest.Rig) {
					l := r.TimeLoad()
					r.Ends(schemas.StateSucceeded, "")
					ratio := ceiling(r.Image, sim.DefaultBaud, true).Seconds() / l.Took().Seconds()
					least = min(least, ratio)
					sum += ratio
				})
				if t.Failed() {
					t.Fatalf("with seed %d", seed)
				}
			}
			mean := sum / float64(seeds)
			t.Logf("%d updates of %d bytes, none failed: %.4f of the ceiling on average, %.4f at worst", seeds, size, mean, least)
			if !(mean >= c.want) {
				t.Errorf("%.4f of the ceiling on average, want at least %.2f", mean, c.want)
			}
		})
	}
}

// A LOAD and its ack allocate nothing, end to end through the machine.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	now := time.Unix(1000, 0)
	var decoder tlv.Decoder
	s := newMachine(dialect.Config{Baud: 4_000_000, OfferInterval: time.Hour}, dialecttest.NewRecorder())
	s.Begin(now)
	ready := make(chan struct{})
	close(ready)
	s.Order(&dialect.Update{Version: newVersion, Size: 255 * 4000, Image: zeros{}, Ready: ready, Reporter: quiet{}}, now)
	s.u.phase = phaseLoad
	s.connect, s.feature = false, false
	s.asks.None()
	var ack []byte
	step := func() {
		decoder.Feed(s.Step(now).Write)
		for decoder.Next() {
			f, err := decoder.Frame()
			if err != nil || f.Type != tlv.FrameData {
				t.Fatalf("frame %v, error %v", f, err)
			}
			ack, _ = tlv.AppendFrame(ack[:0], tlv.Frame{Type: tlv.FrameAck, Seq: f.Seq})
		}
		s.Sent(now)
		s.Receive(ack, now)
	}
	step()
	if n := testing.AllocsPerRun(1000, step); n != 0 {
		t.Errorf("%v allocations for a LOAD and its ack", n)
	}
	if s.u == nil || s.u.acked < 255*1000 {
		t.Fatalf("no LOADs were acknowledged: %+v", s.u)
	}
}

type zeros struct{}

func (zeros) ReadAt(b []byte, _ int64) (int, error) { clear(b); return len(b), nil }

type quiet struct{}

func (quiet) State(schemas.State, uint64) error { return nil }
func (quiet) Ended(dialect.Result)              {}
