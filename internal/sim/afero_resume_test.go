package sim

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"davit/schemas/afpro"
)

// half sends the first chunks of an image, offered as id.
func (r *aferoRig) half(id uint64, image []byte, chunks int) error {
	if err := r.begin(afpro.Info{Type: DefaultFirmwareType, Size: uint32(len(image)), Version: id}); err != nil {
		return err
	}
	for i := range chunks {
		off := i * r.chunk
		if err := r.send(afpro.AppendTransfer(nil, uint32(off), image[off:min(off+r.chunk, len(image))])); err != nil {
			return err
		}
		if _, err := r.tunnelled(otaPatience, afpro.OTATransfer); err != nil {
			return err
		}
	}
	return nil
}

// TestAferoMCUGoesOn: with what its flash holds, after whatever happened.
func TestAferoMCUGoesOn(t *testing.T) {
	image := BuildDemoImage("2.0.0", 9000, 1) // 37 chunks
	const half = 20
	again := func(r *aferoRig) error {
		return r.begin(afpro.Info{Type: DefaultFirmwareType, Size: uint32(len(image)), Version: 7})
	}
	reset := func(r *aferoRig) error {
		r.mcu.Reset()
		return r.boot()
	}
	cut := func(r *aferoRig) error {
		r.powerOff()
		r.powerOn()
		return r.boot()
	}
	for _, tc := range []struct {
		name  string
		cfg   AferoConfig
		first int // chunks sent before
		then  []func(r *aferoRig) error
		sent  int // chunks sent after, the one that asks where to go on included
	}{
		{name: "reset", first: half, then: []func(*aferoRig) error{reset}, sent: 37 - half + 1},
		{name: "reset and BEGIN", first: half, then: []func(*aferoRig) error{reset, again}, sent: 37 - half + 1},
		{name: "power cut", first: half, then: []func(*aferoRig) error{cut, again}, sent: 37 - half + 1},
		{name: "BEGIN", first: half, then: []func(*aferoRig) error{again}, sent: 37 - half + 1},
		{name: "BEGIN, all there", first: 37, then: []func(*aferoRig) error{again}, sent: 1},
		{name: "reset, all there", first: 37, then: []func(*aferoRig) error{reset}, sent: 1},
		{name: "BEGIN, loses", cfg: AferoConfig{LosesOffset: true}, first: half, then: []func(*aferoRig) error{again}, sent: 37},
		{name: "reset and BEGIN, loses", cfg: AferoConfig{LosesOffset: true}, first: half, then: []func(*aferoRig) error{reset, again}, sent: 37},
		{name: "nothing", first: half, sent: 37 - half + 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newAferoRig(t, tc.cfg, aferoLine())
				defer r.close()
				if err := errors.Join(r.boot(), r.half(7, image, tc.first)); err != nil {
					t.Fatal(err)
				}
				for _, do := range tc.then {
					if err := do(r); err != nil {
						t.Fatal(err)
					}
				}
				n, err := r.transfer(image, 0)
				if all := tc.sent == 1; n != tc.sent || all != errors.Is(err, errStopped) || !all && err != nil {
					t.Errorf("%d chunks sent, want %d, %v", n, tc.sent, err)
				}
				if err := r.finish(7, image); err != nil {
					t.Fatal(err)
				}
				if id, err := r.version(DefaultFirmwareType); err != nil || id != 7 || !r.runs(7, image) {
					t.Errorf("reports %d, %v", id, err)
				}
			})
		})
	}
}

// TestAferoMCUStartsAnewForAnotherImage: what the flash holds is of no use to it.
func TestAferoMCUStartsAnewForAnotherImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAferoRig(t, AferoConfig{}, aferoLine())
		defer r.close()
		image, other := randomBytes(1, 9000), randomBytes(2, 9000)
		if err := errors.Join(r.boot(), r.half(7, image, 20)); err != nil {
			t.Fatal(err)
		}
		offer := afpro.Info{Type: DefaultFirmwareType, Size: uint32(len(other)), Version: 8}
		if err := errors.Join(r.begin(offer), r.load(8, other)); err != nil {
			t.Fatal(err)
		}
		if id, err := r.version(DefaultFirmwareType); err != nil || id != 8 || !r.runs(8, other) {
			t.Errorf("reports %d, %v", id, err)
		}
	})
}

// TestAferoMCUAppliesOnlyWhatIsWhole: APPLY without an image, of half an image
// and of another version is answered IDLE and boots nothing; a chunk that
// nobody had offered is not wanted; FAIL drops everything.
func TestAferoMCUAppliesOnlyWhatIsWhole(t *testing.T) {
	image := BuildDemoImage("2.0.0", 1000, 1)
	fail := func(r *aferoRig) error {
		return r.send(afpro.AppendInfo(nil, afpro.ChannelToMCU, afpro.Info{State: afpro.InfoFail}))
	}
	for name, do := range map[string]func(r *aferoRig) error{
		"nothing":         func(*aferoRig) error { return nil },
		"half":            func(r *aferoRig) error { return r.half(7, image, 3) },
		"another version": func(r *aferoRig) error { return r.half(8, image, 5) },
		"failed":          func(r *aferoRig) error { return errors.Join(r.half(7, image, 5), fail(r)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newAferoRig(t, AferoConfig{}, aferoLine())
				defer r.close()
				if err := errors.Join(r.boot(), do(r), r.apply(7)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if r.mcu.Boots() != 1 {
					t.Error("it booted")
				}
				if name != "nothing" && name != "failed" {
					return
				}
				if n, err := r.transfer(image, 0); n != 1 || !errors.Is(err, errStopped) {
					t.Errorf("a chunk that nobody offered: %v", err)
				}
			})
		})
	}
}

// TestAferoMCUBootsThoughNobodyListens: its last word is not taken, or waits
// behind another, and in the second case a new offer comes before it boots.
func TestAferoMCUBootsThoughNobodyListens(t *testing.T) {
	image := BuildDemoImage("2.0.0", 1000, 1)
	for _, offer := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newAferoRig(t, AferoConfig{Protocol: 1, SetVersion: true}, aferoLine())
			defer r.close()
			if err := errors.Join(r.boot(), r.half(7, image, 5)); err != nil {
				t.Fatal(err)
			}
			r.mute = true // now its SETs stand before all else that it has to say
			apply, begin := afpro.Info{State: afpro.InfoApply, Version: 7}, afpro.Info{
				State: afpro.InfoBegin, Type: DefaultFirmwareType, Size: 1000, Version: 8,
			}
			err := errors.Join(r.startUp(2, newApplication, afpro.ASRInitialized), r.send(afpro.AppendInfo(nil, afpro.ChannelToMCU, apply)))
			if offer {
				err = errors.Join(err, r.send(afpro.AppendInfo(nil, afpro.ChannelToMCU, begin)))
			}
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(applyTimeout + 5*time.Second)
			if booted := r.mcu.Boots() == 2; booted == offer {
				t.Errorf("another offer: %v, booted: %v", offer, booted)
			}
			_, _ = r.await(time.Minute, ownAttribute)
			if booted := r.mcu.Boots() == 2; booted == offer || r.mcu.Resets() != 0 {
				t.Errorf("another offer: %v, booted after the last word: %v", offer, booted)
			}
		})
	}
}

// TestAferoMCUFallsBackUnlessConfirmed is TestMCUFallsBackUnlessConfirmed for
// version ids, and for an update that begins before the image is confirmed:
// there is nothing left to go back to then.
func TestAferoMCUFallsBackUnlessConfirmed(t *testing.T) {
	image := BuildDemoImage("2.0.0", 3000, 1)
	for _, tc := range []struct {
		name string
		do   func(r *aferoRig) error
		want uint64
	}{
		{name: "reset before", do: func(r *aferoRig) error { r.mcu.Reset(); return nil }, want: DefaultVersionID},
		{name: "reset after", do: func(r *aferoRig) error { time.Sleep(time.Minute); r.mcu.Reset(); return nil }, want: 7},
		{name: "reset with half an image in the way back", do: func(r *aferoRig) error {
			err := r.half(8, image, 2)
			r.mcu.Reset()
			return err
		}, want: 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newAferoRig(t, AferoConfig{MCUConfig: MCUConfig{ConfirmAfter: 30 * time.Second}}, aferoLine())
				defer r.close()
				if id, err := r.update(7, image); err != nil || id != 7 {
					t.Fatal(id, err)
				}
				if err := tc.do(r); err != nil {
					t.Fatal(err)
				}
				if id, err := r.version(DefaultFirmwareType); err != nil || id != tc.want || r.mcu.RunningVersionID() != tc.want {
					t.Errorf("reports %d and runs %d, want %d, %v", id, r.mcu.RunningVersionID(), tc.want, err)
				}
			})
		})
	}
}

// TestAferoMCUResetsMidway: once for each fault that wants it.
func TestAferoMCUResetsMidway(t *testing.T) {
	for name, fault := range map[string]Fault{"at a message": {ResetAtFrame: 20}, "at a byte": {ResetAtByte: 2000}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newAferoRig(t, AferoConfig{MCUConfig: MCUConfig{Fault: fault}}, aferoLine())
				defer r.close()
				image := BuildDemoImage("2.0.0", 9000, 1)
				if _, err := r.update(7, image); err == nil {
					t.Fatal("the update went through a reset")
				}
				if s := r.mcu.Stats(); r.mcu.Resets() != 1 || s.PagesWritten == 0 || s.PagesWritten > 8 {
					t.Errorf("%d resets, %+v", r.mcu.Resets(), s)
				}
				if id, err := r.update(7, image); err != nil || id != 7 || r.mcu.Resets() != 1 {
					t.Errorf("once more: %d, %v, %d resets", id, err, r.mcu.Resets())
				}
			})
		})
	}
}

// TestAferoMCUResetsAtEveryStep: wherever a reset falls, the MCU runs one of
// the two images, and the module gets its update through in the end.
func TestAferoMCUResetsAtEveryStep(t *testing.T) {
	image := BuildDemoImage("2.0.0", MinDemoImage, 1)
	for step, over := 1, false; !over; step++ {
		synctest.Test(t, func(t *testing.T) {
			r := newAferoRig(t, AferoConfig{MCUConfig: MCUConfig{Fault: Fault{Afero: AferoFault{ResetAtStep: step}}}}, aferoLine())
			defer r.close()
			old := r.mcu.RunningImage()
			for try := 0; !r.runs(7, image); try++ {
				_, err := r.update(7, image)
				if !r.runs(7, image) && !r.runs(DefaultVersionID, old) {
					t.Fatalf("step %d: runs neither of its images", step)
				}
				if try == 3 {
					t.Fatalf("step %d: no update in %d tries: %v", step, try, err)
				}
			}
			time.Sleep(time.Minute)
			if !r.mcu.Confirmed() {
				t.Errorf("step %d: not confirmed", step)
			}
			over = r.mcu.Resets() == 0
			if over && step < 100 {
				t.Errorf("an update has %d steps only", step)
			}
		})
	}
}
