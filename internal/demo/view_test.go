package demo

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// clock is a time that a test sets.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

func execution(state schemas.State, done uint64) orchestrator.Execution {
	return orchestrator.Execution{Device: "lab-1", State: state, BytesDone: done, BytesTotal: 131072}
}

func TestLinesPrintEveryStateAndFewBytes(t *testing.T) {
	var out bytes.Buffer
	c := &clock{time.Unix(0, 0)}
	l := newLines(&out, c.now)
	for _, s := range []schemas.State{schemas.StateQueued, schemas.StateOffered, schemas.StateAccepted} {
		l.update(execution(s, 0))
		l.update(execution(s, 0)) // nothing new
	}
	// 100 reports in 10 s of loading, 1,000 bytes each.
	for i := range uint64(100) {
		l.update(execution(schemas.StateInstalling, i*1000))
		c.advance(100 * time.Millisecond)
	}
	e := execution(schemas.StateSucceeded, 131072)
	e.HostVersion = "2.0.0"
	l.update(e)

	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(got) != 3+5+1 {
		t.Fatalf("%d lines, want 3 states, 5 of bytes (one each 2 s) and the end:\n%s", len(got), out.String())
	}
	if !strings.Contains(got[7], "10000 B/s") {
		t.Errorf("rate of 1,000 bytes each 100 ms: %q", got[7])
	}
	if !strings.Contains(got[8], "runs 2.0.0") {
		t.Errorf("last line %q", got[8])
	}
}

func TestMeterStartsAgainWhenTheMCUDoes(t *testing.T) {
	c := &clock{time.Unix(0, 0)}
	var m meter
	for _, done := range []uint64{0, 1000, 2000, 0, 500} {
		m.observe(execution(schemas.StateInstalling, done), c.now())
		c.advance(time.Second)
	}
	if m.rate != 500 {
		t.Errorf("rate %.0f after the restart, want 500", m.rate)
	}
}

func TestBarsEndWhateverTheStates(t *testing.T) {
	var out bytes.Buffer
	c := &clock{time.Unix(0, 0)}
	b := newBars(&out, c.now, []string{"lab-1", "lab-2", "lab-3"})
	b.update(execution(schemas.StateInstalling, 500))
	b.update(execution(schemas.StateBooting, 131072))
	e := execution(schemas.StateSucceeded, 131072)
	e.HostVersion = "2.0.0"
	b.update(e)
	e = execution(schemas.StateFailed, 700)
	e.Device, e.Cause = "lab-2", schemas.CauseChecksum
	b.update(e)
	e.Device = "nobody"
	b.update(e)
	done := make(chan struct{})
	go func() {
		b.close() // lab-3 has not ended
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the bars do not end")
	}
	for _, want := range []string{"runs 2.0.0", "failed: checksum", "waiting"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in what was drawn:\n%s", want, out.String())
		}
	}
}
