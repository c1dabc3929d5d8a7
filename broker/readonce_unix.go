//go:build unix && !linux

package broker

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tellLeft has the socket tell readOnce what it has left. It cannot here.
func tellLeft(uintptr) {}

// readOnce reads from a socket what is there.
func readOnce(fd uintptr, p []byte) (look, error) {
	for {
		n, err := unix.Read(int(fd), p)
		switch {
		case err == nil:
			return look{n: n}, nil
		case errors.Is(err, unix.EAGAIN):
			return look{again: true}, nil
		case !errors.Is(err, unix.EINTR):
			return look{}, os.NewSyscallError("read", err)
		}
	}
}
