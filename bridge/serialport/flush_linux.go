package serialport

import (
	"time"

	"golang.org/x/sys/unix"
)

// flushLook is how often Flush looks whether the kernel has sent everything.
const flushLook = 5 * time.Millisecond

// Flush waits until the kernel has sent what Write gave it, and drops what has
// not gone out within the time. Without that, a line that flow control holds
// would hold up Close for as long as the driver's closing_wait, usually 30 s.
func (p *Port) Flush(within time.Duration) { flush(output{p}, within) }

// queue is what flush needs of a port; tests put one in its place that is stuck.
type queue interface {
	queued() (int, error) // bytes that have yet to go out
	drop() error
}

func flush(q queue, within time.Duration) {
	for limit := time.Now().Add(within); ; time.Sleep(flushLook) {
		if n, err := q.queued(); err != nil || n == 0 {
			return // nothing left, or a driver that cannot tell
		}
		if !time.Now().Before(limit) {
			_ = q.drop() // Close, which comes next, says what is wrong with the port
			return
		}
	}
}

// output is the kernel's side of a port.
type output struct{ port *Port }

func (o output) queued() (n int, err error) {
	err = o.control(func(fd int) error {
		n, err = unix.IoctlGetInt(fd, unix.TIOCOUTQ)
		return err
	})
	return n, err
}

func (o output) drop() error {
	return o.control(func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCOFLUSH) })
}

func (o output) control(f func(fd int) error) error {
	raw, err := o.port.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}
