package app

import (
	"os"
	"runtime/debug"
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
