package broker

import (
	"container/list"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/internal/logevent"
)

// Pauses after an error of accept.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// acceptor is a listener that survives errors of accept, such as running out
// of file descriptors, and bounds how many sockets are open.
type acceptor struct {
	net.Listener
	b *Broker
}

// Accept implements net.Listener; its only error is that the listener is
// closed.
func (a acceptor) Accept() (net.Conn, error) {
	pause := minPause
	for {
		c, err := a.Listener.Accept()
		switch {
		case err == nil:
			pause = minPause
			s := a.b.counted(c)
			if s == nil || a.b.shed(s) {
				continue
			}
			if !a.b.pending.enter(s, a.b.stopping, a.b.evict) {
				_ = s.Close()
				return nil, net.ErrClosed
			}
			a.b.metrics.socketsPending(a.b.pending.len())
			return s, nil
		case errors.Is(err, net.ErrClosed):
			return nil, err
		}
		a.b.metrics.acceptError()
		if a.b.logged.Allow("accept") {
			a.b.log.Error("cannot accept MQTT connections for now; trying again", "event", logevent.BrokerAcceptFailed, "address", a.Addr().String(), "error", err)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-a.b.stopping:
			t.Stop()
			return nil, net.ErrClosed
		}
		pause = min(2*pause, maxPause)
	}
}

// socket is an accepted connection that is counted until it is closed.
type socket struct {
	net.Conn
	tryReader
	b      *Broker
	origin netip.Prefix
	closed atomic.Bool
	// ours says that we are to act on what the client has said, and have not come to it.
	ours atomic.Bool
	// heard says that it is one of those that are heard of a crowded address.
	heard bool

	// Of pending, behind its mutex.
	place *list.Element
	since time.Time
}

// counted returns nil, with c closed, if there are too many.
func (b *Broker) counted(c net.Conn) *socket {
	l := &b.cfg.Limits
	if b.sockets.Add(1) > int64(l.MaxConnections+l.MaxPending+l.MaxWaiting) {
		b.sockets.Add(-1)
		b.metrics.refused("too_many_sockets")
		_ = c.Close()
		return nil
	}
	return &socket{Conn: c, tryReader: newTryReader(c), b: b, origin: origin(c.RemoteAddr())}
}

// shed puts a socket of an address from which wrong passwords come faster than they are
// answered into the tarpit; it says whether it did.
func (b *Broker) shed(s *socket) bool {
	crowded, taken := b.failures.crowded(s.origin)
	if s.heard = taken; !crowded {
		return false
	}
	b.metrics.refused("crowded")
	if b.strangers.Allow("/crowded") {
		b.log.Warn("MQTT connections are not heard and closed: too many with wrong passwords come from their address", "event", logevent.BrokerAddressUnheard, "remote", s.RemoteAddr().String())
	}
	if tcp, ok := s.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // nothing is to be said, so nothing has to be kept until it has arrived
	}
	b.tarpit.hold(s)
	return true
}

// unread says whether it is our turn and not the client's.
func (s *socket) unread() bool { return s.ours.Load() || s.tryReader.unread() }

// Close implements net.Conn.
func (s *socket) Close() error {
	err := s.Conn.Close()
	if !s.closed.Swap(true) {
		s.b.sockets.Add(-1)
		s.b.pending.leave(s)
	}
	return err
}

// evict closes a socket that has said nothing, because others want its place.
func (b *Broker) evict(s *socket) {
	b.metrics.refused("evicted")
	if b.strangers.Allow("/evicted") {
		b.log.Warn("sockets that do not say CONNECT are closed to make room for others", "event", logevent.BrokerPendingFull, "remote", s.RemoteAddr().String(), "pending", b.cfg.Limits.MaxPending)
	}
	_ = s.Close()
}

// serve starts serving one listener; b.mu is held.
func (b *Broker) serve(l Listener, ln net.Listener) {
	a := acceptor{ln, b}
	if l.Transport == WebSocket {
		b.serveWebSocket(l, a)
		return
	}
	b.tasks.Add(1)
	go func() {
		defer b.tasks.Done()
		for {
			c, err := a.Accept()
			if err != nil {
				return
			}
			go b.serveTCP(c.(*socket), &l)
		}
	}()
}

// serveTCP takes a new socket to the start of MQTT.
func (b *Broker) serveTCP(s *socket, l *Listener) {
	deadline := time.Now().Add(b.cfg.Limits.ConnectTimeout)
	var c *conn
	if l.TLS == nil {
		c = newConn(b, TCP, s, s, newTryWriter(s.Conn, &b.vectors))
	} else {
		c = newConn(b, TCP, tls.Server(b.handshakes.pace(s, deadline), l.TLS), s, nil)
	}
	c.listener = l
	b.serveConn(c, deadline)
}

// serveConn runs one MQTT connection to its end. It is closed by then, or
// about to be when its last bytes are written.
func (b *Broker) serveConn(c *conn, deadline time.Time) {
	if !b.begin(c) {
		c.abort()
		return
	}
	// What needs much stack returns before the connection becomes idle, so that the
	// collector can make the stack small.
	err := b.welcome(c, deadline)
	if err == nil {
		err = b.read(c)
	}
	b.close(c, err)
	b.end(c)
}

// welcome takes a new connection to the start of its session.
//
//go:noinline
func (b *Broker) welcome(c *conn, deadline time.Time) (err error) {
	defer b.endTurn(c, true)
	defer b.caught(c, &err)
	if err := b.handshake(c, deadline); err != nil {
		c.talk.answered = true
		return err
	}
	if err := c.SetReadDeadline(deadline); err != nil {
		return err
	}
	if err := c.readConnect(); err != nil {
		return err
	}
	if err := b.await(c, b.heard(c), deadline); err != nil {
		return err
	}
	b.newClient(c)
	if err := b.greet(c); err != nil {
		return err
	}
	b.endTurn(c, false)
	return nil
}

// close ends a connection in whatever state it is. What waits is still sent.
//
//go:noinline
func (b *Broker) close(c *conn, err error) {
	if c.client != nil {
		c.client.Stop(err)
	}
	_ = c.Close() // it has no error
	if c.principal != nil {
		b.farewell(c)
		b.metrics.connected(c.transport, -1)
		b.log.Debug("MQTT connection ended", "event", logevent.BrokerDisconnected, "principal", c.principal.name, "remote", c.RemoteAddr().String(), "error", err)
		return
	}
	if !c.talk.answered {
		reason := whyNoConnect(err)
		b.metrics.refused(reason)
		if b.strangers.Allow("/" + reason) {
			b.log.Warn("socket closed: no proper MQTT CONNECT", "event", logevent.BrokerNoConnect, "remote", c.RemoteAddr().String(), "reason", reason, "error", err)
		}
	}
}

func whyNoConnect(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "connect_timeout"
	case errors.Is(err, errNotConnect):
		return "not_mqtt"
	}
	return "malformed"
}

// caught is deferred where mochi runs: a packet that makes it panic (an MQTT 5
// SUBSCRIBE that ends after a filter does) ends this connection only.
func (b *Broker) caught(c *conn, err *error) {
	v := recover()
	if v == nil {
		return
	}
	*err = errPanic
	c.abort()
	b.metrics.panicked()
	if b.logged.Allow("panic") {
		b.log.Error("MQTT packet made the library panic; connection ended", "event", logevent.BrokerPanic,
			"remote", c.RemoteAddr().String(), "panic", v, "stack", string(debug.Stack()))
	}
}

// heard says that a socket has said CONNECT, and whom it is counted to.
func (b *Broker) heard(c *conn) netip.Prefix {
	if s, ok := c.socket.(*socket); ok {
		b.pending.leave(s)
		b.metrics.socketsPending(b.pending.len())
	}
	return c.origin()
}

// origin is whom the connection is counted to.
func (c *conn) origin() netip.Prefix {
	if s, ok := c.socket.(*socket); ok {
		return s.origin
	}
	return netip.Prefix{}
}

// await waits for the turn of a CONNECT. The service does not wait: everybody
// waits for it. When it returns an error the CONNECT is answered.
//
//go:noinline
func (b *Broker) await(c *conn, from netip.Prefix, deadline time.Time) error {
	connect := c.parseConnect()
	name := b.cfg.ServiceName
	if c.service = name != "" && string(connect.Connect.Username) == name; c.service {
		return nil
	}
	ok, retry := b.admission.enter(from, deadline.Add(-b.cfg.Limits.ConnectTimeout/5), c.closed)
	if ok {
		c.talk.turn = true
		return nil
	}
	code, reason := packets.ErrServerBusy, "busy"
	select {
	case <-b.admitted:
	default:
		code, reason = packets.ErrServerUnavailable, "not_ready"
	}
	c.talk.answered = true
	b.failures.busy(from)
	b.metrics.refused(reason)
	if b.strangers.Allow("/" + reason) {
		b.log.Warn("MQTT clients are asked to come back later: too many connect at once", "event", logevent.BrokerBusy, "reason", reason, "retry_after", retry)
	}
	c.sendAway(&connect, code, retry)
	return errRefused
}

// endTurn lets the next CONNECT in.
func (b *Broker) endTurn(c *conn, refused bool) {
	if c.talk.turn {
		c.talk.turn = false
		b.admission.leave(refused)
	}
}

// farewell does what is due when a session ends, in whatever way.
func (b *Broker) farewell(c *conn) {
	if c.talk.reading {
		b.retained.RUnlock()
	}
	if c.talk.scanning {
		b.retained.Unlock()
	}
	if w := c.talk.will; w.Flag == 1 && !c.talk.willSent && !c.talk.goodbye {
		_ = b.server.InjectPacket(b.inline, packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: w.Qos, Retain: w.Retain},
			TopicName:   w.TopicName,
			Payload:     w.Payload,
			Properties:  packets.Properties{User: w.User},
			PacketID:    uint16(w.Qos), // not zero with QoS 1; not used
		})
	}
	c.unsubscribe()
	if c.principal.service {
		b.server.UnsubscribeClient(c.client)
		b.server.Clients.Delete(c.id)
	}
	b.release(c)
	b.sessions.leave(c)
}
