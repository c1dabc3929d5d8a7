//go:build !linux

package broker

import (
	"errors"
	"net"
	"net/netip"
)

// sift needs a filter of the system for listening sockets.
func sift(net.Listener, []netip.Prefix) error { return errors.ErrUnsupported }
