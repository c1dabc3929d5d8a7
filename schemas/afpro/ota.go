package afpro

import (
	"encoding/binary"
	"fmt"
)

// InfoState is the first byte of OTAInfo (docs/afero-wire.md section 5).
type InfoState byte

// The states of an update.
const (
	InfoIdle        InfoState = 0 // MCU: refused, or done
	InfoBegin       InfoState = 1 // ASR: an image is available; MCU: go on
	InfoTransferEnd InfoState = 2
	InfoVerify      InfoState = 3 // MCU: what was received has this SHA-256
	InfoApply       InfoState = 4 // ASR: it is right, use it
	InfoFail        InfoState = 5 // ASR: it is wrong, drop it
)

// String returns the state's name in the documents, or its number.
func (s InfoState) String() string {
	names := [...]string{"IDLE", "BEGIN", "TRANSFER_END", "VERIFY", "APPLY", "FAIL"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("OTA state %d", byte(s))
}

// Info is a value of OTAInfo. Which fields count depends on the state.
type Info struct {
	State   InfoState
	Type    uint16   // InfoBegin
	Size    uint32   // InfoBegin, bytes
	Version uint64   // InfoBegin and InfoApply: the image's version id
	SHA256  [32]byte // InfoVerify
}

const (
	beginSize  = 1 + 2 + 4 + 8
	verifySize = 1 + 32
	applySize  = 1 + 8
	// infoRoom is afLib's struct, whose union the longest state fills. An MCU may
	// send all of it, whatever the state.
	infoRoom = verifySize
)

// StopOffset in the place of the next offset says that the MCU wants no more
// (docs/afero-wire.md section 5).
const StopOffset uint32 = 0xffffffff

// Sizes of OTATransfer in bytes. The attribute's size is that of its value,
// which begins with the offset: a chunk of the image is offsetSize shorter.
const (
	DefaultAttributeSize = 253
	MinAttributeSize     = offsetSize + 1
	MaxAttributeSize     = MaxValue - tunnelSize

	offsetSize = 4
	tunnelSize = 2
)

// ChunkSize is how many bytes of an image fit a transfer attribute of a size.
func ChunkSize(attributeSize int) int { return attributeSize - offsetSize }

// MaxMessage is the longest message that carries a tunnelled attribute of a
// size, its length included.
func MaxMessage(attributeSize int) int { return UpdateOverhead + tunnelSize + attributeSize }

// size is how many bytes a value of OTAInfo has in this state, at least.
func (s InfoState) size() (int, error) {
	switch s {
	case InfoBegin:
		return beginSize, nil
	case InfoVerify:
		return verifySize, nil
	case InfoApply:
		return applySize, nil
	case InfoIdle, InfoTransferEnd, InfoFail:
		return 1, nil
	}
	return 0, fmt.Errorf("%w: %v", ErrValue, s)
}

// AppendInfo appends a whole message: an Update of channel with the tunnelled
// OTAInfo.
func AppendInfo(dst []byte, channel Attribute, i Info) ([]byte, error) {
	n, err := i.State.size()
	if err != nil {
		return dst, err
	}
	if dst, err = appendTunnel(dst, channel, OTAInfo, n); err != nil {
		return dst, err
	}
	dst = append(dst, byte(i.State))
	switch i.State {
	case InfoBegin:
		dst = binary.LittleEndian.AppendUint16(dst, i.Type)
		dst = binary.LittleEndian.AppendUint32(dst, i.Size)
		dst = binary.LittleEndian.AppendUint64(dst, i.Version)
	case InfoVerify:
		dst = append(dst, i.SHA256[:]...)
	case InfoApply:
		dst = binary.LittleEndian.AppendUint64(dst, i.Version)
	}
	return dst, nil
}

// AppendTransfer appends a whole message: an Update of ChannelToMCU with the
// tunnelled OTATransfer of a chunk.
func AppendTransfer(dst []byte, offset uint32, data []byte) ([]byte, error) {
	if len(data) == 0 {
		return dst, fmt.Errorf("%w: a chunk without data", ErrValue)
	}
	dst, err := appendTunnel(dst, ChannelToMCU, OTATransfer, offsetSize+len(data))
	if err != nil {
		return dst, err
	}
	dst = binary.LittleEndian.AppendUint32(dst, offset)
	return append(dst, data...), nil
}

// AppendNext appends a whole message: an Update of ChannelToASR with the
// tunnelled OTATransfer of the next offset wanted, or StopOffset.
func AppendNext(dst []byte, next uint32) ([]byte, error) {
	dst, err := appendTunnel(dst, ChannelToASR, OTATransfer, offsetSize)
	if err != nil {
		return dst, err
	}
	return binary.LittleEndian.AppendUint32(dst, next), nil
}

// appendTunnel appends all of an Update of channel but the n bytes of the
// tunnelled attribute's value.
func appendTunnel(dst []byte, channel, attribute Attribute, n int) ([]byte, error) {
	if n > MaxAttributeSize {
		return dst, ErrTooLong
	}
	dst = binary.LittleEndian.AppendUint16(dst, uint16(UpdateOverhead-lengthSize+tunnelSize+n))
	dst = append(dst, byte(Update), 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(channel))
	dst = append(dst, byte(StateUpdated), byte(ReasonUnsolicited))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(tunnelSize+n))
	return binary.LittleEndian.AppendUint16(dst, uint16(attribute)), nil
}

// ParseTunnel takes a channel's value apart.
func ParseTunnel(value []byte) (Attribute, []byte, error) {
	if len(value) < tunnelSize {
		return 0, nil, fmt.Errorf("%w: %d bytes, a channel's value begins with the 2 of an attribute", ErrValue, len(value))
	}
	return Attribute(binary.LittleEndian.Uint16(value)), value[tunnelSize:], nil
}

// ParseInfo reads a value of OTAInfo. Behind what the state calls for, the rest
// of afLib's struct may follow, and means nothing.
func ParseInfo(value []byte) (Info, error) {
	if len(value) == 0 || len(value) > infoRoom {
		return Info{}, fmt.Errorf("%w: OTA info of %d bytes", ErrValue, len(value))
	}
	i, rest := Info{State: InfoState(value[0])}, value[1:]
	need, err := i.State.size()
	if err != nil {
		return Info{}, err
	}
	if len(value) < need {
		return Info{}, fmt.Errorf("%w: %v of %d bytes, it has %d", ErrValue, i.State, len(value), need)
	}
	switch i.State {
	case InfoBegin:
		i.Type, i.Size, i.Version = binary.LittleEndian.Uint16(rest), binary.LittleEndian.Uint32(rest[2:]), binary.LittleEndian.Uint64(rest[6:])
	case InfoVerify:
		copy(i.SHA256[:], rest)
	case InfoApply:
		i.Version = binary.LittleEndian.Uint64(rest)
	}
	return i, nil
}

// ParseTransfer reads a value of OTATransfer on its way to the MCU. The data is
// a part of value.
func ParseTransfer(value []byte) (offset uint32, data []byte, err error) {
	if len(value) < MinAttributeSize {
		return 0, nil, fmt.Errorf("%w: a chunk of %d bytes, its offset has 4", ErrValue, len(value))
	}
	return binary.LittleEndian.Uint32(value), value[offsetSize:], nil
}

// ParseNext reads a value of OTATransfer on its way to the ASR.
func ParseNext(value []byte) (uint32, error) {
	if len(value) != offsetSize {
		return 0, fmt.Errorf("%w: %d bytes, an offset has 4", ErrValue, len(value))
	}
	return binary.LittleEndian.Uint32(value), nil
}
