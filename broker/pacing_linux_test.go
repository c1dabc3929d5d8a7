package broker

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// Connections that come to a listener on loopback are not paced; other listeners are
// as the system has it.
func TestLoopbackIsNotPaced(t *testing.T) {
	control := func(c net.Listener) (name string) {
		raw, err := c.(*net.TCPListener).SyscallConn()
		check(t, err)
		check(t, raw.Control(func(fd uintptr) {
			name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		}))
		check(t, err)
		return name
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer plain.Close()
	for addr, want := range map[string]string{"127.0.0.1:0": "reno", "[::1]:0": "reno", "0.0.0.0:0": control(plain)} {
		ln, err := listen("tcp", addr)
		if addr[0] == '[' && err != nil {
			continue // no IPv6 here
		}
		check(t, err)
		defer ln.Close()
		if got := control(ln); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}
