package broker

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// sift attaches a filter to a listening socket that drops most of the SYN packets of some
// addresses, or takes it away (socket(7), SO_ATTACH_FILTER; it needs no privilege). Accepted
// sockets inherit it and receive no SYN, so it does not concern them.
func sift(l net.Listener, from []netip.Prefix) error {
	s, ok := l.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T is no socket", l)
	}
	c, err := s.SyscallConn()
	if err != nil {
		return err
	}
	program, err := bpf.Assemble(sievePlan(from))
	if err != nil {
		return fmt.Errorf("filter for %d addresses: %w", len(from), err)
	}
	var refused error
	err = c.Control(func(fd uintptr) {
		if len(from) == 0 {
			if refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); refused == unix.ENOENT {
				refused = nil // there was none
			}
			return
		}
		refused = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: (*unix.SockFilter)(unsafe.Pointer(&program[0]))})
	})
	if err == nil {
		err = refused
	}
	return err
}

// What the filter looks at: the TCP header, which the packet begins with there (RFC 9293,
// 3.1), and by a special offset of the kernel (SKF_NET_OFF of linux/filter.h) the IP header
// (RFC 791, 3.1; RFC 8200, 3).
const (
	tcpFlags       = 13
	tcpSYN, tcpACK = 0x02, 0x10
	ipHeader       = 0xfff00000
	ipv4Source     = ipHeader + 12
	ipv6Source     = ipHeader + 8
)

// sievePlan is the filter as instructions: everything passes but a SYN from one of the
// addresses, and of those one in sievePasses. IPv6 addresses count by their first 64 bits.
func sievePlan(from []netip.Prefix) []bpf.Instruction {
	pass, drop := bpf.RetConstant{Val: math.MaxInt32}, bpf.RetConstant{Val: 0}
	var v4, v6 []bpf.Instruction
	for _, p := range from {
		if a := p.Addr(); a.Is4() {
			b := a.As4()
			v4 = append(v4, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(b[:]), SkipTrue: 1}, drop)
		} else {
			b := a.As16()
			v6 = append(v6,
				bpf.LoadAbsolute{Off: ipv6Source, Size: 4}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(b[:]), SkipTrue: 3},
				bpf.LoadAbsolute{Off: ipv6Source + 4, Size: 4}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(b[4:]), SkipTrue: 1}, drop)
		}
	}
	plan := []bpf.Instruction{
		bpf.LoadAbsolute{Off: tcpFlags, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: tcpSYN | tcpACK},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: tcpSYN, SkipTrue: 1}, pass,
		bpf.LoadExtension{Num: bpf.ExtRand}, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: 1 << 32 / sievePasses, SkipTrue: 1}, pass,
		bpf.LoadAbsolute{Off: ipHeader, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x40, SkipTrue: 1}, bpf.Jump{Skip: uint32(len(v4) + 2)},
		bpf.LoadAbsolute{Off: ipv4Source, Size: 4},
	}
	plan = append(append(plan, v4...), pass)
	return append(append(plan, v6...), pass)
}
