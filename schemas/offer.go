package schemas

import "time"

// ChunkHint tells the module how large its chunks may be, in bytes of data.
type ChunkHint struct {
	Preferred int `json:"preferred"`
	Max       int `json:"max"`
}

// HostHint is what the device type says of the host MCU: what it speaks, how it
// reports its version and how long it may take. Times are in milliseconds; 0
// leaves the module's default.
type HostHint struct {
	// Dialect is the protocol that the device type names.
	Dialect         string `json:"dialect,omitempty"`
	VersionProperty string `json:"version_property,omitempty"`
	// NumericType is the image type's number in the afero dialect, 101 to 200;
	// 0 in others.
	NumericType int `json:"numeric_type,omitempty"`
	// AttributeSize is the size in bytes of the attribute that carries the
	// image in the afero dialect; 0 leaves the module's default, 253.
	AttributeSize    int   `json:"attribute_size,omitempty"`
	AnswerTimeoutMS  int64 `json:"answer_timeout_ms,omitempty"`
	VerdictTimeoutMS int64 `json:"verdict_timeout_ms,omitempty"`
	BootTimeoutMS    int64 `json:"boot_timeout_ms,omitempty"`
	VersionTimeoutMS int64 `json:"version_timeout_ms,omitempty"`
}

// Action is what a device is to do with the image that it is offered.
type Action string

// The actions of the contract.
const (
	// ActionInstall: fetch it and have the host MCU run it.
	ActionInstall Action = ""
	// ActionSoft: as ActionInstall, but the device may put it off (CauseDeferred)
	// until the offer's DeferUntil.
	ActionSoft Action = "soft"
	// ActionConfirm: as ActionInstall, if the product agrees. It accepts, rejects or
	// puts off the offer, for as long as it likes.
	ActionConfirm Action = "confirm"
	// ActionDownload: fetch and verify the image, report downloaded and keep it. The
	// host MCU hears nothing of it. With the ack of that report the device has done
	// its part; the image is installed when it is offered again with another action.
	ActionDownload Action = "download"
)

// Valid says whether a is an action of the contract.
func (a Action) Valid() bool {
	switch a {
	case ActionInstall, ActionSoft, ActionConfirm, ActionDownload:
		return true
	}
	return false
}

// Deferrable says whether the device may put off what it is offered with a.
func (a Action) Deferrable() bool { return a == ActionSoft || a == ActionConfirm }

// Offer tells a device of the image that it should run. It is retained until
// the execution has ended; an empty payload on its topic withdraws it.
type Offer struct {
	V         int    `json:"v"`
	Execution string `json:"execution"`
	Attempt   int    `json:"attempt"`
	Image     string `json:"image"`
	ImageType string `json:"image_type"`
	Version   string `json:"version"`
	// VersionID is the image's numeric version id, for dialects that know
	// versions by number; 0: none.
	VersionID uint64 `json:"version_id,omitempty"`
	// Size is the image's size in bytes.
	Size uint64 `json:"size"`
	// SHA256 of the image, 64 lower-case hexadecimal digits.
	SHA256 string    `json:"sha256"`
	Chunk  ChunkHint `json:"chunk"`
	Host   HostHint  `json:"host"`
	// Force asks the module to offer the image to the MCU even if the MCU
	// reports this version already (the job ignores validation).
	Force bool `json:"force,omitempty"`
	// Manifest is the SHA-256 of the image's signed manifest with its signatures
	// (trust.Signed.Bundle), in hex, if the image has one. The device fetches it as it
	// fetches the image, with this as the image's id.
	Manifest string `json:"manifest,omitempty"`
	// ManifestSize is its size in bytes; 0 without one.
	ManifestSize uint64 `json:"manifest_size,omitempty"`
	// Expires is when the service stops offering, if it ever does.
	Expires time.Time `json:"expires,omitzero"`
	// Action is what to do with the image.
	Action Action `json:"action,omitempty"`
	// DeferUntil is, with ActionSoft only, until when the device may put the update
	// off; the zero time leaves that open. After it the image is offered with
	// ActionInstall.
	DeferUntil time.Time `json:"defer_until,omitzero"`
	// Stream says that the image is also sent on its shared stream (StreamTopic)
	// while several devices fetch it: see Fetch.Follow.
	Stream bool `json:"stream,omitempty"`
}

// Kind returns KindOffer.
func (*Offer) Kind() Kind { return KindOffer }

// Limits of a HostHint: the image type numbers of the afero dialect, and its
// transfer attribute, which holds an offset of four bytes and data.
const (
	MinNumericType   = 101
	MaxNumericType   = 200
	MinAttributeSize = 5
	MaxAttributeSize = 2046
)

// MaxManifestSize is the size in bytes of the longest signed manifest with its
// signatures.
const MaxManifestSize = 2 << 20

func (o *Offer) validateManifest() error {
	if o.Manifest == "" {
		if o.ManifestSize != 0 {
			return badPayload("manifest_size is %d without a manifest", o.ManifestSize)
		}
		return nil
	}
	if validSHA256(o.Manifest) != nil {
		return badPayload("manifest is %q, not a SHA-256 in 64 lower-case hexadecimal digits", o.Manifest[:min(len(o.Manifest), 80)])
	}
	if o.ManifestSize < 1 || o.ManifestSize > MaxManifestSize {
		return badPayload("manifest_size is %d, allowed are 1 to %d", o.ManifestSize, uint64(MaxManifestSize))
	}
	return nil
}

// maxHintMS bounds the times of a HostHint: a week.
const maxHintMS = 7 * 24 * 3600 * 1000

// Validate implements Payload.
func (o *Offer) Validate() error {
	if err := checkVersion(o.V); err != nil {
		return err
	}
	if err := checkExecution(o.Execution, o.Attempt); err != nil {
		return err
	}
	if err := checkID("image", o.Image); err != nil {
		return err
	}
	if err := checkID("image_type", o.ImageType); err != nil {
		return err
	}
	if err := ValidateVersion(o.Version); err != nil {
		return err
	}
	if o.VersionID > MaxVersionID {
		return badPayload("version_id is %d, allowed are 0 to %d", o.VersionID, uint64(MaxVersionID))
	}
	if o.Size < 1 || o.Size > MaxImageSize {
		return badPayload("size is %d, allowed are 1 to %d", o.Size, uint64(MaxImageSize))
	}
	if err := validSHA256(o.SHA256); err != nil {
		return err
	}
	if err := o.validateManifest(); err != nil {
		return err
	}
	if !o.Action.Valid() {
		return badPayload("unknown action %q", o.Action)
	}
	if o.Action != ActionSoft && !o.DeferUntil.IsZero() {
		return badPayload("defer_until stands with action soft only, not with %q", o.Action)
	}
	if err := o.Chunk.validate(); err != nil {
		return err
	}
	return o.Host.validate()
}

func (c ChunkHint) validate() error {
	for _, f := range []struct {
		name string
		n    int
	}{{"preferred", c.Preferred}, {"max", c.Max}} {
		if f.n < MinChunkSize || f.n > MaxChunkSize {
			return badPayload("chunk.%s is %d, allowed are %d to %d", f.name, f.n, MinChunkSize, MaxChunkSize)
		}
	}
	if c.Preferred > c.Max {
		return badPayload("chunk.preferred %d is over chunk.max %d", c.Preferred, c.Max)
	}
	return nil
}

func (h HostHint) validate() error {
	if err := checkText("host.dialect", h.Dialect, MaxDialectLength); err != nil {
		return err
	}
	if h.NumericType != 0 && (h.NumericType < MinNumericType || h.NumericType > MaxNumericType) {
		return badPayload("host.numeric_type is %d, allowed are 0 and %d to %d", h.NumericType, MinNumericType, MaxNumericType)
	}
	if h.AttributeSize != 0 && (h.AttributeSize < MinAttributeSize || h.AttributeSize > MaxAttributeSize) {
		return badPayload("host.attribute_size is %d, allowed are 0 and %d to %d", h.AttributeSize, MinAttributeSize, MaxAttributeSize)
	}
	if err := checkText("host.version_property", h.VersionProperty, MaxVersionLength); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		ms   int64
	}{
		{"answer_timeout_ms", h.AnswerTimeoutMS}, {"verdict_timeout_ms", h.VerdictTimeoutMS},
		{"boot_timeout_ms", h.BootTimeoutMS}, {"version_timeout_ms", h.VersionTimeoutMS},
	} {
		if f.ms < 0 || f.ms > maxHintMS {
			return badPayload("host.%s is %d, allowed are 0 to %d", f.name, f.ms, maxHintMS)
		}
	}
	return nil
}
