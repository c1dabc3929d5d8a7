package orchestrator

import (
	"math"
	"testing"
	"time"

	"davit/schemas"
)

func TestTimeoutLimits(t *testing.T) {
	m := Duration(time.Minute)
	all := &Timeouts{Answer: m, Download: 2 * m, Load: 3 * m, LoadRate: 1000, Boot: 4 * m, Version: 5 * m, Total: 60 * m}
	for _, c := range []struct {
		t     *Timeouts
		state schemas.State
		size  uint64
		want  time.Duration
		phase string
	}{
		{all, schemas.StateQueued, 1, 0, ""},
		{all, schemas.StateOffered, 1, time.Minute, "the answer to the offer"},
		{all, schemas.StateAccepted, 1, 2 * time.Minute, "the download"},
		{all, schemas.StateDownloading, 1, 2 * time.Minute, "the download"},
		{all, schemas.StateDownloaded, 90_000, 3*time.Minute + 90*time.Second, "the load of the host MCU"},
		{all, schemas.StateInstalling, 500, 3*time.Minute + 500*time.Millisecond, "the load of the host MCU"},
		{all, schemas.StateInstalling, math.MaxUint64, math.MaxInt64, "the load of the host MCU"},
		{all, schemas.StateBooting, 1, 9 * time.Minute, "boot and version report"},
		{all, schemas.StateSucceeded, 1, 0, ""},
		{all, schemas.StateTimedOut, 1, 0, ""},
		{&Timeouts{}, schemas.StateOffered, 1, 0, "the answer to the offer"},
		{&Timeouts{Load: m}, schemas.StateInstalling, 1 << 20, time.Minute, "the load of the host MCU"},
		{&Timeouts{LoadRate: 1}, schemas.StateInstalling, 1 << 20, 0, "the load of the host MCU"},
		{&Timeouts{Load: math.MaxInt64, LoadRate: 1}, schemas.StateInstalling, 1, math.MaxInt64, "the load of the host MCU"},
		{&Timeouts{Answer: m}, schemas.StateBooting, 1, 0, "boot and version report"},
		{&Timeouts{Boot: m}, schemas.StateBooting, 1, 4 * time.Minute, "boot and version report"},
		{&Timeouts{Version: m}, schemas.StateBooting, 1, 3 * time.Minute, "boot and version report"},
		{nil, schemas.StateBooting, 1, 0, ""},
	} {
		if d, phase := c.t.limit(c.state, c.size, HostTimes{Boot: 2 * m, Version: 3 * m}); d != c.want || phase != c.phase {
			t.Errorf("%+v in %s with %d bytes: %v for %q, want %v for %q", c.t, c.state, c.size, d, phase, c.want, c.phase)
		}
	}
}

// TestHostTimes: a job's limits of the host MCU are its own, and where it has one of
// them the other one is the device type's, or the usual one.
func TestHostTimes(t *testing.T) {
	m := Duration(time.Minute)
	for _, c := range []struct {
		t        *Timeouts
		of, want HostTimes
	}{
		{nil, HostTimes{Boot: m}, HostTimes{Boot: m}},
		{&Timeouts{Total: m}, HostTimes{Version: m}, HostTimes{Version: m}},
		{&Timeouts{Boot: m}, HostTimes{Boot: 2 * m, Version: 3 * m}, HostTimes{Boot: m, Version: 3 * m}},
		{&Timeouts{Version: m}, HostTimes{Boot: 2 * m, Version: 3 * m}, HostTimes{Boot: 2 * m, Version: m}},
		{&Timeouts{Boot: m}, HostTimes{}, HostTimes{Boot: m, Version: m}},
		{&Timeouts{Version: 2 * m}, HostTimes{}, HostTimes{Boot: 5 * m, Version: 2 * m}},
		{&Timeouts{Boot: m, Version: 2 * m}, HostTimes{Boot: 9 * m, Version: 9 * m}, HostTimes{Boot: m, Version: 2 * m}},
	} {
		if got := c.t.hostTimes(c.of); got != c.want {
			t.Errorf("%+v of a device type with %v: %v, want %v", c.t, c.of, got, c.want)
		}
	}
}
