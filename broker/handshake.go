package broker

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"runtime"
	"time"

	"davit/internal/logevent"
)

// handshakes bounds how many TLS handshakes are reckoned at a time, at half of the
// processors: a storm of them leaves the others to chunks. One that waits for the
// client's next words is not reckoned, so clients that are slow, or say nothing, hold up
// nobody.
type handshakes struct {
	turns chan struct{}
	stop  <-chan struct{}
	gauge func(delta int)
}

func newHandshakes(stop <-chan struct{}, gauge func(delta int)) *handshakes {
	return &handshakes{turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), stop: stop, gauge: gauge}
}

// paced is the connection below a TLS connection. Until the handshake is over it has a
// turn from when the client's words have come until the next are waited for.
type paced struct {
	net.Conn
	of       *handshakes
	deadline time.Time
	// Of the goroutine that makes the handshake, which is the one that reads.
	turn, over bool
}

func (h *handshakes) pace(c net.Conn, deadline time.Time) *paced {
	return &paced{Conn: c, of: h, deadline: deadline}
}

// Read implements net.Conn.
func (p *paced) Read(b []byte) (int, error) {
	if p.over {
		return p.Conn.Read(b)
	}
	p.leave()
	n, err := p.Conn.Read(b)
	if err != nil {
		return n, err
	}
	return n, p.enter()
}

func (p *paced) enter() error {
	select {
	case p.of.turns <- struct{}{}:
		p.turn = true
		return nil
	default:
	}
	p.of.gauge(1)
	defer p.of.gauge(-1)
	if s, ok := p.Conn.(*socket); ok { // so that it does not make way for others as one that is silent
		s.ours.Store(true)
		defer s.ours.Store(false)
	}
	late := time.NewTimer(time.Until(p.deadline))
	defer late.Stop()
	select {
	case p.of.turns <- struct{}{}:
		p.turn = true
		return nil
	case <-late.C:
		return context.DeadlineExceeded
	case <-p.of.stop:
		return net.ErrClosed
	}
}

func (p *paced) leave() {
	if p.turn {
		p.turn = false
		<-p.of.turns
	}
}

// done says that the handshake is over.
func (p *paced) done() {
	p.leave()
	p.over = true
}

// handshake is TLS's, where there is one that has not been made.
func (b *Broker) handshake(c *conn, deadline time.Time) error {
	t, ok := c.Conn.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	err := t.HandshakeContext(ctx)
	t.NetConn().(*paced).done()
	if err != nil {
		b.noHandshake(c.RemoteAddr(), err)
		return err
	}
	c.certificate = certificateOf(t, c.listener.Trust)
	return nil
}

// noHandshake tells of a handshake that failed.
func (b *Broker) noHandshake(remote net.Addr, err error) {
	b.metrics.refused("tls")
	why := whyUntrusted(err)
	if why == "" {
		if b.logged.Allow("tls") {
			b.log.Warn("TLS handshake of an MQTT client failed", "event", logevent.TLSHandshakeFailed, "remote", remote.String(), "error", err)
		}
		return
	}
	b.metrics.certificateRefused(why)
	if b.logged.Allow("tls/" + why) {
		b.log.Warn("client certificate refused", "event", logevent.CertificateRefused, "remote", remote.String(), "reason", why, "error", err)
	}
}

// secured makes the connections of a WebSocket listener speak TLS.
type secured struct {
	acceptor
	conf *tls.Config
}

// Accept implements net.Listener.
func (s secured) Accept() (net.Conn, error) {
	c, err := s.acceptor.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(s.b.handshakes.pace(c, time.Now().Add(s.b.cfg.Limits.ConnectTimeout)), s.conf), nil
}

// stateOf follows a connection of the HTTP server, on the goroutine that serves it.
func (b *Broker) stateOf(c net.Conn, state http.ConnState) {
	t, ok := c.(*tls.Conn)
	if !ok || state == http.StateNew || state == http.StateIdle {
		return
	}
	t.NetConn().(*paced).done()
	if state == http.StateClosed && !t.ConnectionState().HandshakeComplete {
		if err := t.HandshakeContext(context.Background()); err != nil { // which it remembers
			b.noHandshake(c.RemoteAddr(), err)
		}
	}
}
