package broker

import (
	"encoding/binary"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/schemas"
)

// The functions here take fetches as nearly all are, with QoS 0, allowed, and with nothing
// unusual about them, and spare them what mochi does with a PUBLISH. What they do not take,
// mochi reads and judges.

// plainPublish is the first byte of a PUBLISH with QoS 0, neither retained nor repeated.
const plainPublish = packets.Publish << 4

// takeAhead takes plain fetches for as long as nothing else is there to be read. It waits
// until there is something, if it can.
func (b *Broker) takeAhead(c *conn) (taken bool, err error) {
	if !c.packets.between() || !c.peek.can() || c.principal.service || b.cfg.OnFetch == nil {
		return false, nil
	}
	if len(c.ahead) == 0 {
		err = c.readAhead(true)
	} else {
		taken = b.takePlain(c, time.Now())
	}
	switch over := c.talk.over; {
	case err != nil:
		return false, err
	case over != nil:
		c.talk.over = nil
		if err := b.slow(c, *over); err != nil {
			return false, err
		}
		_, payload, _, size := wholePublish(c.ahead, c.version)
		b.takeFetchAhead(c, payload, size)
		taken = true
	case len(c.ahead) == 0 || c.talk.rest:
		taken = true
	}
	b.rest(c)
	return taken, nil
}

// takeAllPlain takes all that is ahead. It returns false if it cannot, or if the client has
// to wait before more is read.
func (b *Broker) takeAllPlain(c *conn) bool {
	now, had, whole := time.Now(), len(c.ahead), true
	for whole && len(c.ahead) > 0 {
		whole = b.takePlain(c, now)
	}
	if len(c.ahead) < had {
		b.expect(c) // from when they are taken, which may have lasted
	}
	return whole && !c.talk.rest
}

// takePlain takes the next packet if it is a plain fetch of which all bytes are there. It
// takes it apart where it lies: mochi copies a packet twice. If the client has to wait
// before it is taken, it stays, and c.talk.over says so.
func (b *Broker) takePlain(c *conn, now time.Time) bool {
	topic, payload, head, size := wholePublish(c.ahead, c.version)
	if size == 0 || size > int(b.cfg.Limits.MaxPacketSize) || c.talk.rest || !b.asks(c, topic, len(payload)) {
		return false
	}
	if over := c.principal.packet(now, size-head, &b.cfg.Limits); over.wait > 0 {
		c.talk.over = new(overrun) // and not &over, which would cost each fetch an allocation
		*c.talk.over = over
		return false
	}
	b.takeFetchAhead(c, payload, size)
	return true
}

// takeFetchAhead takes the fetch that is ahead.
func (b *Broker) takeFetchAhead(c *conn, payload []byte, size int) {
	b.metrics.messageIn()
	b.fetch(c, c.talk.asks, payload, "")
	c.used(size)
}

// wholePublish takes a PUBLISH with QoS 0 and without properties apart, if b begins with a
// whole one; head is how long its fixed header is and size all of it, which is 0 if b does
// not.
func wholePublish(b []byte, version byte) (topic, payload []byte, head, size int) {
	if len(b) == 0 || b[0] != plainPublish {
		return nil, nil, 0, 0
	}
	var packet boundaries
	size = packet.upTo(b)
	if !packet.between() {
		return nil, nil, 0, 0
	}
	for head = 2; b[head-1]&0x80 != 0; head++ {
		if head == 5 { // mochi says what is wrong with it
			return nil, nil, 0, 0
		}
	}
	rest := b[head:size]
	if len(rest) < 2 || len(rest) < 2+int(binary.BigEndian.Uint16(rest)) {
		return nil, nil, 0, 0
	}
	n := 2 + int(binary.BigEndian.Uint16(rest))
	topic, payload = rest[2:n], rest[n:]
	if version >= 5 {
		if len(payload) == 0 || payload[0] != 0 { // the length of the properties
			return nil, nil, 0, 0
		}
		payload = payload[1:]
	}
	return topic, payload, head, size
}

// asks says whether a plain fetch of so many bytes on a topic is one that the client may
// make, and remembers a topic that it may: what a principal may do does not change but for
// being revoked.
func (b *Broker) asks(c *conn, topic []byte, size int) bool {
	if c.principal.revoked.Load() {
		return false
	}
	if string(topic) != c.talk.asksOn {
		name := string(topic)
		t, err := schemas.ParseTopic(name)
		if err != nil || t.Kind != schemas.KindFetch || c.principal.mayTell(t, false, 0) != allowed {
			return false
		}
		c.talk.asks, c.talk.asksOn = t.Device, name
	}
	return size <= schemas.KindFetch.MaxPayload()
}

// takePlainFetch takes a plain fetch that mochi has read, over TLS or a WebSocket.
func (b *Broker) takePlainFetch(c *conn, pk *packets.Packet) bool {
	h, p := &pk.FixedHeader, &pk.Properties
	if h.Type != packets.Publish || h.Qos > 0 || h.Retain || h.Dup || p.TopicAliasFlag || len(p.SubscriptionIdentifier) > 0 || len(p.User) > 0 {
		return false
	}
	if b.cfg.OnFetch == nil || c.principal.service || !b.asks(c, []byte(pk.TopicName), len(pk.Payload)) {
		return false
	}
	b.fetch(c, c.talk.asks, pk.Payload, "")
	return true
}

// boundaries follow where packets end, so that mochi is never given bytes of two at a time.
// The zero value stands before the first.
type boundaries struct {
	seen int // bytes of a fixed header that is not whole yet
	left int // bytes of the packet behind its fixed header; of the length, while seen > 0
}

// between says whether the next byte is the first of a packet.
func (f *boundaries) between() bool { return f.seen == 0 && f.left == 0 }

// upTo goes on to the end of the packet, or of p, and returns how many bytes of p that is.
func (f *boundaries) upTo(p []byte) (n int) {
	for f.seen > 0 || f.left == 0 {
		if n == len(p) {
			return n
		}
		b := p[n]
		n++
		if f.seen > 0 {
			f.left |= int(b&0x7f) << (7 * (f.seen - 1))
		}
		if f.seen++; f.seen > 1 && b&0x80 == 0 || f.seen > 5 {
			f.seen = 0
			break
		}
	}
	part := min(f.left, len(p)-n)
	f.left -= part
	return n + part
}
