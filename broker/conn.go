package broker

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"davit/internal/logevent"
)

const (
	// closeGrace is how long a closed connection may take to send what waits,
	// such as the DISCONNECT that says why.
	closeGrace = time.Second
	// writeStep is how many bytes are written at a time: the longest WebSocket
	// message, and what a counter of bytes may lag behind.
	writeStep = 64 << 10
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
	// onReadable is takeReadable, made once.
	onReadable func(fd uintptr) bool
	closed     chan struct{} // closed by Close
	ahead      []byte        // read from the socket and not by mochi; the read loop's own
	whole      []byte        // the buffer of ahead, if it is the pool's
	packets    boundaries    // of what mochi has been given of ahead; the read loop's own
	readErr    error         // of the last look at the socket; the read loop's own
	sends      atomic.Uint32 // how often something was given to the socket to send, or is to be, modulo 2^32
	slots      chan struct{} // deliverySlots, of the service; nil for others
	service    bool          // the CONNECT names the service
	talk       dialogue      // the read loop's own

	// Set by the hook before anybody else knows the connection.
	listener    *Listener    // nil in tests of parts
	certificate *certificate // nil if the client has none
	principal   *principal
	client      *mqtt.Client
	id          string // client id within mochi
	version     byte   // of MQTT: 4 is 3.1.1
	maxPacket   uint32 // bytes that the client takes, or 0 for all

	sub         subscriptions
	subscribing atomic.Bool // a SUBSCRIBE is being checked
	asking      atomic.Bool // a request of the client is being handled

	session Session // what Config.OnFetch is given

	mu       sync.Mutex
	cut      *remainder // leaves before what is in the outbox; only while flushing
	out      outbox
	limit    int // bytes that may wait in the outbox
	writing  int // bytes of the outbox that flush is writing now
	flushing bool
	counted  bool // the flush is in the metrics
	closing  bool
	grace    *time.Timer // ends a closed connection that goes on waiting
	waiting  waiters     // not empty only while flushing
}

// dialogue is what the read loop of a connection remembers from one hook to
// the next.
type dialogue struct {
	turn      bool // the CONNECT has its turn
	answered  bool // the CONNECT was refused with a CONNACK
	expiry    bool // the client asked for a session expiry interval
	goodbye   bool // the client sent DISCONNECT and wants no will published
	willSent  bool
	reading   bool // holds Broker.retained for reading
	scanning  bool // holds Broker.retained for writing
	rest      bool // asks faster than it is answered, and is not read for a moment
	taking    bool // plain fetches are taken as soon as they are read
	tellsLeft bool // readOnce is told what the socket has left, if the system can
	will      mqtt.Will
	refused   string        // topic of the PUBLISH under way, if mochi must not see it
	over      *overrun      // the plain fetch that is ahead has to wait, and was not made to; nil if not
	silence   time.Duration // keep alive of the client, which may say nothing for half as long again
	until     time.Duration // since epoch: the deadline for reading that was set last
	asks      string        // the device of the last fetch, if it was plain
	asksOn    string        // the topic of that
	filters   *filterAnswer // of the SUBSCRIBE or UNSUBSCRIBE under way; an idle connection has none
}

// filterAnswer is what comes of the filters of one packet.
type filterAnswer struct {
	codes  []byte
	wanted []string // topics whose retained messages are due
}

func newConn(b *Broker, t Transport, c, socket net.Conn, raw tryWriter) *conn {
	nc := &conn{
		Conn: c, socket: socket, raw: raw, broker: b, transport: t,
		closed: make(chan struct{}),
		limit:  b.cfg.Limits.WriteBuffer,
		out:    outbox{window: b.cfg.Limits.Window},
	}
	nc.session.conn = nc
	nc.peek = readerOf(c)
	nc.onReadable = nc.takeReadable
	return nc
}

// SetDeadline sets the deadline for reading: mochi calls it for the keep
// alive, which is the measure of a client that reads slowly or not at all: as
// long as it sends something in time it is alive, and what waits for it is
// bounded. Writing has no deadline but closeGrace.
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
		c.shut()
		c.broker.tasks.Go(func() { _ = c.socket.Close() }) // it waits for a fetch that is being taken; who writes is not to
		c.mu.Unlock()
		c.broker.slowReader(c)
		return 0, errSlowReader
	}
	if c.out.ready == nil {
		c.out.ready = c.broker.buffer()
	}
	c.out.push(p)
	c.send()
	c.mu.Unlock()
	return len(p), nil
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
		c.send()
	}
}

// send gets the ready bytes going; c.mu is held. An error of the socket is
// flush's to find again.
func (c *conn) send() {
	if c.flushing || len(c.out.ready) == 0 {
		return
	}
	if c.raw != nil {
		c.sends.Add(1)
		n, err := c.raw.tryWrite(c.out.ready)
		c.broker.metrics.bytesSent(n)
		if err == nil && n == len(c.out.ready) {
			c.broker.recycle(c.out.ready)
			c.out.ready = nil
			return
		}
		c.out.ready = c.out.ready[:copy(c.out.ready, c.out.ready[n:])]
	}
	c.startFlush()
}

// startFlush starts the goroutine that writes what waits; c.mu is held.
func (c *conn) startFlush() {
	c.flushing = true
	if c.counted = !c.closing; c.counted {
		c.broker.metrics.slowConnections(1)
	}
	c.broker.tasks.Add(1)
	go func() {
		defer c.broker.tasks.Done()
		c.flush()
	}()
}

// flush writes until nothing waits, closes if that is due, and tells those who
// want to send more.
func (c *conn) flush() {
	c.mu.Lock()
	var err error
	for err == nil && (c.cut != nil || len(c.out.ready) > 0) {
		err = c.flushSome()
	}
	if err != nil {
		c.shut()
		c.broker.unsendable(c, err)
	}
	if c.grace != nil {
		c.grace.Stop()
	}
	if c.counted {
		c.broker.metrics.slowConnections(-1)
	}
	closing, wake := c.closing, c.waiting.take()
	c.flushing = false
	c.mu.Unlock()
	switch {
	case err != nil:
		_ = c.socket.Close() // at once; the only error is that it is closed
	case closing:
		_ = c.Conn.Close()
	}
	for _, ready := range wake {
		ready()
	}
}

// unsendable tells of an image whose memory cannot be read: what ends a
// connection otherwise is the client's or the network's.
func (b *Broker) unsendable(c *conn, err error) {
	if !errors.Is(err, syscall.EFAULT) {
		return
	}
	b.metrics.chunkRefused(err)
	if b.logged.Allow("image") {
		b.log.Error("a chunk cannot be completed, because the image cannot be read from the disk; MQTT connection ended. Look for errors of the disk, and run davit check", "event", logevent.ImageUnreadable,
			"principal", c.principal.name, "remote", c.RemoteAddr().String(), "error", err)
	}
}

// flushSome writes the packet that is cut, or else what is in the outbox; c.mu
// is held, but not during the writing.
func (c *conn) flushSome() (err error) {
	if cut := c.cut; cut != nil {
		c.cut = nil
		c.mu.Unlock()
		defer c.mu.Lock()
		defer cut.release()
		if err := c.writeAll(cut.head); err != nil {
			return err
		}
		return c.writeAll(cut.data)
	}
	p := c.out.ready
	c.out.ready, c.writing = nil, len(p)
	c.mu.Unlock()
	err = c.writeAll(p)
	c.broker.recycle(p)
	c.mu.Lock()
	c.writing = 0
	return err
}

func (c *conn) writeAll(p []byte) error {
	for len(p) > 0 {
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
	c.shut()
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0)) // fails only on a socket that is gone
	c.grace = time.AfterFunc(closeGrace, func() { _ = c.socket.Close() })
	if !c.flushing {
		c.startFlush()
	}
	return nil
}

// shut lets nothing more in; c.mu is held.
func (c *conn) shut() {
	if !c.closing {
		c.closing = true
		close(c.closed)
	}
}

// abort ends the connection without sending what waits.
func (c *conn) abort() {
	c.mu.Lock()
	c.shut()
	c.mu.Unlock()
	_ = c.socket.Close() // the only error is that it is closed
}
