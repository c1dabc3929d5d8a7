package dialecttest

import (
	"time"

	"davit/schemas"
)

// LoadTime is a Recorder that measures how long the bytes of an update take.
type LoadTime struct {
	*Recorder
	began, ended time.Time
	size         uint64
}

// TimeLoad makes the rig's update report to a LoadTime.
func (r *Rig) TimeLoad() *LoadTime {
	l := &LoadTime{Recorder: r.Recorder, size: r.Update.Size}
	r.Update.Reporter = l
	return l
}

// State implements dialect.Reporter.
func (l *LoadTime) State(s schemas.State, n uint64) error {
	switch {
	case s == schemas.StateInstalling && n == 0:
		l.began = time.Now()
	case s == schemas.StateInstalling && n == l.size:
		l.ended = time.Now()
	}
	return l.Recorder.State(s, n)
}

// Took is the time from the beginning of the load to its last acknowledged byte.
func (l *LoadTime) Took() time.Duration { return l.ended.Sub(l.began) }
