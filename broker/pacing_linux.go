package broker

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// unpaced keeps BBR, where it is the system's congestion control, from spreading what
// leaves a listener on loopback over time: with a timer of the kernel for every 64 KiB,
// an image of 256 KiB costs a quarter more processor time there and protects no network.
// Accepted sockets are as their listener is. It is for net.ListenConfig; what the kernel
// refuses stays as it was.
func unpaced(_, address string, c syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().Unmap().IsLoopback() {
		return nil
	}
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno") // the kernel always has it
	})
}
