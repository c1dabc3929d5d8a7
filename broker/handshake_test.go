package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Handshakes have a turn while they are reckoned, and none while they wait for the
// client.
func TestHandshakesTakeTurns(t *testing.T) {
	waiting := 0
	stop := make(chan struct{})
	h := newHandshakes(stop, func(delta int) { waiting += delta })
	if most := max(1, runtime.GOMAXPROCS(0)/2); cap(h.turns) != most {
		t.Errorf("%d at a time, want %d", cap(h.turns), most)
	}
	pipe := func(deadline time.Time) (*paced, net.Conn) {
		near, far := net.Pipe()
		t.Cleanup(func() { _, _ = near.Close(), far.Close() })
		return h.pace(near, deadline), far
	}
	say := func(p *paced, far net.Conn) error {
		go func() { _, _ = far.Write([]byte("x")) }()
		_, err := p.Read(make([]byte, 1))
		return err
	}
	var holders []*paced
	for range cap(h.turns) {
		p, far := pipe(time.Now().Add(patience))
		check(t, say(p, far))
		holders = append(holders, p)
	}
	late, far := pipe(time.Now()) // there is no turn, and no time to wait for one
	if err := say(late, far); err == nil || late.turn {
		t.Errorf("one more has a turn: %v", err)
	}
	holders[0].done()
	next, far := pipe(time.Now().Add(patience))
	check(t, say(next, far))
	_ = far.Close() // it waits for the client again, who has gone
	if _, err := next.Read(make([]byte, 1)); err == nil || next.turn || len(h.turns) != cap(h.turns)-1 {
		t.Errorf("after the wait it has a turn: %v, %d turns are taken", err, len(h.turns))
	}
	check(t, func() error { // who is done has no turn, and needs none
		p, far := pipe(time.Now())
		p.done()
		return say(p, far)
	}())
	for _, p := range holders[1:] {
		p.done()
	}
	if len(h.turns) != 0 || waiting != 0 {
		t.Errorf("%d turns are taken and %d wait", len(h.turns), waiting)
	}
	for range cap(h.turns) {
		h.turns <- struct{}{}
	}
	close(stop)
	if p, far := pipe(time.Now().Add(patience)); say(p, far) == nil {
		t.Error("there is a turn in a broker that stops")
	}
}

// A socket that waits for a turn is not silent: it does not make way for others.
func TestWhoWaitsForATurnIsNotSilent(t *testing.T) {
	stop := make(chan struct{})
	asked := make(chan struct{})
	h := newHandshakes(stop, func(delta int) {
		if delta > 0 {
			close(asked)
		}
	})
	for range cap(h.turns) {
		h.turns <- struct{}{}
	}
	near, far := net.Pipe()
	s := &socket{Conn: near, b: &Broker{pending: newPending(1)}}
	pend := s.b.pending
	if !pend.enter(s, stop, func(*socket) {}) {
		t.Fatal("no room")
	}
	late := time.Now().Add(2 * minSilence)
	victim := func() *socket {
		pend.mu.Lock()
		defer pend.mu.Unlock()
		v, _ := pend.victim(late)
		s.since = time.Now()
		return v
	}
	if victim() != s {
		t.Error("one that is silent stays")
	}
	read := make(chan error)
	go func() {
		_, err := h.pace(s, time.Now().Add(patience)).Read(make([]byte, 1))
		read <- err
	}()
	_, err := far.Write([]byte("x"))
	check(t, err)
	<-asked
	eventually(t, "it is ours", s.ours.Load)
	if victim() != nil {
		t.Error("one that waits for us has to go")
	}
	<-h.turns
	check(t, <-read)
	if victim() != s {
		t.Error("one that we wait for again stays")
	}
	check(t, errors.Join(near.Close(), far.Close()))
}

// Clients that stall in the middle of a handshake, as many as there are turns and
// many more, hold up nobody; and nothing is left of them.
func TestStalledHandshakesHoldUpNobody(t *testing.T) {
	const others = 20
	m := newMutual(t, func(c *Config, _ *TrustOptions) { c.Limits.MaxPerPrincipal = others })
	addDevice(t, m.Broker, "pump")
	cert := m.ca.issue(nil, uris("davit:device:pump"))
	for range 50 { // each sends a whole ClientHello and hears the answer, and no more
		raw := dialTCP(t, m.addr())
		conn := tls.Client(&deaf{Conn: raw}, m.client(cert))
		go func() { _ = conn.Handshake() }()
	}
	var in sync.WaitGroup
	for i := range others {
		in.Go(func() {
			c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", m.addr(), m.client(cert))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, ack := tryOn(t, c, connectOptions{clientID: fmt.Sprint(i)})
			if ack.ReasonCode != 0 {
				t.Errorf("CONNACK %#x", ack.ReasonCode)
			}
		})
	}
	in.Wait()
	eventually(t, "no turn is taken", func() bool {
		return len(m.handshakes.turns) == 0 && testutil.ToFloat64(m.metrics.handshakes) == 0
	})
}

// deaf sends what it is given once, and never more.
type deaf struct {
	net.Conn
	once bool
}

func (d *deaf) Write(p []byte) (int, error) {
	if d.once {
		return len(p), nil
	}
	d.once = true
	return d.Conn.Write(p)
}

// BenchmarkHandshakes makes 10,000 connections one after the other, 32 at a time: what one
// costs the whole process, both ends, how far the heap grows meanwhile, and what is left
// of them; plain, over TLS, and over mutual TLS.
func BenchmarkHandshakes(b *testing.B) {
	const many = 10_000
	for _, way := range []string{"plain", "tls", "mutual"} {
		b.Run(way, func(b *testing.B) {
			dial, who := stormed(b, way)
			for b.Loop() {
				before := memory()
				peak := storm(b, dial, who, many)
				b.ReportMetric(peak/1e6, "MB-peak") // the process as a whole
				b.ReportMetric((peak-before)/1e6, "MB-grown")
				b.ReportMetric((memory()-before)/1e6, "MB-left")
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/many, "µs/connect")
		})
	}
}

// stormed starts a broker, and says how clients reach it and who they are.
func stormed(b *testing.B, way string) (dial func() (net.Conn, error), who login) {
	limits := func(c *Config, _ *TrustOptions) { c.Limits.MaxPerPrincipal, c.Limits.ConnectRate = 100, 1_000_000 }
	if way == "mutual" {
		m := newMutual(b, limits)
		addDevice(b, m.Broker, "pump")
		conf := m.client(m.ca.issue(nil, uris("davit:device:pump")))
		return func() (net.Conn, error) { return tls.Dial("tcp", m.addr(), conf) }, login{}
	}
	certFile, keyFile, pool := serverCertificate(b)
	secure, err := loadTLS(certFile, keyFile)
	check(b, err)
	s := start(b, func(c *Config) {
		limits(c, nil)
		if way == "tls" {
			c.Listeners[0].TLS = secure
		}
	})
	who = addDevice(b, s, "pump")
	if way == "plain" {
		return func() (net.Conn, error) { return net.Dial("tcp", s.addr()) }, who
	}
	return func() (net.Conn, error) { return tls.Dial("tcp", s.addr(), &tls.Config{RootCAs: pool}) }, who
}

// storm connects and disconnects many times, 32 at a time, and returns the highest use
// of memory that it saw.
func storm(b *testing.B, dial func() (net.Conn, error), who login, many int) (peak float64) {
	const at = 32
	var all sync.WaitGroup
	for i := range at {
		all.Go(func() {
			for n := range many / at {
				conn, err := dial()
				if err != nil {
					b.Error(err)
					return
				}
				_, ack := tryOn(b, conn, connectOptions{login: who, clientID: fmt.Sprint(i)})
				_ = conn.Close()
				if ack.ReasonCode != 0 {
					b.Errorf("CONNACK %#x", ack.ReasonCode)
				}
				if i == 0 && n%20 == 0 {
					var s runtime.MemStats
					runtime.ReadMemStats(&s)
					peak = max(peak, float64(s.HeapInuse+s.StackInuse))
				}
			}
		})
	}
	all.Wait()
	return peak
}
