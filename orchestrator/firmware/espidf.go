package firmware

import (
	"bytes"
	"encoding/hex"
	"fmt"
)

// The application image of ESP-IDF (ESP-IDF Programming Guide, "App Image
// Format"; fields and constants as in esp_app_format.h and esp_app_desc.h, which
// that page documents), little endian:
//
//	header      0xe9(1) segments(1) flash mode and size(2) entry address(4)
//	            pins(4) chip(2) revisions(5) reserved(4) hash follows(1)
//	segments    load address(4) length(4) data each
//	padding     up to one byte before a multiple of 16
//	checksum    0xef XORed with every byte of the segments' data (1)
//	SHA-256     of everything before, if the header says so (32)
//
// The first segment of an application begins with its descriptor: magic(4)
// secure version(4) reserved(8) version(32) project(32) time(16) date(16) ESP-IDF
// version(32) SHA-256 of the ELF file(32) and more, 256 bytes in all.
const (
	espMagic       = 0xe9
	espHeader      = 24
	espSegmentHead = 8
	espMaxSegments = 16
	espHash        = 32
	espDescriptor  = 0xabcd5432
	espDescAt      = espHeader + espSegmentHead
	espDescSize    = 256
	espChecksum    = 0xef
	espSector      = 4096 // that signatures begin at
)

// espChip names a chip id (esp_chip_id_t).
func espChip(id uint16) string {
	names := map[uint16]string{
		0x00: "ESP32", 0x02: "ESP32-S2", 0x05: "ESP32-C3", 0x09: "ESP32-S3", 0x0c: "ESP32-C2", 0x0d: "ESP32-C6",
		0x10: "ESP32-H2", 0x12: "ESP32-P4", 0x14: "ESP32-C61", 0x17: "ESP32-C5", 0x19: "ESP32-H21", 0x1c: "ESP32-H4",
	}
	if name := names[id]; name != "" {
		return name
	}
	return fmt.Sprintf("the chip with id %d", id)
}

// espImage is an ESP-IDF image that is being read.
type espImage struct {
	*Detected
	in    *image
	head  []byte
	whole bool // every segment is inside the file
	sound bool // the checksum is right
}

// espIDF takes a file for an application if its descriptor is there. Without
// one, the single byte of the magic is not enough: then all of the rest has to be
// right, as in a boot loader.
func espIDF(in *image) *Detected {
	head := in.at(0, espHeader)
	if head == nil || head[0] != espMagic {
		return nil
	}
	e := &espImage{Detected: &Detected{Format: DetectedESPIDF}, in: in, head: head}
	desc := in.at(espDescAt, espDescSize)
	described := desc != nil && u32(desc, 0) == espDescriptor
	if described {
		e.describe(desc)
	}
	e.fact("It was built for %s; its entry address is %#x.", espChip(u16(head, 12)), u32(head, 4))
	e.segments()
	hashed := e.whole && e.hash()
	if described {
		return e.Detected
	}
	if !e.sound || !hashed && in.size != int64(e.Size) || len(e.Problems) > 0 {
		return nil
	}
	e.fact("It has no application descriptor, and so no version: it may be a boot loader.")
	return e.Detected
}

func (e *espImage) describe(desc []byte) {
	e.Version, e.Name = text(desc[16:48]), text(desc[48:80])
	time, date, idf := text(desc[80:96]), text(desc[96:112]), text(desc[112:144])
	if date != "" || time != "" {
		e.fact("It was built on %s at %s.", orUnknown(date), orUnknown(time))
	}
	if idf != "" {
		e.fact("It was built with ESP-IDF %s.", idf)
	}
	if n := u32(desc, 4); n != 0 {
		e.fact("Its secure version is %d.", n)
	}
	if sum := desc[144:176]; !bytes.Equal(sum, make([]byte, len(sum))) {
		e.fact("The SHA-256 of its ELF file is %s.", hex.EncodeToString(sum))
	}
	if e.Version == "" {
		e.problem("The application descriptor has no version.")
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "an unknown time"
	}
	return s
}

// segments walks the segments, which follow one another, so that no byte is
// read twice, and verifies the checksum.
func (e *espImage) segments() {
	count := int(e.head[1])
	if count < 1 || count > espMaxSegments {
		e.problem("The header says that there are %d segments; 1 to %d are possible.", count, espMaxSegments)
		return
	}
	sum := &xor{espChecksum}
	at := int64(espHeader)
	for range count {
		segment := e.in.at(at, espSegmentHead)
		if segment == nil {
			e.Size = uint64(at + espSegmentHead)
			e.sized(e.in)
			return
		}
		n := int64(u32(segment, 4))
		at += espSegmentHead + n
		if at > e.in.size {
			e.Size = uint64(at)
			e.sized(e.in)
			return
		}
		e.in.feed(sum, at-n, n)
	}
	e.Size = uint64(at/16*16 + 16)
	last := e.in.at(int64(e.Size)-1, 1)
	if last == nil {
		e.sized(e.in)
		return
	}
	e.whole, e.sound = true, last[0] == sum.sum
	if !e.sound {
		e.problem("The checksum of the segments is %#02x, the file says %#02x: the file is damaged.", sum.sum, last[0])
	}
}

// hash verifies the SHA-256 that may follow and looks for what else does.
func (e *espImage) hash() bool {
	hashed := false
	if e.head[23] == 1 {
		covered := int64(e.Size)
		e.Size += espHash
		want := e.in.at(covered, espHash)
		if want == nil {
			e.sized(e.in)
			return false
		}
		if got := e.in.digest(covered); !bytes.Equal(got, want) {
			e.problem("The SHA-256 at the end of the file is %s, its content has %s: the file is damaged or was changed after it was made.", short(want), short(got))
			return false
		}
		hashed = true
		e.fact("The SHA-256 at its end is right: %s.", short(want))
	}
	e.signature()
	if e.in.size > int64(e.Size) {
		e.followed(e.in)
	}
	return hashed
}

// signature looks for a signature block of Secure Boot v2 (ESP-IDF Programming
// Guide, "Secure Boot v2", section "Signature Block Format"): a sector of its own
// that begins with 0xe7 and the version 2.
func (e *espImage) signature() {
	at := (int64(e.Size) + espSector - 1) / espSector * espSector
	if block := e.in.at(at, espSector); block != nil && block[0] == 0xe7 && block[1] == 2 {
		e.Size = uint64(at + espSector)
		e.fact("It has a signature (Secure Boot v2), which only the chip can verify, for it has the key.")
	}
}

// xor is the XOR of everything written.
type xor struct{ sum byte }

// Write implements io.Writer.
func (x *xor) Write(p []byte) (int, error) {
	for _, b := range p {
		x.sum ^= b
	}
	return len(p), nil
}
