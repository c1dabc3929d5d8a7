package demo

import (
	"bytes"
	"math/rand/v2"
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
	got, err := ceiling(image, 115200)
	if err != nil || got < 9700 || got > 9760 {
		t.Errorf("ceiling %.0f B/s, %v; want about 9,730", got, err)
	}
	// Bytes that all need stuffing take twice the line.
	worst, err := ceiling(bytes.Repeat([]byte{0x7e}, 255*1000), 115200)
	if err != nil || worst > got*0.53 || worst < got*0.5 {
		t.Errorf("ceiling of nothing but flags %.0f B/s, %v", worst, err)
	}
	if _, err := ceiling(nil, 115200); err == nil {
		t.Error("an empty image has a ceiling")
	}
}

func TestEveryCauseIsExplained(t *testing.T) {
	all := meanings()
	for _, c := range schemas.Causes() {
		if m := all[c]; m.means == "" || m.advice == "" {
			t.Errorf("cause %q has no explanation", c)
		}
		delete(all, c)
	}
	for c := range all {
		t.Errorf("cause %q is explained and is not of the contract", c)
	}
}

func TestFailureIsExplainedWithCodeCauseAndAdvice(t *testing.T) {
	o := outcome{
		device: "lab-2", before: "1.0.0", after: "1.0.0",
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
		device: "lab-2", after: "2.0.0", fault: fault{name: "crc-noise", injected: "bits flip"},
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
	o.after = "1.0.0"
	if o.updated() {
		t.Error("a device that reports the old version counts as updated")
	}
}

func TestTableShowsRateAgainstTheCeiling(t *testing.T) {
	start := time.Unix(1000, 0)
	ok := outcome{
		device: "lab-1", before: "1.0.0", after: "2.0.0", loading: 10 * time.Second,
		execution: orchestrator.Execution{
			State: schemas.StateSucceeded, Version: "2.0.0", BytesDone: 90000, BytesTotal: 90000, OfferedAt: start, EndedAt: start.Add(12 * time.Second),
		},
	}
	bad := outcome{device: "lab-2", before: "1.0.0", execution: orchestrator.Execution{State: schemas.StateTimedOut, Cause: schemas.CauseTimeout, BytesTotal: 90000}}
	var out bytes.Buffer
	table(&out, []outcome{ok, bad}, 10000)
	lines := strings.Split(out.String(), "\n")
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
