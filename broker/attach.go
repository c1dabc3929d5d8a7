package broker

import (
	"errors"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// The functions here stand in for mochi's EstablishConnection, from mochi's
// public parts. That keeps packets, which are a kilobyte each and passed by value,
// on the stack while it waits for the next one, and gives each client a second
// goroutine and a channel for messages that conn can take at once. What mochi does
// at the end of a session is farewell's.

var errPanic = errors.New("the MQTT library panicked")

// newClient makes mochi's client. Only the service's are sent messages by mochi's
// channel, which is as long as the capabilities say at this moment.
func (b *Broker) newClient(c *conn) {
	b.making.Lock()
	defer b.making.Unlock()
	pending := &b.server.Options.Capabilities.MaximumClientWritesPending
	*pending = 0
	if c.service {
		*pending = 2 * deliverySlots
		c.slots = make(chan struct{}, deliverySlots)
	}
	c.client = b.server.NewClient(c, listenerID, "", false)
}

// greet takes the CONNECT, which is the next packet to be read, and answers it.
func (b *Broker) greet(c *conn) error {
	cl := c.client
	fh := new(packets.FixedHeader)
	if err := cl.ReadFixedHeader(fh); err != nil {
		return err
	}
	pk, err := cl.ReadPacket(fh)
	if err != nil {
		return err
	}
	cl.ParseConnect(listenerID, pk)
	if code := unacceptable(cl, &pk); code != packets.CodeSuccess {
		return errors.Join(code, b.server.SendConnack(cl, code, false, nil))
	}
	h := &hook{b: b}
	if err := h.OnConnect(cl, pk); err != nil {
		return err
	}
	h.OnSessionEstablish(cl, pk)
	if c.principal.service { // mochi's index holds its subscriptions
		go cl.WriteLoop() // ends with the client
		b.server.Clients.Add(cl)
	}
	return b.server.SendConnack(cl, packets.CodeSuccess, false, nil)
}

// unacceptable says what is wrong with the form of a CONNECT, if anything.
func unacceptable(cl *mqtt.Client, pk *packets.Packet) packets.Code {
	if code := pk.ConnectValidate(); code != packets.CodeSuccess {
		return code
	}
	switch v := cl.Properties.ProtocolVersion; {
	case v < 4:
		return packets.ErrUnsupportedProtocolVersion
	case v < 5 && !pk.Connect.Clean && pk.Connect.ClientIdentifier == "":
		return packets.ErrUnspecifiedError
	case cl.Properties.Will.Qos > 1:
		return packets.ErrQosNotSupported
	}
	return packets.CodeSuccess
}

// read handles one packet after the other until the session ends. It is where
// idle connections wait, so little may be on the stack here.
func (b *Broker) read(c *conn) (err error) {
	defer b.caught(c, &err)
	cl := c.client
	c.talk.silence = time.Duration(cl.State.Keepalive) * time.Second
	for !cl.Closed() {
		b.expect(c)
		if taken, err := b.takeAhead(c); err != nil {
			return err
		} else if taken {
			continue
		}
		var fh packets.FixedHeader
		if err := cl.ReadFixedHeader(&fh); err != nil {
			return b.tooLarge(c, err)
		}
		if !c.principal.service {
			if err := b.pace(c, fh.Remaining); err != nil {
				return err
			}
		}
		if fh.Type == packets.Pingreq && fh.Remaining == 0 {
			if _, err := c.Write([]byte{packets.Pingresp << 4, 0}); err != nil {
				return err
			}
			continue
		}
		if err := b.packet(cl, fh); err != nil {
			return err
		}
		b.rest(c)
	}
	return nil
}

// expect gives the client until the end of its keep alive for what is to be read next
// (MQTT 5, 3.1.2.10), or a little less: a deadline that is as good as new is left, as one
// that fetches would have a new one set a thousand times a second. That the client is
// closed is said by reading.
func (b *Broker) expect(c *conn) {
	now := time.Now()
	silence := c.talk.silence
	patience := silence + silence/2
	until := now.Sub(epoch) + patience
	if early := until - c.talk.until; early >= 0 && early < min(silence/16, time.Second) {
		return
	}
	c.talk.until = until
	_ = c.SetDeadline(now.Add(patience))
}

// packet reads the rest of a packet and has mochi process it.
//
//go:noinline
func (b *Broker) packet(cl *mqtt.Client, fh packets.FixedHeader) error {
	pk, err := cl.ReadPacket(&fh)
	if err != nil {
		return err
	}
	if b.takePlainFetch(connOf(cl), &pk) {
		return nil
	}
	err = b.server.InjectPacket(cl, pk)
	var code packets.Code
	if errors.As(err, &code) && cl.Properties.ProtocolVersion >= 5 && code.Code >= packets.ErrUnspecifiedError.Code {
		_ = b.server.DisconnectClient(cl, code) // returns code, or that the client is gone
	}
	return err
}
