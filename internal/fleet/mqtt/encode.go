package mqtt

import "encoding/binary"

// Version of the protocol, as CONNECT says it.
type Version byte

// The versions that this package speaks.
const (
	V311 Version = 4
	V5   Version = 5
)

// String returns "3.1.1" or "5".
func (v Version) String() string {
	if v == V311 {
		return "3.1.1"
	}
	return "5"
}

// Type is the kind of a packet: the upper half of its first byte.
type Type byte

// The packets that this package writes or understands.
const (
	Connect     Type = 1
	Connack     Type = 2
	Publish     Type = 3
	Puback      Type = 4
	Subscribe   Type = 8
	Suback      Type = 9
	Unsubscribe Type = 10
	Unsuback    Type = 11
	Pingreq     Type = 12
	Pingresp    Type = 13
	Disconnect  Type = 14
)

// Message is an application message, to be sent or as it came.
type Message struct {
	Topic   []byte
	Payload []byte
	QoS     byte
	Retain  bool
	// ID is the packet id with QoS 1. Conn.Publish chooses it.
	ID uint16
	// Dup says that the message was sent before.
	Dup bool
}

// Subscription is one filter of a SUBSCRIBE.
type Subscription struct {
	Filter string
	QoS    byte
}

// appendLength appends n as a variable byte integer. n is less than 2^28.
func appendLength(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// lengthSize is how many bytes appendLength appends.
func lengthSize(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

func appendString[S ~string | ~[]byte](b []byte, s S) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// AppendPublish appends a PUBLISH packet to b. Topic has at most 65,535 bytes and the
// packet less than 2^28, which the caller sees to.
func AppendPublish(b []byte, v Version, m *Message) []byte {
	first := byte(Publish)<<4 | m.QoS<<1
	if m.Retain {
		first |= 1
	}
	if m.Dup {
		first |= 8
	}
	n := 2 + len(m.Topic) + len(m.Payload)
	if m.QoS > 0 {
		n += 2
	}
	if v == V5 {
		n++
	}
	b = appendLength(append(b, first), n)
	b = appendString(b, m.Topic)
	if m.QoS > 0 {
		b = binary.BigEndian.AppendUint16(b, m.ID)
	}
	if v == V5 {
		b = append(b, 0) // no properties
	}
	return append(b, m.Payload...)
}

// AppendPuback appends the PUBACK of the message with that packet id.
func AppendPuback(b []byte, id uint16) []byte {
	return binary.BigEndian.AppendUint16(append(b, byte(Puback)<<4, 2), id)
}

// AppendSubscribe appends a SUBSCRIBE packet.
func AppendSubscribe(b []byte, v Version, id uint16, subs []Subscription) []byte {
	n := 2
	for _, s := range subs {
		n += 2 + len(s.Filter) + 1
	}
	if v == V5 {
		n++
	}
	b = appendLength(append(b, byte(Subscribe)<<4|2), n)
	b = binary.BigEndian.AppendUint16(b, id)
	if v == V5 {
		b = append(b, 0)
	}
	for _, s := range subs {
		b = append(appendString(b, s.Filter), s.QoS)
	}
	return b
}

// AppendUnsubscribe appends an UNSUBSCRIBE packet.
func AppendUnsubscribe(b []byte, v Version, id uint16, filter string) []byte {
	n := 2 + 2 + len(filter)
	if v == V5 {
		n++
	}
	b = appendLength(append(b, byte(Unsubscribe)<<4|2), n)
	b = binary.BigEndian.AppendUint16(b, id)
	if v == V5 {
		b = append(b, 0)
	}
	return appendString(b, filter)
}

// AppendPingreq appends a PINGREQ.
func AppendPingreq(b []byte) []byte { return append(b, byte(Pingreq)<<4, 0) }

// AppendDisconnect appends a DISCONNECT that has the will dropped.
func AppendDisconnect(b []byte) []byte { return append(b, byte(Disconnect)<<4, 0) }

// Identifiers of the properties that this package writes or reads.
const (
	propReasonString   = 0x1f
	propReceiveMaximum = 0x21
	propTopicAliasMax  = 0x22
	propTopicAlias     = 0x23
	propUserProperty   = 0x26
	propMaximumPacket  = 0x27
	propServerKeep     = 0x13
)

// appendConnect appends the CONNECT that o describes. The session begins anew and ends
// with the connection.
func appendConnect(b []byte, o *Options) []byte {
	var flags byte = 2 // clean start
	n := 10 + 2 + len(o.ClientID)
	var props []byte
	if o.Version == V5 {
		props = connectProperties(o)
		n += lengthSize(len(props)) + len(props)
	}
	if w := o.Will; w != nil {
		flags |= 4 | w.QoS<<3
		if w.Retain {
			flags |= 0x20
		}
		n += 4 + len(w.Topic) + len(w.Payload)
		if o.Version == V5 {
			n++
		}
	}
	if o.Username != "" {
		flags |= 0x80
		n += 2 + len(o.Username)
	}
	if o.Password != "" {
		flags |= 0x40
		n += 2 + len(o.Password)
	}
	b = appendLength(append(b, byte(Connect)<<4), n)
	b = append(appendString(b, "MQTT"), byte(o.Version), flags)
	b = binary.BigEndian.AppendUint16(b, o.keepAliveSeconds())
	if o.Version == V5 {
		b = append(appendLength(b, len(props)), props...)
	}
	b = appendString(b, o.ClientID)
	if w := o.Will; w != nil {
		if o.Version == V5 {
			b = append(b, 0)
		}
		b = appendString(appendString(b, w.Topic), w.Payload)
	}
	if o.Username != "" {
		b = appendString(b, o.Username)
	}
	if o.Password != "" {
		b = appendString(b, o.Password)
	}
	return b
}

func connectProperties(o *Options) []byte {
	var p []byte
	if o.ReceiveMaximum > 0 {
		p = binary.BigEndian.AppendUint16(append(p, propReceiveMaximum), o.ReceiveMaximum)
	}
	if o.MaxPacket > 0 {
		p = binary.BigEndian.AppendUint32(append(p, propMaximumPacket), uint32(o.MaxPacket))
	}
	return p
}
