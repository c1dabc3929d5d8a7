package tlv

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// Limits of what stands in a packet, in bytes.
const (
	// MaxValue is the longest value of a TLV with a one-byte length.
	MaxValue = 255
	// MaxLoad is the most data that one OpOTALoad carries.
	MaxLoad = MaxValue
)

// Each Append function appends one whole packet to dst. It checks every limit
// before it writes: on an error, an *Error, dst comes back as it was.

// AppendHeader appends the header of a packet.
func AppendHeader(dst []byte, op Op, req uint16) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(op))
	return binary.BigEndian.AppendUint16(dst, req)
}

// AppendBytes appends one TLV with the bytes of value; t is below TypeLong.
func AppendBytes(dst []byte, t Type, value []byte) ([]byte, error) {
	if err := checkValue(t, len(value)); err != nil {
		return dst, err
	}
	return append(append(dst, byte(t), byte(len(value))), value...), nil
}

// AppendText appends one TLV with the bytes of value, which are UTF-8.
func AppendText(dst []byte, t Type, value string) ([]byte, error) {
	if err := checkText(t, value); err != nil {
		return dst, err
	}
	return appendText(dst, t, value), nil
}

// AppendUint32 appends an OFF or a LEN in four bytes.
func AppendUint32(dst []byte, t Type, v uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, byte(t), 4), v)
}

// AppendInt appends an INT in the fewest of 1, 2, 4 or 8 bytes that hold v.
func AppendInt(dst []byte, v int64) []byte {
	switch {
	case v == int64(int8(v)):
		return append(dst, byte(TypeInt), 1, byte(v))
	case v == int64(int16(v)):
		return binary.BigEndian.AppendUint16(append(dst, byte(TypeInt), 2), uint16(v))
	case v == int64(int32(v)):
		return binary.BigEndian.AppendUint32(append(dst, byte(TypeInt), 4), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, byte(TypeInt), 8), uint64(v))
}

func appendByte(dst []byte, t Type, v byte) []byte { return append(dst, byte(t), 1, v) }

func appendText(dst []byte, t Type, v string) []byte {
	return append(append(dst, byte(t), byte(len(v))), v...)
}

func checkValue(t Type, n int) error {
	if t >= TypeLong {
		return wrong(CodeInvalidTLV, "%v has a 15-bit length, which is never sent", t)
	}
	if n > MaxValue {
		return wrong(CodeLength, "%v of %d bytes, at most %d are allowed", t, n, MaxValue)
	}
	return nil
}

func checkText(t Type, v string) error {
	if err := checkValue(t, len(v)); err != nil {
		return err
	}
	if !utf8.ValidString(v) {
		return wrong(CodeInvalidTLV, "%v is not UTF-8", t)
	}
	return nil
}

func checkName(name string) error {
	if name == "" {
		return wrong(CodeInvalidName, "empty property name")
	}
	return checkText(TypeName, name)
}

// AppendOffer appends the module's OpOTA: an image of size bytes is available.
func AppendOffer(dst []byte, req uint16, version string, size uint64) ([]byte, error) {
	if err := checkText(TypeText, version); err != nil {
		return dst, err
	}
	if version == "" {
		return dst, wrong(CodeInvalidTLV, "%v with an empty version", OpOTA)
	}
	if size > math.MaxUint32 {
		return dst, wrong(CodeLength, "image of %d bytes, at most %d fit the wire", size, uint32(math.MaxUint32))
	}
	dst = appendText(AppendHeader(dst, OpOTA, req), TypeText, version)
	return AppendUint32(dst, TypeLen, uint32(size)), nil
}

// AppendGo appends the MCU's OpOTA: go ahead.
func AppendGo(dst []byte, req uint16) []byte { return AppendHeader(dst, OpOTA, req) }

// AppendLoad appends an OpOTALoad: 1 to MaxLoad bytes of the image at offset.
func AppendLoad(dst []byte, req uint16, offset uint64, data []byte) ([]byte, error) {
	if len(data) < 1 || len(data) > MaxLoad {
		return dst, wrong(CodeLength, "%v of %d bytes, allowed are 1 to %d", OpOTALoad, len(data), MaxLoad)
	}
	if offset > math.MaxUint32-uint64(len(data)) {
		return dst, wrong(CodeInvalidOffset, "%d bytes at offset %d end past the largest image", len(data), offset)
	}
	dst = AppendUint32(AppendHeader(dst, OpOTALoad, req), TypeOff, uint32(offset))
	return append(append(dst, byte(TypeBin), byte(len(data))), data...), nil
}

// AppendStat appends an OpOTAStat.
func AppendStat(dst []byte, req uint16, code Code) []byte {
	return appendByte(AppendHeader(dst, OpOTAStat, req), TypeErr, byte(code))
}

// AppendBoot appends an OpOTABoot; an empty version stands for the newest image.
func AppendBoot(dst []byte, req uint16, version string) ([]byte, error) {
	if err := checkText(TypeText, version); err != nil {
		return dst, err
	}
	dst = AppendHeader(dst, OpOTABoot, req)
	if version == "" {
		return dst, nil
	}
	return appendText(dst, TypeText, version), nil
}

// AppendNAK appends a NAK with a code; op is OpNAK or OpControlNAK and req is
// that of the packet refused.
func AppendNAK(dst []byte, op Op, req uint16, code Code) []byte {
	return appendByte(AppendHeader(dst, op, req), TypeErr, byte(code))
}

// AppendFeatures appends the OpNAK by which an MCU tells its features.
func AppendFeatures(dst []byte, req uint16, f Features) []byte {
	return appendByte(AppendHeader(dst, OpNAK, req), TypeFeatures, byte(f))
}

// AppendSendProp appends an OpSendProp: send me this property.
func AppendSendProp(dst []byte, req uint16, name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return dst, err
	}
	return appendText(AppendHeader(dst, OpSendProp, req), TypeName, name), nil
}

// AppendSendInt appends an OpSendTLV with an integer property.
func AppendSendInt(dst []byte, req uint16, name string, v int64) ([]byte, error) {
	if err := checkName(name); err != nil {
		return dst, err
	}
	return AppendInt(appendText(AppendHeader(dst, OpSendTLV, req), TypeName, name), v), nil
}

// AppendSendBool appends an OpSendTLV with a truth value.
func AppendSendBool(dst []byte, req uint16, name string, v bool) ([]byte, error) {
	if err := checkName(name); err != nil {
		return dst, err
	}
	var b byte
	if v {
		b = 1
	}
	return appendByte(appendText(AppendHeader(dst, OpSendTLV, req), TypeName, name), TypeBool, b), nil
}

// AppendSendText appends an OpSendTLV with as much of the string property text,
// from byte offset on, as one packet takes, and returns where the next packet
// goes on: len(text) after the last. A text that fits one packet is sent whole;
// a longer one in parts, all with the same request id: LEN in the first, OFF in
// the rest, EOF in the last. No part ends inside a character.
//
//	for off := 0; ; {
//		packet, off, err = AppendSendText(buf[:0], req, name, text, off)
//		...
//		if off == len(text) { break }
//	}
func AppendSendText(dst []byte, req uint16, name, text string, offset int) (packet []byte, next int, err error) {
	if err := checkName(name); err != nil {
		return dst, offset, err
	}
	if !utf8.ValidString(text) {
		return dst, offset, wrong(CodeInvalidTLV, "property %q is not UTF-8", name)
	}
	if uint64(len(text)) > math.MaxUint32 {
		return dst, offset, wrong(CodeLength, "property %q of %d bytes, at most %d fit the wire", name, len(text), uint32(math.MaxUint32))
	}
	// Header, NAME and the head of the value take this much; in parts, OFF or LEN (6) and EOF (2) come on top.
	room := MaxPayload - HeaderSize - (2 + len(name)) - 2
	whole := len(text) <= min(MaxValue, room)
	if offset != 0 && (whole || offset < 0 || offset >= len(text) || !utf8.RuneStart(text[offset])) {
		return dst, offset, wrong(CodeInvalidOffset, "no part of property %q, which has %d bytes, begins at %d", name, len(text), offset)
	}
	part := text[offset:]
	if !whole {
		part = cutText(part, min(MaxValue, room-8))
	}
	next = offset + len(part)
	dst = appendText(AppendHeader(dst, OpSendTLV, req), TypeName, name)
	switch {
	case !whole && offset == 0:
		dst = AppendUint32(dst, TypeLen, uint32(len(text)))
	case offset > 0:
		dst = AppendUint32(dst, TypeOff, uint32(offset))
	}
	dst = appendText(dst, TypeText, part)
	if !whole && next == len(text) {
		dst = append(dst, byte(TypeEOF), 0)
	}
	return dst, next, nil
}

// cutText returns the first n bytes of s, or a little less so as not to end
// inside a character.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// AppendConnect appends an OpConnect: which destinations can be reached.
func AppendConnect(dst []byte, req uint16, n Nodes) []byte {
	return appendByte(AppendHeader(dst, OpConnect, req), TypeNodes, byte(n))
}

// AppendListenEnable appends an OpListenEnable.
func AppendListenEnable(dst []byte, req uint16) []byte { return AppendHeader(dst, OpListenEnable, req) }

// AppendConfirm appends the OpConfirm that answers the OpSendTLV with request
// id req.
func AppendConfirm(dst []byte, req uint16) []byte { return AppendHeader(dst, OpConfirm, req) }

// AppendPing appends a ping without TLVs. A ping is answered by sending its
// payload back byte for byte.
func AppendPing(dst []byte, req uint16) []byte {
	return AppendHeader(dst, OpOf(ProtocolPing, 0), req)
}
