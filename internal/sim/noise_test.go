package sim

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// heard is what arrives at the MCU's end of a line when the module writes the
// pieces one after the other.
func heard(t *testing.T, cfg LineConfig, pieces ...[]byte) (got []byte, s LineStats) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(cfg)
		module, mcu := l.Module(), l.MCU()
		done := make(chan struct{})
		go func() {
			defer close(done)
			got, _ = io.ReadAll(mcu) // the error is the end's being closed
		}()
		for _, p := range pieces {
			if _, err := module.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		s, _ = l.Stats()
		_ = mcu.Close()
		<-done
	})
	return got, s
}

// TestLineBursts: in a burst no byte arrives as it was sent, and bursts have
// their length.
func TestLineBursts(t *testing.T) {
	const total, length = 200_000, 40
	got, s := heard(t, LineConfig{Baud: 10_000_000, Seed: 3, ToMCU: LineFaults{BurstRate: 1e-4, BurstBytes: length}}, make([]byte, total))
	if len(got) != total {
		t.Fatalf("%d of %d bytes arrived", len(got), total)
	}
	bursts, run, longest := 0, 0, 0
	for _, b := range got {
		if b == 0 {
			run = 0
			continue
		}
		if run++; run == 1 {
			bursts++
		}
		longest = max(longest, run)
	}
	// 1e-4 of 200,000 bytes are 20; a burst that begins in another makes one longer.
	if bursts < 10 || bursts > 35 || longest < length || s.Flipped < int64(bursts*length) {
		t.Errorf("%d bursts, the longest of %d bytes; %+v", bursts, longest, s)
	}
}

// TestLineGarbage: bytes that nobody sent come behind a Write, never in it,
// and the bytes of the Writes are whole, with latency and without.
func TestLineGarbage(t *testing.T) {
	const writes, most = 2000, 5
	piece := []byte("one frame")
	pieces := make([][]byte, writes)
	for i := range pieces {
		pieces[i] = piece
	}
	for _, latency := range []time.Duration{0, 3 * time.Millisecond} {
		got, s := heard(t, LineConfig{Baud: 1_000_000, Latency: latency, Seed: 5, ToMCU: LineFaults{GarbageRate: 0.2, GarbageBytes: most}}, pieces...)
		whole := bytes.Count(got, piece)
		if whole != writes || s.Garbage != int64(len(got)-writes*len(piece)) || s.Delivered != int64(len(got)) {
			t.Errorf("latency %v: %d of %d frames are whole in %d bytes; %+v", latency, whole, writes, len(got), s)
		}
		// A fifth of the Writes, 1 to 5 bytes each: 3 on average.
		if want := float64(writes) * 0.2 * 3; float64(s.Garbage) < want*0.8 || float64(s.Garbage) > want*1.2 {
			t.Errorf("latency %v: %d bytes of garbage, want about %.0f", latency, s.Garbage, want)
		}
	}
}

// TestLineDrawsOnlyWhatItNeeds: what has no rate changes nothing in what else
// goes wrong with a seed.
func TestLineDrawsOnlyWhatItNeeds(t *testing.T) {
	flips := LineFaults{BitErrorRate: 1e-3}
	more := flips
	more.BurstBytes, more.GarbageBytes = 7, 9
	data := make([]byte, 20_000)
	a, _ := heard(t, LineConfig{Seed: 9, ToMCU: flips}, data)
	b, _ := heard(t, LineConfig{Seed: 9, ToMCU: more}, data)
	if !bytes.Equal(a, b) || bytes.Equal(a, data) {
		t.Error("lengths without rates change what goes wrong")
	}
}
