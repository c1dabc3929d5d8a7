package trust

import (
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"davit/schemas"
)

// Offered is the image that the manifest has to be about: what the offer says,
// or what was uploaded.
type Offered struct {
	ImageType string
	Version   string
	// Size in bytes.
	Size uint64
	// SHA256 in 64 lower-case hexadecimal digits.
	SHA256 string
}

// Policy decides whether an image may go to a device. All of it is data; the
// caller keeps the counter and knows the time.
type Policy struct {
	// Pinned are image keys that are trusted without a key list. Either they or
	// Ring are given, not both.
	Pinned KeySet
	// Ring is the key list in force.
	Ring *KeyRing
	// DeviceType is the id of the device's type.
	DeviceType string
	// Offered is the image in question.
	Offered Offered
	// Counter is the highest security counter of the images of this type that the
	// device has run; an image with a lower one is refused. Whoever keeps it raises
	// it once the device has reported that it runs the image, not before: an update
	// that failed must not bar the way back.
	Counter uint64
	// MaxSize is the largest image in bytes; 0 leaves schemas.MaxImageSize.
	MaxSize uint64
	// Now is the time.
	Now time.Time
}

// Check verifies a signed manifest: first its signatures, then its form, then
// whether it is for this device, this offer and this time. Every error is a
// *Refusal.
func (p Policy) Check(s Signed) (*Verified, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	if len(s.Text) > MaxManifestSize {
		return nil, refuse(ErrMalformed, "the manifest has %d bytes, at most %d are allowed", len(s.Text), MaxManifestSize)
	}
	signed, err := p.signers(s)
	if err != nil {
		return nil, err
	}
	m, err := DecodeManifest(s.Text)
	if err != nil {
		return nil, err
	}
	if err := p.admit(m); err != nil {
		return nil, err
	}
	return &Verified{m: *m, digest: sha256.Sum256(s.Text), signed: signed}, nil
}

// validate refuses a policy that would let something pass because a part of it
// was forgotten.
func (p Policy) validate() error {
	pinned := len(p.Pinned.Keys) > 0 || p.Pinned.Threshold != 0
	switch {
	case pinned && p.Ring != nil:
		return refuse(ErrPolicy, "there are pinned image keys and a key list; decide for one of them")
	case !pinned && p.Ring == nil:
		return refuse(ErrPolicy, "there are no keys to verify a manifest with; pin image keys, or root keys and a key list")
	case p.DeviceType == "":
		return refuse(ErrPolicy, "the device's type is not known, so it cannot be said which images are for it")
	case p.Offered.ImageType == "" || p.Offered.Version == "" || p.Offered.Size == 0 || p.Offered.SHA256 == "":
		return refuse(ErrPolicy, "the offered image is not described: type, version, size and SHA-256 are needed")
	case p.Now.IsZero():
		return refuse(ErrPolicy, "the time is not known, so it cannot be said what has expired")
	}
	return nil
}

// signers are the keys that signed, if there are enough of those that may.
func (p Policy) signers(s Signed) ([]PublicKey, error) {
	if p.Ring == nil {
		return p.Pinned.signers("manifest", s, bystanders{})
	}
	if err := p.Ring.Check(p.Now); err != nil {
		return nil, err
	}
	set, aside, err := p.Ring.images(p.DeviceType)
	if err != nil {
		return nil, err
	}
	return set.signers("manifest", s, aside)
}

// admit holds a manifest that enough keys have signed against device, offer and
// time.
func (p Policy) admit(m *Manifest) error {
	if !slices.Contains(m.DeviceTypes, p.DeviceType) {
		return refuse(ErrDeviceType, "the manifest is for device type %s, and this device is of type %s; nothing was sent to it", strings.Join(m.DeviceTypes, ", "), p.DeviceType)
	}
	if m.ImageType != p.Offered.ImageType {
		return refuse(ErrImageType, "the manifest is for image type %s, and %s is offered", m.ImageType, p.Offered.ImageType)
	}
	if err := m.belongsTo(p.Offered); err != nil {
		return err
	}
	limit := p.MaxSize
	if limit == 0 {
		limit = schemas.MaxImageSize
	}
	if m.Size > limit {
		return refuse(ErrTooLarge, "the image has %d bytes, and at most %d are allowed here", m.Size, limit)
	}
	if m.Counter < p.Counter {
		return refuse(ErrRollback, "the image has security counter %d, and this device has run one with %d: it would bring back what was mended since; deploy an image with counter %d or higher", m.Counter, p.Counter, p.Counter)
	}
	if !p.Now.Before(m.Expires) {
		return refuse(ErrExpired, "the manifest expired at %s, and it is %s: sign the image anew, or set this machine's clock", moment(m.Expires), moment(p.Now))
	}
	return checkClock("manifest", m.Created, p.Now)
}

// belongsTo says whether the manifest is about the image that is offered.
func (m *Manifest) belongsTo(o Offered) error {
	const remedy = "manifest and image do not belong together; use the manifest that was signed for this image"
	switch {
	case m.Size != o.Size:
		return refuse(ErrMismatch, "the manifest is for an image of %d bytes, and one of %d is offered: %s", m.Size, o.Size, remedy)
	case m.SHA256 != o.SHA256:
		return refuse(ErrMismatch, "the manifest is for the image with SHA-256 %s, and %.64s is offered: %s", m.SHA256, o.SHA256, remedy)
	case m.Version != o.Version:
		return refuse(ErrMismatch, "the manifest is for version %q, and %q is offered: %s", m.Version, o.Version, remedy)
	}
	return nil
}
