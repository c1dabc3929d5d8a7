package rehearsal

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"davit/orchestrator"
)

// golden is the curve of a small play. It changes when the rules of the service, or
// the model, do.
const golden = `30 ┤
   │
   │
   │               ░
   │              ░░░░░░░░░░░░░░░██████████████▚▚▚▚▚▚▚▚▚▚▚▚▚▚▚▚▚
   │░░░░░░░░░░░░░░░░░░░░████████████████████████▚▚▚▚▚▚▚▚▚▚▚▚▚▚▚▚
   │░░░░░░░░░░░░░░░░░░██████████████████████████▚▚▚▚▚▚▚▚▚▚▚▚▚▚▚▚
15 ┤░░░░░░░░░░░░░░░░░████████████████████████████▚▚▚▚▚▚▚▚▚▚▚▚▚▚▚
   │░░░░░░░░░░░░░░░░░████████████████████████████▚▚▚▚▚▚▚▚▚▚▚▚▚▚▚
   │░░░░░░░░░░░░░░░░██████████████████████████████▚▚▚▚▚▚▚▚▚▚▚▚▚▚
   │░░░░░░░░░░░░░░░░████████████████████████████████▚▚▚▚▚▚▚▚▚▚▚▚
   │░░░░░░░░░░░░░░░█████████████████████████████████████████▚▚▚▚
   │░░░░░░░░░░░░░░░██▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
   │░░░░░░░░░░░░░░░██▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
 0 └────────────────────────────────────────────────────────────
    1              !             <
    0s                          3m8s                       6m16s
    █ succeeded  ░ in progress  ▒ failed  ▚ brought back
`

func TestChartOfASmallPlay(t *testing.T) {
	r := played(t, config(300, badForB))
	if got := r.Chart(64, false); got != golden {
		t.Errorf("the curve is\n%s\nwant\n%s", got, golden)
	}
	ascii := r.Chart(64, true)
	for _, pair := range []struct{ unicode, ascii string }{{"░", "."}, {"█", "#"}, {"▒", "x"}, {"▚", "%"}} {
		if n, want := strings.Count(ascii, pair.ascii), strings.Count(golden, pair.unicode); n != want {
			t.Errorf("%d %q, want %d as there are %q", n, pair.ascii, want, pair.unicode)
		}
	}
	if utf8.RuneCountInString(ascii) != len(ascii) {
		t.Error("there is more than ASCII in the chart that is to have nothing else")
	}
	if want := "1, 2, ...: a wave begins; !: the job is stopped; <: devices begin to be brought back"; r.Legend() != want {
		t.Errorf("legend %q", r.Legend())
	}
}

// TestChartFits: no line is wider than asked for, whatever there is to draw.
func TestChartFits(t *testing.T) {
	for _, points := range [][]Point{
		{{}},
		{{Waiting: 3}, {InProgress: 3}},
		{{Waiting: 9}, {Failed: 1, Succeeded: 8}, {Failed: 9}},
		make([]Point, 400),
		{{InProgress: 99_999}, {Succeeded: 100_000, BroughtBack: 100_000}},
	} {
		r := &Result{Curve: points, Step: orchestrator.Duration(time.Minute)}
		for _, width := range []int{20, 60, 200} {
			for line := range strings.Lines(r.Chart(width, false)) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width && !strings.Contains(line, "succeeded") {
					t.Errorf("%d points, width %d: %d columns: %s", len(points), width, n, line)
				}
			}
		}
	}
}

// TestOneFailureIsSeen: a failure is never rounded away.
func TestOneFailureIsSeen(t *testing.T) {
	r := &Result{Curve: []Point{{InProgress: 10_000}, {Succeeded: 9999, Failed: 1}}, Step: orchestrator.Duration(time.Hour)}
	if n := strings.Count(r.Chart(80, true), "x"); n < 10 {
		t.Errorf("%d cells show the failure", n)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", 600 * time.Millisecond: "1s", 5 * time.Minute: "5m", 90 * time.Second: "1m30s", 70 * time.Minute: "1h10m",
		time.Hour: "1h", 47 * time.Hour: "47h", 48 * time.Hour: "2d", 58 * time.Hour: "2d10h", 240 * time.Hour: "10d", 250 * time.Hour: "10d10h",
		time.Hour - 400*time.Millisecond: "1h",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
