//go:build unix

package fleet

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// spareFiles are those that a process needs besides its connections.
const spareFiles = 64

// CheckFiles says whether the process may have so many connections, one for each device, and
// raises its limit if it can.
func CheckFiles(devices int) error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read how many files this process may open: %w", err)
	}
	need := uint64(devices + spareFiles)
	if uint64(l.Cur) >= need {
		return nil
	}
	if uint64(l.Max) < need {
		return fmt.Errorf("%d devices need %d open files, and this process may have %d at most; raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd), or simulate fewer devices in each of several processes",
			devices, need, l.Max)
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("raise the number of files that this process may open to %d: %w", l.Max, err)
	}
	return nil
}

// processorTime is what the process has used, in seconds.
func processorTime() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
