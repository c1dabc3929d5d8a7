package orchestrator

import (
	"math"
	"time"

	"davit/schemas"
)

// limit is how long an execution may take in the phase that its state belongs
// to, with an image of the size, and what people call the phase; 0 is no limit.
// The phases are those that a service can tell apart by what modules report:
// while it boots, a device does not say when it has booted, so that both parts of
// booting need a limit for the whole to have one.
func (t *Timeouts) limit(state schemas.State, size uint64) (time.Duration, string) {
	if t == nil {
		return 0, ""
	}
	switch state {
	case schemas.StateOffered:
		return time.Duration(t.Answer), "the answer to the offer"
	case schemas.StateAccepted, schemas.StateDownloading:
		return time.Duration(t.Download), "the download"
	case schemas.StateDownloaded, schemas.StateInstalling:
		return t.loadLimit(size), "the load of the host MCU"
	case schemas.StateBooting:
		if t.Boot == 0 || t.Version == 0 {
			return 0, "boot and version report"
		}
		return sumOf(time.Duration(t.Boot), time.Duration(t.Version)), "boot and version report"
	}
	return 0, ""
}

func (t *Timeouts) loadLimit(size uint64) time.Duration {
	if t.Load == 0 || t.LoadRate <= 0 {
		return time.Duration(t.Load)
	}
	line := float64(size) / float64(t.LoadRate) * float64(time.Second)
	if line >= math.MaxInt64 {
		return math.MaxInt64
	}
	return sumOf(time.Duration(t.Load), time.Duration(line))
}

// sumOf adds durations that are not negative, up to the longest that there is.
func sumOf(a, b time.Duration) time.Duration {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
