//go:build !linux

package machine

// Locker knows nothing on this system.
func (m Machine) Locker(string) (Process, bool) { return Process{}, false }

// Synchronised knows nothing on this system.
func (m Machine) Synchronised() (yes, known bool) { return false, false }
