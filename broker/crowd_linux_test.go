package broker

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"davit/schemas"
)

// dialFrom connects from another address of this machine; the test is skipped where
// there is only one.
func dialFrom(t testing.TB, from, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Skipf("no connection from %s: %v", from, err)
	}
	return c
}

// Thousands of sockets that never say CONNECT, or say it one byte at a time, over
// TCP and over TLS, cost a bounded number of sockets and little memory, and no
// module is kept out by them; afterwards nothing is left.
func TestHalfOpenSockets(t *testing.T) {
	const most, attackers, modules = 500, 2000, 40
	m := NewMetrics(prometheus.NewRegistry())
	secure := tlsConfig(t)
	b := start(t, func(c *Config) {
		c.Listeners = append(c.Listeners, Listener{Transport: TCP, Addr: "127.0.0.1:0", TLS: secure})
		c.Limits.MaxPending, c.Metrics = most, m
		c.Limits.ConnectTimeout = time.Minute // eviction, not time, has to do it
	})
	logins := make([]login, modules)
	for i := range logins {
		logins[i] = addDevice(t, b, fmt.Sprint("pump-", i))
	}
	before := memory()
	var most64 atomic.Int64
	hello := encoded(t, connectPacket(connectOptions{login: logins[0]}))
	var sockets []net.Conn
	var served sync.WaitGroup
	for i := range attackers {
		c := dialFrom(t, "127.0.0.2", b.Addrs()[i%2].String())
		sockets = append(sockets, c)
		switch i % 4 {
		case 0, 1: // silent, on either listener
		case 2:
			_, _ = c.Write(hello[:1+i%20]) // the other end may have hung up
		case 3:
			_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1}) // a TLS record begins
		}
		most64.Store(max(most64.Load(), int64(b.pending.len())))
		if i%(attackers/modules) == 0 {
			k := i / (attackers / modules)
			served.Go(func() {
				connect(t, b.addr(), connectOptions{login: logins[k], clientID: "x"}).quiet()
			})
		}
	}
	served.Wait()
	grown := memory() - before
	if n := most64.Load(); n > most {
		t.Errorf("%d sockets were open without CONNECT, at most %d may be", n, most)
	}
	// The last of them may not be accepted yet.
	eventually(t, "all but those that there may be have made way", func() bool {
		return testutil.ToFloat64(m.refusals.WithLabelValues("evicted")) >= attackers-most-modules
	})
	// Both ends of the modules and of the sockets that are left are in it.
	if limit := 24e6; grown > limit {
		t.Errorf("%.1f MB more memory, at most %.1f are allowed", grown/1e6, limit/1e6)
	}
	for _, c := range sockets {
		_ = c.Close()
	}
	eventually(t, "nothing is left of them", func() bool {
		return b.pending.len() == 0 && b.sockets.Load() == modules && b.Connections() == modules
	})
	if len(b.pending.from) != 0 {
		t.Errorf("%d addresses are remembered", len(b.pending.from))
	}
}

// A hundred who try wrong passwords as fast as they are answered leave the others
// at least four fifths of the machine: their own work included, they cost less than
// the rest. Modules that are connected talk on, and a good one gets in beside them.
func TestWrongPasswordsBesideGoodModules(t *testing.T) {
	const attackers, rate, trips = 100, 50, 200
	m := NewMetrics(prometheus.NewRegistry())
	b := start(t, func(c *Config) { c.Metrics, c.Limits.FailureRate = m, rate })
	pump, late := addDevice(t, b, "pump"), addDevice(t, b, "late")
	device := connect(t, b.addr(), connectOptions{login: pump})
	device.subscribe(0, topic("pump", schemas.KindChunk))
	svc := connect(t, b.addr(), connectOptions{login: service()})
	goroutines := runtime.NumGoroutine()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var tries atomic.Int64
	began := time.Now()
	for i := range attackers {
		wrong := encoded(t, connectPacket(connectOptions{login: login{"pump", fmt.Sprint("wrong", i, "----")}}))
		wg.Go(func() { guess(b.addr(), wrong, &tries, stop) })
	}
	eventually(t, "the first are answered", func() bool { return tries.Load() >= rate })
	used, from := processorTime(t), time.Now()
	time.Sleep(time.Second) // of theirs
	share := (processorTime(t) - used).Seconds() / time.Since(from).Seconds() / float64(runtime.NumCPU())
	for range trips {
		svc.publish(topic("pump", schemas.KindChunk), 0, false, "chunk")
		device.message()
	}
	connect(t, b.addr(), connectOptions{login: late}).quiet()
	close(stop)
	wg.Wait()
	t.Logf("%d wrong passwords in %s took %.1f %% of the machine", tries.Load(), time.Since(began), 100*share)
	if share > 0.2 {
		t.Errorf("%.2f of the machine, at most 0.2 is allowed", share)
	}
	if most := int64(time.Since(began).Seconds()*rate) + rate + 2*attackers; tries.Load() > most {
		t.Errorf("%d passwords could be tried, at most %d should", tries.Load(), most)
	}
	if n := testutil.ToFloat64(m.refusals.WithLabelValues("authentication")); n < rate {
		t.Errorf("%v refusals are counted", n)
	}
	eventually(t, "no goroutine is left of them", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
}

// guess tries one wrong password after the other, never the same twice.
func guess(addr string, wrong []byte, tries *atomic.Int64, stop <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			continue
		}
		copy(wrong[len(wrong)-4:], fmt.Sprintf("%04d", n%10_000))
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Write(wrong); err == nil {
			_, _ = io.ReadFull(c, make([]byte, 2)) // of the CONNACK
		}
		_ = c.Close()
		tries.Add(1)
	}
}

// processorTime is what the process has used.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A module over TLS that begins its handshake and stops is bounded in time like any
// other.
func TestStalledHandshake(t *testing.T) {
	secure := tlsConfig(t)
	b := start(t, func(c *Config) {
		c.Listeners = []Listener{{Transport: TCP, Addr: "127.0.0.1:0", TLS: secure}}
		c.Limits.ConnectTimeout = 300 * time.Millisecond
	})
	dev := addDevice(t, b, "pump")
	raw := dialTCP(t, b.addr())
	stalled := tls.Client(stallAfterFirst{raw, new(atomic.Bool)}, &tls.Config{InsecureSkipVerify: true})
	go func() { _ = stalled.Handshake() }()
	conn := tls.Client(dialTCP(t, b.addr()), &tls.Config{InsecureSkipVerify: true})
	c, ack := tryOn(t, conn, connectOptions{login: dev})
	if ack.ReasonCode != packets.CodeSuccess.Code {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	c.quiet()
	eventually(t, "the stalled one is closed", func() bool { return b.pending.len() == 0 && b.sockets.Load() == 1 })
}

// stallAfterFirst writes once, and then says that it has written.
type stallAfterFirst struct {
	net.Conn
	done *atomic.Bool
}

func (s stallAfterFirst) Write(p []byte) (int, error) {
	if s.done.Swap(true) {
		return len(p), nil
	}
	return s.Conn.Write(p)
}

// tlsConfig is that of a listener with a certificate of its own.
func tlsConfig(t *testing.T) *tls.Config {
	t.Helper()
	cert, key, _ := serverCertificate(t)
	conf, err := loadTLS(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return conf
}
