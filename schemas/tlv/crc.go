package tlv

// crcPoly is the polynomial of CRC-16/CCITT, MSB first, start value 0xffff
// (docs/wire.md section 2).
const crcPoly = 0x1021

// crcTables[k][b] is the CRC register after byte b and k zero bytes, from a
// register of 0. It is never written after start-up.
var crcTables = makeCRCTables()

func makeCRCTables() *[8][256]uint16 {
	var t [8][256]uint16
	for b := range 256 {
		crc := uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ crcPoly
			} else {
				crc <<= 1
			}
		}
		t[0][b] = crc
	}
	for k := 1; k < 8; k++ {
		for b := range 256 {
			prev := t[k-1][b]
			t[k][b] = prev<<8 ^ t[0][prev>>8]
		}
	}
	return &t
}

// crcStart is the register before the first byte.
const crcStart = 0xffff

// updateCRC runs the register crc over b, eight bytes at a time.
func updateCRC(crc uint16, b []byte) uint16 {
	t := crcTables
	for len(b) >= 8 {
		crc = t[7][byte(crc>>8)^b[0]] ^ t[6][byte(crc)^b[1]] ^ t[5][b[2]] ^ t[4][b[3]] ^
			t[3][b[4]] ^ t[2][b[5]] ^ t[1][b[6]] ^ t[0][b[7]]
		b = b[8:]
	}
	for _, c := range b {
		crc = crc<<8 ^ t[0][byte(crc>>8)^c]
	}
	return crc
}
