//go:build unix

package broker

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// tryReader looks at what a socket has.
type tryReader struct{ raw syscall.RawConn }

// newTryReader returns a tryReader that can do nothing with what is not a plain
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

// can says whether the reader can do anything.
func (r tryReader) can() bool { return r.raw != nil }

// wait calls take until it returns true, first at once and then whenever there may be
// something to read. The error is that of a deadline or of a closed connection.
func (r tryReader) wait(take func(fd uintptr) bool) error { return r.raw.Read(take) }

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
