package trust

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"math/bits"
	"slices"
	"time"

	"davit/schemas"
)

// Bounds of a manifest.
const (
	// MinBlockSize and MaxBlockSize bound the size of a block in bytes, which is a
	// power of two.
	MinBlockSize = 1 << 10
	MaxBlockSize = 1 << 20
	// DefaultBlockSize makes a manifest of 11 KiB for an image of 1 MiB.
	DefaultBlockSize = 4 << 10
	// MaxBlocks is how many blocks a manifest may list.
	MaxBlocks = 1 << 14
	// MaxDeviceTypes is how many device types a manifest or a key may name.
	MaxDeviceTypes = 64
	// MaxCounter is the highest security counter: every JSON implementation holds
	// it exactly.
	MaxCounter = 1<<53 - 1
	// MaxManifestSize is the longest manifest in bytes; one with MaxBlocks blocks
	// and MaxDeviceTypes device types fits.
	MaxManifestSize = 1 << 20
)

// manifestV is the version of the manifest's format.
const manifestV = 1

// Terms are what the signer says of an image, as opposed to what is measured.
type Terms struct {
	// ImageType is the id of the image type.
	ImageType string
	// DeviceTypes are the ids of the device types that may run the image: at least
	// one, ascending, none twice.
	DeviceTypes []string
	// Version is what the host MCU reports when it runs the image.
	Version string
	// Counter is the security counter: a device never takes an image whose counter
	// is lower than that of an image that it has run. It grows with releases that
	// make earlier ones unsafe, up to MaxCounter.
	Counter uint64
	// BlockSize is the size in bytes of every block but the last: a power of two
	// from MinBlockSize to MaxBlockSize.
	BlockSize int
	// Created and Expires say from when to when the manifest may be used, in whole
	// seconds of UTC (Moment).
	Created, Expires time.Time
}

// Manifest is what is signed of an image. One that was decoded has been checked
// for its form only; it gives no hashes of blocks, a Verified does.
type Manifest struct {
	Terms
	// Size is the image's size in bytes.
	Size uint64
	// SHA256 of the image, 64 lower-case hexadecimal digits.
	SHA256 string

	hashes []byte // SHA-256 of the blocks, one after the other
}

// manifestText is the manifest's JSON; the blocks come last, so that a person
// reads the rest without scrolling.
type manifestText struct {
	V           int       `json:"v"`
	Image       string    `json:"image"`
	ImageType   string    `json:"image_type"`
	DeviceTypes []string  `json:"device_types"`
	Version     string    `json:"version"`
	Counter     uint64    `json:"counter"`
	Size        uint64    `json:"size"`
	SHA256      string    `json:"sha256"`
	Created     time.Time `json:"created"`
	Expires     time.Time `json:"expires"`
	BlockSize   int       `json:"block_size"`
	Blocks      string    `json:"blocks"`
}

// imagePrefix begins the id that an image has by its content.
const imagePrefix = "sha256:"

// Image is the image's id by its content: "sha256:" and its hash.
func (m *Manifest) Image() string { return imagePrefix + m.SHA256 }

// Blocks is the number of blocks.
func (m *Manifest) Blocks() int { return blockCount(m.Size, m.BlockSize) }

// TrustedComment is what davit has signatures of the manifest say beside it.
func (m *Manifest) TrustedComment() string { return "davit manifest v1 " + m.SHA256 }

// blockCount is size/blockSize rounded up, without overflow.
func blockCount(size uint64, blockSize int) int {
	n := size / uint64(blockSize)
	if size%uint64(blockSize) != 0 {
		n++
	}
	return int(n)
}

// Encode returns the manifest's one text, or why it can have none.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	text, err := encodeText(manifestText{
		V: manifestV, Image: m.Image(), ImageType: m.ImageType, DeviceTypes: m.DeviceTypes, Version: m.Version, Counter: m.Counter,
		Size: m.Size, SHA256: m.SHA256, Created: m.Created, Expires: m.Expires, BlockSize: m.BlockSize, Blocks: base64.StdEncoding.EncodeToString(m.hashes),
	})
	if err != nil {
		return nil, refuse(ErrMalformed, "the manifest cannot be written: %v", err)
	}
	return text, nil
}

// DecodeManifest reads a manifest's text. It says nothing about who wrote it:
// that is Policy.Check's to say. Errors are ErrMalformed.
func DecodeManifest(text []byte) (*Manifest, error) {
	var t manifestText
	if err := decodeText("manifest", text, MaxManifestSize, manifestV, &t); err != nil {
		return nil, err
	}
	if t.V != manifestV {
		return nil, refuse(ErrMalformed, "the manifest has format version %d; this program knows version %d", t.V, manifestV)
	}
	hashes, err := base64.StdEncoding.Strict().DecodeString(t.Blocks)
	if err != nil || base64.StdEncoding.EncodeToString(hashes) != t.Blocks {
		return nil, refuse(ErrMalformed, "blocks of the manifest is not base64 in its one form")
	}
	m := &Manifest{
		Terms: Terms{ImageType: t.ImageType, DeviceTypes: t.DeviceTypes, Version: t.Version, Counter: t.Counter, BlockSize: t.BlockSize, Created: t.Created, Expires: t.Expires},
		Size:  t.Size, SHA256: t.SHA256, hashes: hashes,
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	if t.Image != m.Image() {
		return nil, refuse(ErrMalformed, "image of the manifest is %q and sha256 is %q: the image's id is %q and its hash", t.Image, t.SHA256, imagePrefix)
	}
	return m, nil
}

// Validate says whether a manifest may have these terms.
func (t *Terms) Validate() error {
	if err := schemas.ValidateID(t.ImageType); err != nil {
		return refuse(ErrMalformed, "image_type of the manifest: %v", err)
	}
	if len(t.DeviceTypes) == 0 {
		return refuse(ErrMalformed, "device_types of the manifest names none; name those that may run the image")
	}
	if err := checkDeviceTypes("the manifest", t.DeviceTypes); err != nil {
		return err
	}
	if err := schemas.ValidateVersion(t.Version); err != nil {
		return refuse(ErrMalformed, "version of the manifest: %v", err)
	}
	if t.Counter > MaxCounter {
		return refuse(ErrMalformed, "counter of the manifest is %d, allowed are 0 to %d", t.Counter, uint64(MaxCounter))
	}
	if t.BlockSize < MinBlockSize || t.BlockSize > MaxBlockSize || bits.OnesCount(uint(t.BlockSize)) != 1 {
		return refuse(ErrMalformed, "block_size of the manifest is %d, allowed are powers of two from %d to %d", t.BlockSize, MinBlockSize, MaxBlockSize)
	}
	return checkSpan("manifest", t.Created, t.Expires)
}

// checkDeviceTypes holds a list of device types to its one order.
func checkDeviceTypes(in string, types []string) error {
	if len(types) > MaxDeviceTypes {
		return refuse(ErrMalformed, "device_types of %s has %d entries, at most %d are allowed", in, len(types), MaxDeviceTypes)
	}
	for i, id := range types {
		if err := schemas.ValidateID(id); err != nil {
			return refuse(ErrMalformed, "device_types of %s: %v", in, err)
		}
		if i > 0 && types[i-1] >= id {
			return refuse(ErrMalformed, "device_types of %s: %q does not come after %q; they ascend, and none stands twice", in, id, types[i-1])
		}
	}
	return nil
}

func (m *Manifest) validate() error {
	if err := m.Terms.Validate(); err != nil {
		return err
	}
	if m.Size < 1 || m.Size > schemas.MaxImageSize {
		return refuse(ErrMalformed, "size of the manifest is %d, allowed are 1 to %d", m.Size, uint64(schemas.MaxImageSize))
	}
	if raw, err := hex.DecodeString(m.SHA256); err != nil || len(raw) != sha256.Size || hex.EncodeToString(raw) != m.SHA256 {
		return refuse(ErrMalformed, "sha256 of the manifest is %.80q, not 64 lower-case hexadecimal digits", m.SHA256)
	}
	n := m.Blocks()
	if n > MaxBlocks {
		return tooManyBlocks(m.BlockSize)
	}
	if len(m.hashes) != n*sha256.Size {
		return refuse(ErrMalformed, "blocks of the manifest has %d bytes; an image of %d bytes in blocks of %d has %d blocks, which are %d bytes of hashes",
			len(m.hashes), m.Size, m.BlockSize, n, n*sha256.Size)
	}
	return nil
}

func tooManyBlocks(blockSize int) error {
	return refuse(ErrMalformed, "the image has more than %d blocks of %d bytes; use larger blocks", MaxBlocks, blockSize)
}

func (m *Manifest) clone() Manifest {
	c := *m
	c.DeviceTypes = slices.Clone(m.DeviceTypes)
	return c
}
