package broker

import (
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tellLeft has the socket tell readOnce what it has left (tcp(7), TCP_INQ). What is no TCP
// socket does not.
func tellLeft(fd uintptr) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_INQ, 1)
}

// readOnce reads from a socket what is there. It never waits, so the scheduler need not
// know.
func readOnce(fd uintptr, p []byte) (look, error) {
	var told [8 * 3]byte // a control message of four bytes, with its header and padding
	part := unix.Iovec{Base: unsafe.SliceData(p)}
	part.SetLen(len(p))
	for {
		msg := unix.Msghdr{Iov: &part, Iovlen: 1, Control: &told[0]}
		msg.SetControllen(len(told))
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&msg)), unix.MSG_DONTWAIT)
		switch errno {
		case 0:
			return look{n: int(n), drained: leftNothing(&msg, &told)}, nil
		case unix.EAGAIN:
			return look{again: true}, nil
		case unix.EINTR:
			continue
		}
		return look{}, os.NewSyscallError("recvmsg", errno)
	}
}

// leftNothing says whether the control message has the socket say that nothing is left. It
// counts the end of what the other side sends as something.
func leftNothing(msg *unix.Msghdr, told *[24]byte) bool {
	h := (*unix.Cmsghdr)(unsafe.Pointer(told))
	return int(msg.Controllen) >= unix.SizeofCmsghdr+4 && h.Level == unix.SOL_TCP && h.Type == unix.TCP_CM_INQ &&
		binary.NativeEndian.Uint32(told[unix.SizeofCmsghdr:]) == 0
}
