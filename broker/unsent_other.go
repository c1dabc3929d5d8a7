//go:build !linux

package broker

import "net"

// unsent would ask a socket for what it holds; only Linux is asked.
type unsent struct{}

func newUnsent(net.Conn) *unsent { return nil }

func (*unsent) get() int { return 0 }
