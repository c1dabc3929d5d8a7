package tlv

import "fmt"

// Type is the type of a TLV (docs/wire.md section 3).
type Type byte

// The TLV types of the contract; others are passed over.
const (
	TypeName     Type = 0x01 // property name, UTF-8
	TypeInt      Type = 0x02 // signed integer of 1, 2, 4 or 8 bytes
	TypeBin      Type = 0x04 // bytes
	TypeText     Type = 0x05 // UTF-8
	TypeErr      Type = 0x07 // one byte, a Code
	TypeNOP      Type = 0x0a // means nothing
	TypeBool     Type = 0x0f // one byte
	TypeOff      Type = 0x11 // offset, 4 bytes; 2 are accepted
	TypeLen      Type = 0x12 // length, 4 bytes; 2 are accepted
	TypeEOF      Type = 0x14 // empty: the last of several packets
	TypeNodes    Type = 0x17 // one byte, Nodes
	TypeFeatures Type = 0x19 // one byte, Features
)

// TypeLong marks the types 0x80 to 0xff: their low seven bits are the high bits
// of a 15-bit length, so all of them are one type.
const TypeLong Type = 0x80

// String returns the name of the type in the documents, or its number.
func (t Type) String() string {
	switch t {
	case TypeName:
		return "NAME"
	case TypeInt:
		return "INT"
	case TypeBin:
		return "BIN"
	case TypeText:
		return "UTF8"
	case TypeErr:
		return "ERR"
	case TypeNOP:
		return "NOP"
	case TypeBool:
		return "BOOL"
	case TypeOff:
		return "OFF"
	case TypeLen:
		return "LEN"
	case TypeEOF:
		return "EOF"
	case TypeNodes:
		return "NODES"
	case TypeFeatures:
		return "FEATURES"
	}
	return fmt.Sprintf("TLV type %#02x", byte(t))
}

// Nodes says which destinations a module can reach, one bit each.
type Nodes byte

// NodeCloud is the cloud service.
const NodeCloud Nodes = 1 << 0

// Features says what a host MCU can do, one bit each.
type Features byte

// The features.
const (
	FeatureLAN     Features = 1 << 0 // LAN registration
	FeatureOTA     Features = 1 << 1 // host OTA
	FeatureTime    Features = 1 << 2 // takes the time
	FeatureConfirm Features = 1 << 3 // wants each datapoint confirmed
)

// Protocol is the first byte of a packet.
type Protocol byte

// The protocols.
const (
	ProtocolControl Protocol = 0
	ProtocolData    Protocol = 1 // properties
	ProtocolPing    Protocol = 2 // echo the packet unchanged
)

// Op is protocol and opcode, the first two bytes of a packet, because an opcode
// alone means different things in different protocols.
type Op uint16

// The control and property operations of host OTA (docs/wire.md section 4).
const (
	// OpControlNAK, either direction: ERR.
	OpControlNAK Op = 0x0006
	// OpOTA, module to MCU: an image is available (UTF8 version, LEN size).
	// MCU to module: go ahead (no TLVs).
	OpOTA Op = 0x000d
	// OpOTALoad, module to MCU: a piece of the image (OFF, BIN).
	OpOTALoad Op = 0x000e
	// OpOTAStat, MCU to module: how it stands (ERR).
	OpOTAStat Op = 0x000f
	// OpOTABoot, module to MCU: boot the image (UTF8 version, or none).
	OpOTABoot Op = 0x0010

	// OpNAK, either direction: ERR, or FEATURES from an MCU that was asked for
	// its features.
	OpNAK Op = 0x0105
	// OpSendProp, module to MCU: send me a property (NAME).
	OpSendProp Op = 0x0106
	// OpSendTLV, MCU to module: a property (NAME, value).
	OpSendTLV Op = 0x0109
	// OpConnect, module to MCU: what can be reached (NODES).
	OpConnect Op = 0x0111
	// OpListenEnable, MCU to module: ready to receive properties.
	OpListenEnable Op = 0x0113
	// OpConfirm, module to MCU: the property with this request id was taken.
	OpConfirm Op = 0x0115
)

// OpOf joins a protocol and an opcode.
func OpOf(p Protocol, opcode byte) Op { return Op(p)<<8 | Op(opcode) }

// Protocol is the first byte.
func (o Op) Protocol() Protocol { return Protocol(o >> 8) }

// Opcode is the second byte.
func (o Op) Opcode() byte { return byte(o) }

// String returns the name of the operation in the documents, or its numbers.
func (o Op) String() string {
	switch o {
	case OpControlNAK:
		return "control NAK"
	case OpOTA:
		return "MCU_OTA"
	case OpOTALoad:
		return "MCU_OTA_LOAD"
	case OpOTAStat:
		return "MCU_OTA_STAT"
	case OpOTABoot:
		return "MCU_OTA_BOOT"
	case OpNAK:
		return "NAK"
	case OpSendProp:
		return "SEND_PROP"
	case OpSendTLV:
		return "SEND_TLV"
	case OpConnect:
		return "CONNECT"
	case OpListenEnable:
		return "LISTEN_ENB"
	case OpConfirm:
		return "CONFIRM"
	}
	if o.Protocol() == ProtocolPing {
		return "ping"
	}
	return fmt.Sprintf("protocol %d opcode %#02x", o.Protocol(), o.Opcode())
}
