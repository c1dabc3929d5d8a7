package broker

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// flushFile writes a batch with two system calls for each packet: one for its head, one
// that has the kernel take the data from the image's file (sendfile(2)). The pages of the
// file are lent to the socket and copied once, by whoever reads, where writev(2) copies
// them into the socket besides. All receivers read the same pages, which stay in the
// processor's cache.
func (v *vector) flushFile(raw syscall.RawConn, b *batch) (int, error) {
	v.n, v.errno, v.batch = 0, 0, b
	err := raw.Write(v.sendFile)
	v.batch = nil
	if v.n > 0 && err == nil {
		return v.n, nil // what stopped it is met again
	}
	return v.outcome(err)
}

// sendPackets is what RawConn.Write calls; it never asks to wait for the socket. The end
// of a packet's data does not leave alone, but with the head of the next one (TCP_CORK).
func (v *vector) sendPackets(fd uintptr) bool {
	cork(fd, 1)
	for i := range v.batch.packets {
		if p := &v.batch.packets[i]; !v.sendHead(fd, p.head) || !v.sendData(fd, p) {
			break
		}
	}
	cork(fd, 0)
	return true
}

// cork fails only on what is no TCP socket, which does without. It waits for nothing, and is
// over before the scheduler would have been told of it.
func cork(fd uintptr, on int32) {
	_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_CORK, uintptr(unsafe.Pointer(&on)), unsafe.Sizeof(on), 0)
}

// sendHead returns whether all of it was taken. It copies some bytes and never waits.
func (v *vector) sendHead(fd uintptr, head []byte) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(head))), uintptr(len(head)),
			unix.MSG_MORE|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if v.errno = errno; errno != 0 {
			return false
		}
		v.n += int(n)
		return int(n) == len(head)
	}
}

// sendData returns whether all of a packet's data was taken.
func (v *vector) sendData(fd uintptr, p *packet) bool {
	at, end := p.at, p.at+int64(len(p.data))
	for at < end {
		n, _, errno := unix.Syscall6(unix.SYS_SENDFILE, fd, uintptr(v.batch.file), uintptr(unsafe.Pointer(&at)), uintptr(end-at), 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			v.errno = errno
			return false
		case n == 0: // the file is shorter than the image; reading says so
			v.errno = unix.EFAULT
			return false
		}
		v.n += int(n)
	}
	return true
}
