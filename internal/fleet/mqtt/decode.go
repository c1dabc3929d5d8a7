package mqtt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"davit/schemas"
)

// ErrProtocol is wrapped by every error about bytes that are not what a server may send.
var ErrProtocol = errors.New("MQTT protocol error")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrProtocol}, args...)...)
}

// Header is the fixed header of a packet.
type Header struct {
	Type  Type
	Flags byte
	// Size of the whole packet in bytes, and of its fixed header.
	Size, Head int
}

// ParseHeader reads the fixed header of the packet that b begins with. ok is false if b
// ends before the header does.
func ParseHeader(b []byte) (h Header, ok bool, err error) {
	if len(b) < 2 {
		return h, false, nil
	}
	h.Type, h.Flags = Type(b[0]>>4), b[0]&0x0f
	n, used, ok, err := variable(b[1:])
	if err != nil || !ok {
		return h, false, err
	}
	h.Head = 1 + used
	h.Size = h.Head + n
	return h, true, nil
}

// variable reads a variable byte integer; ok is false if b is too short for it.
func variable(b []byte) (n, used int, ok bool, err error) {
	for i := range 4 {
		if i == len(b) {
			return 0, 0, false, nil
		}
		n |= int(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			return n, i + 1, true, nil
		}
	}
	return 0, 0, false, broken("a length of more than four bytes")
}

// reader takes fields off the front of a packet's body. After the first field that is
// not there, bad is set and everything is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if p := r.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *reader) string() []byte { return r.take(int(r.uint16())) }

func (r *reader) variable() int {
	n, used, ok, err := variable(r.b)
	if err != nil || !ok {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[used:]
	return n
}

// properties are those that mean something to this package.
type properties struct {
	reason         []byte
	receiveMaximum uint16
	serverKeep     int // seconds, -1 if not there
	maximumPacket  uint32
	alias          bool
	retryAfter     time.Duration
}

// properties reads the properties of an MQTT 5 packet.
func (r *reader) properties() (p properties, err error) {
	p.serverKeep = -1
	in := reader{b: r.take(r.variable())}
	for len(in.b) > 0 && !in.bad {
		switch id := in.byte(); id {
		case propReasonString:
			p.reason = in.string()
		case propReceiveMaximum:
			p.receiveMaximum = in.uint16()
		case propServerKeep:
			p.serverKeep = int(in.uint16())
		case propMaximumPacket:
			p.maximumPacket = in.uint32()
		case propTopicAlias:
			in.uint16()
			p.alias = true
		case propUserProperty:
			name, value := in.string(), in.string()
			if string(name) == schemas.RetryAfterProperty {
				p.retryAfter = schemas.ParseRetryAfter(string(value))
			}
		default:
			if !in.skip(id) {
				return p, broken("property %#02x is not known", id)
			}
		}
	}
	r.bad = r.bad || in.bad
	return p, nil
}

// skip passes over a property that means nothing here; false if there is none with that
// identifier.
func (r *reader) skip(id byte) bool {
	switch id {
	case 0x01, 0x24, 0x25, 0x28, 0x29, 0x2a: // one byte
		r.take(1)
	case propTopicAliasMax:
		r.take(2)
	case 0x02, 0x11: // four bytes
		r.take(4)
	case 0x0b:
		r.variable()
	case 0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1a, 0x1c: // text or data
		r.string()
	default:
		return false
	}
	return true
}

func (r *reader) done(what string) error {
	switch {
	case r.bad:
		return broken("a %s that is too short", what)
	case len(r.b) > 0:
		return broken("a %s with %d bytes too many", what, len(r.b))
	}
	return nil
}

// ParsePublish reads the body of a PUBLISH with these flags. Topic and payload are parts
// of body.
func ParsePublish(v Version, flags byte, body []byte) (Message, error) {
	m := Message{QoS: flags >> 1 & 3, Retain: flags&1 != 0, Dup: flags&8 != 0}
	r := reader{b: body}
	m.Topic = r.string()
	if m.QoS > 0 {
		m.ID = r.uint16()
	}
	var alias bool
	if v == V5 {
		p, err := r.properties()
		if err != nil {
			return m, err
		}
		alias = p.alias
	}
	switch {
	case r.bad:
		return m, broken("a PUBLISH that is too short")
	case m.QoS > 1:
		return m, broken("a PUBLISH of QoS %d, nobody subscribed to that", m.QoS)
	case m.QoS == 1 && m.ID == 0:
		return m, broken("a PUBLISH of QoS 1 without a packet id")
	case alias:
		return m, broken("a topic alias, which was not allowed")
	case len(m.Topic) == 0:
		return m, broken("a PUBLISH without a topic")
	case !utf8.Valid(m.Topic):
		return m, broken("a topic that is not UTF-8")
	}
	m.Payload = r.b
	return m, nil
}

// ConnectionAccepted is what the server says of a connection that it has taken.
type ConnectionAccepted struct {
	// ReceiveMaximum is how many QoS 1 messages may be without their PUBACK.
	ReceiveMaximum uint16
	// MaxPacket is the longest packet in bytes that it takes; 0 is no limit.
	MaxPacket uint32
	// KeepAlive that the server insists on, if KeepAliveSet.
	KeepAlive    time.Duration
	KeepAliveSet bool
}

// parseConnack returns what the server allows, or a *RefusedError.
func parseConnack(v Version, body []byte) (ConnectionAccepted, error) {
	a := ConnectionAccepted{ReceiveMaximum: 65535}
	r := reader{b: body}
	r.byte() // session present
	code := r.byte()
	var p properties
	if v == V5 {
		var err error
		if p, err = r.properties(); err != nil {
			return a, err
		}
		if p.receiveMaximum > 0 {
			a.ReceiveMaximum = p.receiveMaximum
		}
		a.MaxPacket = p.maximumPacket
		if p.serverKeep >= 0 {
			a.KeepAlive, a.KeepAliveSet = time.Duration(p.serverKeep)*time.Second, true
		}
	}
	if err := r.done("CONNACK"); err != nil {
		return a, err
	}
	if code != 0 {
		return a, &RefusedError{Version: v, Code: code, Reason: string(p.reason), RetryAfter: p.retryAfter}
	}
	return a, nil
}

// ParseSuback reads the body of a SUBACK. Codes, one for each filter, are a part of body:
// 0 and 1 are the QoS granted, 0x80 and above a refusal.
func ParseSuback(v Version, body []byte) (id uint16, codes []byte, err error) {
	r := reader{b: body}
	id = r.uint16()
	if v == V5 {
		if _, err := r.properties(); err != nil {
			return 0, nil, err
		}
	}
	if r.bad || len(r.b) == 0 {
		return 0, nil, broken("a SUBACK that is too short")
	}
	return id, r.b, nil
}

// ParsePuback reads the body of a PUBACK. code is 0 or, in MQTT 5, what the server made of
// the message: 0x80 and above is a refusal.
func ParsePuback(v Version, body []byte) (id uint16, code byte, err error) {
	r := reader{b: body}
	id = r.uint16()
	if v == V5 && len(r.b) > 0 {
		code = r.byte()
		if len(r.b) > 0 {
			if _, err := r.properties(); err != nil {
				return 0, 0, err
			}
		}
	}
	return id, code, r.done("PUBACK")
}

// parseDisconnect reads the body of a DISCONNECT of the server's and returns it as an
// error, which it always is.
func parseDisconnect(v Version, body []byte) error {
	if v != V5 {
		return broken("a DISCONNECT from an MQTT 3.1.1 server")
	}
	d := &DisconnectedError{}
	r := reader{b: body}
	if len(r.b) > 0 {
		d.Code = r.byte()
	}
	if len(r.b) > 0 {
		p, err := r.properties()
		if err != nil {
			return err
		}
		d.Reason, d.RetryAfter = string(p.reason), p.retryAfter
	}
	if err := r.done("DISCONNECT"); err != nil {
		return err
	}
	return d
}
