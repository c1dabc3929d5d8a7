package tlv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Sizes of frames in bytes (docs/wire.md section 2).
const (
	// MaxPayload is the longest payload of a frame, and so the longest packet.
	MaxPayload = 384
	// frameOverhead is ptype, seq and CRC.
	frameOverhead = 4
	// MaxFrame is the longest frame on the line: every byte stuffed, two flags.
	MaxFrame = 2*(MaxPayload+frameOverhead) + 2
)

// The bytes with a meaning of their own on the line.
const (
	flagByte   = 0x7e
	escapeByte = 0x7d
	escapeXOR  = 0x20
)

// FrameType is the ptype of a frame.
type FrameType byte

// The frame types; a receiver ignores and counts others.
const (
	FrameData FrameType = 1 // payload is a packet
	FrameAck  FrameType = 2 // payload is empty, Seq is the acknowledged one
)

// String returns "data", "ack" or the number.
func (t FrameType) String() string {
	switch t {
	case FrameData:
		return "data"
	case FrameAck:
		return "ack"
	}
	return fmt.Sprintf("type %d", byte(t))
}

// Frame is one frame without flags, stuffing and CRC.
type Frame struct {
	Type    FrameType
	Seq     byte
	Payload []byte
}

// ErrFrame is wrapped by the errors that condemn one frame: count it, skip it,
// go on reading. Every other error of a Reader is the port's and ends the line.
var ErrFrame = errors.New("bad frame")

// Why a frame is bad. All of them wrap ErrFrame.
var (
	// ErrCRC: the checksum does not agree.
	ErrCRC = fmt.Errorf("%w: checksum does not agree", ErrFrame)
	// ErrTooLong: more than MaxPayload bytes of payload.
	ErrTooLong = fmt.Errorf("%w: payload longer than %d bytes", ErrFrame, MaxPayload)
	// ErrShort: fewer bytes between two flags than an empty payload takes.
	ErrShort = fmt.Errorf("%w: shorter than type, sequence and checksum", ErrFrame)
	// ErrEscape: a flag follows an escape; a sender aborts a frame this way.
	ErrEscape = fmt.Errorf("%w: flag after an escape", ErrFrame)
	// ErrFrameType: the checksum agrees, but the type is neither data nor ack.
	ErrFrameType = fmt.Errorf("%w: unknown type", ErrFrame)
)

// AppendFrame appends f as it stands on the line, with both flags. If the
// payload is longer than MaxPayload it appends nothing and returns ErrTooLong.
func AppendFrame(dst []byte, f Frame) ([]byte, error) {
	if len(f.Payload) > MaxPayload {
		return dst, ErrTooLong
	}
	return appendBody(append(dst, flagByte), f), nil
}

// AppendFrameShared is AppendFrame without the opening flag. It is for a frame
// that directly follows another one on the line and shares its closing flag.
func AppendFrameShared(dst []byte, f Frame) ([]byte, error) {
	if len(f.Payload) > MaxPayload {
		return dst, ErrTooLong
	}
	return appendBody(dst, f), nil
}

func appendBody(dst []byte, f Frame) []byte {
	head := [2]byte{byte(f.Type), f.Seq}
	crc := updateCRC(updateCRC(crcStart, head[:]), f.Payload)
	dst = appendStuffed(dst, head[:])
	dst = appendStuffed(dst, f.Payload)
	tail := [2]byte{byte(crc >> 8), byte(crc)}
	dst = appendStuffed(dst, tail[:])
	return append(dst, flagByte)
}

func appendStuffed(dst, b []byte) []byte {
	for {
		n := plainRun(b)
		dst = append(dst, b[:n]...)
		if n == len(b) {
			return dst
		}
		dst = append(dst, escapeByte, b[n]^escapeXOR)
		b = b[n+1:]
	}
}

// Eight times the same byte.
const (
	everyOne  = 0x0101010101010101
	everyHigh = 0x80 * everyOne
)

// plainRun returns how many bytes at the start of b are neither flag nor
// escape. It looks at eight at a time: of a word, (w - everyOne) &^ w & everyHigh
// has its lowest bit in the first byte that is 0.
func plainRun(b []byte) int {
	n := 0
	for ; len(b)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(b[n:])
		flag, escape := w^flagByte*everyOne, w^escapeByte*everyOne
		if found := ((flag-everyOne)&^flag | (escape-everyOne)&^escape) & everyHigh; found != 0 {
			return n + bits.TrailingZeros64(found)/8
		}
	}
	for ; n < len(b); n++ {
		if b[n]-escapeByte <= flagByte-escapeByte { // the two are neighbours
			break
		}
	}
	return n
}
