package sim

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAferoMCUUpdatesItself(t *testing.T) {
	raw := randomBytes(5, 10_001)
	for _, tc := range []struct {
		name  string
		cfg   AferoConfig
		image []byte
	}{
		{name: "demo image", image: BuildDemoImage("2.0.0", 20_000, 1)},
		{name: "raw firmware", image: raw},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newAferoRig(t, tc.cfg, aferoLine())
				defer r.close()
				begin := time.Now()
				got, err := r.update(7, tc.image)
				t.Logf("%v %+v", time.Since(begin), r.mcu.Stats())
				if err != nil || got != 7 {
					t.Fatalf("update ended with version %d, error %v", got, err)
				}
				if !r.runs(7, tc.image) {
					t.Error("the MCU does not run the image that was sent, byte for byte")
				}
				if r.mcu.Boots() != 2 || r.mcu.Resets() != 0 {
					t.Errorf("%d boots and %d resets", r.mcu.Boots(), r.mcu.Resets())
				}
				time.Sleep(time.Second)
				if !r.mcu.Confirmed() {
					t.Error("the new image did not confirm itself")
				}
			})
		})
	}
}
