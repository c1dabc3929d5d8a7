package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"davit/schemas"
)

// readBuffer is what a client reads at most at a time.
const readBuffer = 64 << 10

// chunkStream takes apart what an MQTT server sends on one connection. Chunks are
// compared with the image where they lie in the read buffer; nothing is copied.
type chunkStream struct {
	topic string // of the chunks
	image []byte
	// arrived is called for each chunk whose every byte was right; now is when its
	// last byte was read. control is called for every other packet; body is valid
	// during the call.
	arrived func(h schemas.ChunkHeader, length int, now time.Time) error
	control func(first byte, body []byte) error

	header schemas.ChunkHeader // of the chunk whose data is next
	length int                 // of all its data
	left   int                 // of its data, still to come
}

// run reads until the connection ends or something is wrong. It returns nil when the
// other side has closed the connection between two packets.
func (s *chunkStream) run(r io.Reader) error {
	buf := make([]byte, readBuffer)
	kept := 0
	for {
		n, err := r.Read(buf[kept:])
		now := time.Now()
		rest, wrong := s.feed(buf[:kept+n], now)
		if wrong != nil {
			return wrong
		}
		copy(buf, rest)
		kept = len(rest)
		switch {
		case errors.Is(err, io.EOF) && kept == 0 && s.left == 0:
			return nil
		case err != nil:
			return err
		case kept == len(buf):
			return fmt.Errorf("a packet of more than %d bytes that is no chunk", readBuffer)
		}
	}
}

// feed takes what it can of b and returns the rest, the beginning of a packet.
func (s *chunkStream) feed(b []byte, now time.Time) (rest []byte, err error) {
	for {
		if s.left > 0 {
			n := min(s.left, len(b))
			from := s.header.Offset + uint64(s.length-s.left)
			if !bytes.Equal(b[:n], s.image[from:from+uint64(n)]) {
				return nil, fmt.Errorf("WRONG BYTES between %d and %d of the image", from, from+uint64(n))
			}
			b = b[n:]
			if s.left -= n; s.left > 0 {
				return nil, nil
			}
			if err := s.arrived(s.header, s.length, now); err != nil {
				return nil, err
			}
		}
		head, size, ok := fixedHeader(b)
		if !ok {
			return b, nil
		}
		if b[0]>>4 == 3 {
			used, err := s.publish(b, head, size)
			if err != nil {
				return nil, err
			}
			if used > 0 {
				b = b[used:]
				continue
			}
		}
		if len(b) < head+size {
			return b, nil
		}
		if err := s.control(b[0], b[head:head+size]); err != nil {
			return nil, err
		}
		b = b[head+size:]
	}
}

// fixedHeader reads how long a packet's fixed header and the rest of it are.
func fixedHeader(b []byte) (head, size int, ok bool) {
	for i := 1; i < min(len(b), 5); i++ {
		size |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			return i + 1, size, true
		}
	}
	return 0, 0, false
}

// publish takes a PUBLISH up to its data if it is a chunk and so much of it is there;
// 0 if not.
func (s *chunkStream) publish(b []byte, head, size int) (used int, err error) {
	before := 2 + len(s.topic) + schemas.ChunkHeaderSize
	if size <= before || b[0]&0x06 != 0 || len(b) < head+before {
		return 0, nil
	}
	if n := int(binary.BigEndian.Uint16(b[head:])); n != len(s.topic) || string(b[head+2:head+2+n]) != s.topic {
		return 0, nil
	}
	header := b[head+2+len(s.topic) : head+before]
	s.length = size - before
	s.header = schemas.ChunkHeader{
		Flags: header[1], Transfer: binary.BigEndian.Uint16(header[2:]),
		Image: schemas.ImageTag(binary.BigEndian.Uint32(header[4:])), Offset: binary.BigEndian.Uint64(header[8:]),
	}
	if header[0] != schemas.Version || s.header.Offset+uint64(s.length) > uint64(len(s.image)) {
		return 0, fmt.Errorf("a chunk of version %d with %d bytes at %d of an image with %d", header[0], s.length, s.header.Offset, len(s.image))
	}
	s.left = s.length
	return head + before, nil
}
