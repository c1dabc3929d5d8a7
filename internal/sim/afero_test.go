package sim

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"davit/schemas/afpro"
)

func TestAferoMCUUpdatesItself(t *testing.T) {
	raw := randomBytes(5, 10_001)
	losing := AferoConfig{MCUConfig: MCUConfig{Seed: 4, Fault: Fault{LoseAcks: 0.05}}}
	for _, tc := range []struct {
		name  string
		cfg   AferoConfig
		line  LineConfig // on top of aferoLine
		image []byte
		asr   func(a *asr)
	}{
		{name: "demo image", image: BuildDemoImage("2.0.0", 20_000, 1)},
		{name: "demo image over 64 KiB", image: BuildDemoImage("2.0.0", 70_003, 1)},
		{name: "one byte", image: []byte{0}},
		{name: "whole pages", image: randomBytes(6, 4*DefaultPageSize)},
		{name: "one byte over a page", image: randomBytes(6, 4*DefaultPageSize+1)},
		{name: "protocol 1", cfg: AferoConfig{Protocol: 1}},
		{name: "version as SET", cfg: AferoConfig{SetVersion: true}},
		{name: "whole structs", cfg: AferoConfig{FullStruct: true}},
		{name: "version on request", cfg: AferoConfig{MCUConfig: MCUConfig{Report: ReportOnRequest}}},
		{name: "version after updates, no GET", cfg: AferoConfig{NoGet: true, MCUConfig: MCUConfig{Report: ReportAfterUpdate}}},
		{name: "version when connected", cfg: AferoConfig{MCUConfig: MCUConfig{Report: ReportOnConnect}}},
		{name: "larger attribute", cfg: AferoConfig{AttributeSize: 2046}, asr: func(a *asr) { a.chunk = 2042 }},
		{name: "traffic meanwhile", cfg: AferoConfig{MCUConfig: MCUConfig{Traffic: 30 * time.Millisecond}}},
		{name: "traffic and collisions", cfg: AferoConfig{MCUConfig: MCUConfig{Traffic: 20 * time.Millisecond}}, asr: func(a *asr) { a.collide = true }},
		{name: "late", cfg: AferoConfig{MCUConfig: MCUConfig{Fault: Fault{AckDelay: 50 * time.Millisecond}}}},
		{name: "syncs twice", cfg: AferoConfig{MCUConfig: MCUConfig{Fault: Fault{DoubleAcks: true}}}},
		{name: "loses ready bytes", cfg: losing},
		{name: "latency", line: LineConfig{Latency: 5 * time.Millisecond, Jitter: time.Millisecond}},
		{name: "slow line", line: LineConfig{Baud: 9600}, image: raw[:2000]},
		{name: "bytes lost", line: LineConfig{Seed: 3, ToMCU: LineFaults{DropRate: 1e-4}, FromMCU: LineFaults{DropRate: 1e-3}}, image: raw[:3000]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.line.BitsPerByte, tc.line.NoFlowControl = 10, true
				r := newAferoRig(t, tc.cfg, tc.line)
				defer r.close()
				if tc.asr != nil {
					tc.asr(r.asr)
				}
				if tc.image == nil {
					tc.image = raw
				}
				got, err := r.update(7, tc.image)
				if err != nil || got != 7 {
					t.Fatalf("update ended with version %d, error %v; %+v", got, err, r.mcu.Stats())
				}
				if !r.runs(7, tc.image) {
					t.Error("the MCU does not run the image that was sent, byte for byte")
				}
				if h, ok := ReadDemoHeader(tc.image); ok && r.mcu.RunningVersion() != h.Version || !ok && r.mcu.RunningVersion() != "7" {
					t.Errorf("runs version %q", r.mcu.RunningVersion())
				}
				if r.mcu.Boots() != 2 || r.mcu.Resets() != 0 {
					t.Errorf("%d boots and %d resets", r.mcu.Boots(), r.mcu.Resets())
				}
				if lost := r.mcu.Stats().LostReadies > 5; lost != (tc.cfg.Fault.LoseAcks > 0) {
					t.Errorf("%d ready bytes lost", r.mcu.Stats().LostReadies)
				}
				time.Sleep(time.Second)
				if !r.mcu.Confirmed() {
					t.Error("the new image did not confirm itself")
				}
			})
		})
	}
}

// TestAferoMCUCollides: the case above is no test of collisions unless there
// are some, and neither side loses anything by them.
func TestAferoMCUCollides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAferoRig(t, AferoConfig{MCUConfig: MCUConfig{Traffic: 15 * time.Millisecond}}, aferoLine())
		defer r.close()
		r.collide = true
		if err := r.boot(); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if err := r.tell(ownAttribute, []byte("from the module")); err != nil {
				t.Fatal(err)
			}
		}
		s := r.mcu.Stats()
		if s.Collisions < 10 || r.updates != s.MessagesOut || r.bad > 0 || s.MessagesBad > 0 || s.GivenUp > 0 {
			t.Errorf("%d messages came, %d bad; %+v", r.updates, r.bad, s)
		}
	})
}

// TestAferoMCURefuses: every way to say no, and what it looks like; the old
// image goes on running.
func TestAferoMCURefuses(t *testing.T) {
	image := BuildDemoImage("2.0.0", 9000, 1)
	broken := slices.Clone(image)
	broken[5000] ^= 1
	fault := func(f Fault) AferoConfig { return AferoConfig{MCUConfig: MCUConfig{Fault: f}} }
	for _, tc := range []struct {
		name  string
		cfg   AferoConfig
		image []byte
		want  error
	}{
		{name: "too large", cfg: AferoConfig{MCUConfig: MCUConfig{SlotSize: 8192}}, want: errRefused},
		{name: "empty", image: []byte{}, want: errRefused},
		{name: "too large by fault", cfg: fault(Fault{RejectTooLarge: true}), want: errRefused},
		{name: "already", cfg: AferoConfig{VersionID: 7}, want: errRefused},
		{name: "already by fault", cfg: fault(Fault{RejectAlready: true}), want: errRefused},
		{name: "busy", cfg: fault(Fault{Busy: 1}), want: errRefused},
		{name: "older", cfg: AferoConfig{VersionID: 8, MCUConfig: MCUConfig{RejectOlder: true}}, want: errRefused},
		{name: "another type", cfg: AferoConfig{Type: 102}, want: errRefused},
		{name: "checksum by fault", cfg: fault(Fault{BadChecksum: true}), want: errSum},
		{name: "flash write", cfg: fault(Fault{FlashErrorAt: 7}), want: errStopped},
		{name: "offsets beyond the image", cfg: fault(Fault{Afero: AferoFault{OffsetBeyond: true}}), want: errOffset},
		{name: "offsets backwards", cfg: fault(Fault{Afero: AferoFault{Backwards: true}}), want: errSilence},
		{name: "whole structs", cfg: AferoConfig{FullStruct: true, VersionID: 7}, want: errRefused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newAferoRig(t, tc.cfg, aferoLine())
				defer r.close()
				before, id := r.mcu.RunningImage(), r.mcu.RunningVersionID()
				if tc.image == nil {
					tc.image = image
				}
				if _, err := r.update(7, tc.image); !errors.Is(err, tc.want) {
					t.Fatalf("update ended with %v, want %v", err, tc.want)
				}
				if !r.runs(id, before) || r.mcu.Boots() != 1 {
					t.Errorf("runs %d after a refusal, booted %d times", r.mcu.RunningVersionID(), r.mcu.Boots())
				}
			})
		})
	}
	t.Run("damaged image", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newAferoRig(t, AferoConfig{}, aferoLine())
			defer r.close()
			got, err := r.update(7, broken) // IDLE is all that the MCU can say to APPLY
			if err != nil || got != DefaultVersionID || r.mcu.Boots() != 1 {
				t.Errorf("reports %d, %v after %d boots", got, err, r.mcu.Boots())
			}
		})
	})
	t.Run("does not boot", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cfg := fault(Fault{NoBoot: true})
			cfg.Report = ReportAfterUpdate
			cfg.NoGet = true
			r := newAferoRig(t, cfg, aferoLine())
			defer r.close()
			got, err := r.update(7, image)
			if err != nil || got != DefaultVersionID || r.mcu.RunningVersion() != DefaultMCUVersion {
				t.Errorf("reports %d, %v, runs %q", got, err, r.mcu.RunningVersion())
			}
		})
	})
}

// TestAferoMCUSilence: every way to say nothing, or nothing of use.
func TestAferoMCUSilence(t *testing.T) {
	image := BuildDemoImage("2.0.0", 3000, 1)
	for _, tc := range []struct {
		name  string
		fault Fault
		want  error
		runs  string
		id    uint64 // that is reported, if there is no error
	}{
		{name: "silent", fault: Fault{Silent: true}, want: errSilence, runs: DefaultMCUVersion},
		{name: "deaf", fault: Fault{Deaf: true}, want: errSilence, runs: DefaultMCUVersion},
		{name: "never acks", fault: Fault{Afero: AferoFault{NeverAcks: true}}, want: errSilence, runs: DefaultMCUVersion},
		{name: "bad syncs", fault: Fault{Afero: AferoFault{BadSyncs: true}}, want: errSilence, runs: DefaultMCUVersion},
		{name: "huge counts", fault: Fault{Afero: AferoFault{HugeCounts: true}}, want: errSilence, runs: DefaultMCUVersion},
		{name: "never returns", fault: Fault{NeverReturns: true}, want: errSilence, runs: DefaultMCUVersion},
		{name: "no version", fault: Fault{NoVersion: true}, want: errSilence, runs: "2.0.0"},
		{name: "wrong version", fault: Fault{Afero: AferoFault{WrongVersionID: 666}}, runs: "2.0.0", id: 666},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newAferoRig(t, AferoConfig{MCUConfig: MCUConfig{Fault: tc.fault}}, aferoLine())
				defer r.close()
				id, err := r.update(7, image)
				if !errors.Is(err, tc.want) || id != tc.id {
					t.Errorf("update ended with %d, %v, want %d, %v", id, err, tc.id, tc.want)
				}
				if v := r.mcu.RunningVersion(); v != tc.runs {
					t.Errorf("runs %q, want %q", v, tc.runs)
				}
			})
		})
	}
}

const ownAttribute afpro.Attribute = 17
