package demo

import (
	"bytes"
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

func TestCeilingAgreesWithTheWireDocument(t *testing.T) {
	image := make([]byte, 255*1000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range image {
		image[i] = byte(r.Uint32())
	}
	// docs/wire.md section 6: 26.2 ms for 255 bytes of random data.
	got, err := aylaCeiling(image, 115200)
	if err != nil || got < 9700 || got > 9760 {
		t.Errorf("ceiling %.0f B/s, %v; want about 9,730", got, err)
	}
	// Bytes that all need stuffing take twice the line.
	worst, err := aylaCeiling(bytes.Repeat([]byte{0x7e}, 255*1000), 115200)
	if err != nil || worst > got*0.53 || worst < got*0.5 {
		t.Errorf("ceiling of nothing but flags %.0f B/s, %v", worst, err)
	}
	if _, err := aylaCeiling(nil, 115200); err == nil {
		t.Error("an empty image has a ceiling")
	}
}

// TestAferoCeilingAgreesWithTheWireDocument: 324 byte times for each chunk of 249
// bytes (docs/afero-wire.md section 6), and 75 and its bytes for a shorter one.
func TestAferoCeilingAgreesWithTheWireDocument(t *testing.T) {
	for _, tt := range []struct {
		size, baud int
		want       float64
	}{
		{249, 9600, 737.8}, {249 * 1000, 9600, 737.8}, {249 * 1000, 115200, 8853.3},
		{100, 115200, 100 * 11520.0 / 175}, {250, 115200, 250 * 11520.0 / (324 + 76)},
	} {
		if got, err := aferoCeiling(make([]byte, tt.size), tt.baud); err != nil || math.Abs(got-tt.want) > 0.05 {
			t.Errorf("ceiling for %d bytes at %d bit/s: %.2f B/s, %v; want %.2f", tt.size, tt.baud, got, err, tt.want)
		}
	}
	if _, err := aferoCeiling(nil, 115200); err == nil {
		t.Error("an empty image has a ceiling")
	}
}

func TestEveryCauseIsExplained(t *testing.T) {
	for _, dialect := range orchestrator.Dialects() {
		all := meanings(dialect)
		for _, c := range schemas.Causes() {
			if m := all[c]; m.means == "" || m.advice == "" {
				t.Errorf("%s: cause %q has no explanation", dialect, c)
			}
			delete(all, c)
		}
		for c := range all {
			t.Errorf("%s: cause %q is explained and is not of the contract", dialect, c)
		}
	}
}

// TestAferoIsExplainedInItsOwnWords: no host MCU of that dialect has a code, a CRC
// or frames.
func TestAferoIsExplainedInItsOwnWords(t *testing.T) {
	foreign := regexp.MustCompile(`\b(code says|CRC|frame|acknowledges)\b`)
	for _, f := range faults() {
		o := outcome{
			device: "lab-2", dialect: orchestrator.DialectAfero, fault: f, after: running{"1.0.0", 1},
			execution: orchestrator.Execution{Device: "lab-2", State: schemas.StateFailed},
		}
		for _, o.execution.Cause = range []schemas.Cause{schemas.CauseRejected, schemas.CauseChecksum, schemas.CauseBoot, schemas.CauseTimeout, schemas.CauseFlash} {
			text := strings.Join(o.explain(), "\n")
			if m := foreign.FindString(text); m != "" || !strings.Contains(text, "runs 1.0.0 (1)") {
				t.Errorf("%s: %q is in\n%s", f.name, m, text)
			}
		}
		o.execution.State, o.line = schemas.StateSucceeded, lineCounts{bad: 3, retried: 1, dropouts: 1}
		text := strings.Join(o.explain(), "\n")
		if m := foreign.FindString(text); m != "" || !strings.Contains(text, "said where to go on") || !strings.Contains(text, "1 message was sent again") {
			t.Errorf("%s: %q is in\n%s", f.name, m, text)
		}
	}
}

func TestFailureIsExplainedWithCodeCauseAndAdvice(t *testing.T) {
	o := outcome{
		device: "lab-2", before: running{version: "1.0.0"}, after: running{version: "1.0.0"},
		fault: fault{name: "checksum", injected: "one bit of its flash flips"},
		execution: orchestrator.Execution{
			Device: "lab-2", State: schemas.StateFailed, Cause: schemas.CauseChecksum, Code: 0x0e, Detail: "the MCU refused the image",
		},
	}
	text := strings.Join(o.explain(), "\n")
	for _, want := range []string{"--fail checksum", "one bit of its flash flips", `ended as "failed"`, "CHECKSUM, 0x0e", "the MCU refused the image.", "another CRC", "operator would do", "runs 1.0.0"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing:\n%s", want, text)
		}
	}
	if o.updated() {
		t.Error("a failed device counts as updated")
	}
}

func TestRecoveryCountsWhatItTook(t *testing.T) {
	o := outcome{
		device: "lab-2", after: running{version: "2.0.0"}, fault: fault{name: "crc-noise", injected: "bits flip"},
		execution: orchestrator.Execution{State: schemas.StateSucceeded, Version: "2.0.0"},
		line:      lineCounts{flipped: 40, bad: 1, retried: 38},
	}
	text := strings.Join(o.explain(), "\n")
	for _, want := range []string{"40 bytes arrived damaged", "1 frame was dropped", "38 frames were sent again"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing:\n%s", want, text)
		}
	}
	if !o.updated() {
		t.Error("a device that reports the version does not count as updated")
	}
	o.after.version = "1.0.0"
	if o.updated() {
		t.Error("a device that reports the old version counts as updated")
	}
}

func TestTableShowsRateAgainstTheCeiling(t *testing.T) {
	start := time.Unix(1000, 0)
	ok := outcome{
		device: "lab-1", dialect: orchestrator.DialectAyla, before: running{version: "1.0.0"}, after: running{version: "2.0.0"}, loading: 10 * time.Second, ceiling: 10000,
		execution: orchestrator.Execution{
			State: schemas.StateSucceeded, Version: "2.0.0", BytesDone: 90000, BytesTotal: 90000, OfferedAt: start, EndedAt: start.Add(12 * time.Second),
		},
	}
	bad := outcome{
		device: "lab-2", dialect: orchestrator.DialectAyla, before: running{version: "1.0.0"}, ceiling: 10000,
		execution: orchestrator.Execution{State: schemas.StateTimedOut, Cause: schemas.CauseTimeout, BytesTotal: 90000},
	}
	lines := tableLines(ok, bad)
	for _, want := range []string{"lab-1", "succeeded", "1.0.0 -> 2.0.0", "90000 of 90000", "12.0 s", "9000 B/s", "90.0 %"} {
		if !strings.Contains(lines[1], want) {
			t.Errorf("%q is not in %q", want, lines[1])
		}
	}
	for _, want := range []string{"timed_out", "timeout", "1.0.0 -> ?", "0 of 90000"} {
		if !strings.Contains(lines[2], want) {
			t.Errorf("%q is not in %q", want, lines[2])
		}
	}
}

func tableLines(outcomes ...outcome) []string {
	var out bytes.Buffer
	table(&out, outcomes)
	return strings.Split(out.String(), "\n")
}

func TestTableNamesDialectsWhereOneIsAfero(t *testing.T) {
	ayla := outcome{device: "lab-1", dialect: orchestrator.DialectAyla, before: running{version: "1.0.0"}, after: running{version: "2.0.0"}}
	afero := outcome{device: "lab-2", dialect: orchestrator.DialectAfero, before: running{"1.0.0", 1}, after: running{"2.0.0", 2}}
	for _, tt := range []struct {
		name     string
		outcomes []outcome
		want     []string // the beginnings of the lines, spaces made one
	}{
		{"ayla", []outcome{ayla}, []string{"DEVICE STATE ", "lab-1 - "}},
		{"afero", []outcome{afero}, []string{"DEVICE DIALECT STATE ", "lab-2 afero - 1.0.0 (1) -> 2.0.0 (2) "}},
		{"mixed", []outcome{ayla, afero}, []string{"DEVICE DIALECT STATE ", "lab-1 ayla - 1.0.0 -> 2.0.0 ", "lab-2 afero - 1.0.0 (1) -> 2.0.0 (2) "}},
	} {
		lines := tableLines(tt.outcomes...)
		for i, want := range tt.want {
			if got := strings.Join(strings.Fields(lines[i]), " "); !strings.HasPrefix(got, want) {
				t.Errorf("%s: line %d is %q, want it to begin with %q", tt.name, i, got, want)
			}
		}
	}
}
