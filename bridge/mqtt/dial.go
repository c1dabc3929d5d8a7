package mqtt

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/net/proxy"
)

// reach opens a connection to the broker in the ways that the client library has by itself:
// over TCP, TLS or WebSocket, and for the first two by the proxy that the environment variable
// all_proxy names.
func reach(ctx context.Context, u *url.URL, conf *tls.Config) (net.Conn, error) {
	switch u.Scheme {
	case "ws":
		return reachWebSocket(ctx, u, nil)
	case "wss":
		return reachWebSocket(ctx, u, conf)
	}
	conn, err := reachTCP(ctx, u.Host)
	if err != nil || !speaksTLS(u) {
		return conn, err
	}
	return secure(ctx, conn, u.Hostname(), conf)
}

// speaksTLS says whether MQTT goes over TLS, without a WebSocket.
func speaksTLS(u *url.URL) bool { return u.Scheme == "mqtts" || u.Scheme == "ssl" || u.Scheme == "tls" }

func reachTCP(ctx context.Context, address string) (net.Conn, error) {
	if os.Getenv("all_proxy") != "" {
		return proxy.Dial(ctx, "tcp", address)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// secure agrees on TLS with a host, or closes the connection. conf may be nil, which means the
// system's trust.
func secure(ctx context.Context, raw net.Conn, host string, conf *tls.Config) (net.Conn, error) {
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if conf.ServerName == "" {
		conf = conf.Clone()
		conf.ServerName = host
	}
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the error before says more
		return nil, err
	}
	return conn, nil
}

func reachWebSocket(ctx context.Context, u *url.URL, conf *tls.Config) (net.Conn, error) {
	dialer := *websocket.DefaultDialer
	dialer.TLSClientConfig, dialer.Subprotocols = conf, []string{"mqtt"}
	conn, _, err := dialer.DialContext(ctx, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("open a WebSocket: %w", err)
	}
	return &webSocket{Conn: conn}, nil
}

// webSocket is the stream of bytes that MQTT makes of a WebSocket's messages (MQTT 5, 6). One
// goroutine at a time may read, and one may write.
type webSocket struct {
	*websocket.Conn
	message io.Reader // the one that is being read, nil between two
}

// Read implements net.Conn.
func (c *webSocket) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			var err error
			if _, c.message, err = c.NextReader(); err != nil {
				return 0, err
			}
		}
		n, err := c.message.Read(p)
		if err == io.EOF {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write implements net.Conn.
func (c *webSocket) Write(p []byte) (int, error) {
	if err := c.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetDeadline implements net.Conn. One that has passed ends a WebSocket for good.
func (c *webSocket) SetDeadline(at time.Time) error {
	if err := c.SetReadDeadline(at); err != nil {
		return err
	}
	return c.SetWriteDeadline(at)
}
