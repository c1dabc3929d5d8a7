package app

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// gcPercent is how much garbage may lie around before it is collected, as a share
// of what is in use. Most of what a service holds are idle connections; with Go's
// own 100 % each would cost twice what it needs.
const gcPercent = 75

// LimitGarbage sets the garbage collector for a process that serves, unless the
// environment (GOGC) does.
func LimitGarbage() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// When memory is given back: a storm of connections, or a job for a whole fleet, needs
// memory that the idle service afterwards does not, and what is idle collects nothing.
const (
	calmLook = 5 * time.Second
	// calmMost is what a service that is idle may allocate between two looks, in bytes.
	calmMost = 4 << 20
	// calmWorth is how much has to have been allocated since the last time, in bytes.
	calmWorth = 64 << 20
)

// GiveBackMemory gives memory that is not needed any more back to the system whenever
// the process has become calm, until ctx ends: at first what its start needed, and those
// pages of the program that only the start had.
func GiveBackMemory(ctx context.Context) {
	look := time.NewTicker(calmLook)
	defer look.Stop()
	var c calm
	for {
		select {
		case <-look.C:
			first := c.given == 0
			if c.came(allocated()) {
				debug.FreeOSMemory()
				if first {
					unmapProgram()
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// calm finds the moment after much was done. Both of its numbers are bytes allocated
// since the process began.
type calm struct{ last, given uint64 }

// came says whether much was allocated since the last time, and little since the last look.
// The first time is when the start is over.
func (c *calm) came(allocated uint64) bool {
	grown := allocated - c.last
	c.last = allocated
	if grown > calmMost || c.given > 0 && allocated-c.given < calmWorth {
		return false
	}
	c.given = allocated
	return true
}

// allocated is how many bytes the process has ever allocated.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
