package doctor

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"

	"davit/internal/machine"
)

// listener is an address at which the program is to listen.
type listener struct{ setting, addr string }

// listeners checks that each address can be listened on. running is the program that runs on the same
// data folder, which may hold them; nil for none.
func (s System) listeners(all []listener, running *machine.Process) []Finding {
	var found []Finding
	var held, free []string
	seen := map[string]string{}
	for _, l := range all {
		if l.addr == "" {
			continue
		}
		_, port, err := net.SplitHostPort(l.addr)
		if err != nil {
			continue // told with the settings
		}
		if port == "0" {
			free = append(free, l.setting+" any free port")
			continue
		}
		if other := seen[l.addr]; other != "" {
			found = append(found, failed(fmt.Sprintf("%s and %s both are %s", other, l.setting, l.addr), "give one of them another port"))
			continue
		}
		seen[l.addr] = l.setting
		p, taken := s.Machine.Listener(l.addr)
		switch {
		case taken && running != nil && (p.PID == running.PID || p.PID == 0):
			held = append(held, l.addr)
		case taken:
			found = append(found, failed(fmt.Sprintf("%s: %s is held by %s", l.setting, l.addr, p), "stop that process, or give "+l.setting+" another port"))
		default:
			if f, ok := s.bindable(l); !ok {
				found = append(found, f)
			} else {
				free = append(free, l.addr)
			}
		}
	}
	if len(held) > 0 {
		found = append(found, good("%s held by %s, which runs on this data folder", strings.Join(held, ", "), running))
	}
	if len(free) > 0 {
		found = append(found, good("free: %s", strings.Join(free, ", ")))
	}
	return orGood(found, "there is no listener")
}

// bindable says whether this user may use an address and the machine has it. The socket is bound and never
// listens, and shares the address, so a program that listens there at that moment is not in its way.
func (s System) bindable(l listener) (Finding, bool) {
	addr, err := net.ResolveTCPAddr("tcp", l.addr)
	if err != nil {
		return failed(fmt.Sprintf("%s: %v", l.setting, err), "write an address of this machine, or 0.0.0.0 for all of them"), false
	}
	err = s.Bind(addr)
	switch {
	case err == nil:
		return Finding{}, true
	case errors.Is(err, unix.EACCES):
		return failed(fmt.Sprintf("%s: %s may not use %s: ports below 1024 are for root", l.setting, me(), l.addr), "choose a higher port, or give the program CAP_NET_BIND_SERVICE (AmbientCapabilities= in the unit)"), false
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return failed(fmt.Sprintf("%s: this machine does not have the address of %s", l.setting, l.addr), "write one that it has (ip address), or 0.0.0.0 for all of them"), false
	case errors.Is(err, unix.EADDRINUSE):
		return failed(fmt.Sprintf("%s: %s is held by another process", l.setting, l.addr), "stop it (ss -ltnp says which), or give "+l.setting+" another port"), false
	}
	return warning(fmt.Sprintf("%s: whether %s can be used is not known: %v", l.setting, l.addr, err), "start the program and look at its log"), false
}

func bind(addr *net.TCPAddr) error {
	family := unix.AF_INET6
	var to unix.Sockaddr
	if ip := addr.IP.To4(); ip != nil {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(ip)}
	} else {
		six := &unix.SockaddrInet6{Port: addr.Port}
		copy(six.Addr[:], addr.IP)
		to = six
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	unix.CloseOnExec(fd)
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	return errors.Join(err, unix.Bind(fd, to), unix.Close(fd))
}
