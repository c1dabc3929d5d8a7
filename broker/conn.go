package broker

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// closeGrace is how long a closed connection may take to send what waits,
	// such as the DISCONNECT that says why.
	closeGrace = time.Second
	// writeStep is how many bytes are written under one write deadline.
	writeStep = 64 << 10
	// keepBuffer is the largest buffer that goes back to the pool.
	keepBuffer = 128 << 10
	// deliverySlots is how many messages may be between a publisher and the
	// outbox of the service: mochi's channel, which drops what it cannot hold.
	// Publishers wait for a slot instead, for as long as mochi's write loop
	// takes to move messages to the outbox; that never waits for the client.
	deliverySlots = 64
)

var (
	errSlowReader = errors.New("the client reads too slowly")
	errNotConnect = errors.New("the first packet is not a CONNECT of acceptable size")
)

// conn is what mochi takes for a network connection. Write and Close never
// block.
type conn struct {
	net.Conn           // TCP, TLS or WebSocket
	socket    net.Conn // the TCP connection below; closing it ends everything at once
	raw       tryWriter
	broker    *Broker
	transport Transport
	peek      tryReader
	closed    chan struct{} // closed by Close
	ahead     []byte        // read from the socket and not by mochi; the read loop's own
	whole     []byte        // the buffer of ahead, if it is the pool's
	slots     chan struct{} // deliverySlots, of the service; nil for others
	service   bool          // the CONNECT names the service
	talk      dialogue      // the read loop's own

	// Set by the hook before anybody else knows the connection.
	principal *principal
	client    *mqtt.Client
	id        string // client id within mochi
	version   byte   // of MQTT: 4 is 3.1.1

	sub         subscriptions
	subscribing atomic.Bool // a SUBSCRIBE is being checked

	mu       sync.Mutex
	out      outbox
	limit    int // bytes that may wait
	writing  int // bytes that flush is writing now
	flushing bool
	closing  bool
	deadline time.Time // by which everything has to be written, once closing
}

// dialogue is what the read loop of a connection remembers from one hook to
// the next.
type dialogue struct {
	turn     bool // the CONNECT has its turn
	answered bool // the CONNECT was refused with a CONNACK
	expiry   bool // the client asked for a session expiry interval
	goodbye  bool // the client sent DISCONNECT and wants no will published
	will     mqtt.Will
	willSent bool
	refused  string   // topic of the PUBLISH under way, if mochi must not see it
	reading  bool     // holds Broker.retained for reading
	scanning bool     // holds Broker.retained for writing
	wanted   []string // topics of a SUBSCRIBE whose retained messages are due
}

func newConn(b *Broker, t Transport, c, socket net.Conn, raw tryWriter) *conn {
	return &conn{
		Conn: c, socket: socket, raw: raw, broker: b, transport: t,
		peek:   newTryReader(c),
		closed: make(chan struct{}),
		limit:  b.cfg.Limits.WriteBuffer,
		out:    outbox{window: b.cfg.Limits.Window},
	}
}

// SetDeadline sets the deadline for reading: mochi calls it for the keep
// alive. Writing has deadlines of its own.
func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return net.ErrClosed
	}
	return c.Conn.SetReadDeadline(t)
}

// Write takes one encoded packet. It is on its way or waits in the outbox
// when Write returns.
func (c *conn) Write(p []byte) (int, error) {
	if c.version != 0 && c.version < 5 && len(p) > 0 && p[0]>>4 == packets.Disconnect {
		return len(p), nil // MQTT 3.1.1 has none from the server
	}
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return 0, net.ErrClosed
	}
	if c.out.size()+c.writing+len(p) > c.limit {
		c.mu.Unlock()
		c.abort()
		c.broker.slowReader(c)
		return 0, errSlowReader
	}
	if c.out.ready == nil {
		c.out.ready = c.broker.buffer()
	}
	c.out.push(p)
	err := c.send()
	c.mu.Unlock()
	return len(p), err
}

// backlog is how many bytes wait for the client.
func (c *conn) backlog() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.size() + c.writing
}

// acked takes a PUBACK of the client.
func (c *conn) acked(id uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.acked(id) && !c.closing {
		_ = c.send() // a broken socket shows in the read loop as well
	}
}

// send gets the ready bytes going; c.mu is held.
func (c *conn) send() error {
	if c.flushing || len(c.out.ready) == 0 {
		return nil
	}
	if c.raw != nil {
		n, err := c.raw.tryWrite(c.out.ready)
		c.broker.metrics.bytesSent(n)
		if err != nil {
			return err
		}
		if n == len(c.out.ready) {
			c.broker.recycle(c.out.ready)
			c.out.ready = nil
			return nil
		}
		c.out.ready = c.out.ready[:copy(c.out.ready, c.out.ready[n:])]
	}
	c.startFlush()
	return nil
}

// startFlush starts the goroutine that writes what waits; c.mu is held.
func (c *conn) startFlush() {
	c.flushing = true
	c.broker.tasks.Add(1)
	go func() {
		defer c.broker.tasks.Done()
		c.flush()
	}()
}

// flush writes until nothing waits, and then closes if that is due.
func (c *conn) flush() {
	for {
		c.mu.Lock()
		p := c.out.ready
		c.out.ready = nil
		if len(p) == 0 {
			c.flushing = false
			closing := c.closing
			if !closing {
				_ = c.Conn.SetWriteDeadline(time.Time{}) // an old deadline would fail the next tryWrite
			}
			c.mu.Unlock()
			if closing {
				_ = c.Conn.Close()
			}
			return
		}
		c.writing = len(p)
		c.mu.Unlock()

		err := c.writeAll(p)
		c.broker.recycle(p)
		c.mu.Lock()
		c.writing = 0
		closing := c.closing
		c.mu.Unlock()
		if err != nil {
			c.abort()
			var timeout net.Error
			if !closing && errors.As(err, &timeout) && timeout.Timeout() {
				c.broker.slowReader(c)
			}
			return
		}
	}
}

func (c *conn) writeAll(p []byte) error {
	for len(p) > 0 {
		c.mu.Lock()
		t := time.Now().Add(c.broker.cfg.Limits.WriteTimeout)
		if c.closing && c.deadline.Before(t) {
			t = c.deadline
		}
		err := c.Conn.SetWriteDeadline(t)
		c.mu.Unlock()
		if err != nil {
			return err
		}
		n, err := c.Conn.Write(p[:min(len(p), writeStep)])
		c.broker.metrics.bytesSent(n)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// Close ends reading at once and the connection as soon as what waits is
// written, at most closeGrace later.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return nil
	}
	c.closing = true
	close(c.closed)
	c.deadline = time.Now().Add(closeGrace)
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0)) // fails only on a socket that is gone
	_ = c.Conn.SetWriteDeadline(c.deadline)
	if !c.flushing {
		c.startFlush()
	}
	return nil
}

// abort ends the connection without sending what waits.
func (c *conn) abort() {
	c.mu.Lock()
	if !c.closing {
		c.closing = true
		close(c.closed)
	}
	c.mu.Unlock()
	_ = c.socket.Close() // the only error is that it is closed
}
