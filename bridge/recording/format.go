package recording

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	"davit/schemas"
)

// Version of the format that this package writes, and the only one it reads.
const Version = 1

// Limits of the format in bytes.
const (
	// MaxPiece is the most that one entry holds.
	MaxPiece = 4096
	// maxHead is the longest JSON of a head.
	maxHead = 1024
)

const (
	magic         = "davitrec"
	headFixed     = len(magic) + 1 + 2 // before the JSON
	entryFixed    = 1 + 8 + 2          // before the bytes
	sumSize       = 4
	entryOverhead = entryFixed + sumSize
	lostSize      = 8 // what an entry about lost bytes holds
)

// Side says who said something on the line.
type Side byte

// The sides.
const (
	// nobody is the side of an entry about lost bytes.
	nobody     Side = 0
	FromModule Side = 1 // the module, or the bridge in its place
	FromMCU    Side = 2 // the host MCU
)

// String returns "module" or "MCU", and "nobody" for the side of lost bytes.
func (s Side) String() string {
	switch s {
	case nobody:
		return "nobody"
	case FromModule:
		return "module"
	case FromMCU:
		return "MCU"
	}
	return fmt.Sprintf("side %d", byte(s))
}

// Header says what was recorded.
type Header struct {
	Dialect string `json:"dialect"`
	Device  string `json:"device"`
	// Baud is the speed of the line in bit/s, Parity odd, even or none.
	Baud   int    `json:"baud"`
	Parity string `json:"parity"`
	RTSCTS bool   `json:"rtscts"`
	// Start is when the port was opened.
	Start time.Time `json:"start"`
}

// validate refuses names that could not stand in a message or a file's name.
func (h Header) validate() error {
	for _, f := range []struct{ name, value string }{{"dialect", h.Dialect}, {"device", h.Device}, {"parity", h.Parity}} {
		if err := schemas.ValidateID(f.value); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// Entry is what was read or written at once, or a part of it.
type Entry struct {
	// At is the time since Header.Start.
	At   time.Duration
	From Side
	// Bytes are valid until the next call of Next.
	Bytes []byte
	// Lost, if it is not 0, says that so many bytes of either side are missing
	// here; From and Bytes mean nothing then.
	Lost uint64
}

// appendHead appends the head of a file.
func appendHead(dst []byte, h Header) ([]byte, error) {
	if err := h.validate(); err != nil {
		return dst, err
	}
	text, err := json.Marshal(h)
	if err != nil {
		return dst, err
	}
	if len(text) > maxHead {
		return dst, fmt.Errorf("the head has %d bytes, at most %d are allowed", len(text), maxHead)
	}
	n := len(dst)
	dst = append(dst, magic...)
	dst = append(dst, Version)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(text)))
	dst = append(dst, text...)
	return appendSum(dst, n), nil
}

// appendEntry appends an entry; b has 1 to MaxPiece bytes.
func appendEntry(dst []byte, at time.Duration, from Side, b []byte) []byte {
	n := len(dst)
	dst = append(dst, byte(from))
	dst = binary.BigEndian.AppendUint64(dst, uint64(at))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(b)))
	dst = append(dst, b...)
	return appendSum(dst, n)
}

// appendLost appends an entry which says that so many bytes are missing.
func appendLost(dst []byte, at time.Duration, lost uint64) []byte {
	var b [lostSize]byte
	binary.BigEndian.PutUint64(b[:], lost)
	return appendEntry(dst, at, nobody, b[:])
}

// appendSum appends the checksum of what dst has from n on.
func appendSum(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(dst[n:]))
}
