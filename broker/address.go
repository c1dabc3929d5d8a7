package broker

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/schemas"
)

// address is what the PUBLISH packets to one subscriber of a topic have in
// common.
type address struct {
	topic        string
	subscription int32  // Subscription Identifier of MQTT 5, or 0
	maxPacket    uint32 // bytes that the client takes, or 0 for all
	version      byte   // of MQTT: 4 is 3.1.1
}

// maxHead is the length of the longest header.
func (a *address) maxHead() int {
	return 1 + 4 + 2 + len(a.topic) + 1 + 1 + 4 + schemas.ChunkHeaderSize
}

// length is the Remaining Length of the packet (MQTT 5, 2.1.4), and that of
// its properties.
func (a *address) length(c *schemas.Chunk) (remaining, props int) {
	remaining = 2 + len(a.topic) + schemas.ChunkHeaderSize + c.Length
	if a.version < 5 {
		return remaining, 0
	}
	if a.subscription > 0 {
		props = 1 + varintLen(int(a.subscription))
	}
	return remaining + 1 + props, props
}

// check returns why a chunk cannot be sent.
func (a *address) check(c *schemas.Chunk) error {
	if c.Length <= 0 || c.Length > schemas.MaxChunkSize {
		return fmt.Errorf("chunk of %d bytes: 1 to %d are allowed", c.Length, schemas.MaxChunkSize)
	}
	if n, _ := a.length(c); a.maxPacket > 0 && uint(1+varintLen(n)+n) > uint(a.maxPacket) {
		return errTooLarge
	}
	return nil
}

// appendHeader appends all of the PUBLISH that carries a chunk but the data:
// QoS 0, not retained (MQTT 3.1.1 and 5, 3.3), then the chunk's own header.
func (a *address) appendHeader(b []byte, c *schemas.Chunk) []byte {
	length, props := a.length(c)
	b = append(b, packets.Publish<<4)
	b = appendVarint(b, length)
	b = binary.BigEndian.AppendUint16(b, uint16(len(a.topic)))
	b = append(b, a.topic...)
	if a.version >= 5 {
		b = append(b, byte(props))
		if props > 0 {
			b = append(b, packets.PropSubscriptionIdentifier)
			b = appendVarint(b, int(a.subscription))
		}
	}
	return c.AppendTo(b)
}

// appendChunk appends the whole PUBLISH. If it cannot it returns b as it was,
// and the error.
func (a *address) appendChunk(b []byte, image schemas.ImageBytes, c *schemas.Chunk) ([]byte, error) {
	if err := a.check(c); err != nil {
		return b, err
	}
	start := len(b)
	b = a.appendHeader(b, c)
	at := len(b)
	b = slices.Grow(b, c.Length)[:at+c.Length]
	n, err := image.ReadAt(b[at:], int64(c.Offset))
	if n < c.Length {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return b[:start], fmt.Errorf("read %d bytes of the image at %d: %w", c.Length, c.Offset, err)
	}
	return b, nil
}

// appendChunks appends the packets of the first chunks: as many as copyLimit
// allows, at least one, up to one that cannot be sent. It returns how many, and
// the error of that one.
func (a *address) appendChunks(b []byte, image schemas.ImageBytes, chunks []schemas.Chunk) (_ []byte, count int, err error) {
	for i := range chunks {
		if i > 0 && len(b)+chunks[i].Length > copyLimit {
			break
		}
		if b, err = a.appendChunk(b, image, &chunks[i]); err != nil {
			break
		}
		count++
	}
	return b, count, err
}

// appendVarint appends a Variable Byte Integer (MQTT 5, 1.5.5).
func appendVarint(b []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func varintLen(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}
