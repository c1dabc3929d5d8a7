//go:build unix

package orchestrator_test

import (
	"syscall"
	"time"
)

// processCPU is the processor time that the process has used, system calls
// included.
func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
