package broker

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

type rawWriter struct {
	raw     syscall.RawConn
	vectors *sync.Pool
}

// newTryWriter returns nil for what is not a plain socket. It saves a
// goroutine switch for each packet that the socket takes at once, which is
// nearly every one.
func newTryWriter(c net.Conn, vectors *sync.Pool) tryWriter {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return rawWriter{raw, vectors}
}

func (w rawWriter) tryWrite(p []byte) (int, error) {
	v := w.vectors.Get().(*vector)
	defer w.vectors.Put(v)
	v.add(p)
	return v.flush(w.raw)
}

func (w rawWriter) tryWritev(b *batch) (int, error) {
	v := w.vectors.Get().(*vector)
	defer w.vectors.Put(v)
	if b.fromFile() {
		return v.flushFile(w.raw, b)
	}
	for i := range b.packets {
		v.add(b.packets[i].head)
		v.add(b.packets[i].data)
	}
	return v.flush(w.raw)
}

// vector is one call of writev(2). It is kept and used again, because what it
// consists of would have to be allocated for each call: x/sys/unix makes new
// iovecs and RawConn.Write wants a closure.
type vector struct {
	parts []unix.Iovec
	write func(fd uintptr) bool // v.writev
	n     int
	errno syscall.Errno
	// Of flushFile.
	batch    *batch
	sendFile func(fd uintptr) bool // v.sendPackets
}

func newVector() any {
	v := &vector{parts: make([]unix.Iovec, 0, 2*maxBatch)}
	v.write, v.sendFile = v.writev, v.sendPackets
	return v
}

func (v *vector) add(p []byte) {
	if len(p) > 0 {
		v.parts = append(v.parts, unix.Iovec{Base: unsafe.SliceData(p)})
		v.parts[len(v.parts)-1].SetLen(len(p))
	}
}

// writev is what RawConn.Write calls; it never asks to wait for the socket.
func (v *vector) writev(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(unsafe.SliceData(v.parts))), uintptr(len(v.parts)))
		v.n, v.errno = int(n), errno
		if errno != unix.EINTR {
			return true
		}
	}
}

// flush writes and forgets the parts.
func (v *vector) flush(raw syscall.RawConn) (int, error) {
	v.n, v.errno = 0, 0
	err := raw.Write(v.write)
	clear(v.parts) // so that the pool keeps no memory alive
	v.parts = v.parts[:0]
	return v.outcome(err)
}

// outcome is what a call has come to, err being RawConn's.
func (v *vector) outcome(err error) (int, error) {
	switch {
	case err != nil:
		return 0, err
	case v.errno == 0:
		return v.n, nil
	case v.errno == unix.EAGAIN:
		return 0, nil
	case v.errno == unix.EFAULT:
		return 0, errors.Join(errUnreadable, v.errno)
	}
	return 0, v.errno
}
