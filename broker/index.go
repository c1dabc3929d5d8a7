package broker

import (
	"errors"
	"slices"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

// index knows which connections of devices and bridges subscribe to a topic.
// They name topics exactly, so a map does. In mochi's own index a subscription
// costs five maps and a leaf for each level of its topic, 1.7 KiB together, and
// each message a search; the service's filters, which are few, stay there.
type index struct {
	mu     sync.RWMutex
	topics map[string][]subscriber
}

// subscriber is one subscription to a topic. Its QoS is the connection's to know.
type subscriber struct {
	conn *conn
	// id is the Subscription Identifier of MQTT 5 (3.8.2.1.2), or 0.
	id int32
	// retain keeps the RETAIN flag of what is forwarded (3.8.3.1).
	retain bool
}

func newIndex() *index { return &index{topics: make(map[string][]subscriber)} }

// add makes s a subscriber of the topic, and returns whether its connection
// was one before.
func (x *index) add(topic string, s subscriber) (existed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	// A list that find has returned is never written.
	list := slices.DeleteFunc(slices.Clone(x.topics[topic]), func(o subscriber) bool { return o.conn == s.conn })
	existed = len(list) < len(x.topics[topic])
	x.topics[topic] = append(slices.Clip(list), s)
	return existed
}

// remove returns whether c was a subscriber.
func (x *index) remove(topic string, c *conn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	old := x.topics[topic]
	list := slices.DeleteFunc(slices.Clone(old), func(o subscriber) bool { return o.conn == c })
	if len(list) == 0 {
		delete(x.topics, topic)
	} else {
		x.topics[topic] = list
	}
	return len(list) < len(old)
}

// find returns the subscribers of a topic; they are not to be changed.
func (x *index) find(topic string) []subscriber {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.topics[topic]
}

// deliver hands a message to the devices and bridges that subscribe to its
// topic.
func (b *Broker) deliver(pk *packets.Packet) {
	list := b.index.find(pk.TopicName)
	if len(list) == 0 {
		return
	}
	out := pk.Copy(false)
	for _, s := range list {
		s.send(out, false)
	}
}

// deliverRetained sends what is retained on the topic to a new subscriber.
func (b *Broker) deliverRetained(topic string, c *conn) {
	pk, ok := b.server.Topics.Retained.Get(topic)
	if !ok {
		return
	}
	for _, s := range b.index.find(topic) {
		if s.conn == c {
			s.send(pk.Copy(false), true)
		}
	}
}

// send writes a message to the connection's outbox; it does not wait.
// OnPacketEncode gives it its QoS.
func (s subscriber) send(pk packets.Packet, retained bool) {
	c := s.conn
	if c.principal.mayRead(pk.TopicName) != allowed {
		return
	}
	if !retained && (c.version < 5 || !s.retain) {
		pk.FixedHeader.Retain = false // MQTT 5, 3.3.1.3
	}
	if s.id > 0 {
		pk.Properties.SubscriptionIdentifier = []int{int(s.id)}
	}
	pk.FixedHeader.Qos = 0
	if err := c.client.WritePacket(pk); errors.Is(err, packets.ErrPacketTooLarge) {
		c.broker.metrics.messageDropped() // other errors end the connection
	}
}
