package mqtt

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/packets"

	"davit/internal/logevent"
	"davit/schemas"
)

// This file: a broker that is busy says so in its CONNACK, and advises when to come back in a user
// property. The client library tells a CONNACK's reason only, so its first bytes are kept as they come.

// attempt opens a connection and has its first bytes kept until the attempt has succeeded or
// failed.
func (t *client) attempt(ctx context.Context, _ autopaho.ClientConfig, u *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, packetTimeout)
	defer cancel()
	conn, err := t.reach(ctx, u, t.cfg.TLS)
	if err != nil {
		return nil, err
	}
	h := &heard{}
	t.answer.Store(h)
	return h.on(conn), nil
}

// succeeded ends an attempt with a connection.
func (t *client) succeeded() {
	t.reconnects.connected()
	if h := t.answer.Swap(nil); h != nil {
		h.take()
	}
}

// toldToWait ends an attempt without one. If the broker has asked to be left alone for a while,
// it is, and if that is because the service is busy, it is logged and true is returned.
func (t *client) toldToWait() bool {
	h := t.answer.Swap(nil)
	if h == nil {
		return false
	}
	code, wait := advice(h.take())
	if wait == 0 {
		return false
	}
	wait = t.reconnects.told(wait)
	if code == packets.ConnackConnectionRateExceeded {
		return false // that is about us, and somebody should look
	}
	t.log.Info("the service is busy and asks to come back later", "event", logevent.BrokerAsksToWait, "broker", t.url.Redacted(), "retry_after", wait.Round(time.Millisecond))
	return true
}

// advice is for how long the broker that has answered CONNECT with these bytes wants to be
// left alone, and with what reason code; 0 if it did not say so. Only a refusal that passes by
// itself is heeded: after another one somebody has something to mend. A CONNACK of MQTT 3.1.1
// has no advice.
func advice(answer []byte) (code byte, wait time.Duration) {
	if !whole(answer) {
		return 0, 0
	}
	p, err := packets.ReadPacket(bytes.NewReader(answer))
	if err != nil {
		return 0, 0
	}
	ack, ok := p.Content.(*packets.Connack)
	if !ok {
		return 0, 0
	}
	switch ack.ReasonCode {
	case packets.ConnackServerUnavailable, packets.ConnackServerBusy, packets.ConnackConnectionRateExceeded:
	default:
		return 0, 0
	}
	for _, u := range ack.Properties.User {
		if u.Key == schemas.RetryAfterProperty {
			return ack.ReasonCode, schemas.ParseRetryAfter(u.Value)
		}
	}
	return 0, 0
}

// whole says whether b begins with a whole packet. The client library makes room for all that the
// packet's length says, which a broker could say in five bytes.
func whole(b []byte) bool {
	if len(b) < 2 {
		return false
	}
	length, used := binary.Uvarint(b[1:]) // the same encoding as MQTT's (MQTT 5, 1.5.5)
	return used > 0 && length <= uint64(len(b)-1-used)
}

// heardMost bounds what is kept of an answer, in bytes. The service's CONNACK with an advice
// has about a hundred.
const heardMost = 1 << 10

// heard keeps the first bytes that come on a connection.
type heard struct {
	mu   sync.Mutex
	b    []byte
	over bool
}

// note keeps what was read, while that is wanted.
func (h *heard) note(p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over {
		h.b = append(h.b, p[:min(len(p), heardMost-len(h.b))]...)
	}
}

// take returns what was kept; nothing is any more.
func (h *heard) take() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.b
	h.b, h.over = nil, true
	return b
}

// on has h note what is read from a connection.
func (h *heard) on(conn net.Conn) net.Conn {
	if c, ok := conn.(*net.TCPConn); ok {
		return plain{c, h}
	}
	return &guarded{conn, &sync.Mutex{}, h}
}

// plain is a connection over TCP. *net.TCPConn stays what it is in there, so that a packet goes to
// the kernel in one call (net.Buffers), which also keeps it apart from another one.
type plain struct {
	*net.TCPConn
	heard *heard
}

// Read implements net.Conn.
func (c plain) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.heard.note(p[:n])
	return n, err
}

// guarded is any other connection. A packet takes several calls to write there, around which
// the client library locks it.
type guarded struct {
	net.Conn
	sync.Locker
	heard *heard
}

// Read implements net.Conn.
func (c *guarded) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.heard.note(p[:n])
	return n, err
}
