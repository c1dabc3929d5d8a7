package broker

import (
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unsent asks a TCP socket for what it holds: bytes that were not sent, or that
// the far end's system has not acknowledged. It is kept and used again, because
// RawConn.Control wants a closure.
type unsent struct {
	raw   syscall.RawConn
	ask   func(fd uintptr) // u.ioctl
	bytes int32
}

// newUnsent returns nil for what is no socket.
func newUnsent(c net.Conn) *unsent {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	u := &unsent{raw: raw}
	u.ask = u.ioctl
	return u
}

func (u *unsent) ioctl(fd uintptr) {
	// What fails leaves 0: the socket is gone, and with it what it held. It never waits, so the
	// scheduler need not know.
	_, _, _ = unix.RawSyscall(unix.SYS_IOCTL, fd, unix.SIOCOUTQ, uintptr(unsafe.Pointer(&u.bytes)))
}

// get returns how many bytes there are; nobody else may call it meanwhile.
func (u *unsent) get() int {
	u.bytes = 0
	_ = u.raw.Control(u.ask) // an error says that the socket is closed
	return int(u.bytes)
}
