package tlv

import (
	"encoding/binary"
	"unicode/utf8"
)

// HeaderSize is what stands before the TLVs of a packet, in bytes:
//
//	protocol(1) | opcode(1) | request id(2, MSB first)
const HeaderSize = 4

// Packet is the payload of a data frame (docs/wire.md section 3).
type Packet struct {
	Op  Op
	Req uint16 // an answer carries the request id of its question
	// TLVs are the bytes after the header, not copied.
	TLVs []byte
}

// ParsePacket splits a payload into header and TLVs. It refuses one that is
// shorter than the header or longer than MaxPayload; the TLVs are looked at by
// a Cursor.
func ParsePacket(b []byte) (Packet, error) {
	if len(b) < HeaderSize {
		return Packet{}, wrong(CodeLength, "packet of %d bytes, the header alone has %d", len(b), HeaderSize)
	}
	if len(b) > MaxPayload {
		return Packet{}, wrong(CodeLength, "packet of %d bytes, at most %d are allowed", len(b), MaxPayload)
	}
	return Packet{Op: Op(binary.BigEndian.Uint16(b)), Req: binary.BigEndian.Uint16(b[2:]), TLVs: b[HeaderSize:]}, nil
}

// Cursor returns a cursor before the first TLV.
func (p Packet) Cursor() Cursor { return Cursor{rest: p.TLVs} }

// Cursor walks over the TLVs of a packet. Its error is sticky:
//
//	c := p.Cursor()
//	for c.Next() {
//		switch c.Type() {
//		case TypeOff:
//			off = c.Uint32()
//		}
//	}
//	if err := c.Err(); err != nil { ... }
//
// A getter that does not fit the value sets the error, returns zero and ends
// the walk. Types that the loop does not name are passed over.
type Cursor struct {
	rest  []byte
	value []byte
	typ   Type
	seen  uint64
	err   error
}

// Next goes to the next TLV. It returns false at the end and after an error.
func (c *Cursor) Next() bool {
	if c.err != nil || len(c.rest) == 0 {
		return false
	}
	if len(c.rest) < 2 {
		c.err = wrong(CodeLength, "packet ends inside the head of a %v", Type(c.rest[0]))
		return false
	}
	c.typ = Type(c.rest[0])
	n := int(c.rest[1])
	if c.typ >= TypeLong {
		n |= int(c.typ&^TypeLong) << 8
		c.typ = TypeLong
	}
	if n > len(c.rest)-2 {
		c.err = wrong(CodeLength, "%v of %d bytes runs past the packet, which has %d more", c.typ, n, len(c.rest)-2)
		return false
	}
	c.value, c.rest = c.rest[2:2+n:2+n], c.rest[2+n:]
	return true
}

// Err returns the first error of the walk. It is an *Error.
func (c *Cursor) Err() error { return c.err }

// Type is the type of the present TLV; TypeLong for all of 0x80 to 0xff.
func (c *Cursor) Type() Type { return c.typ }

// Bytes is the value of the present TLV, not copied.
func (c *Cursor) Bytes() []byte { return c.value }

func (c *Cursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (c *Cursor) wrongLength(want string) {
	c.fail(wrong(CodeInvalidTLV, "%v has %d bytes, wanted %s", c.typ, len(c.value), want))
}

// once refuses a TLV whose type, one below 64, has been before.
func (c *Cursor) once() bool {
	bit := uint64(1) << (c.typ & 63)
	if c.seen&bit != 0 {
		c.fail(wrong(CodeInvalidTLV, "%v stands twice", c.typ))
		return false
	}
	c.seen |= bit
	return true
}

// has says whether once has let a TLV of type t pass.
func (c *Cursor) has(t Type) bool { return c.seen&(1<<(t&63)) != 0 }

// require fails unless once has let a TLV of type t pass.
func (c *Cursor) require(op Op, t Type) {
	if !c.has(t) {
		c.fail(wrong(CodeInvalidTLV, "%v without %v", op, t))
	}
}

// Int reads a signed integer of 1, 2, 4 or 8 bytes.
func (c *Cursor) Int() int64 {
	switch v := c.value; len(v) {
	case 1:
		return int64(int8(v[0]))
	case 2:
		return int64(int16(binary.BigEndian.Uint16(v)))
	case 4:
		return int64(int32(binary.BigEndian.Uint32(v)))
	case 8:
		return int64(binary.BigEndian.Uint64(v))
	}
	c.wrongLength("1, 2, 4 or 8")
	return 0
}

// Uint32 reads an offset or a length: 4 bytes, or 2 from an old peer.
func (c *Cursor) Uint32() uint32 {
	switch v := c.value; len(v) {
	case 2:
		return uint32(binary.BigEndian.Uint16(v))
	case 4:
		return binary.BigEndian.Uint32(v)
	}
	c.wrongLength("4 (or 2)")
	return 0
}

func (c *Cursor) oneByte() byte {
	if len(c.value) != 1 {
		c.wrongLength("1")
		return 0
	}
	return c.value[0]
}

// Code reads the value of an ERR.
func (c *Cursor) Code() Code { return Code(c.oneByte()) }

// Bool reads a truth value; every byte but 0 is true.
func (c *Cursor) Bool() bool { return c.oneByte() != 0 }

// Nodes reads the value of a NODES.
func (c *Cursor) Nodes() Nodes { return Nodes(c.oneByte()) }

// Features reads the value of a FEATURES.
func (c *Cursor) Features() Features { return Features(c.oneByte()) }

// Text reads UTF-8, as a string of its own.
func (c *Cursor) Text() string {
	if !utf8.Valid(c.value) {
		c.fail(wrong(CodeInvalidTLV, "%v is not UTF-8", c.typ))
		return ""
	}
	return string(c.value)
}

// Empty checks that the TLV has no value, as an EOF.
func (c *Cursor) Empty() {
	if len(c.value) != 0 {
		c.wrongLength("none")
	}
}
