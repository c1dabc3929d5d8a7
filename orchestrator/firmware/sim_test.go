package firmware_test

import (
	"bytes"
	"testing"

	"davit/internal/sim"
	"davit/orchestrator/firmware"
)

// TestInspectKnowsTheSimulator: the images that the simulated MCU takes are
// found sound, those that it refuses are not.
func TestInspectKnowsTheSimulator(t *testing.T) {
	for _, size := range []int{sim.MinDemoImage, 1000, 65535, 65536, 300_001} {
		image := sim.BuildDemoImage("3.2.1", size, 7)
		d, err := firmware.Inspect(bytes.NewReader(image), int64(size))
		if err != nil || d == nil || d.Version != "3.2.1" || d.Size != uint64(size) || len(d.Problems) != 0 {
			t.Errorf("%d bytes: %+v, %v", size, d, err)
		}
		image[size/2] ^= 0x10
		d, err = firmware.Inspect(bytes.NewReader(image), int64(size))
		damaged := sim.CheckDemoImage(image) != nil
		if err != nil || d == nil || len(d.Problems) > 0 != damaged {
			t.Errorf("%d bytes, damaged: %+v, %v", size, d, err)
		}
	}
}
