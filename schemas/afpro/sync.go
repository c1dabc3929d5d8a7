package afpro

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Ready is the byte by which the ASR lets the MCU go on, or asks it for a
// transaction. The MCU never sends it (docs/afero-wire.md section 2).
const Ready byte = 0x32

// SyncSize is the length of every sync message in bytes.
const SyncSize = 6

// SyncType is the first byte of a sync message.
type SyncType byte

// The sync messages.
const (
	// SyncCounts is a Sync Request of the MCU, or the ASR's Sync Response to it.
	SyncCounts SyncType = 0x30
	// SyncAck is the MCU's Sync Acknowledge.
	SyncAck SyncType = 0x31
)

// String returns the message's name in the documents, as far as the type alone
// tells it.
func (t SyncType) String() string {
	switch t {
	case SyncCounts:
		return "sync"
	case SyncAck:
		return "sync ack"
	}
	return fmt.Sprintf("sync type %#02x", byte(t))
}

// Sync says how many bytes each side is about to send (docs/afero-wire.md
// section 2).
type Sync struct {
	Type SyncType
	MCU  uint16 // bytes that the MCU sends
	ASR  uint16 // bytes that the ASR sends
}

// Collision says whether both sides want to send, which the MCU wins.
func (s Sync) Collision() bool { return s.MCU > 0 && s.ASR > 0 }

// Errors about a sync message.
var (
	ErrSyncSize = errors.New("afpro: a sync message has 6 bytes")
	ErrSyncType = errors.New("afpro: not the type of a sync message")
	ErrChecksum = errors.New("afpro: the checksum of a sync message does not agree")
)

// AppendSync appends the six bytes of s, checksum included.
func AppendSync(dst []byte, s Sync) []byte {
	n := len(dst)
	dst = append(dst, byte(s.Type))
	dst = binary.LittleEndian.AppendUint16(dst, s.MCU)
	dst = binary.LittleEndian.AppendUint16(dst, s.ASR)
	return append(dst, checksum(dst[n:]))
}

// ParseSync reads the six bytes of a sync message.
func ParseSync(b []byte) (Sync, error) {
	if len(b) != SyncSize {
		return Sync{}, ErrSyncSize
	}
	s := Sync{SyncType(b[0]), binary.LittleEndian.Uint16(b[1:]), binary.LittleEndian.Uint16(b[3:])}
	switch {
	case s.Type != SyncCounts && s.Type != SyncAck:
		return Sync{}, ErrSyncType
	case checksum(b[:SyncSize-1]) != b[SyncSize-1]:
		return Sync{}, ErrChecksum
	}
	return s, nil
}

// checksum is the sum of b, modulo 256.
func checksum(b []byte) byte {
	var sum byte
	for _, c := range b {
		sum += c
	}
	return sum
}
