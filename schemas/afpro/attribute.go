package afpro

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Attribute is the number of an attribute.
type Attribute uint16

// The attributes that an update needs (docs/afero-wire.md sections 4 and 5).
const (
	// ChannelToMCU and ChannelToASR carry tunnelled attributes.
	ChannelToMCU Attribute = 1098
	ChannelToASR Attribute = 1099

	ASRCapabilities Attribute = 1206 // bits, the first from the left of the first byte
	MCUCapabilities Attribute = 1207 // afLib's own, 1 byte
	ASRProtocol     Attribute = 1208 // uint16
	MCUProtocol     Attribute = 1209 // uint16

	// OTAInfo and OTATransfer are tunnelled and never stand in a message's head.
	OTAInfo     Attribute = 1301
	OTATransfer Attribute = 1302

	ApplicationVersion Attribute = 2003  // of the ASR, uint64
	SystemCommand      Attribute = 65012 // 4 bytes, the first is the command
	ASRState           Attribute = 65013 // 1 byte
)

// CapabilityOTA in the first byte of ASRCapabilities says that the ASR can
// update the MCU.
const CapabilityOTA byte = 0x80

// CommandReboot is the SystemCommand by which an MCU has the ASR reboot.
const CommandReboot byte = 1

// The values of ASRState that matter here.
const (
	ASRRebooted    byte = 0
	ASRLinked      byte = 1
	ASRInitialized byte = 4
)

// ExtendedStates is the last ApplicationVersion of an ASR that does not know
// ASRInitialized: afLib waits for ASRLinked up to it, for ASRInitialized above.
const ExtendedStates = 0x5062

// The numbers of MCU firmware types, and of the attributes that report their
// versions (docs/afero-wire.md section 5).
const (
	MinType = 101
	MaxType = 200
	// versionBase is the attribute that reports the version of type 0.
	versionBase Attribute = 2000
)

// VersionAttribute is the attribute by which the MCU reports which version of a
// firmware type it runs, as a uint64.
func VersionAttribute(firmwareType uint16) Attribute { return versionBase + Attribute(firmwareType) }

// FirmwareType is the inverse of VersionAttribute, for types MinType to MaxType.
func (a Attribute) FirmwareType() (uint16, bool) {
	t := uint16(a) - uint16(versionBase)
	return t, a > versionBase && t >= MinType && t <= MaxType
}

// String returns the attribute's name, or its number.
func (a Attribute) String() string {
	switch a {
	case ChannelToMCU:
		return "channel to MCU"
	case ChannelToASR:
		return "channel to ASR"
	case ASRCapabilities:
		return "ASR capabilities"
	case MCUCapabilities:
		return "afLib capabilities"
	case ASRProtocol:
		return "ASR protocol version"
	case MCUProtocol:
		return "MCU protocol version"
	case OTAInfo:
		return "OTA info"
	case OTATransfer:
		return "OTA transfer"
	case ApplicationVersion:
		return "application version"
	case SystemCommand:
		return "system command"
	case ASRState:
		return "ASR state"
	}
	if t, ok := a.FirmwareType(); ok {
		return fmt.Sprintf("version of type %d", t)
	}
	return fmt.Sprintf("attribute %d", uint16(a))
}

// ErrValue is wrapped by every error about a value that its attribute cannot have.
var ErrValue = errors.New("afpro: not a value of its attribute")

// ParseUint16 reads the value of an attribute that is a uint16.
func ParseUint16(value []byte) (uint16, error) {
	if len(value) != 2 {
		return 0, fmt.Errorf("%w: %d bytes, a 16-bit integer has 2", ErrValue, len(value))
	}
	return binary.LittleEndian.Uint16(value), nil
}

// ParseUint64 reads the value of an attribute that is a uint64.
func ParseUint64(value []byte) (uint64, error) {
	if len(value) != 8 {
		return 0, fmt.Errorf("%w: %d bytes, a 64-bit integer has 8", ErrValue, len(value))
	}
	return binary.LittleEndian.Uint64(value), nil
}
