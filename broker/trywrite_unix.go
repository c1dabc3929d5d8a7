//go:build unix && !linux

package broker

import (
	"errors"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// rawWriter is no vectorWriter: the calls that this takes are Linux's.
type rawWriter struct{ raw syscall.RawConn }

// newTryWriter returns nil for what is not a plain socket. It saves a
// goroutine switch for each packet that the socket takes at once, which is
// nearly every one.
func newTryWriter(c net.Conn, _ *sync.Pool) tryWriter {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return rawWriter{raw}
}

func (w rawWriter) tryWrite(p []byte) (n int, err error) {
	rawErr := w.raw.Write(func(fd uintptr) bool {
		n, err = unix.Write(int(fd), p)
		return true // never wait for the socket
	})
	n = max(n, 0)
	switch {
	case rawErr != nil:
		return n, rawErr
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return n, nil
	}
	return n, err
}

func newVector() any { return nil } // nobody asks for one
