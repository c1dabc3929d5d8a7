package demo

import (
	"fmt"
	"io"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// view shows what happens while it happens.
type view interface {
	// update shows that an execution has changed.
	update(e orchestrator.Execution)
	// close ends the live display and leaves its last state standing.
	close()
}

// meter follows one execution: how fast its present leg moves.
type meter struct {
	state schemas.State
	bytes uint64
	at    time.Time
	rate  float64 // bytes per second; 0 is not known yet
}

// rateWeight is the share of the newest measurement in the shown rate.
const rateWeight = 0.4

// observe takes in a report that arrived at now and says whether the state is
// a new one.
func (m *meter) observe(e orchestrator.Execution, now time.Time) bool {
	if e.State != m.state {
		*m = meter{state: e.State, bytes: e.BytesDone, at: now}
		return true
	}
	elapsed := now.Sub(m.at).Seconds()
	if e.BytesDone < m.bytes {
		// The MCU began again at offset 0.
		m.bytes, m.at, m.rate = e.BytesDone, now, 0
		return false
	}
	if e.BytesDone == m.bytes || elapsed <= 0 {
		return false
	}
	rate := float64(e.BytesDone-m.bytes) / elapsed
	if m.rate == 0 {
		m.rate = rate
	} else {
		m.rate += rateWeight * (rate - m.rate)
	}
	m.bytes, m.at = e.BytesDone, now
	return false
}

// phase says in a few words what an execution is doing.
func phase(e orchestrator.Execution) string {
	switch e.State {
	case schemas.StateQueued:
		return "queued"
	case schemas.StateOffered:
		return "offered to the MCU"
	case schemas.StateAccepted:
		return "accepted"
	case schemas.StateDownloading:
		return "fetching"
	case schemas.StateDownloaded:
		return "fetched, SHA-256 agrees"
	case schemas.StateInstalling:
		return "loading"
	case schemas.StateBooting:
		return "booting"
	case schemas.StateSucceeded:
		return "runs " + e.HostVersion
	}
	text := string(e.State)
	if e.Cause != schemas.CauseNone {
		text += ": " + string(e.Cause)
	}
	return text
}

// moving says whether bytes move in the state.
func moving(s schemas.State) bool {
	return s == schemas.StateDownloading || s == schemas.StateInstalling
}

// lineEvery is how often the plain view prints one device's moving bytes.
const lineEvery = 2 * time.Second

// lines is the view for anything but a terminal: one line per change of state,
// and now and then one for the bytes.
type lines struct {
	w       io.Writer
	now     func() time.Time
	meters  map[string]*meter
	printed map[string]time.Time
}

func newLines(w io.Writer, now func() time.Time) *lines {
	return &lines{w: w, now: now, meters: map[string]*meter{}, printed: map[string]time.Time{}}
}

func (l *lines) update(e orchestrator.Execution) {
	now := l.now()
	m := l.meters[e.Device]
	if m == nil {
		m = &meter{}
		l.meters[e.Device] = m
	}
	before := m.state
	changed := m.observe(e, now)
	if skippedAccept(before, e.State) {
		fmt.Fprintf(l.w, "%-8s accepted\n", e.Device)
	}
	if !changed && (!moving(e.State) || now.Sub(l.printed[e.Device]) < lineEvery) {
		return
	}
	l.printed[e.Device] = now
	text := fmt.Sprintf("%-8s %s", e.Device, phase(e))
	if moving(e.State) {
		text += fmt.Sprintf("  %s of %s", size(e.BytesDone), size(e.BytesTotal))
		if m.rate > 0 {
			text += fmt.Sprintf("  %.0f B/s", m.rate)
		}
	}
	fmt.Fprintln(l.w, text)
}

// skippedAccept says whether a change went past the acceptance, which is over
// in a moment and may fall between two looks at the job.
func skippedAccept(before, after schemas.State) bool {
	accepted := schemas.StateAccepted.Rank()
	return before.Rank() < accepted && after.Rank() > accepted && !after.Final()
}

func (l *lines) close() {}

// size prints a number of bytes for people.
func size(n uint64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
