package broker

import (
	"github.com/mochi-mqtt/server/v2/packets"

	"davit/internal/logevent"
	"davit/schemas"
)

// offline replaces the retained presence of a principal's devices when its last
// connection has ended. An MQTT will names one topic, so that of a bridge covers
// one of its devices. A device for which somebody else has connected meanwhile
// is left alone, and so is one that is offline already, by its will or its own
// farewell.
func (b *Broker) offline(p *principal) {
	payload, err := schemas.Encode(&schemas.Presence{V: schemas.Version})
	if err != nil { // it is the same payload every time
		b.log.Error("presence cannot be encoded", "event", logevent.BrokerMessageInvalid, "error", err)
		return
	}
	for _, device := range p.devices {
		topic := schemas.Topic{Device: device, Kind: schemas.KindPresence}
		if b.sessions.anyFor(device) || b.isOffline(topic.String()) {
			continue
		}
		// The only errors are about a malformed packet.
		_ = b.server.InjectPacket(b.inline, packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: topic.Kind.QoS(), Retain: true},
			TopicName:   topic.String(),
			Payload:     payload,
			PacketID:    1, // not zero with QoS 1; not used
		})
	}
}

// isOffline says whether the retained message on a presence topic says offline.
func (b *Broker) isOffline(topic string) bool {
	pk, ok := b.server.Topics.Retained.Get(topic)
	if !ok {
		return false
	}
	var said schemas.Presence
	return schemas.Decode(pk.Payload, &said) == nil && !said.Online
}
