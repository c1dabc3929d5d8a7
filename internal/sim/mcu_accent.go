package sim

import (
	"bytes"
	"slices"

	"davit/schemas/tlv"
)

// accent makes a packet what this MCU's library would have made of it.
func (m *MCU) accent(packet []byte) []byte {
	if packet[0] == byte(tlv.ProtocolPing) {
		return packet // whatever stands in it comes back
	}
	if m.cfg.ShortOffsets {
		packet = shortOffsets(packet)
	}
	if m.cfg.Extras {
		packet = withExtras(packet)
	}
	return packet
}

// shortOffsets writes LEN and OFF with two bytes.
func shortOffsets(packet []byte) []byte {
	out := slices.Clone(packet[:tlv.HeaderSize])
	for rest := packet[tlv.HeaderSize:]; len(rest) > 0; {
		n := 2 + int(rest[1]) // the MCU's own packets have no TLV of another form
		t, value := tlv.Type(rest[0]), rest[2:n]
		if (t == tlv.TypeLen || t == tlv.TypeOff) && len(value) == 4 && value[0] == 0 && value[1] == 0 {
			out = append(out, rest[0], 2, value[2], value[3])
		} else {
			out = append(out, rest[:n]...)
		}
		rest = rest[n:]
	}
	return out
}

// withExtras puts unknown TLVs before all others: one of an unknown type, one of
// a length that needs 15 bits, and one of type 0xff that is short.
func withExtras(packet []byte) []byte {
	out := slices.Clone(packet[:tlv.HeaderSize])
	for _, extra := range [][]byte{
		{0x70, 3, flagByte, escapeByte, 0},
		append([]byte{0x81, 0x04}, bytes.Repeat([]byte{byte(tlv.TypeErr)}, 0x104)...),
		{0x80, 2, byte(tlv.TypeErr), 1},
		{0x33, 0},
	} {
		if len(out)+len(extra)+len(packet)-tlv.HeaderSize <= tlv.MaxPayload {
			out = append(out, extra...)
		}
	}
	return append(out, packet[tlv.HeaderSize:]...)
}
