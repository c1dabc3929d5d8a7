package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
)

// The demo image's header (docs/wire.md section 9). Its integers are little
// endian, as on the Cortex-M parts of the reference boards.
//
//	under 64 KiB:  0x188 magic(4) | crc16(2) | size(2) | version(72)
//	from 64 KiB:   0x188 magic(4) | size(4)            | version(72)   ... crc32(4) at the end
//
// crc16 is CRC-16/CCITT as on the wire (polynomial 0x1021, initial 0xffff,
// MSB first, no final inversion) over the whole file with the field itself 0.
// crc32 is the common reflected CRC-32 without its final inversion (initial
// 0xffffffff), over everything before it; stored little endian it makes the
// same CRC over the whole file zero. Size counts the whole file.
const (
	demoHeaderAt   = 0x188
	demoVersionAt  = 0x190
	demoVersionLen = 72
	demoMagicSmall = 0xbfa43640
	demoMagicLarge = 0xbfa43641
	demoLargeFrom  = 64 << 10

	// MinDemoImage is the smallest demo image in bytes: all of its header.
	MinDemoImage = demoVersionAt + demoVersionLen
	// MaxDemoVersion is the longest version string that the header holds.
	MaxDemoVersion = demoVersionLen - 1
)

// BuildDemoImage builds an image of size bytes that passes CheckDemoImage;
// the same arguments give the same bytes. It panics if size is under
// MinDemoImage or version is empty or over MaxDemoVersion.
func BuildDemoImage(version string, size int, seed uint64) []byte {
	if size < MinDemoImage || version == "" || len(version) > MaxDemoVersion {
		panic(fmt.Sprintf("sim: no demo image of %d bytes with version %q: at least %d bytes and 1 to %d characters are needed",
			size, version, MinDemoImage, MaxDemoVersion))
	}
	b := make([]byte, size, size+8)
	rng := rand.New(rand.NewPCG(seed, uint64(size)))
	for i := 0; i < size; i += 8 {
		binary.LittleEndian.PutUint64(b[i:i+8:cap(b)], rng.Uint64())
	}
	clear(b[demoVersionAt : demoVersionAt+demoVersionLen])
	copy(b[demoVersionAt:], version)
	head := b[demoHeaderAt:]
	if size < demoLargeFrom {
		binary.LittleEndian.PutUint32(head, demoMagicSmall)
		binary.LittleEndian.PutUint16(head[4:], 0)
		binary.LittleEndian.PutUint16(head[6:], uint16(size))
		binary.LittleEndian.PutUint16(head[4:], crc16(b))
		return b
	}
	binary.LittleEndian.PutUint32(head, demoMagicLarge)
	binary.LittleEndian.PutUint32(head[4:], uint32(size))
	binary.LittleEndian.PutUint32(b[size-4:], ^crc32.ChecksumIEEE(b[:size-4]))
	return b
}

// DemoHeader is what a demo image says of itself.
type DemoHeader struct {
	Version string
	Size    int // of the whole image in bytes
	large   bool
}

// ReadDemoHeader reads the header of an image; false means that the image
// carries no magic and is some other firmware.
func ReadDemoHeader(image []byte) (DemoHeader, bool) {
	if len(image) < MinDemoImage {
		return DemoHeader{}, false
	}
	head := image[demoHeaderAt:]
	var h DemoHeader
	switch binary.LittleEndian.Uint32(head) {
	case demoMagicSmall:
		h.Size = int(binary.LittleEndian.Uint16(head[6:]))
	case demoMagicLarge:
		h.Size, h.large = int(binary.LittleEndian.Uint32(head[4:])), true
	default:
		return DemoHeader{}, false
	}
	version := image[demoVersionAt : demoVersionAt+demoVersionLen]
	for i, c := range version {
		if c == 0 {
			version = version[:i]
			break
		}
	}
	h.Version = string(version)
	return h, true
}

// ErrDemoImage is wrapped by the errors of CheckDemoImage.
var ErrDemoImage = errors.New("demo image is damaged")

// CheckDemoImage checks size and CRC of an image that carries the magic. An
// image without the magic passes: nothing in it can be checked.
func CheckDemoImage(image []byte) error {
	h, ok := ReadDemoHeader(image)
	if !ok {
		return nil
	}
	if h.Size != len(image) {
		return fmt.Errorf("%w: its header says %d bytes, it has %d", ErrDemoImage, h.Size, len(image))
	}
	if h.large {
		if sum := ^crc32.ChecksumIEEE(image); sum != 0 {
			return fmt.Errorf("%w: CRC-32 over all of it is %#08x, not 0", ErrDemoImage, sum)
		}
		return nil
	}
	want := binary.LittleEndian.Uint16(image[demoHeaderAt+4:])
	sum := crc16Update(crc16Start, image[:demoHeaderAt+4])
	sum = crc16Update(crc16Update(sum, []byte{0, 0}), image[demoHeaderAt+6:])
	if sum != want {
		return fmt.Errorf("%w: CRC-16 is %#04x, its header says %#04x", ErrDemoImage, sum, want)
	}
	return nil
}

const crc16Start = 0xffff

func crc16(b []byte) uint16 { return crc16Update(crc16Start, b) }

// crc16Update is CRC-16/CCITT, eight bits at a time without a table.
func crc16Update(crc uint16, b []byte) uint16 {
	for _, c := range b {
		x := byte(crc>>8) ^ c
		x ^= x >> 4
		crc = crc<<8 ^ uint16(x)<<12 ^ uint16(x)<<5 ^ uint16(x)
	}
	return crc
}
