package firmware

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// The image format of MCUboot (docs/design.md of the project, section "Image
// Format"; the constants that are newer than that text are those of
// boot/bootutil/include/bootutil/image.h). All integers are little endian:
//
//	header      magic(4) load address(4) header size(2) protected TLV size(2)
//	            image size(4) flags(4) version(8) padding(4)
//	version     major(1) minor(1) revision(2) build(4)
//	the image
//	TLV areas   a protected one, if the header says so, and one that is not:
//	            magic(2) size of the area(2), then type(2) length(2) value each
//
// Section "TLVs" of the same document: the hash covers header, image and protected
// TLVs.
const (
	mcubootMagic      = 0x96f3b83d
	mcubootHeader     = 32
	mcubootTLVs       = 0x6907
	mcubootProtected  = 0x6908
	mcubootEncrypted  = 0x04 | 0x08
	mcubootDependency = 12 // bytes of a dependency
)

// The TLV types that Inspect goes by.
const (
	tlvKeyHash    = 0x01
	tlvPublicKey  = 0x02
	tlvSHA256     = 0x10
	tlvSHA384     = 0x11
	tlvSHA512     = 0x12
	tlvDependency = 0x40
	tlvCounter    = 0x50
)

// signatureName names the TLV types that are signatures.
func signatureName(kind uint16) string {
	switch kind {
	case 0x20:
		return "RSA-2048"
	case 0x21, 0x22:
		return "ECDSA"
	case 0x23:
		return "RSA-3072"
	case 0x24:
		return "Ed25519"
	}
	return ""
}

// mcubootFlags are the header's flags in words.
func mcubootFlags(flags uint32) string {
	var words []string
	for _, f := range []struct {
		bits uint32
		word string
	}{
		{mcubootEncrypted, "it is encrypted"}, {0x10, "it cannot be booted by itself"}, {0x20, "it runs from RAM"},
		{0x100, "it was built for one fixed address"}, {0x200 | 0x400, "it is compressed"},
	} {
		if flags&f.bits != 0 {
			words = append(words, f.word)
		}
	}
	return strings.Join(words, ", ")
}

// bootable is an MCUboot image that is being read.
type bootable struct {
	*Detected
	in      *image
	flags   uint32
	covered int64 // bytes that the hash covers
	// hashed, key and signed tell which TLVs were met; others counts those that
	// nothing is said about.
	hashed, key, signed bool
	others              int
}

func mcuboot(in *image) *Detected {
	head := in.at(0, mcubootHeader)
	if head == nil || u32(head, 0) != mcubootMagic {
		return nil
	}
	b := &bootable{Detected: &Detected{Format: DetectedMCUboot, Version: mcubootVersion(head[20:28])}, in: in, flags: u32(head, 16)}
	start, protected, size := int64(u16(head, 8)), int64(u16(head, 10)), int64(u32(head, 12))
	if address := u32(head, 4); address != 0 {
		b.fact("It is loaded at address %#x.", address)
	}
	if words := mcubootFlags(b.flags); words != "" {
		b.fact("Its header has flags: %s.", words)
	}
	if start < mcubootHeader {
		b.problem("The header says that it has %d bytes itself, at least %d are needed.", start, mcubootHeader)
		return b.Detected
	}
	end := start + size
	b.covered = end + protected
	b.Size = uint64(b.covered)
	if b.covered > in.size {
		b.sized(in)
		return b.Detected
	}
	if protected > 0 && !b.area(end, mcubootProtected, protected) {
		return b.Detected
	}
	if b.area(b.covered, mcubootTLVs, 0) {
		b.summary()
		b.rest()
	}
	return b.Detected
}

// mcubootVersion is written as imgtool writes it, without a build number of 0.
func mcubootVersion(b []byte) string {
	v := fmt.Sprintf("%d.%d.%d", b[0], b[1], u16(b, 2))
	if build := u32(b, 4); build != 0 {
		v += fmt.Sprintf("+%d", build)
	}
	return v
}

// area reads a TLV area; want is the size that the header gives it, or 0. False
// means that what follows cannot be read. An area has at most 65,535 bytes, and
// every TLV takes at least four of them.
func (b *bootable) area(at int64, magic uint16, want int64) bool {
	name := "TLV area"
	if magic == mcubootProtected {
		name = "protected TLV area"
	}
	info := b.in.at(at, 4)
	if info == nil || u16(info, 0) != magic {
		b.problem("There is no %s at byte %d, behind the image.", name, at)
		return false
	}
	total := int64(u16(info, 2))
	if want != 0 && total != want {
		b.problem("The header says that the %s has %d bytes, the area itself says %d.", name, want, total)
		return false
	}
	if want == 0 {
		b.Size = uint64(at + total)
	}
	area := b.in.at(at, total)
	if total < 4 || area == nil {
		b.problem("The %s at byte %d says that it has %d bytes, the file has %d from there on.", name, at, total, b.in.size-at)
		return false
	}
	for tlvs := area[4:]; len(tlvs) > 0; {
		if len(tlvs) < 4 || len(tlvs)-4 < int(u16(tlvs, 2)) {
			b.problem("A TLV %d bytes before the end of the %s reaches beyond it.", len(tlvs), name)
			return true
		}
		n := 4 + int(u16(tlvs, 2))
		b.tlv(u16(tlvs, 0), tlvs[4:n])
		tlvs = tlvs[n:]
	}
	return true
}

func (b *bootable) tlv(kind uint16, value []byte) {
	switch kind {
	case tlvSHA256:
		b.hash("SHA-256", sha256.New(), value)
	case tlvSHA384:
		b.hash("SHA-384", sha512.New384(), value)
	case tlvSHA512:
		b.hash("SHA-512", sha512.New(), value)
	case tlvKeyHash:
		if !b.key {
			b.fact("The key that it is signed with has the hash %s.", short(value))
		}
		b.key = true
	case tlvPublicKey:
		if !b.key {
			b.fact("It carries the public key that it is signed with, %d bytes.", len(value))
		}
		b.key = true
	case tlvDependency:
		b.dependency(value)
	case tlvCounter:
		if len(value) == 4 {
			b.fact("Its security counter is %d.", u32(value, 0))
		}
	default:
		name := signatureName(kind)
		if name == "" {
			b.others++
			return
		}
		b.signed = true
		b.fact("It has a signature (%s, %d bytes), which only the boot loader can verify, for it has the key.", name, len(value))
	}
}

// hash verifies the first hash that is met.
func (b *bootable) hash(name string, h hash.Hash, want []byte) {
	if b.hashed {
		return
	}
	b.hashed = true
	switch {
	case len(want) != h.Size():
		b.problem("The %s in the file has %d bytes, %d are needed.", name, len(want), h.Size())
		return
	case b.flags&mcubootEncrypted != 0:
		b.fact("Its %s is %s; it is that of the image before encryption and cannot be verified here.", name, short(want))
		return
	}
	b.in.feed(h, 0, b.covered)
	if got := h.Sum(nil); !bytes.Equal(got, want) {
		b.problem("The %s in the file is %s, its content has %s: the file is damaged or was changed after it was made.", name, short(want), short(got))
		return
	}
	b.fact("The %s in the file is right: %s.", name, short(want))
}

// dependency: image number(1) padding(3) least version(8).
func (b *bootable) dependency(value []byte) {
	if len(value) != mcubootDependency {
		b.problem("A dependency in the file has %d bytes, %d are needed.", len(value), mcubootDependency)
		return
	}
	b.fact("It needs image %d at version %s or later.", value[0], mcubootVersion(value[4:]))
}

func (b *bootable) summary() {
	if !b.hashed {
		b.problem("The file has no hash; MCUboot refuses such an image.")
	}
	if !b.signed {
		b.fact("It has no signature.")
	}
	if b.others > 0 {
		b.fact("It has %d further TLVs.", b.others)
	}
}

// rest says what follows the image: nothing, or the rest of a slot (section
// "Image Trailer"), which imgtool adds when it is told to pad.
func (b *bootable) rest() {
	after := b.in.size - int64(b.Size)
	switch {
	case after <= 0:
	case b.trailer():
		b.fact("%d bytes follow up to the end of a slot, with a trailer that asks for the image to be booted.", after)
	default:
		b.followed(b.in)
	}
}

func (b *bootable) trailer() bool {
	end := b.in.at(max(b.in.size-16, int64(b.Size)), 16)
	return bytes.Equal(end, []byte("\x77\xc2\x95\xf3\x60\xd2\xef\x7f\x35\x52\x50\x0f\x2c\xb6\x79\x80")) ||
		// With a larger unit of writing, which stands in the first two bytes.
		len(end) == 16 && string(end[2:]) == "\x2d\xe1\x5d\x29\x41\x0b\x8d\x77\x67\x9c\x11\x0f\x1f\x8a"
}

// short is the beginning of a hash, enough to compare by eye.
func short(b []byte) string {
	if len(b) <= 8 {
		return hex.EncodeToString(b)
	}
	return hex.EncodeToString(b[:8]) + "..."
}
