package broker

import (
	"errors"
	"testing"

	"davit/schemas"
)

// A client may say that it takes packets of up to 4 GiB (MQTT 5, 3.1.2.11.4), which is more than an
// int holds on a machine of 32 bits; one that takes little gets no chunk that is larger.
func TestLargestPacketOfAClient(t *testing.T) {
	c := schemas.Chunk{Length: 1024}
	to := address{version: 5, topic: topic("pump", schemas.KindChunk)}
	remaining, _ := to.length(&c)
	whole := uint32(1 + 2 + remaining) // with the type, and a remaining length of two bytes
	for _, most := range []uint32{0, whole, 1 << 31, 1<<32 - 1} {
		if to.maxPacket = most; to.check(&c) != nil {
			t.Errorf("a client that takes %d bytes gets no chunk: %v", most, to.check(&c))
		}
	}
	if to.maxPacket = whole - 1; !errors.Is(to.check(&c), errTooLarge) {
		t.Errorf("a client that takes %d bytes gets %d", to.maxPacket, whole)
	}
}
