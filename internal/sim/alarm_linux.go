package sim

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// exact is a timer of the kernel that wakes the runtime as an arriving byte does.
type exact struct {
	file  *os.File
	conn  syscall.RawConn
	rings chan time.Time
	gone  chan struct{}
}

// newExact returns an exact alarm, or the usual one if the system has no more.
func newExact() alarm {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return &usual{}
	}
	a := &exact{file: os.NewFile(uintptr(fd), "timerfd"), rings: make(chan time.Time, 1), gone: make(chan struct{})}
	if a.conn, err = a.file.SyscallConn(); err != nil {
		_ = a.file.Close()
		return &usual{}
	}
	go a.run()
	return a
}

func (a *exact) run() {
	defer close(a.gone)
	var count [8]byte
	for {
		if _, err := a.file.Read(count[:]); err != nil {
			return // closed
		}
		select {
		case a.rings <- time.Now():
		default:
		}
	}
}

// Set implements alarm. Zero would stop the kernel's timer.
func (a *exact) Set(d time.Duration) { a.set(max(d, 1)) }

// Rings implements alarm.
func (a *exact) Rings() <-chan time.Time { return a.rings }

// Stop implements alarm.
func (a *exact) Stop() { a.set(0) }

// set sets the kernel's timer; after Close it does nothing.
func (a *exact) set(d time.Duration) {
	_ = a.conn.Control(func(fd uintptr) {
		_ = unix.TimerfdSettime(int(fd), 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
	})
}

// Close implements alarm.
func (a *exact) Close() {
	_ = a.file.Close()
	<-a.gone
}
