package sim

import (
	"testing"
	"testing/synctest"
	"time"
)

// answered is when the module has an answer of 20 bytes from an MCU that reads the question of 10 bytes late, and
// begins two writes at once. The line is exact or not.
func answered(t *testing.T, exact bool, latency, late time.Duration) (took time.Duration, order string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{Baud: 11_000, Latency: latency}) // a byte takes 1 ms
		module, mcu := l.Module(), l.MCU()
		defer func() { _, _ = module.Close(), mcu.Close() }()
		l.exact = exact // the ends keep their timers of virtual time
		begin := time.Now()
		if _, err := module.Write([]byte("0123456789")); err != nil {
			t.Error(err)
		}
		time.Sleep(10*time.Millisecond + latency + late)
		b := make([]byte, 64)
		if n, err := mcu.Read(b); n != 10 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		for _, s := range []string{"abcdefghij", "klmnopqrst"} {
			if _, err := mcu.Write([]byte(s)); err != nil {
				t.Error(err)
			}
		}
		for len(order) < 20 {
			n, err := module.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			order += string(b[:n])
		}
		took = time.Since(begin)
	})
	return took, order
}

// In virtual time nothing is early. Where the time is real, what an answer is late for this program's reasons is made
// up for, and what it is late for the line's is not.
func TestLateAnswers(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		exact               bool
		latency, late, want time.Duration
	}{
		{false, 0, 0, 30 * ms}, {false, 0, 2 * ms, 32 * ms}, {false, 3 * ms, 2 * ms, 38 * ms},
		{true, 0, 0, 30 * ms}, {true, 0, 2 * ms, 30 * ms}, {true, 0, maxLate + ms, 31 * ms},
		{true, 3 * ms, 0, 36 * ms}, {true, 3 * ms, 2 * ms, 36 * ms}, {true, 16 * ms, ms, 62 * ms},
	} {
		took, order := answered(t, c.exact, c.latency, c.late)
		if took != c.want || order != "abcdefghijklmnopqrst" {
			t.Errorf("%+v: %q after %v", c, order, took)
		}
	}
}

// What went out before is never overtaken: an answer that was late begins behind it.
func TestLateAnswerStaysBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{Baud: 11_000})
		module, mcu := l.Module(), l.MCU()
		defer func() { _, _ = module.Close(), mcu.Close() }()
		l.exact = true
		begin := time.Now()
		b := make([]byte, 64)
		_, _ = mcu.Write([]byte("abcdef")) // until 6 ms
		_, _ = module.Write([]byte("0"))   // until 1 ms
		time.Sleep(4 * time.Millisecond)
		_, _ = mcu.Read(b) // 3 ms late
		time.Sleep(2*time.Millisecond + 500*time.Microsecond)
		_, _ = mcu.Write([]byte("g")) // the line has been free since 6 ms
		got := ""
		for len(got) < 7 {
			n, err := module.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			got += string(b[:n])
		}
		if took := time.Since(begin); got != "abcdefg" || took != 7*time.Millisecond {
			t.Errorf("%q after %v", got, took)
		}
	})
}
