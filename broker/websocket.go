package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// wsHeaderLimit bounds the HTTP request that opens a WebSocket.
	wsHeaderLimit = 8 << 10
	wsBuffer      = 1 << 10
)

var errNotBinary = errors.New("a WebSocket message is not binary (MQTT 5, 6.0-1)")

// serveWebSocket serves MQTT over WebSocket on any path; b.mu is held.
func (b *Broker) serveWebSocket(l Listener, ln net.Listener) {
	if l.TLS != nil {
		conf := l.TLS.Clone()
		conf.NextProtos = []string{"http/1.1"} // a WebSocket needs its own connection
		ln = secured{ln.(acceptor), conf}
	}
	upgrader := &websocket.Upgrader{
		HandshakeTimeout: b.cfg.Limits.ConnectTimeout,
		ReadBufferSize:   wsBuffer,
		WriteBufferSize:  wsBuffer,
		Subprotocols:     []string{"mqtt", "mqttv3.1"},
		// Clients authenticate with every CONNECT and no cookie, so a page
		// from elsewhere gains nothing by sending one.
		CheckOrigin: func(*http.Request) bool { return true },
	}
	h := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.upgrade(upgrader, &l, w, r)
		}),
		ConnState: b.stateOf,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, openedKey{}, time.Now())
		},
		ReadHeaderTimeout: b.cfg.Limits.ConnectTimeout,
		IdleTimeout:       b.cfg.Limits.ConnectTimeout,
		WriteTimeout:      b.cfg.Limits.ConnectTimeout,
		MaxHeaderBytes:    wsHeaderLimit,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	b.https = append(b.https, h)
	b.tasks.Add(1)
	go func() {
		defer b.tasks.Done()
		_ = h.Serve(ln) // ends with the listener, and only then
	}()
}

type openedKey struct{}

func (b *Broker) upgrade(u *websocket.Upgrader, l *Listener, w http.ResponseWriter, r *http.Request) {
	ws, err := u.Upgrade(w, r, nil)
	if err != nil {
		b.metrics.refused("websocket")
		return // Upgrade has answered
	}
	ws.SetReadLimit(int64(b.cfg.Limits.MaxPacketSize) + 16)
	opened, ok := r.Context().Value(openedKey{}).(time.Time)
	if !ok {
		opened = time.Now()
	}
	lower := ws.NetConn()
	_ = lower.SetDeadline(time.Time{}) // of the HTTP server
	socket := lower
	var cert *certificate
	if t, ok := lower.(*tls.Conn); ok {
		socket = t.NetConn().(*paced).Conn
		cert = certificateOf(t, l.Trust)
	}
	c := newConn(b, WebSocket, &wsConn{Conn: lower, ws: ws}, socket, nil)
	c.listener, c.certificate = l, cert
	b.serveConn(c, opened.Add(b.cfg.Limits.ConnectTimeout))
}

// wsConn is a WebSocket as a stream of bytes: MQTT packets may be spread over
// messages in any way (MQTT 5, section 6.0).
type wsConn struct {
	net.Conn
	ws  *websocket.Conn
	msg io.Reader // the message being read, or nil
}

// Read implements net.Conn.
func (c *wsConn) Read(p []byte) (int, error) {
	for {
		if c.msg == nil {
			kind, r, err := c.ws.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errNotBinary
			}
			c.msg = r
		}
		n, err := c.msg.Read(p)
		if errors.Is(err, io.EOF) {
			c.msg, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write implements net.Conn; each call is one message.
func (c *wsConn) Write(p []byte) (int, error) {
	if err := c.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetWriteDeadline implements net.Conn. gorilla sets its own deadline on the
// connection for every frame, so it has to be told.
func (c *wsConn) SetWriteDeadline(t time.Time) error { return c.ws.SetWriteDeadline(t) }

// Close implements net.Conn.
func (c *wsConn) Close() error { return c.ws.Close() }
