//go:build unix

package broker

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// tryReader reads from a socket what is there, without waiting.
type tryReader struct{ raw syscall.RawConn }

// newTryReader returns a tryReader that finds nothing for what is not a plain
// socket.
func newTryReader(c net.Conn) tryReader {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return tryReader{}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return tryReader{}
	}
	return tryReader{raw}
}

// tryRead returns 0 if nothing is there. The end and errors of the connection
// are left for the next Read to find.
func (r tryReader) tryRead(p []byte) (n int) {
	if r.raw == nil {
		return 0
	}
	_ = r.raw.Read(func(fd uintptr) bool {
		n, _ = unix.Read(int(fd), p)
		return true // never wait for the socket
	})
	return max(n, 0)
}

// unread says whether the socket holds bytes that nobody has read.
func (r tryReader) unread() (some bool) {
	if r.raw == nil {
		return false
	}
	_ = r.raw.Control(func(fd uintptr) {
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		some = err == nil && n > 0
	})
	return some
}
