package broker

import (
	"io"
	"net"
	"slices"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// headerBuffer is the read buffer of mochi's client: what an idle connection
	// keeps. A ping fits, and so does the head of every packet.
	headerBuffer = 16
	// aheadBuffer is what is read at a time from a socket. The buffer is given back as
	// soon as its bytes are read.
	aheadBuffer = 4 << 10
	// firstRead is the buffer for a CONNECT; it grows if need be.
	firstRead = 512
)

// Read implements net.Conn. Where the bytes are the socket's own, all that is there
// is read at once into a buffer that the connection has only meanwhile.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		if !c.peek.can() {
			n, err := c.Conn.Read(p)
			c.broker.metrics.bytesReceived(n)
			return n, err
		}
		if err := c.readAhead(false); err != nil {
			return 0, err
		}
	}
	n := c.packets.upTo(c.ahead[:min(len(p), len(c.ahead))])
	copy(p, c.ahead[:n])
	c.used(n)
	return n, nil
}

// used takes n bytes off those that were read ahead.
func (c *conn) used(n int) {
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.broker.recycle(c.whole)
		c.ahead, c.whole = nil, nil
	}
}

// readerOf returns what reads ahead from a connection: a tryReader that cannot
// where bytes are not the socket's own, with TLS and WebSocket.
func readerOf(c net.Conn) tryReader {
	if s, ok := c.(*socket); ok {
		return s.tryReader
	}
	return tryReader{}
}

// look is what one look at a socket has found: n bytes were read, or again, as nothing is
// there; else it has ended, or failed. drained says that nothing more was there by then, the
// end included, as far as the socket tells; of a reset it does not.
type look struct {
	n       int
	again   bool
	drained bool
}

// readAhead waits until the socket has something and reads it. With taking, what are plain
// fetches is taken at once, and the wait goes on.
func (c *conn) readAhead(taking bool) error {
	c.talk.taking = taking
	err := c.peek.wait(c.onReadable)
	c.talk.taking = false
	if err != nil {
		return err
	}
	err = c.readErr
	c.readErr = nil
	return err
}

// takeReadable is called by readAhead whenever the socket may have something; false says
// that it is to be called again then.
//
// A fetch is taken in here because to return and wait anew costs two looks at the socket:
// one by which the runtime learns of what has come, and one before it waits. The runtime
// counts us as reading all the time: who closes the socket waits for us, and we may not do
// it.
func (c *conn) takeReadable(fd uintptr) bool {
	for {
		p := c.broker.buffer()
		got, err := readOnce(fd, p[:min(cap(p), aheadBuffer)])
		if got.n == 0 {
			c.broker.recycle(p)
			if c.readErr = err; err == nil && !got.again {
				c.readErr = io.EOF
			}
			return !got.again
		}
		c.broker.metrics.bytesReceived(got.n)
		c.ahead, c.whole = p[:got.n], p
		sends := c.sends.Load()
		if !c.talk.taking || !c.broker.takeAllPlain(c) {
			return true
		}
		if !c.talk.tellsLeft {
			c.talk.tellsLeft = true
			tellLeft(fd)
		}
		select {
		case <-c.closed:
			return true // who closes the socket waits for us
		default:
		}
		// What has come since the look has us called again. A reset that came before it does
		// not, and the look has not told of it: to send something finds it.
		if got.drained && c.sends.Load() != sends {
			return false
		}
	}
}

// readConnect waits until the whole CONNECT is there, and leaves it to be read
// again.
func (c *conn) readConnect() error {
	var guard connectGuard
	buf := make([]byte, 0, firstRead)
	for !guard.done || len(buf) < guard.size() {
		buf = slices.Grow(buf, max(1, guard.size()-len(buf)))
		had := len(buf)
		n, err := c.Conn.Read(buf[had:cap(buf)])
		c.broker.metrics.bytesReceived(n)
		buf = buf[:had+n]
		if !guard.done && !guard.check(buf[had:]) {
			return errNotConnect
		}
		if err != nil {
			return err
		}
	}
	c.ahead = buf
	return nil
}

// parseConnect decodes the CONNECT that readConnect has left. What is wrong with
// it is for mochi to say when it reads it.
func (c *conn) parseConnect() (connect packets.Packet) {
	defer func() {
		if recover() != nil {
			connect = packets.Packet{}
		}
	}()
	p := c.ahead[1:]
	for p[0]&0x80 != 0 {
		p = p[1:]
	}
	connect.FixedHeader.Type = packets.Connect
	if err := connect.ConnectDecode(p[1:]); err != nil {
		return packets.Packet{}
	}
	return connect
}

// connectGuard checks the first packet's fixed header as its bytes come by:
// mochi allocates what the header promises before it looks who is there.
type connectGuard struct {
	done   bool
	seen   int
	length int
}

// size is the length of the packet in bytes, once done.
func (g *connectGuard) size() int { return g.seen + 1 + g.length }

// maxConnect is the longest acceptable CONNECT in bytes.
const maxConnect = 8 << 10

// check returns false if the first packet is not acceptable.
func (g *connectGuard) check(p []byte) bool {
	for _, b := range p {
		switch {
		case g.seen == 0:
			if b != packets.Connect<<4 {
				return false
			}
		default:
			g.length |= int(b&0x7f) << (7 * (g.seen - 1))
			if g.length > maxConnect || g.seen > 4 {
				return false
			}
			if b&0x80 == 0 {
				g.done = true
				return true
			}
		}
		g.seen++
	}
	return true
}
