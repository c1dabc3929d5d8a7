package firmware

import "hash/crc32"

// The layout of images of the reference boards (docs/wire.md section 9), little
// endian: a magic at 0x188 that also tells how the rest is laid out, size and CRC
// behind it, a version of 72 bytes at 0x190.
const (
	demoHeaderAt   = 0x188
	demoHeaderSize = 8 + 72
	demoVersionAt  = 8 // in the header
	demoMagicSmall = 0xbfa43640
	demoMagicLarge = 0xbfa43641
	demoLargeFrom  = 64 << 10
)

func demo(in *image) *Detected {
	head := in.at(demoHeaderAt, demoHeaderSize)
	if head == nil {
		return nil
	}
	d := &Detected{Format: DetectedDemo, Version: text(head[demoVersionAt:])}
	switch u32(head, 0) {
	case demoMagicSmall:
		d.Size = uint64(u16(head, 6))
	case demoMagicLarge:
		d.Size = uint64(u32(head, 4))
		if d.Size < demoLargeFrom {
			d.problem("The header is that of an image of 64 KiB or more, but says %d bytes.", d.Size)
		}
	default:
		return nil
	}
	if d.Version == "" {
		d.problem("The header has no version.")
	}
	if uint64(in.size) != d.Size {
		if d.sized(in); uint64(in.size) > d.Size {
			d.problem("The header says %d bytes, the file has %d: it is longer than it should be.", d.Size, in.size)
		}
		return d
	}
	if u32(head, 0) == demoMagicLarge {
		d.crc32(in)
	} else {
		d.crc16(in, u16(head, 4))
	}
	return d
}

// crc32: the last four bytes make the reflected CRC-32, without its final
// inversion, of the whole image 0.
func (d *Detected) crc32(in *image) {
	h := crc32.NewIEEE()
	in.feed(h, 0, in.size)
	if sum := ^h.Sum32(); sum != 0 {
		d.problem("The CRC-32 of the whole file is %#08x and not 0: the file is damaged.", sum)
		return
	}
	d.fact("The CRC-32 is right.")
}

// crc16: CRC-16/CCITT of the whole image with the field itself 0.
func (d *Detected) crc16(in *image, want uint16) {
	h := &crcCCITT{sum: 0xffff}
	in.feed(h, 0, demoHeaderAt+4)
	h.add(0, 0)
	in.feed(h, demoHeaderAt+6, in.size-demoHeaderAt-6)
	if h.sum != want {
		d.problem("The CRC-16 of the file is %#04x, its header says %#04x: the file is damaged.", h.sum, want)
		return
	}
	d.fact("The CRC-16 is right.")
}

// crcCCITT is CRC-16/CCITT: polynomial 0x1021, initial value 0xffff, most
// significant bit first, no final inversion (docs/wire.md section 2).
type crcCCITT struct{ sum uint16 }

// Write implements io.Writer.
func (c *crcCCITT) Write(p []byte) (int, error) {
	c.add(p...)
	return len(p), nil
}

func (c *crcCCITT) add(p ...byte) {
	for _, b := range p {
		x := byte(c.sum>>8) ^ b
		x ^= x >> 4
		c.sum = c.sum<<8 ^ uint16(x)<<12 ^ uint16(x)<<5 ^ uint16(x)
	}
}
