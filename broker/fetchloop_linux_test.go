package broker

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sys/unix"

	"davit/schemas"
)

// held is a broker whose first `free` fetches are taken at once, and each after those when
// release gets something; came tells of each.
func held(t *testing.T, free int, change func(*Config)) (b *Broker, came, release chan struct{}) {
	came, release = make(chan struct{}, 1000), make(chan struct{})
	b = start(t, func(c *Config) {
		taken := 0 // by one client
		c.OnFetch = func(string, []byte, *Session, string) bool {
			came <- struct{}{}
			if taken++; taken > free {
				<-release
			}
			return true
		}
		if change != nil {
			change(c)
		}
	})
	return b, came, release
}

// TestEndBehindAFetch: who ends after a fetch, while that or the one before is being taken, is
// noticed at once: nothing more comes of the socket that could tell of it later.
func TestEndBehindAFetch(t *testing.T) {
	for _, free := range []int{0, 1, 2, 5} {
		for _, more := range []int{0, 1, 3} {
			b, came, release := held(t, free, nil)
			dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "pump")})
			fetch := encoded(t, publishPacket(topic("pump", schemas.KindFetch), 0, false, "fetch"))
			for range free + 1 {
				_, err := dev.Write(fetch)
				check(t, err)
				<-came
			}
			for range more { // come while one is being taken
				_, err := dev.Write(fetch)
				check(t, err)
			}
			check(t, dev.Conn.(*net.TCPConn).CloseWrite())
			release <- struct{}{}
			for range more {
				<-came
				release <- struct{}{}
			}
			eventually(t, "the end is noticed", func() bool { return b.Connections() == 0 })
		}
	}
}

// TestResetBehindAFetch: who resets its connection behind a fetch that is not answered, while
// that or the one before is being taken, is noticed.
func TestResetBehindAFetch(t *testing.T) {
	for _, more := range []int{0, 1, 3} {
		b, came, release := held(t, 1, nil)
		dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "pump")})
		fetch := encoded(t, publishPacket(topic("pump", schemas.KindFetch), 0, false, "fetch"))
		for range 2 { // so that the socket tells what it has left
			_, err := dev.Write(fetch)
			check(t, err)
			<-came
		}
		for range more {
			_, err := dev.Write(fetch)
			check(t, err)
		}
		check(t, dev.Conn.(*net.TCPConn).SetLinger(0))
		check(t, dev.Close()) // on loopback the reset has arrived when this returns
		close(release)
		eventually(t, fmt.Sprintf("%d more: the reset is noticed", more), func() bool { return b.Connections() == 0 })
	}
}

// TestEndedWhileItFetches: a connection that is ended by us while a fetch of it is being
// taken ends when it is, however many wait behind it, and who ends it does not wait for that.
func TestEndedWhileItFetches(t *testing.T) {
	t.Run("taking", func(t *testing.T) {
		b, came, release := held(t, 3, nil)
		who := addDevice(t, b, "pump")
		dev := connect(t, b.addr(), connectOptions{login: who})
		for range 4 {
			dev.send(publishPacket(topic("pump", schemas.KindFetch), 0, false, "fetch"))
			<-came
		}
		check(t, b.cfg.Credentials.Remove(who.user))
		release <- struct{}{}
		eventually(t, "it has ended", func() bool { return b.Connections() == 0 })
	})
	t.Run("many wait", func(t *testing.T) {
		b, came, release := held(t, 0, nil)
		dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "pump")})
		name := topic("pump", schemas.KindFetch)
		// All that is read at a time are whole fetches, so that nothing else is met.
		fetch := encoded(t, publishPacket(name, 0, false, strings.Repeat("x", 128-2-2-len(name)-1)))
		const ahead = aheadBuffer / 128
		if len(fetch) != 128 {
			t.Fatalf("a fetch has %d bytes", len(fetch))
		}
		_, err := dev.Write(bytes.Repeat(fetch, 8*ahead))
		check(t, err)
		<-came
		b.disconnect(b.sessions.all()[0], packets.ErrServerShuttingDown)
		close(release)
		eventually(t, "it has ended", func() bool { return b.Connections() == 0 })
		if n := 1 + len(came); n > 2*ahead {
			t.Errorf("%d fetches were taken, of which %d had been read by then", n, ahead)
		}
	})
}

// TestOneLookAtTheSocketForAFetch: the socket says that nothing is left behind a fetch, so
// that nobody has to look.
func TestOneLookAtTheSocketForAFetch(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	near := dialTCP(t, l.Addr().String())
	far, err := l.Accept()
	check(t, err)
	defer far.Close()
	raw, err := far.(*net.TCPConn).SyscallConn()
	check(t, err)
	see := func(p []byte) (got look) {
		t.Helper()
		check(t, raw.Read(func(fd uintptr) bool {
			got, err = readOnce(fd, p)
			return !got.again
		}))
		check(t, err)
		return got
	}
	say := func(s string) {
		t.Helper()
		_, err := near.Write([]byte(s))
		check(t, err)
	}
	p := make([]byte, 4)
	say("abc")
	if got := see(p); got != (look{n: 3}) {
		t.Errorf("%+v of a socket that was not asked", got)
	}
	check(t, raw.Control(tellLeft))
	say("abcdef")
	if got := see(p); got != (look{n: 4}) {
		t.Errorf("%+v of six bytes", got)
	}
	if got := see(p); got != (look{n: 2, drained: true}) {
		t.Errorf("%+v of the other two", got)
	}
	say("abcd")
	if got := see(p); got != (look{n: 4, drained: true}) {
		t.Errorf("%+v of as much as there is room for", got)
	}
	say("ab")
	check(t, near.(*net.TCPConn).CloseWrite())
	eventually(t, "the end has arrived", func() bool {
		var info *unix.TCPInfo
		check(t, raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }))
		check(t, err)
		return info.State == unix.BPF_TCP_CLOSE_WAIT
	})
	if got := see(p); got != (look{n: 2}) {
		t.Errorf("%+v of two bytes and the end", got)
	}
	if got := see(p); got.n != 0 || got.again {
		t.Errorf("%+v of the end", got)
	}
	check(t, raw.Control(func(fd uintptr) {
		if n := testing.AllocsPerRun(100, func() { _, _ = readOnce(fd, p) }); n > 0 {
			t.Errorf("%v allocations for a look", n)
		}
	}))
}
