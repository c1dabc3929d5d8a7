//go:build !unix

package mqtt

import (
	"net"
	"syscall"
)

// control leaves the socket as it is: its receive buffer cannot be set here.
func (*Options) control(string, string, syscall.RawConn) error { return nil }

// read reads and handles until the connection ends.
func (c *Conn) read() error {
	for {
		if c.in == nil {
			c.in = newInput()
		}
		room := c.in.room()
		n, err := c.tcp.Read(room[:min(len(room), c.maxRead)])
		c.in.n += n
		if n > 0 && c.pace != nil && !c.pace(n) {
			return net.ErrClosed
		}
		if n > 0 {
			if err := c.handleRead(); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		c.release()
	}
}

// tryWrite leaves all bytes to the goroutine that writes: a socket cannot be asked here
// what it takes.
func (*Conn) tryWrite([]byte) (int, error) { return 0, nil }
