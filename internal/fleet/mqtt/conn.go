package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Options say how to connect.
type Options struct {
	// Addr is the broker's HOST:PORT.
	Addr    string
	Version Version
	// ClientID has to be unique among the connections of the broker, or of the user.
	ClientID           string
	Username, Password string
	// KeepAlive is told to the broker in whole seconds, rounded up; 0 is none. The caller
	// sees to it with Conn.KeepAlive.
	KeepAlive time.Duration
	// Will is published by the broker when the connection is lost; nil for none.
	Will *Message
	// ReceiveMaximum and MaxPacket are told to an MQTT 5 broker; 0 leaves them out. A
	// longer packet than MaxPacket, or than DefaultMaxPacket if it is 0, ends the connection.
	ReceiveMaximum uint16
	MaxPacket      int
	// ReceiveBuffer sets the socket's receive buffer in bytes; 0 leaves it to the system.
	ReceiveBuffer int
	// Timeout is how long connecting may take, CONNACK included; 0 means 30 s.
	Timeout time.Duration
}

// DefaultMaxPacket is the longest packet in bytes that is taken unless Options says
// otherwise.
const DefaultMaxPacket = 1 << 20

const defaultTimeout = 30 * time.Second

func (o *Options) keepAliveSeconds() uint16 {
	return uint16(min((o.KeepAlive+time.Second-1)/time.Second, 65535))
}

func (o *Options) validate() error {
	if o.Version != V311 && o.Version != V5 {
		return fmt.Errorf("mqtt: version %d is neither 4 (3.1.1) nor 5", o.Version)
	}
	for _, s := range []string{o.ClientID, o.Username, o.Password} {
		if len(s) > 65535 {
			return errors.New("mqtt: client id, user name or password has more than 65,535 bytes")
		}
	}
	if w := o.Will; w != nil && (w.QoS > 1 || len(w.Topic) > 65535 || len(w.Payload) > 65535) {
		return errors.New("mqtt: the will has a QoS over 1, or more than 65,535 bytes")
	}
	return nil
}

// Handler takes what a server sends. It is called by Serve, for one packet at a time, and
// may use all methods of the Conn but Send. What it publishes leaves together when all
// that was read at once is handled.
type Handler interface {
	// Message takes a PUBLISH; one of QoS 1 is acknowledged when it returns. m and what it
	// points to are valid until then. An error ends the connection, and Serve returns it.
	Message(m *Message) error
	// Puback says that a message of QoS 1 has arrived; a code of 0x80 and above (MQTT 5
	// only) is a refusal.
	Puback(id uint16, code byte)
	// Suback answers Subscribe: for each filter the QoS granted, or 0x80 and above.
	Suback(id uint16, codes []byte)
}

// Errors that end a connection.
var (
	// ErrSilent: the server has not answered a PINGREQ.
	ErrSilent = errors.New("the broker does not answer PINGREQ any more")
	// ErrBacklog: the server does not read what is sent to it.
	ErrBacklog = errors.New("the broker does not read; too much waits to be sent")
)

// maxBacklog is how many bytes may wait for the socket.
const maxBacklog = 4 << 20

// Conn is a connection. Its methods may be called by any goroutine.
type Conn struct {
	tcp *net.TCPConn
	raw syscall.RawConn

	// Accepted is what the server said in CONNACK.
	Accepted ConnectionAccepted

	version   Version
	maxPacket int
	keepAlive time.Duration
	handler   Handler
	in        *input // what was read and not handled, nil for nothing; Serve's own
	pace      func(n int) bool
	maxRead   int
	done      chan struct{}

	mu       sync.Mutex
	idle     sync.Cond // flushing has ended
	out      []byte    // what waits to be written
	batch    bool      // Serve handles packets: what they cause is written afterwards
	flushing bool      // a goroutine writes
	sent     int64     // when the last packet was given to the socket, in ns since epoch
	pinged   int64     // when the last PINGREQ was
	silent   bool      // nothing has been read since then
	id       uint16
	serving  bool  // Serve was called
	err      error // why the connection has ended
}

// epoch makes times eight bytes.
var epoch = time.Now()

// Dial connects and waits for CONNACK. A refusal of the server is a *RefusedError.
func Dial(ctx context.Context, o Options) (*Conn, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	timeout := o.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dialer := net.Dialer{KeepAlive: -1, Control: o.control} // KeepAlive of MQTT is enough
	nc, err := dialer.DialContext(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	tcp := nc.(*net.TCPConn) // of network "tcp"
	c, err := newConn(tcp, &o)
	if err == nil {
		stop := context.AfterFunc(ctx, func() { _ = tcp.Close() }) // ends what waits
		err = c.connect(&o)
		if !stop() && err != nil {
			err = fmt.Errorf("no CONNACK from the broker: %w", context.Cause(ctx))
		}
	}
	if err != nil {
		_ = tcp.Close() // the error that counts is known
		return nil, err
	}
	return c, nil
}

func newConn(tcp *net.TCPConn, o *Options) (*Conn, error) {
	c := &Conn{tcp: tcp, version: o.Version, maxPacket: o.MaxPacket, keepAlive: o.KeepAlive, done: make(chan struct{}), maxRead: readSize}
	c.idle.L = &c.mu
	if c.maxPacket == 0 {
		c.maxPacket = DefaultMaxPacket
	}
	raw, err := tcp.SyscallConn()
	c.raw = raw
	return c, err
}

// connect sends CONNECT and reads CONNACK, and what comes with it.
func (c *Conn) connect(o *Options) error {
	b := scratch()
	b = appendConnect(b, o)
	_, err := c.tcp.Write(b)
	recycle(b)
	if err != nil {
		return fmt.Errorf("send CONNECT: %w", err)
	}
	c.sent = int64(time.Since(epoch))
	for {
		if c.in == nil {
			c.in = newInput()
		}
		n, err := c.tcp.Read(c.in.room())
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("wait for CONNACK: %w", err)
		}
		c.in.n += n
		h, body, err := c.in.packet(c.maxPacket)
		if err != nil {
			return err
		}
		if body == nil {
			continue
		}
		if h.Type != Connack {
			return broken("the answer to CONNECT is of type %d", h.Type)
		}
		if c.Accepted, err = parseConnack(c.version, body); err != nil {
			return err
		}
		if c.Accepted.KeepAliveSet {
			c.keepAlive = c.Accepted.KeepAlive
		}
		c.in.skip(h.Size)
		c.release()
		return nil
	}
}

// Version is the connection's.
func (c *Conn) Version() Version { return c.version }

// LocalAddr is the connection's own address.
func (c *Conn) LocalAddr() net.Addr { return c.tcp.LocalAddr() }

// Done is closed when the connection has ended or was closed.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Pace has at most size bytes read at a time, and after each time pace called with their
// number before they are handled; it may wait, while the socket is not read, and returns
// false to end the connection. It has to be called before Serve.
func (c *Conn) Pace(size int, pace func(n int) bool) {
	c.maxRead, c.pace = min(max(size, 1), readSize), pace
}

// Close ends the connection without DISCONNECT, so that the server publishes the will.
func (c *Conn) Close() error {
	c.fail(net.ErrClosed)
	return nil
}

// Disconnect sends DISCONNECT, which drops the will, and ends the connection when it is
// written, or at once if the socket does not take it.
func (c *Conn) Disconnect() error {
	c.mu.Lock()
	c.batch = false
	err := c.commit(AppendDisconnect(c.begin()))
	c.mu.Unlock()
	c.fail(net.ErrClosed)
	return err
}

// fail ends the connection with err, if it has not ended yet. The socket is closed by
// Serve, once it has begun: closing would wait for a read that is under way, and it may
// be that read's handler that calls.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(err)
}

// end is fail with mu held.
func (c *Conn) end(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	close(c.done)
	if !c.serving {
		_ = c.tcp.Close() // it is gone in any case
		return
	}
	_ = c.tcp.CloseWrite() // as above
	_ = c.tcp.CloseRead()  // ends the read
}

func (c *Conn) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Serve reads and calls the handler until the connection ends, and returns why: io.EOF if
// the server has closed it, a *DisconnectedError if it said why, net.ErrClosed after Close
// and Disconnect, or what the handler returned. It can be called once.
func (c *Conn) Serve(h Handler) error {
	c.mu.Lock()
	c.handler, c.serving = h, true
	c.mu.Unlock()
	err := c.handleRead() // what came with CONNACK
	if err == nil {
		err = c.read()
	}
	c.fail(err)
	_ = c.tcp.Close()
	if c.in != nil {
		c.in.recycle()
		c.in = nil
	}
	return c.cause()
}

// release gives the read buffer back unless a part of a packet is in it.
func (c *Conn) release() {
	if c.in != nil && c.in.n == c.in.from {
		c.in.recycle()
		c.in = nil
	}
}

// handleRead handles all whole packets that were read.
func (c *Conn) handleRead() error {
	if c.in == nil {
		return nil
	}
	c.mu.Lock()
	err := c.err
	c.batch, c.silent = true, false
	c.mu.Unlock()
	if err != nil {
		return err
	}
	for {
		var h Header
		var body []byte
		if h, body, err = c.in.packet(c.maxPacket); err != nil || body == nil {
			break
		}
		if err = c.handle(h, body); err != nil {
			break
		}
		c.in.skip(h.Size)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batch = false
	if err == nil && len(c.out) > 0 {
		err = c.push()
	}
	return err
}

func (c *Conn) handle(h Header, body []byte) error {
	switch h.Type {
	case Publish:
		m := &c.in.message
		var err error
		if *m, err = ParsePublish(c.version, h.Flags, body); err != nil {
			return err
		}
		qos, id := m.QoS, m.ID
		if err := c.handler.Message(m); err != nil {
			return err
		}
		if qos == 1 {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.commit(AppendPuback(c.begin(), id))
		}
	case Puback:
		id, code, err := ParsePuback(c.version, body)
		if err != nil {
			return err
		}
		c.handler.Puback(id, code)
	case Suback:
		id, codes, err := ParseSuback(c.version, body)
		if err != nil {
			return err
		}
		c.handler.Suback(id, codes)
	case Pingresp, Unsuback:
	case Disconnect:
		return parseDisconnect(c.version, body)
	default:
		return broken("a packet of type %d from the server", h.Type)
	}
	return nil
}
