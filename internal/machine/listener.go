package machine

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// stateListen is a listening socket's state in /proc/net/tcp (Linux, Documentation/networking/proc_net_tcp.rst).
const stateListen = "0A"

// Listener is the process that listens on a TCP address which a listener on addr, HOST:PORT, would collide
// with; false if none does, or if the system does not tell. Of another user's process it may be known
// that it is there, and not which one: its PID is 0 then.
func (m Machine) Listener(addr string) (Process, bool) {
	host, name, err := net.SplitHostPort(addr)
	if err != nil {
		return Process{}, false
	}
	port, err := net.LookupPort("tcp", name)
	if err != nil || port == 0 {
		return Process{}, false
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	wanted, err := netip.ParseAddr(host)
	if err != nil {
		wanted = netip.IPv6Unspecified() // every address; of a name we do not know better
	}
	for _, table := range []string{"tcp", "tcp6"} {
		for line := range strings.Lines(m.text("proc/net", table)) {
			at, inode, ok := listening(line)
			if ok && int(at.Port()) == port && collide(at.Addr(), wanted) {
				return m.owner(inode), true
			}
		}
	}
	return Process{}, false
}

// collide says whether two listeners with one port cannot both be there.
func collide(a, b netip.Addr) bool {
	a, b = a.Unmap(), b.Unmap()
	return a == b || a.IsUnspecified() && (a.Is6() || b.Is4()) || b.IsUnspecified() && (b.Is6() || a.Is4())
}

// listening reads a line of /proc/net/tcp or tcp6: the address of a listening socket, and its inode.
func listening(line string) (at netip.AddrPort, inode string, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != stateListen {
		return at, "", false
	}
	host, port, _ := strings.Cut(fields[1], ":")
	b, err := hex.DecodeString(host)
	if err != nil || len(b)%4 != 0 {
		return at, "", false
	}
	// The address is printed as numbers of 32 bits in the machine's own order, which is little-endian
	// on everything that we build for.
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	addr, found := netip.AddrFromSlice(b)
	n, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(addr, uint16(n)), fields[9], found && err == nil
}

// owner is the process that has a socket open.
func (m Machine) owner(inode string) Process {
	want, found := fmt.Sprintf("socket:[%s]", inode), 0
	m.opened(func(pid int, target string) bool {
		if target == want {
			found = pid
		}
		return found == 0
	})
	if found == 0 {
		return Process{}
	}
	return m.Process(found)
}
