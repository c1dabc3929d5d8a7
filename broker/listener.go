package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
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
			if s := a.b.counted(c); s != nil {
				return s, nil
			}
			pause = minPause
			continue
		case errors.Is(err, net.ErrClosed):
			return nil, err
		}
		a.b.metrics.acceptError()
		if a.b.logged.Allow("accept") {
			a.b.log.Error("cannot accept MQTT connections for now; trying again", "address", a.Addr().String(), "error", err)
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
	once    sync.Once
	release func()
}

// counted returns nil, with c closed, if there are too many.
func (b *Broker) counted(c net.Conn) *socket {
	if b.sockets.Add(1) > int64(b.cfg.Limits.MaxConnections+b.cfg.Limits.MaxPending) {
		b.sockets.Add(-1)
		b.metrics.refused("too_many_sockets")
		_ = c.Close()
		return nil
	}
	return &socket{Conn: c, release: func() { b.sockets.Add(-1) }}
}

// Close implements net.Conn.
func (s *socket) Close() error {
	defer s.once.Do(s.release)
	return s.Conn.Close()
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
			go b.serveTCP(c.(*socket), l.TLS)
		}
	}()
}

// serveTCP takes a new socket to the start of MQTT.
func (b *Broker) serveTCP(s *socket, conf *tls.Config) {
	deadline := time.Now().Add(b.cfg.Limits.ConnectTimeout)
	if conf == nil {
		b.serveConn(newConn(b, TCP, s, s, newTryWriter(s.Conn, &b.vectors)), deadline)
		return
	}
	b.serveConn(newConn(b, TCP, tls.Server(s, conf), s, nil), deadline)
}

// serveConn runs one MQTT connection to its end. It is closed by then, or
// about to be when its last bytes are written.
func (b *Broker) serveConn(c *conn, deadline time.Time) {
	if !b.begin(c) {
		c.abort()
		return
	}
	defer b.end(c)
	if err := b.handshake(c, deadline); err != nil {
		c.abort()
		return
	}
	if err := c.SetReadDeadline(deadline); err != nil {
		c.abort()
		return
	}
	err, crashed := b.establish(c)
	if crashed {
		c.abort()
	}
	if c.principal != nil {
		b.farewell(c, crashed)
		b.metrics.connected(c.transport, -1)
		b.log.Debug("MQTT connection ended", "principal", c.principal.name, "remote", c.RemoteAddr().String(), "cause", err)
		return
	}
	if !c.talk.answered {
		reason := whyNoConnect(err)
		b.metrics.refused(reason)
		if b.strangers.Allow("/" + reason) {
			b.log.Warn("socket closed: no proper MQTT CONNECT", "remote", c.RemoteAddr().String(), "reason", reason, "error", err)
		}
	}
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
	if err != nil {
		b.metrics.refused("tls")
		if b.logged.Allow("tls") {
			b.log.Warn("TLS handshake of an MQTT client failed", "remote", c.RemoteAddr().String(), "error", err)
		}
	}
	return err
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

// establish lets mochi run the connection. A packet that makes it panic (an
// MQTT 5 SUBSCRIBE that ends after a filter does) ends this connection only.
func (b *Broker) establish(c *conn) (err error, crashed bool) {
	defer func() {
		if v := recover(); v != nil {
			crashed = true
			b.metrics.panicked()
			if b.logged.Allow("panic") {
				b.log.Error("MQTT packet made the library panic; connection ended",
					"remote", c.RemoteAddr().String(), "panic", v, "stack", string(debug.Stack()))
			}
		}
	}()
	return b.server.EstablishConnection(listenerID, c), false
}

// farewell does what mochi leaves undone when a session ends.
func (b *Broker) farewell(c *conn, crashed bool) {
	if c.talk.reading {
		b.retained.RUnlock()
	}
	if c.talk.scanning {
		b.retained.Unlock()
	}
	if w := c.talk.will; w.Flag == 1 && !c.talk.willSent && !c.talk.goodbye {
		// mochi publishes no will when the server ended the connection and
		// its read loop noticed before the next read, or after a panic.
		_ = b.server.InjectPacket(b.inline, packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: w.Qos, Retain: w.Retain},
			TopicName:   w.TopicName,
			Payload:     w.Payload,
			PacketID:    uint16(w.Qos), // not zero with QoS 1; not used
		})
	}
	if crashed {
		purge(b.server, c)
	}
	b.sessions.leave(c)
}
