//go:build unix

package mqtt

import (
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// control prepares a socket before it connects.
func (o *Options) control(_, _ string, raw syscall.RawConn) error {
	if o.ReceiveBuffer == 0 {
		return nil
	}
	var err error
	if rawErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, o.ReceiveBuffer)
	}); rawErr != nil {
		return rawErr
	}
	return err
}

// read reads and handles until the connection ends. It waits without a buffer, and inside
// one call of RawConn.Read: the runtime's poller remembers what came while a packet was
// handled, so a read that was short need not be followed by one that finds nothing.
func (c *Conn) read() error {
	var end error
	err := c.raw.Read(func(fd uintptr) bool {
		for end == nil {
			var full bool
			if full, end = c.readOnce(int(fd)); !full {
				break
			}
		}
		c.release()
		return end != nil
	})
	if end != nil {
		return end
	}
	return err
}

// readOnce reads and handles what there is; full says that there may be more.
func (c *Conn) readOnce(fd int) (full bool, err error) {
	if c.in == nil {
		c.in = newInput()
	}
	room := c.in.room()
	room = room[:min(len(room), c.maxRead)]
	n, err := unix.Read(fd, room)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, nil
	case errors.Is(err, unix.EINTR):
		return true, nil
	case err != nil:
		return false, err
	case n == 0:
		return false, io.EOF
	}
	c.in.n += n
	if c.pace != nil && !c.pace(n) {
		return false, net.ErrClosed
	}
	return n == len(room), c.handleRead()
}

// tryWrite writes what the socket takes without waiting; none is no error.
func (c *Conn) tryWrite(p []byte) (n int, err error) {
	rawErr := c.raw.Write(func(fd uintptr) bool {
		n, err = unix.Write(int(fd), p)
		return true
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
