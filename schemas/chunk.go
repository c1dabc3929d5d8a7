package schemas

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// Sizes of chunks, in bytes of image data.
const (
	// ChunkHeaderSize is what stands before the data of every chunk.
	ChunkHeaderSize = 16
	// MinChunkSize is the smallest chunk a module may ask for.
	MinChunkSize = 64
	// DefaultChunkSize is what the service suggests.
	DefaultChunkSize = 4 << 10
	// MaxChunkSize is the largest chunk a module may ask for.
	MaxChunkSize = 128 << 10
)

// ChunkFlagLast marks the chunk that ends the image. The other bits are zero.
const ChunkFlagLast = 1 << 0

// ErrChunk is wrapped by every error about a malformed chunk.
var ErrChunk = errors.New("malformed chunk")

// ImageTag is the first four bytes of an image's SHA-256: enough for a receiver
// to drop a chunk of an image that it no longer wants.
type ImageTag uint32

// TagOf reads the image tag from a SHA-256 in hex. It returns false unless sum
// is 64 lower-case hexadecimal digits.
func TagOf(sum string) (ImageTag, bool) {
	if validSHA256(sum) != nil {
		return 0, false
	}
	b, err := hex.DecodeString(sum[:8])
	if err != nil {
		return 0, false
	}
	return ImageTag(binary.BigEndian.Uint32(b)), true
}

// ChunkHeader stands before the data of a chunk message, integers MSB first:
//
//	version(1) | flags(1) | transfer tag(2) | image tag(4) | offset(8)
type ChunkHeader struct {
	Flags    byte
	Transfer uint16   // the tag of the fetch that this answers
	Image    ImageTag // which image the data belongs to
	Offset   uint64   // position of the first data byte in the image
}

// AppendTo appends the encoded header to b.
func (h ChunkHeader) AppendTo(b []byte) []byte {
	b = append(b, Version, h.Flags)
	b = binary.BigEndian.AppendUint16(b, h.Transfer)
	b = binary.BigEndian.AppendUint32(b, uint32(h.Image))
	return binary.BigEndian.AppendUint64(b, h.Offset)
}

// Chunk is a chunk as it is handed from one part of the service to another: the
// header, and how many bytes of the image follow it from Offset on. The bytes
// themselves stay where they are (ImageBytes).
type Chunk struct {
	ChunkHeader
	Length int
}

// ImageBytes are the bytes of an image that is being served. They stay valid
// while they are retained, whatever becomes of the image.
type ImageBytes interface {
	// ReadAt copies bytes; an error of the disk is an error here.
	io.ReaderAt
	// Mapped is the whole image in memory that is shared by all who serve it,
	// to be handed to the kernel and not to be read or written otherwise: the
	// process dies of a page that the disk cannot give. It is nil where there is
	// no such memory.
	Mapped() []byte
	// Retain and Release count who needs the bytes.
	Retain()
	Release()
}

// ImageFile is what ImageBytes may be besides: an open file, from which the kernel can
// take large chunks without copying them.
type ImageFile interface {
	ImageBytes
	// Descriptor is that of a regular file with the image and nothing else, to be
	// read at given offsets only; false where there is none. It is valid while the bytes
	// are retained. Nobody writes to the file: what was handed to a socket is not copied
	// before the receiver reads it.
	Descriptor() (fd uintptr, ok bool)
}

// ParseChunk splits a chunk message into its header and its data, which is
// not copied. It refuses other versions, unknown flags, empty data and data
// longer than MaxChunkSize.
func ParseChunk(b []byte) (ChunkHeader, []byte, error) {
	if len(b) < ChunkHeaderSize {
		return ChunkHeader{}, nil, fmt.Errorf("%w: %d bytes, the header alone has %d", ErrChunk, len(b), ChunkHeaderSize)
	}
	data := b[ChunkHeaderSize:]
	h := ChunkHeader{
		Flags:    b[1],
		Transfer: binary.BigEndian.Uint16(b[2:]),
		Image:    ImageTag(binary.BigEndian.Uint32(b[4:])),
		Offset:   binary.BigEndian.Uint64(b[8:]),
	}
	switch {
	case b[0] != Version:
		return ChunkHeader{}, nil, fmt.Errorf("%w: version %d, this is version %d", ErrChunk, b[0], Version)
	case h.Flags&^ChunkFlagLast != 0:
		return ChunkHeader{}, nil, fmt.Errorf("%w: unknown flags %#02x", ErrChunk, h.Flags)
	case len(data) == 0:
		return ChunkHeader{}, nil, fmt.Errorf("%w: no data", ErrChunk)
	case len(data) > MaxChunkSize:
		return ChunkHeader{}, nil, fmt.Errorf("%w: %d bytes of data, at most %d are allowed", ErrChunk, len(data), MaxChunkSize)
	case h.Offset > MaxImageSize-uint64(len(data)):
		return ChunkHeader{}, nil, fmt.Errorf("%w: ends past the largest image", ErrChunk)
	}
	return h, data, nil
}
