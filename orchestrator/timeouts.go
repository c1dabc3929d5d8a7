package orchestrator

import (
	"cmp"
	"math"
	"time"

	"davit/schemas"
)

// How long a host MCU may take if neither its job nor its device type says so. A
// device is told these where its job limits one of the two.
const (
	usualBoot    = Duration(5 * time.Minute)
	usualVersion = Duration(time.Minute)
)

// HostTimes are how long a host MCU may take to boot, and then to report its
// version; 0 is not said.
type HostTimes struct{ Boot, Version Duration }

// hostTimes are what the device type says; none of one that is not there.
func (t *DeviceType) hostTimes() HostTimes {
	if t == nil {
		return HostTimes{}
	}
	return HostTimes{Boot: t.BootTimeout, Version: t.VersionTimeout}
}

// hostTimes are those that a device is told: the job's, and where it leaves one out
// the device type's. A job that limits one of the two has both.
func (t *Timeouts) hostTimes(of HostTimes) HostTimes {
	if t == nil || t.Boot == 0 && t.Version == 0 {
		return of
	}
	return HostTimes{Boot: cmp.Or(t.Boot, of.Boot, usualBoot), Version: cmp.Or(t.Version, of.Version, usualVersion)}
}

// half says whether only one of the two is limited, so that the device type is asked
// for the other one.
func (t *Timeouts) half() bool { return t != nil && (t.Boot == 0) != (t.Version == 0) }

// limit is how long an execution may take in the phase that its state belongs
// to, with an image of the size, and what people call the phase; 0 is no limit.
// The phases are those that a service can tell apart by what modules report: each
// limit of the host MCU is the module's to watch, which hears it restart and says
// which one ran out. One that says nothing more has the time of both.
func (t *Timeouts) limit(state schemas.State, size uint64, of HostTimes) (time.Duration, string) {
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
		if t.Boot == 0 && t.Version == 0 {
			return 0, "boot and version report"
		}
		host := t.hostTimes(of)
		return sumOf(time.Duration(host.Boot), time.Duration(host.Version)), "boot and version report"
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
