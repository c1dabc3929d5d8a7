package sim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"davit/schemas/tlv"
)

func TestMCUUpdatesItself(t *testing.T) {
	raw := randomBytes(5, 10_001)
	for _, tc := range []struct {
		name    string
		cfg     MCUConfig
		line    LineConfig
		version string
		image   []byte
	}{
		{name: "demo image under 64 KiB", version: "2.0.0", image: BuildDemoImage("2.0.0", 20_000, 1)},
		{name: "demo image over 64 KiB", version: "2.0.0", image: BuildDemoImage("2.0.0", 70_003, 1)},
		{name: "raw firmware", version: "9.9", image: raw},
		{name: "one byte", version: "9.9", image: []byte{0}},
		{name: "ends with a page and a piece", version: "9.9", image: randomBytes(6, 255*256)},
		{name: "no verdict", cfg: MCUConfig{NoVerdict: true}, version: "9.9", image: raw},
		{name: "STAT after boot", cfg: MCUConfig{BootStat: true}, version: "9.9", image: raw},
		{name: "version on request", cfg: MCUConfig{Report: ReportOnRequest}, version: "9.9", image: raw},
		{name: "traffic meanwhile", cfg: MCUConfig{Traffic: 300 * time.Millisecond}, version: "9.9", image: raw},
		{name: "late acks", cfg: MCUConfig{Fault: Fault{AckDelay: 400 * time.Millisecond}}, version: "9.9", image: raw},
		{name: "double acks", cfg: MCUConfig{Fault: Fault{DoubleAcks: true}}, version: "9.9", image: raw},
		{name: "lost acks", cfg: MCUConfig{Seed: 4, Fault: Fault{LoseAcks: 0.2}}, version: "9.9", image: raw},
		{name: "two flags", cfg: MCUConfig{DoubleFlags: true}, version: "9.9", image: raw},
		{name: "noise", line: LineConfig{Seed: 2, ToMCU: LineFaults{BitErrorRate: 5e-5}, FromMCU: LineFaults{DropRate: 1e-4, DoubleRate: 1e-3}}, version: "9.9", image: raw},
		{name: "slow line, no flow control", line: LineConfig{Baud: 9600, NoFlowControl: true, Latency: 5 * time.Millisecond, Jitter: time.Millisecond}, version: "9.9", image: raw[:2000]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, tc.cfg, tc.line)
				defer r.close()
				got, err := r.update(tc.version, tc.image)
				if err != nil || got != tc.version {
					t.Fatalf("update ended with version %q, error %v", got, err)
				}
				if r.mcu.RunningVersion() != tc.version || !bytes.Equal(r.mcu.RunningImage(), tc.image) {
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

// TestMCURefuses: every way to say no, with the code that it is said with; the
// old image goes on running.
func TestMCURefuses(t *testing.T) {
	image := BuildDemoImage("2.0.0", 9000, 1)
	broken := slices.Clone(image)
	broken[5000] ^= 1
	for _, tc := range []struct {
		name  string
		cfg   MCUConfig
		image []byte
		want  tlv.Code
	}{
		{name: "too large", cfg: MCUConfig{SlotSize: 8192}, want: tlv.CodeLength},
		{name: "too large by fault", cfg: MCUConfig{Fault: Fault{RejectTooLarge: true}}, want: tlv.CodeLength},
		{name: "already", cfg: MCUConfig{Version: "2.0.0"}, want: tlv.CodeAlready},
		{name: "already by fault", cfg: MCUConfig{Fault: Fault{RejectAlready: true}}, want: tlv.CodeAlready},
		{name: "busy", cfg: MCUConfig{Fault: Fault{Busy: 1}}, want: tlv.CodeBusyRetry},
		{name: "busy with another code", cfg: MCUConfig{Fault: Fault{Busy: 1, BusyCode: tlv.CodeServiceBusy}}, want: tlv.CodeServiceBusy},
		{name: "older", cfg: MCUConfig{Version: "2.0.1", RejectOlder: true}, want: tlv.CodeInvalidReq},
		{name: "damaged image", image: broken, want: tlv.CodeChecksum},
		{name: "checksum by fault", cfg: MCUConfig{Fault: Fault{BadChecksum: true}}, want: tlv.CodeChecksum},
		{name: "flash write", cfg: MCUConfig{Fault: Fault{FlashErrorAt: 7}}, want: tlv.CodeInternal},
		{name: "last page's flash write", cfg: MCUConfig{Fault: Fault{FlashErrorAt: 36}}, want: tlv.CodeInternal},
		{name: "does not boot", cfg: MCUConfig{Fault: Fault{NoBoot: true}}, want: tlv.CodeBoot},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, tc.cfg, LineConfig{})
				defer r.close()
				before := r.mcu.RunningVersion()
				if tc.image == nil {
					tc.image = image
				}
				_, err := r.update("2.0.0", tc.image)
				var stat statError
				if !errors.As(err, &stat) || stat.code != tc.want {
					// The report of the old version may come before STAT(BOOT).
					if p, waitErr := r.await(10*time.Second, tlv.OpOTAStat); waitErr == nil {
						err = r.asError(p)
					}
				}
				if !errors.As(err, &stat) || stat.code != tc.want {
					t.Fatalf("update ended with %v, want STAT %v", err, tc.want)
				}
				if v := r.mcu.RunningVersion(); v != before {
					t.Errorf("runs %q after a refusal, ran %q", v, before)
				}
			})
		})
	}
}

func TestMCUSilence(t *testing.T) {
	image := BuildDemoImage("2.0.0", 3000, 1)
	t.Run("silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, MCUConfig{Fault: Fault{Silent: true}}, LineConfig{})
			defer r.close()
			if err := r.offer("2.0.0", len(image)); err == nil || errors.Is(err, errNoAck) {
				t.Errorf("offer: %v, want an ack and no answer", err)
			}
			if v, err := r.version(); err != nil || v != DefaultMCUVersion {
				t.Errorf("version %q, %v", v, err)
			}
		})
	})
	t.Run("deaf", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, MCUConfig{Fault: Fault{Deaf: true}}, LineConfig{})
			defer r.close()
			if err := r.offer("2.0.0", len(image)); !errors.Is(err, errNoAck) {
				t.Errorf("offer: %v, want no ack", err)
			}
		})
	})
	t.Run("never returns", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, MCUConfig{Fault: Fault{NeverReturns: true}}, LineConfig{})
			defer r.close()
			if _, err := r.update("2.0.0", image); !errors.Is(err, errNoAck) {
				t.Errorf("update: %v, want no ack after boot", err)
			}
		})
	})
	t.Run("no version", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, MCUConfig{Fault: Fault{NoVersion: true}}, LineConfig{})
			defer r.close()
			if v, err := r.update("2.0.0", image); err == nil {
				t.Errorf("update: version %q, want none", v)
			}
			if v := r.mcu.RunningVersion(); v != "2.0.0" {
				t.Errorf("runs %q", v)
			}
		})
	})
	t.Run("wrong version", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, MCUConfig{Fault: Fault{WrongVersion: "6.6.6"}}, LineConfig{})
			defer r.close()
			if v, err := r.update("2.0.0", image); err != nil || v != "6.6.6" {
				t.Errorf("update: version %q, %v, want 6.6.6", v, err)
			}
		})
	})
}

func TestMCUErasesOneSectorPerOffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, MCUConfig{EraseByOffer: true}, LineConfig{})
		defer r.close()
		image := BuildDemoImage("2.0.0", 3*DefaultSectorSize+1, 1)
		var stat statError
		for i := range 3 {
			if err := r.offer("2.0.0", len(image)); !errors.As(err, &stat) || stat.code != tlv.CodeInternal {
				t.Fatalf("offer %d: %v, want INTERNAL", i+1, err)
			}
		}
		if v, err := r.update("2.0.0", image); err != nil || v != "2.0.0" {
			t.Fatalf("fourth offer: %q, %v", v, err)
		}
		if n := r.mcu.Stats().SectorsErased; n != 4 {
			t.Errorf("%d sectors erased, want 4", n)
		}
	})
}

// TestMCUFallsBackUnlessConfirmed: a reset before the new image has confirmed
// itself brings the old one back, one after does not.
func TestMCUFallsBackUnlessConfirmed(t *testing.T) {
	image := BuildDemoImage("2.0.0", 3000, 1)
	for _, tc := range []struct {
		name   string
		wait   time.Duration
		cut    bool // power, not the reset button
		want   string
		resets int
	}{
		{name: "reset before", want: DefaultMCUVersion, resets: 1},
		{name: "reset after", wait: time.Minute, want: "2.0.0", resets: 1},
		{name: "power cut before", cut: true, want: DefaultMCUVersion},
		{name: "power cut after", cut: true, wait: time.Minute, want: "2.0.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, MCUConfig{ConfirmAfter: 30 * time.Second}, LineConfig{})
				defer r.close()
				if _, err := r.update("2.0.0", image); err != nil {
					t.Fatal(err)
				}
				time.Sleep(tc.wait)
				if tc.cut {
					r.powerOff()
					r.powerOn()
				} else {
					r.mcu.Reset()
				}
				delete(r.props, DefaultVersionProperty)
				_, _ = r.await(10*time.Second, tlv.OpSendTLV)
				if v := r.props[DefaultVersionProperty]; v != tc.want || r.mcu.RunningVersion() != tc.want {
					t.Errorf("reports %q and runs %q, want %q", v, r.mcu.RunningVersion(), tc.want)
				}
				stat, err := r.await(time.Second, tlv.OpOTAStat)
				if fellBack := err == nil && errors.Is(r.asError(stat), statError{tlv.CodeBoot}); fellBack != (tc.want == DefaultMCUVersion) {
					t.Errorf("STAT(BOOT) was sent: %v", fellBack)
				}
				if r.mcu.Resets() != tc.resets {
					t.Errorf("%d resets, want %d", r.mcu.Resets(), tc.resets)
				}
			})
		})
	}
}

func TestMCUResetsMidway(t *testing.T) {
	for name, fault := range map[string]Fault{"at frame": {ResetAtFrame: 12}, "at byte": {ResetAtByte: 2000}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, MCUConfig{Fault: fault}, LineConfig{})
				defer r.close()
				image := BuildDemoImage("2.0.0", 9000, 1)
				if _, err := r.update("2.0.0", image); err == nil {
					t.Fatal("the update went through a reset")
				}
				if r.restart != 2 || r.mcu.Resets() != 1 {
					t.Errorf("%d sequence restarts seen, %d resets", r.restart, r.mcu.Resets())
				}
				if v, err := r.update("2.0.0", image); err != nil || v != "2.0.0" {
					t.Errorf("from the beginning: %q, %v", v, err)
				}
			})
		})
	}
}

// TestMCUReceivesNoMoreThanItsBuffer: longer frames are lost without an ack.
func TestMCUReceivesNoMoreThanItsBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, MCUConfig{RxLimit: 100}, LineConfig{})
		defer r.close()
		if err := r.send(append(tlv.AppendPing(nil, 1), make([]byte, 96)...)); err != nil {
			t.Errorf("100 bytes: %v", err)
		}
		if err := r.send(append(tlv.AppendPing(nil, 1), make([]byte, 97)...)); !errors.Is(err, errNoAck) {
			t.Errorf("101 bytes: %v, want no ack", err)
		}
	})
}

// TestMCUDoubleFlags: a frame that shares its opening flag with the frame
// before is lost on such a receiver and on no other.
func TestMCUDoubleFlags(t *testing.T) {
	for _, strict := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, MCUConfig{DoubleFlags: strict, Report: ReportOnRequest}, LineConfig{})
			defer r.close()
			b, _ := tlv.AppendFrame(nil, tlv.Frame{Type: tlv.FrameData, Seq: 0, Payload: tlv.AppendPing(nil, 1)})
			b, _ = tlv.AppendFrameShared(b, tlv.Frame{Type: tlv.FrameData, Seq: 1, Payload: tlv.AppendPing(nil, 2)})
			if _, err := r.rw.Write(b); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			want := 2
			if strict {
				want = 1
			}
			if n := r.mcu.Stats().FramesIn; n != want {
				t.Errorf("two flags wanted: %v: %d frames received, want %d", strict, n, want)
			}
			go func() {
				for range r.frames {
				}
			}()
		})
	}
}

// TestMCUTimes: erasing and writing take their time, and the line is quiet for
// as long as the boot takes.
func TestMCUTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := MCUConfig{EraseTime: 100 * time.Millisecond, WriteTime: 50 * time.Millisecond, BootTime: 7 * time.Second}
		r := newRig(t, cfg, LineConfig{Baud: 10_000_000})
		defer r.close()
		image := BuildDemoImage("2.0.0", 10*DefaultSectorSize, 1)
		begin := time.Now()
		if err := r.offer("2.0.0", len(image)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < time.Second || took > 1100*time.Millisecond {
			t.Errorf("go came after %v, erasing 10 sectors takes 1 s", took)
		}
		begin = time.Now()
		if err := r.load(image); err != nil {
			t.Fatal(err)
		}
		if took, want := time.Since(begin), 159*50*time.Millisecond; took < want || took > want+time.Second {
			t.Errorf("loading took %v, writing 160 pages takes 8 s", took)
		}
		if _, err := r.await(time.Second, tlv.OpOTAStat); err != nil {
			t.Fatal(err)
		}
		begin = time.Now()
		if v, err := r.boot("2.0.0"); err != nil || v != "2.0.0" {
			t.Fatalf("%q, %v", v, err)
		}
		if took := time.Since(begin); took < 7*time.Second || took > 7100*time.Millisecond {
			t.Errorf("booting took %v, want 7 s", took)
		}
	})
}

// hosts are healthy MCUs of every wire.
func hosts() map[string]Host {
	return map[string]Host{"MCU": NewMCU(MCUConfig{}), "AferoMCU": NewAferoMCU(AferoConfig{})}
}

func TestHostEndsWithItsLine(t *testing.T) {
	for name := range hosts() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewLine(LineConfig{})
				m := hosts()[name]
				end := l.MCU()
				ended := make(chan error, 1)
				go func() { ended <- m.Run(context.Background(), end) }()
				synctest.Wait()
				if err := m.Run(context.Background(), end); err == nil {
					t.Error("an MCU ran twice at a time")
				}
				_ = end.Close()
				if err := <-ended; !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("Run ended with %v", err)
				}
			})
		})
	}
}

// TestMCUEndsWhileItsWriteIsStuck: the module holds RTS low and ctx ends.
func TestMCUEndsWhileItsWriteIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{TxBuffer: 8})
		l.Module()
		l.StallModule(true)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- NewMCU(MCUConfig{}).Run(ctx, l.MCU()) }()
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestFaultByName(t *testing.T) {
	for _, name := range FaultNames() {
		c, err := FaultByName(name)
		if err != nil || c.Name != name || c.What == "" {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mcu, line := MCUConfig{}, LineConfig{}
				c.Apply(&mcu, &line)
				r := newRig(t, mcu, line)
				defer r.close()
				image := BuildDemoImage("2.0.0", 20_000, 1)
				if v, err := r.update("2.0.0", image); err == nil && v == "2.0.0" {
					t.Error("the update succeeded")
				}
				if v := r.mcu.RunningVersion(); v != DefaultMCUVersion {
					t.Errorf("runs %q", v)
				}
			})
		})
	}
	if _, err := FaultByName("gremlins"); err == nil {
		t.Error("a fault that does not exist was found")
	}
}
