package mqtt

import (
	"fmt"
	"time"
)

// writeTimeout is how long a socket may take no byte before the connection is given up.
const writeTimeout = time.Minute

// Subscribe sends a SUBSCRIBE; Handler.Suback is called with its answer and the id.
func (c *Conn) Subscribe(subs ...Subscription) (id uint16, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id = c.nextID()
	return id, c.commit(AppendSubscribe(c.begin(), c.version, id, subs))
}

// Unsubscribe sends an UNSUBSCRIBE, whose answer nobody is told of.
func (c *Conn) Unsubscribe(filter string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commit(AppendUnsubscribe(c.begin(), c.version, c.nextID(), filter))
}

// Publish sends a message without waiting: what the socket does not take is written later.
// It returns the packet id of a message with QoS 1. m is not kept. An error ends the
// connection. The caller sees to it
// that no more messages are without PUBACK than Accepted.ReceiveMaximum allows.
func (c *Conn) Publish(m *Message) (id uint16, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.QoS > 0 {
		m.ID = c.nextID()
	}
	return m.ID, c.commit(AppendPublish(c.begin(), c.version, m))
}

// Write sends encoded packets as Publish does.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.commit(append(c.begin(), p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Send writes encoded packets and waits until the socket has taken all of them, for
// senders that go as fast as the server reads. It must not be called by a Handler.
func (c *Conn) Send(p []byte) error {
	c.mu.Lock()
	for c.flushing && c.err == nil {
		c.idle.Wait()
	}
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	c.flushing, c.sent = true, int64(time.Since(epoch))
	before := c.out // of a batch under way
	c.out = nil
	c.mu.Unlock()
	var err error
	if len(before) > 0 {
		_, err = c.tcp.Write(before)
		recycle(before)
	}
	if err == nil {
		_, err = c.tcp.Write(p)
	}
	if err != nil {
		err = fmt.Errorf("write to the broker: %w", err)
		c.fail(err)
	}
	c.flush() // what came meanwhile
	return err
}

// KeepAlive sends a PINGREQ if it is time for one, and returns when to call it again at
// the latest. The error that the server has not answered the last one ends the connection.
// Without a keep-alive there is nothing to do, and next is an hour away.
func (c *Conn) KeepAlive(now time.Time) (next time.Time, err error) {
	if c.keepAlive == 0 {
		return now.Add(time.Hour), nil
	}
	every := int64(c.keepAlive) * 3 / 4
	at := int64(now.Sub(epoch))
	c.mu.Lock()
	defer func() {
		c.mu.Unlock()
		if err != nil {
			c.fail(err)
		}
	}()
	if c.err != nil {
		return now, c.err
	}
	if c.silent && at-c.pinged >= int64(c.keepAlive) {
		return now, ErrSilent
	}
	if at-c.sent >= every {
		if !c.silent {
			c.silent, c.pinged = true, at
		}
		err = c.commit(AppendPingreq(c.begin()))
		c.sent = at
	}
	return epoch.Add(time.Duration(c.sent + every)), err
}

func (c *Conn) nextID() uint16 {
	c.id++
	if c.id == 0 {
		c.id = 1
	}
	return c.id
}

// begin returns the buffer to append a packet to; commit takes it. mu is held.
func (c *Conn) begin() []byte {
	if c.out == nil {
		c.out = scratch()
	}
	return c.out
}

func (c *Conn) commit(b []byte) error {
	if c.err != nil {
		return c.err
	}
	c.out = b
	if len(b) > maxBacklog {
		c.end(ErrBacklog)
		return ErrBacklog
	}
	if c.batch || c.flushing {
		return nil
	}
	return c.push()
}

// push gives the socket what waits, without waiting for it. mu is held.
func (c *Conn) push() error {
	if c.flushing {
		return nil
	}
	if c.err != nil {
		return c.err
	}
	c.sent = int64(time.Since(epoch))
	n, err := c.tryWrite(c.out)
	if err != nil {
		err = fmt.Errorf("write to the broker: %w", err)
		c.end(err)
		return err
	}
	if n == len(c.out) {
		recycle(c.out)
		c.out = nil
		return nil
	}
	c.out = c.out[:copy(c.out, c.out[n:])]
	c.flushing = true
	go c.flush()
	return nil
}

// flush writes until nothing waits. flushing is set.
func (c *Conn) flush() {
	for {
		c.mu.Lock()
		p := c.out
		c.out = nil
		if len(p) == 0 || c.err != nil {
			c.flushing = false
			c.idle.Broadcast()
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		_ = c.tcp.SetWriteDeadline(time.Now().Add(writeTimeout)) // fails with the Write
		_, err := c.tcp.Write(p)
		_ = c.tcp.SetWriteDeadline(time.Time{})
		recycle(p)
		if err != nil {
			c.fail(fmt.Errorf("write to the broker: %w", err))
		}
	}
}
