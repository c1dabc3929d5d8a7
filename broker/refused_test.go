package broker

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davit/internal/logtest"
)

// TestRefusalsAreSummedUp: however many there are, the log has a few lines of each address
// and minute, and the number of the others.
func TestRefusalsAreSummedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b logtest.Buffer
		l := refusedLog{log: slog.New(slog.NewTextHandler(&b, nil))}
		address := func(n int) netip.Prefix {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 32)
		}
		told := 0
		from := func(n, times int, fresh bool) {
			for range times {
				if l.tell(address(n), fresh) {
					told++
				}
			}
		}
		want := func(lines int, sums ...int) {
			t.Helper()
			var text strings.Builder
			for _, n := range sums {
				fmt.Fprintf(&text, "event=broker.connects_refused refusals=%d\n", n)
			}
			var got strings.Builder
			for line := range strings.Lines(b.String()) {
				_, line, _ = strings.Cut(line, "minute\" ")
				got.WriteString(line)
			}
			if told != lines || got.String() != text.String() {
				t.Errorf("%d lines and %q, want %d and %q", told, got.String(), lines, text.String())
			}
		}
		from(1, 5000, true)
		from(2, 1, true)
		from(2, 10, false)
		time.Sleep(refusedEvery - 1)
		synctest.Wait()
		want(refusedLines+1, []int{}...)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		want(refusedLines+1, 4997+10)
		time.Sleep(time.Hour) // nothing more happens, and nothing more is said
		want(refusedLines+1, 5007)
		for n := range 1000 { // the same from everywhere
			from(n, 4, true)
		}
		time.Sleep(refusedEvery)
		synctest.Wait()
		want(refusedLines+1+refusedAll, 5007, 4000-refusedAll)
		from(7, 4, true)
		l.end()
		want(refusedLines+1+refusedAll+3, 5007, 4000-refusedAll, 1)
		l.end()
		if len(l.from) != 0 {
			t.Error("addresses are kept")
		}
	})
}
