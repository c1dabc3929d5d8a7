package dialecttest

import (
	"time"

	"davit/bridge/dialect"
	"davit/internal/sim"
	"davit/schemas"
)

// LoadTime is a Recorder that measures how long the bytes of an update take, and
// what they cost.
type LoadTime struct {
	*Recorder
	line         *sim.Line
	began, ended time.Time
	size         uint64
	sent         int64
	retried      int
}

// TimeLoad makes the rig's update report to a LoadTime.
func (r *Rig) TimeLoad() *LoadTime {
	l := &LoadTime{Recorder: r.Recorder, line: r.Line, size: r.Update.Size}
	r.Update.Reporter = l
	return l
}

// State implements dialect.Reporter.
func (l *LoadTime) State(s schemas.State, n uint64) error {
	switch {
	case s == schemas.StateInstalling && n == 0:
		l.began = time.Now()
		l.sent, l.retried = l.counts()
	case s == schemas.StateInstalling && n == l.size:
		l.ended = time.Now()
		sent, retried := l.counts()
		l.sent, l.retried = sent-l.sent, retried-l.retried
	}
	return l.Recorder.State(s, n)
}

// Took is the time from the beginning of the load to its last acknowledged byte.
func (l *LoadTime) Took() time.Duration { return l.ended.Sub(l.began) }

func (l *LoadTime) counts() (sent int64, retried int) {
	toMCU, _ := l.line.Stats()
	return toMCU.Sent, l.Count(dialect.FramesRetried)
}

// Bytes is how many bytes the load has put on the line to the MCU.
func (l *LoadTime) Bytes() int64 { return l.sent }

// Retried is how many frames the load has sent again.
func (l *LoadTime) Retried() int { return l.retried }
