package sim

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// byteTimes is when the n-th byte has gone out, as exact as a clock of
// nanoseconds can say.
func byteTimes(n int64, bits, baud int64) time.Duration {
	return time.Duration((n*bits*int64(time.Second) + baud - 1) / baud)
}

func TestLineTakesElevenBitsPerByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, baud := range []int{9600, 115200, 921600} {
			l := NewLine(LineConfig{Baud: baud, RxTrigger: 1})
			module, mcu := l.Module(), l.MCU()
			begin := time.Now()
			go func() {
				if _, err := module.Write(make([]byte, 1000)); err != nil {
					t.Errorf("write: %v", err)
				}
			}()
			buf := make([]byte, 1)
			for i := range int64(1000) {
				if _, err := io.ReadFull(mcu, buf); err != nil {
					t.Fatalf("read: %v", err)
				}
				if got, want := time.Since(begin), byteTimes(i+1, 11, int64(baud)); got != want {
					t.Fatalf("baud %d: byte %d arrived after %v, 11 bits each make %v", baud, i+1, got, want)
				}
			}
		}
	})
}

// TestLineDoesNotDrift sends a minute of bytes in writes of odd sizes: the
// last one has to arrive in its exact nanosecond.
func TestLineDoesNotDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{Latency: 3 * time.Millisecond})
		module, mcu := l.Module(), l.MCU()
		const total = 628_300
		begin := time.Now()
		go func() {
			for left := total; left > 0; {
				n := min(left, 1021)
				if _, err := module.Write(make([]byte, n)); err != nil {
					t.Errorf("write: %v", err)
				}
				left -= n
			}
		}()
		if _, err := io.CopyN(io.Discard, mcu, total); err != nil {
			t.Fatalf("read: %v", err)
		}
		if got, want := time.Since(begin), byteTimes(total, 11, 115200)+3*time.Millisecond; got != want {
			t.Errorf("%d bytes took %v, want %v (off by %v)", total, got, want, got-want)
		}
	})
}

func TestLineWriteBlocksWhenTheDriverIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{Baud: 115200, TxBuffer: 4096})
		module, mcu := l.Module(), l.MCU()
		go func() { _, _ = io.Copy(io.Discard, mcu) }()
		begin := time.Now()
		if _, err := module.Write(make([]byte, 4096)); err != nil || time.Since(begin) != 0 {
			t.Fatalf("the driver did not take its buffer at once: %v, %v", time.Since(begin), err)
		}
		if _, err := module.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		if got, want := time.Since(begin), byteTimes(100, 11, 115200); got != want {
			t.Errorf("100 bytes more were taken after %v, room for them is there after %v", got, want)
		}
		_ = mcu.Close()
	})
}

func TestLineFlowControlLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{RxBuffer: 300})
		module, mcu := l.Module(), l.MCU()
		sent := randomBytes(1, 20_000)
		go func() { _, _ = module.Write(sent) }()
		var got []byte
		buf := make([]byte, 100)
		for len(got) < len(sent) {
			n, err := mcu.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, buf[:n]...)
			time.Sleep(20 * time.Millisecond) // twice as slow as the line
		}
		if !bytes.Equal(got, sent) {
			t.Error("bytes changed or lost in spite of RTS/CTS")
		}
		if to, _ := l.Stats(); to.Overrun != 0 {
			t.Errorf("%d overruns in spite of RTS/CTS", to.Overrun)
		}
	})
}

func TestLineOverrunsWithoutFlowControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{RxBuffer: 300, NoFlowControl: true})
		module, mcu := l.Module(), l.MCU()
		if _, err := module.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		n, err := mcu.Read(make([]byte, 2000))
		if err != nil || n != 300 {
			t.Errorf("read %d bytes (%v), the receive buffer holds 300", n, err)
		}
		if to, _ := l.Stats(); to.Overrun != 700 || to.Sent != 1000 {
			t.Errorf("stats %+v, want 1000 sent and 700 overruns", to)
		}
	})
}

func TestLineStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{})
		module, mcu := l.Module(), l.MCU()
		l.Stall(true)
		begin := time.Now()
		if _, err := module.Write([]byte("held")); err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(time.Minute)
			l.Stall(false)
		}()
		if _, err := io.ReadFull(mcu, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		if got, want := time.Since(begin), time.Minute+byteTimes(4, 11, 115200); got != want {
			t.Errorf("arrived after %v, want %v", got, want)
		}
	})
}

func TestLineUnplug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{})
		module, mcu := l.Module(), l.MCU()
		go func() {
			time.Sleep(time.Second)
			l.Unplug()
		}()
		if _, err := module.Read(make([]byte, 1)); !errors.Is(err, ErrUnplugged) {
			t.Errorf("read on the unplugged module end: %v", err)
		}
		if _, err := module.Write([]byte("x")); !errors.Is(err, ErrUnplugged) {
			t.Errorf("write on the unplugged module end: %v", err)
		}
		if _, err := l.Open(); !errors.Is(err, ErrUnplugged) {
			t.Errorf("open of an unplugged line: %v", err)
		}
		if _, err := mcu.Write([]byte("into the air")); err != nil {
			t.Errorf("the MCU noticed that the line is unplugged: %v", err)
		}
		time.Sleep(time.Second)
		l.Replug()
		again := l.Module()
		if _, err := l.Open(); !errors.Is(err, ErrInUse) {
			t.Errorf("second open: %v", err)
		}
		if _, err := mcu.Write([]byte("back")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 20)
		n, err := io.ReadAtLeast(again, buf, 4)
		if err != nil || string(buf[:n]) != "back" {
			t.Errorf("after replug: %q, %v", buf[:n], err)
		}
		if _, from := l.Stats(); from.Lost != 12 {
			t.Errorf("lost %d bytes while unplugged, want 12", from.Lost)
		}
	})
}

func TestLineUnplugsAfterAGivenByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{UnplugAfter: 500})
		module, mcu := l.Module(), l.MCU()
		go func() { _, _ = io.Copy(io.Discard, mcu) }()
		var err error
		wrote := 0
		for err == nil {
			var n int
			n, err = module.Write(make([]byte, 50))
			wrote += n
		}
		if !errors.Is(err, ErrUnplugged) || wrote < 500 {
			t.Errorf("wrote %d bytes, then %v", wrote, err)
		}
		_ = mcu.Close()
	})
}

func TestLineEndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{})
		module := l.Module()
		ended := make(chan error, 2)
		go func() {
			_, err := module.Read(make([]byte, 1))
			ended <- err
		}()
		go func() {
			l.MCU()
			l.Stall(true)
			_, err := module.Write(make([]byte, 10_000))
			ended <- err
		}()
		synctest.Wait()
		_ = module.Close()
		_ = module.Close()
		for range 2 {
			if err := <-ended; !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("a blocked call ended with %v", err)
			}
		}
	})
}

func TestLineFaultRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{Baud: 10_000_000, Seed: 7, ToMCU: LineFaults{BitErrorRate: 1e-3, DropRate: 0.01, DoubleRate: 0.02}})
		module, mcu := l.Module(), l.MCU()
		go func() { _, _ = io.Copy(io.Discard, mcu) }()
		const total = 400_000
		if _, err := module.Write(make([]byte, total)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		s, back := l.Stats()
		within := func(name string, got int64, want float64) {
			if float64(got) < want*0.9 || float64(got) > want*1.1 {
				t.Errorf("%s: %d of %d bytes, want about %.0f", name, got, total, want)
			}
		}
		within("flipped", s.Flipped, total*(1-0.99202794))
		within("dropped", s.Dropped, total*0.01)
		within("doubled", s.Doubled, total*0.99*0.02)
		if s.Delivered != s.Sent-s.Dropped+s.Doubled || back != (LineStats{}) {
			t.Errorf("the counters do not add up: %+v, back %+v", s, back)
		}
		_ = mcu.Close()
	})
}

func TestLineHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{ToMCU: LineFaults{Dead: true}})
		module, mcu := l.Module(), l.MCU()
		_, _ = module.Write([]byte("never arrives"))
		_, _ = mcu.Write([]byte("arrives"))
		buf := make([]byte, 20)
		n, err := io.ReadAtLeast(module, buf, 7)
		if err != nil || string(buf[:n]) != "arrives" {
			t.Errorf("%q, %v", buf[:n], err)
		}
		time.Sleep(time.Second)
		if to, _ := l.Stats(); to.Dropped != 13 {
			t.Errorf("dropped %d, want 13", to.Dropped)
		}
	})
}

// TestLineIsATransparentStream: on a clean line, whatever the buffers, the
// latency and the sizes of reads and writes, the same bytes come out, never
// early, and the last one in time.
func TestLineIsATransparentStream(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := LineConfig{
			Baud:          rapid.SampledFrom([]int{300, 9600, 115200, 3_000_000}).Draw(rt, "baud"),
			BitsPerByte:   rapid.IntRange(10, 12).Draw(rt, "bits"),
			TxBuffer:      rapid.IntRange(1, 700).Draw(rt, "tx"),
			RxBuffer:      rapid.IntRange(1, 700).Draw(rt, "rx"),
			RxTrigger:     rapid.IntRange(1, 100).Draw(rt, "trigger"),
			Latency:       time.Duration(rapid.IntRange(0, 5_000_000).Draw(rt, "latency")),
			NoFlowControl: false,
		}
		sent := rapid.SliceOfN(rapid.Byte(), 1, 1500).Draw(rt, "data")
		piece := rapid.IntRange(1, 800).Draw(rt, "piece")
		readSize := rapid.IntRange(1, 800).Draw(rt, "read")
		synctest.Test(t, func(t *testing.T) {
			l := NewLine(cfg)
			module, mcu := l.Module(), l.MCU()
			begin := time.Now()
			go func() {
				for p := sent; len(p) > 0; {
					n := min(piece, len(p))
					_, _ = module.Write(p[:n])
					p = p[n:]
				}
			}()
			var got []byte
			buf := make([]byte, readSize)
			for len(got) < len(sent) {
				n, err := mcu.Read(buf)
				if err != nil {
					rt.Fatalf("read: %v", err)
				}
				got = append(got, buf[:n]...)
				if due := byteTimes(int64(len(got)), int64(cfg.BitsPerByte), int64(cfg.Baud)) + cfg.Latency; time.Since(begin) < due {
					rt.Fatalf("byte %d is there after %v, not due before %v", len(got), time.Since(begin), due)
				}
			}
			if !bytes.Equal(got, sent) {
				rt.Fatalf("other bytes came out")
			}
		})
	})
}

// randomBytes are repeatable.
func randomBytes(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 99))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}
