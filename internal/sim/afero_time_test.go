package sim

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"davit/schemas/afpro"
)

// instant is an MCU that costs no time but the line's.
func instant() AferoConfig {
	return AferoConfig{MCUConfig: MCUConfig{EraseTime: None, WriteTime: None, VerifyTime: None, BootTime: None}}
}

// TestAferoMCUIsAsFastAsItsLine: an instant MCU with a module that reacts at
// once costs exactly the bytes of the two transactions for each chunk.
func TestAferoMCUIsAsFastAsItsLine(t *testing.T) {
	for _, baud := range []int64{9600, 115200} {
		synctest.Test(t, func(t *testing.T) {
			r := newAferoRig(t, instant(), LineConfig{Baud: int(baud), BitsPerByte: 10, NoFlowControl: true})
			defer r.close()
			const chunks = 20
			image := randomBytes(1, chunks*r.chunk)
			if err := errors.Join(r.boot(), r.begin(afpro.Info{Type: DefaultFirmwareType, Size: uint32(len(image)), Version: 7})); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			begin := time.Now()
			if n, err := r.transfer(image, 0); err != nil || n != chunks {
				t.Fatal(n, err)
			}
			took := time.Since(begin)
			const (
				there = 1 + 6 + (6 + 1) + 6 + 1 // ready, Request, Response and ready, Ack, ready
				back  = 6 + (6 + 1) + 6 + 1     // the MCU begins by itself
				next  = 16                      // the message with the next offset
			)
			chunk := int64(afpro.MaxMessage(afpro.DefaultAttributeSize))
			bytes := chunks*(there+chunk+1+back+next+1) - 1
			want := byteTimes(bytes, 10, baud)
			if took < want || took > want+want/1000 {
				t.Errorf("%d baud: %d chunks took %v, their %d bytes take %v", baud, chunks, took, bytes, want)
			}
		})
	}
}

// TestAferoMCUTimes: it is deaf while it erases and writes, and quiet for as
// long as the boot takes.
func TestAferoMCUTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := AferoConfig{MCUConfig: MCUConfig{
			EraseTime: 100 * time.Millisecond, WriteTime: 50 * time.Millisecond, VerifyTime: 3 * time.Second, BootTime: 7 * time.Second,
		}}
		r := newAferoRig(t, cfg, LineConfig{Baud: 10_000_000, BitsPerByte: 10, NoFlowControl: true})
		defer r.close()
		if err := r.boot(); err != nil {
			t.Fatal(err)
		}
		within := func(what string, want time.Duration, do func() error) {
			t.Helper()
			begin := time.Now()
			if err := do(); err != nil {
				t.Fatal(what, err)
			}
			if took := time.Since(begin); took < want || took > want+100*time.Millisecond {
				t.Errorf("%s took %v, want %v", what, took, want)
			}
		}
		image := BuildDemoImage("2.0.0", 10*DefaultSectorSize, 1)
		within("erasing 10 sectors", time.Second, func() error {
			return r.begin(afpro.Info{Type: DefaultFirmwareType, Size: uint32(len(image)), Version: 7})
		})
		within("writing 160 pages", 8*time.Second, func() error {
			_, err := r.transfer(image, 0)
			return err
		})
		within("checking", 3*time.Second, func() error { return r.finish(7, image) })
		within("booting", 7*time.Second, func() error {
			for {
				r.write(afpro.Ready)
				if _, err := r.event(10 * time.Millisecond); !errors.Is(err, errSilence) {
					return err
				}
			}
		})
	})
}

// TestAferoMCUIsDeafWhileItErases: what it is told meanwhile waits in its UART.
func TestAferoMCUIsDeafWhileItErases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAferoRig(t, AferoConfig{MCUConfig: MCUConfig{EraseTime: 10 * time.Second}}, aferoLine())
		defer r.close()
		offer := afpro.Info{State: afpro.InfoBegin, Type: DefaultFirmwareType, Size: 1000, Version: 7}
		if _, err := r.version(DefaultFirmwareType); err != nil { // nothing is left to be said
			t.Fatal(err)
		}
		if err := r.send(afpro.AppendInfo(nil, afpro.ChannelToMCU, offer)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		r.write(afpro.Ready)
		if e, err := r.event(8 * time.Second); !errors.Is(err, errSilence) {
			t.Errorf("while it erases: %+v, %v", e, err)
		}
		if e, err := r.event(2 * time.Second); err != nil || e.Kind != afpro.EventSync {
			t.Errorf("afterwards: %+v, %v", e, err)
		}
	})
}

// TestLineDoesNotHoldBackLittle: a lone byte and six of them are seen when their
// last bit is, however deep the receiving FIFO.
func TestLineDoesNotHoldBackLittle(t *testing.T) {
	for _, n := range []int64{1, 6, 7, 63} {
		synctest.Test(t, func(t *testing.T) {
			l := NewLine(LineConfig{Baud: 9600, BitsPerByte: 10, NoFlowControl: true})
			module, mcu := l.Module(), l.MCU()
			for range 3 {
				begin := time.Now()
				if _, err := module.Write(make([]byte, n)); err != nil {
					t.Fatal(err)
				}
				got, err := mcu.Read(make([]byte, 100))
				if want := byteTimes(n, 10, 9600); int64(got) != n || err != nil || time.Since(begin) < want || time.Since(begin) > want+time.Microsecond {
					t.Errorf("%d of %d bytes after %v, want %v, %v", got, n, time.Since(begin), want, err)
				}
				time.Sleep(time.Second)
			}
		})
	}
}

// TestAferoMCUOnAPTY: the same in real time, behind a real terminal.
func TestAferoMCUOnAPTY(t *testing.T) {
	p := newPTY(t, LineConfig{Baud: 230400, BitsPerByte: 10, NoFlowControl: true}, "")
	cfg := instant()
	cfg.BootTime = 20 * time.Millisecond
	mcu := NewAferoMCU(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mcu.Run(ctx, p.MCU()) }()
	a := newASR(t, openTTY(t, p.Path()))
	image := BuildDemoImage("2.0.0", 2000, 1)
	if id, err := a.update(7, image); err != nil || id != 7 || mcu.RunningVersion() != "2.0.0" {
		t.Errorf("update ended with %d, %v", id, err)
	}
	a.close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
