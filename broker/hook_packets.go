package broker

import (
	"slices"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"davit/internal/logevent"
	"davit/schemas"
)

const (
	// publishedQoS marks a message with the QoS it was published with:
	// Packet.ReasonCode means nothing in a PUBLISH and is copied along, while
	// mochi lowers the QoS itself to the 0 that it knows of the subscription.
	publishedQoS = 1
	// deadTopic stands in for topics that mochi would drop unacknowledged.
	deadTopic = "refused"
)

// OnPacketRead implements mqtt.Hook.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := connOf(cl)
	if c == nil || c.principal == nil {
		return pk, nil
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		h.b.metrics.messageIn()
		if pk.FixedHeader.Qos > 1 {
			h.b.refuse(c, actionPublish, pk.TopicName, refusedQoS)
			h.b.disconnect(c, packets.ErrQosNotSupported)
			return pk, packets.ErrRejectPacket
		}
		c.talk.refused = ""
		if strings.HasPrefix(pk.TopicName, "$") {
			c.talk.refused, pk.TopicName = pk.TopicName, deadTopic
		}
	case packets.Puback:
		c.acked(pk.PacketID)
	case packets.Disconnect:
		c.talk.goodbye = pk.ReasonCode != packets.CodeDisconnectWillMessage.Code
		// There is no session whose end could be put off.
		pk.Properties.SessionExpiryIntervalFlag = false
		pk.Properties.SessionExpiryInterval = 0
	}
	return pk, nil
}

// OnPublish implements mqtt.Hook. A refused message is acknowledged like any
// other (MQTT 5: with the reason) and goes nowhere.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := connOf(cl)
	if c != nil {
		topic, r := pk.TopicName, refusedTopic
		if c.talk.refused != "" {
			topic = c.talk.refused
		} else {
			r = c.principal.mayPublish(topic, pk.FixedHeader.Retain, len(pk.Payload))
			if r == allowed && !c.principal.service && len(pk.Properties.User) > maxUserProperties {
				r = refusedUser
			}
		}
		if r != allowed {
			h.b.count(c, 1)
			return pk, h.notPublished(c, &pk, topic, r)
		}
	}
	if c != nil && h.b.takeFetch(c, &pk) {
		return pk, packets.CodeSuccessIgnore // acknowledged, and nobody else's
	}
	h.b.count(c, 1)
	if c != nil {
		if taken, r := h.b.takeRequest(c, &pk); r != allowed {
			return pk, h.notPublished(c, &pk, pk.TopicName, r)
		} else if taken {
			return pk, packets.CodeSuccessIgnore
		}
	}
	pk.ReasonCode = publishedQoS + pk.FixedHeader.Qos
	pk.Expiry, pk.Properties.MessageExpiryInterval = 0, 0
	if pk.FixedHeader.Retain {
		h.b.lockStore(c)
	}
	return pk, nil
}

// count counts messages and filters of a device or bridge; a fetch that is answered
// here is none of them, because what it asks for is bounded by credit.
func (b *Broker) count(c *conn, n int) {
	if c != nil && !c.principal.service {
		c.principal.message(time.Now(), n, &b.cfg.Limits)
	}
}

// notPublished refuses a message and returns what mochi is to make of it.
func (h *hook) notPublished(c *conn, pk *packets.Packet, topic string, r refusal) packets.Code {
	h.b.refuse(c, actionPublish, topic, r)
	if c.version < 5 || pk.FixedHeader.Qos == 0 {
		return packets.CodeSuccessIgnore
	}
	return r.publishCode()
}

// refuse counts a refusal, and logs it once per principal and minute.
func (b *Broker) refuse(c *conn, action, topic string, r refusal) {
	b.metrics.aclRefused(action, r)
	if r.limit() {
		b.metrics.limited(string(r))
	}
	if b.logged.Allow("acl/" + c.principal.name) {
		b.log.Warn("MQTT "+action+" refused", "event", logevent.BrokerACLRefused, "principal", c.principal.name, "topic", printable([]byte(topic)),
			"reason", string(r), "remote", c.RemoteAddr().String())
	}
}

// lockStore is called before mochi stores a retained message; OnRetainMessage
// comes right after. c is nil for the inline client.
func (b *Broker) lockStore(c *conn) {
	b.retained.RLock()
	if c != nil {
		c.talk.reading = true
	}
}

// OnRetainMessage implements mqtt.Hook.
func (h *hook) OnRetainMessage(cl *mqtt.Client, _ packets.Packet, _ int64) {
	if c := connOf(cl); c != nil {
		c.talk.reading = false
	}
	h.b.retained.RUnlock()
}

// OnSubscribe implements mqtt.Hook: it decides on each filter. mochi is told
// QoS 0 for those of the service that are allowed, and an invalid filter for the
// others: what devices and bridges subscribe to is in our own index.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := connOf(cl)
	c.subscribing.Store(true)
	answer := &filterAnswer{codes: make([]byte, 0, len(pk.Filters))}
	c.talk.filters = answer
	h.b.count(c, len(pk.Filters))
	for i := range pk.Filters {
		f := &pk.Filters[i]
		q, r := min(f.Qos, 1), c.principal.maySubscribe(f.Filter)
		if !c.principal.service && i >= c.principal.mayName() {
			r = refusedFilters
		}
		switch {
		case r != allowed:
		case isStream(f.Filter):
			q = 0 // like its messages
			r = c.sub.follow(c.principal, f.Filter, grant{q, int32(f.Identifier)})
		default:
			c.sub.grant(f.Filter, grant{q, int32(f.Identifier)})
		}
		if r != allowed {
			h.b.refuse(c, actionSubscribe, f.Filter, r)
			answer.codes = append(answer.codes, r.subscribeCode().Code)
			f.Filter = ""
			continue
		}
		answer.codes = append(answer.codes, q)
		f.Qos = 0
		if c.principal.service {
			continue
		}
		existed := h.b.index.add(f.Filter, subscriber{conn: c, id: int32(f.Identifier), retain: f.RetainAsPublished})
		if f.RetainHandling == 0 || f.RetainHandling == 1 && !existed { // MQTT 5, 3.8.3.1
			answer.wanted = append(answer.wanted, f.Filter)
		}
		f.Filter = ""
	}
	return pk
}

// OnSubscribed implements mqtt.Hook; next, mochi looks for retained messages
// and sends them.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	c := connOf(cl)
	c.subscribing.Store(false)
	if len(c.talk.filters.wanted) > 0 {
		h.b.retained.Lock()
		c.talk.scanning = true
		return
	}
	for i, f := range pk.Filters {
		if codes[i] < packets.ErrUnspecifiedError.Code && !isShared(f.Filter) {
			h.b.retained.Lock()
			c.talk.scanning = true
			return
		}
	}
}

// OnPacketProcessed implements mqtt.Hook.
func (h *hook) OnPacketProcessed(cl *mqtt.Client, _ packets.Packet, _ error) {
	c := connOf(cl)
	if c == nil {
		return
	}
	answer := c.talk.filters
	c.talk.filters = nil
	if c.talk.scanning {
		for _, topic := range answer.wanted {
			if topic == rotatedTopic(c.principal.name) {
				h.b.tellDue(c)
				continue
			}
			h.b.deliverRetained(topic, c)
		}
		c.talk.scanning = false
		h.b.retained.Unlock()
	}
}

// OnUnsubscribe implements mqtt.Hook.
func (h *hook) OnUnsubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if c := connOf(cl); c != nil {
		answer := &filterAnswer{codes: make([]byte, 0, len(pk.Filters))}
		c.talk.filters = answer
		h.b.count(c, len(pk.Filters))
		for _, f := range pk.Filters {
			c.sub.drop(f.Filter)
			code := packets.CodeNoSubscriptionExisted.Code
			if h.b.index.remove(f.Filter, c) {
				code = packets.CodeSuccess.Code
			}
			answer.codes = append(answer.codes, code)
		}
	}
	return pk
}

// OnPublished implements mqtt.Hook: mochi has delivered to the service.
func (h *hook) OnPublished(_ *mqtt.Client, pk packets.Packet) {
	if !pk.Ignore {
		h.b.deliver(&pk)
	}
}

// OnACLCheck implements mqtt.Hook. Publishes are decided in OnPublish, where
// a refusal keeps the connection; what is asked here is one delivery to the
// service, or a filter that OnSubscribe has allowed.
func (h *hook) OnACLCheck(cl *mqtt.Client, _ string, write bool) bool {
	c := connOf(cl)
	if write || c == nil {
		return true
	}
	if !c.principal.service {
		return false // mochi knows no subscription of others
	}
	if c.subscribing.Load() {
		// Perhaps a delivery at the same moment, which then takes no slot;
		// mochi's channel has room for some of those.
		return true
	}
	select {
	case c.slots <- struct{}{}:
	default:
		select {
		case c.slots <- struct{}{}:
		case <-c.closed:
		}
	}
	return true
}

func (c *conn) freeSlot() {
	select {
	case <-c.slots:
	default:
	}
}

// OnPublishDropped implements mqtt.Hook.
func (h *hook) OnPublishDropped(cl *mqtt.Client, _ packets.Packet) {
	h.b.metrics.messageDropped()
	if c := connOf(cl); c != nil {
		c.freeSlot()
	}
}

// OnPacketEncode implements mqtt.Hook: the last word on what a client is sent.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := connOf(cl)
	if c == nil {
		return pk
	}
	switch pk.FixedHeader.Type {
	case packets.Connack:
		if pk.ReasonCode == packets.CodeSuccess.Code && c.version >= 5 {
			pk.Properties.MaximumPacketSize = h.b.cfg.Limits.MaxPacketSize
			pk.Properties.SessionExpiryIntervalFlag = c.talk.expiry // 0, if it asked for more
		}
	case packets.Suback:
		c.fixSuback(&pk)
	case packets.Unsuback:
		if !c.principal.service && c.version >= 5 {
			pk.ReasonCodes = slices.Clone(c.talk.filters.codes)
		}
	case packets.Publish:
		c.freeSlot()
		h.b.metrics.messageOut()
		c.raiseQoS(&pk)
	}
	return pk
}

// fixSuback puts back the QoS that was granted and the refusals.
func (c *conn) fixSuback(pk *packets.Packet) {
	for i, code := range c.talk.filters.codes {
		switch {
		case i >= len(pk.ReasonCodes):
			return
		case code >= packets.ErrUnspecifiedError.Code:
			if c.version < 5 {
				code = packets.ErrUnspecifiedError.Code // MQTT 3.1.1, 3.9.3: the only failure
			}
			pk.ReasonCodes[i] = code
		case !c.principal.service || pk.ReasonCodes[i] < packets.ErrUnspecifiedError.Code:
			pk.ReasonCodes[i] = code
		}
	}
}

// raiseQoS makes a message QoS 1 if it was published and subscribed so. The
// outbox fills in the packet id.
func (c *conn) raiseQoS(pk *packets.Packet) {
	var q byte
	if pk.ReasonCode >= publishedQoS {
		q = pk.ReasonCode - publishedQoS
	} else if t, err := schemas.ParseTopic(pk.TopicName); err == nil {
		q = t.Kind.QoS() // a will: mochi publishes it without asking
	}
	pk.ReasonCode = 0
	if min(q, c.sub.qos(pk.TopicName)) > 0 {
		pk.FixedHeader.Qos = 1
		pk.PacketID = 1
	}
}
