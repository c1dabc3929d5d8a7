//go:build !linux

package broker

import "syscall"

// unpaced is for Linux, where the congestion control can be chosen for a socket.
func unpaced(_, _ string, _ syscall.RawConn) error { return nil }
