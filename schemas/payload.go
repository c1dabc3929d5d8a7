package schemas

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of the JSON payloads.
const (
	// MaxImageSize is the largest image in bytes: offsets on the host-MCU
	// wire have 32 bits.
	MaxImageSize = 1<<32 - 1
	// MaxVersionLength is the longest version string in bytes: it has to fit
	// one TLV of the host-MCU wire.
	MaxVersionLength = 255
	// MaxRanges is how many ranges one fetch may ask for.
	MaxRanges = 64
	// MaxWindow is how many chunks one fetch may ask for in all.
	MaxWindow = 64
	// MaxAwaited is how many bytes of image data a device may await at a time:
	// what a fetch asks for, and what it says of earlier ones.
	MaxAwaited = 2 << 20
	// MaxHostVersions is how many version properties one hello may report.
	MaxHostVersions = 16
	// MaxDetailLength is the longest detail text in bytes.
	MaxDetailLength = 512
	// MaxAttempt is the highest attempt number.
	MaxAttempt = 1<<31 - 1
	// MaxSeq is the highest status sequence number: every JSON implementation
	// carries integers up to it exactly.
	MaxSeq = 1<<53 - 1
	// MaxVersionID is the highest numeric version id, for the same reason.
	MaxVersionID = 1<<53 - 1
	// MaxDialectLength is the longest name of a dialect in bytes.
	MaxDialectLength = 32
	// MaxDeferS is the longest time in seconds for which a device may put an
	// update off at once: 30 days.
	MaxDeferS = 30 * 24 * 3600
)

// ErrPayload is wrapped by every error about a malformed JSON payload.
var ErrPayload = errors.New("malformed payload")

func badPayload(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrPayload}, args...)...)
}

// Payload is a JSON message of the contract.
type Payload interface {
	// Kind says which topic the payload belongs on.
	Kind() Kind
	// Validate returns an error that wraps ErrPayload and names the field if
	// the payload is not one that a conforming sender may send.
	Validate() error
}

// Encode validates p and marshals it. It refuses what would be longer than the
// receiver takes.
func Encode(p Payload) ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("encode %s: %w", p.Kind(), err)
	}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", p.Kind(), err)
	}
	if limit := p.Kind().MaxPayload(); len(b) > limit {
		return nil, fmt.Errorf("encode %s: %w", p.Kind(), badPayload("%d bytes, at most %d are allowed", len(b), limit))
	}
	return b, nil
}

// Decode reads one payload strictly: too long, not UTF-8, another JSON type,
// an unknown, doubled or missing field, trailing data and whatever Validate
// refuses are errors that wrap ErrPayload. p must be a pointer to a payload of this
// package; it is overwritten only as far as decoding got, a Fetch wholly.
func Decode(b []byte, p Payload) (err error) {
	if f, ok := p.(*Fetch); ok {
		*f, err = DecodeFetch(b)
		return err
	}
	if err := checkBytes(b, p.Kind()); err != nil {
		return err
	}
	return decode(b, p)
}

// DecodeFetch is Decode for a fetch. There are many, and this one need not be on the heap.
func DecodeFetch(b []byte) (f Fetch, err error) {
	if err := checkBytes(b, KindFetch); err != nil {
		return f, err
	}
	if parseFetch(b, &f) {
		return f, f.Validate()
	}
	general := new(Fetch)
	err = decode(b, general)
	return *general, err
}

// checkBytes refuses what can be told without reading the JSON.
func checkBytes(b []byte, k Kind) error {
	if limit := k.MaxPayload(); len(b) > limit {
		return badPayload("%d bytes, a %s has at most %d", len(b), k, limit)
	}
	if !utf8.Valid(b) {
		return badPayload("not UTF-8")
	}
	return nil
}

func decode(b []byte, p Payload) error {
	if err := checkShape(b, shapes[p.Kind()]); err != nil {
		return err
	}
	if err := json.Unmarshal(b, p); err != nil {
		return badPayload("%v", err)
	}
	return p.Validate()
}

func checkVersion(v int) error {
	if v != Version {
		return badPayload("v is %d, this is version %d", v, Version)
	}
	return nil
}

func checkID(field, id string) error {
	if err := ValidateID(id); err != nil {
		return badPayload("%s: %v", field, err)
	}
	return nil
}

// checkText accepts printable UTF-8 of at most limit bytes.
func checkText(field, s string, limit int) error {
	if len(s) > limit {
		return badPayload("%s has %d bytes, at most %d are allowed", field, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return badPayload("%s is not UTF-8", field)
	}
	if i := strings.IndexFunc(s, unicode.IsControl); i >= 0 {
		return badPayload("%s has a control character at byte %d", field, i)
	}
	return nil
}

// Detail makes any text one that Status takes as its detail: UTF-8 without control
// characters, cut at MaxDetailLength.
func Detail(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	for len(text) > MaxDetailLength {
		text = strings.ToValidUTF8(text[:MaxDetailLength], "")
	}
	return text
}

// ValidateVersion checks a version string: 1 to 255 bytes of UTF-8 without
// control characters.
func ValidateVersion(v string) error {
	if v == "" {
		return badPayload("version is empty")
	}
	return checkText("version", v, MaxVersionLength)
}

func validSHA256(s string) error {
	if len(s) != 64 {
		return badPayload("sha256 has %d characters, a SHA-256 in hex has 64", len(s))
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return badPayload("sha256 has %q at position %d; lower-case hexadecimal digits are allowed", c, i+1)
		}
	}
	return nil
}

// Hello is what a device says of itself after it has connected, when a host
// version changes, and when its open execution changes.
type Hello struct {
	V int `json:"v"`
	// DeviceType is the type that the device believes it is of, if it knows.
	// The service trusts its own record; a difference is shown, not obeyed.
	DeviceType string `json:"device_type,omitempty"`
	// Module names the module's own firmware, for people.
	Module string `json:"module,omitempty"`
	// Dialect is the protocol spoken to the host MCU.
	Dialect string `json:"dialect,omitempty"`
	// HostVersions maps the version property (or attribute) of the host MCU
	// to the version that it reported last. Which image type a property
	// speaks for is the device type's knowledge, not the module's. In the
	// afero dialect both are decimal numbers: the attribute, 2000 and the
	// image type's number, and the version's id.
	HostVersions map[string]string `json:"host_versions,omitempty"`
	// MaxChunk is the largest chunk in bytes that the device can take; 0 means
	// DefaultChunkSize.
	MaxChunk int `json:"max_chunk,omitempty"`
	// Streams says that the device can follow an image's shared stream
	// (StreamTopic): only then do offers point to one.
	Streams bool `json:"streams,omitempty"`
	// Execution is the execution that the device works on, if any.
	Execution string `json:"execution,omitempty"`
	Attempt   int    `json:"attempt,omitempty"`
}

// Kind returns KindHello.
func (*Hello) Kind() Kind { return KindHello }

// Validate implements Payload.
func (h *Hello) Validate() error {
	if err := checkVersion(h.V); err != nil {
		return err
	}
	if h.DeviceType != "" {
		if err := checkID("device_type", h.DeviceType); err != nil {
			return err
		}
	}
	if err := checkText("module", h.Module, 128); err != nil {
		return err
	}
	if err := checkText("dialect", h.Dialect, MaxDialectLength); err != nil {
		return err
	}
	if err := checkHostVersions(h.HostVersions); err != nil {
		return err
	}
	if h.MaxChunk != 0 && (h.MaxChunk < MinChunkSize || h.MaxChunk > MaxChunkSize) {
		return badPayload("max_chunk is %d, allowed are %d to %d", h.MaxChunk, MinChunkSize, MaxChunkSize)
	}
	return checkOpen(h.Execution, h.Attempt)
}

func checkHostVersions(versions map[string]string) error {
	if len(versions) > MaxHostVersions {
		return badPayload("host_versions has %d entries, at most %d are allowed", len(versions), MaxHostVersions)
	}
	for property, version := range versions {
		if property == "" {
			return badPayload("host_versions has an entry without a name")
		}
		if err := checkText("host_versions name", property, MaxVersionLength); err != nil {
			return err
		}
		if err := checkText("host_versions value", version, MaxVersionLength); err != nil {
			return err
		}
	}
	return nil
}

// checkOpen accepts no execution at all, or one with its attempt.
func checkOpen(execution string, attempt int) error {
	if execution == "" && attempt == 0 {
		return nil
	}
	return checkExecution(execution, attempt)
}

func checkExecution(execution string, attempt int) error {
	if err := checkID("execution", execution); err != nil {
		return err
	}
	if attempt < 1 || attempt > MaxAttempt {
		return badPayload("attempt is %d, allowed are 1 to %d", attempt, MaxAttempt)
	}
	return nil
}

// Presence says whether the device is connected. It is retained, and its
// offline form is the device's will. A bridge publishes it for each of its
// devices.
type Presence struct {
	V      int  `json:"v"`
	Online bool `json:"online"`
}

// Kind returns KindPresence.
func (*Presence) Kind() Kind { return KindPresence }

// Validate implements Payload.
func (p *Presence) Validate() error { return checkVersion(p.V) }

// Range is a run of bytes of an image.
type Range struct {
	Offset uint64 `json:"offset"`
	Length uint64 `json:"length"`
}

// End is the position after the last byte of r.
func (r Range) End() uint64 { return r.Offset + r.Length }

// Fetch asks for ranges of an image's bytes as chunk messages: the module's
// credit. The service sends at most what was asked for, at most MaxWindow
// chunks, and forgets the fetch when it has sent them.
type Fetch struct {
	V     int    `json:"v"`
	Image string `json:"image"`
	// Tag comes back in every chunk that answers this fetch.
	Tag uint16 `json:"tag"`
	// Chunk is the size in bytes of the chunks wanted.
	Chunk int `json:"chunk"`
	// Ranges are in ascending order and do not overlap.
	Ranges []Range `json:"ranges"`
	// Awaited is how many bytes of earlier fetches the device still waits for.
	// All others that it asked for before have arrived, or it has given them
	// up: they are its credit again.
	Awaited int `json:"awaited,omitempty"`
	// Follow says that the device listens on the image's shared stream and need
	// not be sent by itself what it gets there: the ranges are what it lacks. It
	// asks without Follow for what did not come.
	Follow bool `json:"follow,omitempty"`
}

// Kind returns KindFetch.
func (*Fetch) Kind() Kind { return KindFetch }

// Validate implements Payload.
func (f *Fetch) Validate() error {
	if err := checkVersion(f.V); err != nil {
		return err
	}
	if err := checkID("image", f.Image); err != nil {
		return err
	}
	if f.Chunk < MinChunkSize || f.Chunk > MaxChunkSize {
		return badPayload("chunk is %d, allowed are %d to %d", f.Chunk, MinChunkSize, MaxChunkSize)
	}
	if len(f.Ranges) < 1 || len(f.Ranges) > MaxRanges {
		return badPayload("%d ranges, allowed are 1 to %d", len(f.Ranges), MaxRanges)
	}
	if f.Awaited < 0 || f.Awaited > MaxAwaited {
		return badPayload("awaited is %d, allowed are 0 to %d", f.Awaited, MaxAwaited)
	}
	var end, chunks uint64
	bytes := uint64(f.Awaited)
	for i, r := range f.Ranges {
		if r.Length < 1 || r.Offset > MaxImageSize || r.Length > MaxImageSize || r.End() > MaxImageSize {
			return badPayload("range %d is empty or ends past the largest image", i+1)
		}
		if r.Offset < end {
			return badPayload("range %d overlaps or precedes the one before", i+1)
		}
		end = r.End()
		chunks += (r.Length + uint64(f.Chunk) - 1) / uint64(f.Chunk)
		bytes += r.Length
	}
	if bytes > MaxAwaited {
		return badPayload("%d bytes would be awaited, at most %d are allowed at a time", bytes, MaxAwaited)
	}
	if chunks > MaxWindow {
		return badPayload("asks for %d chunks, at most %d are allowed at a time", chunks, MaxWindow)
	}
	return nil
}

// Status reports where an execution stands. It is repeated until its Ack
// arrives.
type Status struct {
	V         int    `json:"v"`
	Execution string `json:"execution"`
	Attempt   int    `json:"attempt"`
	// Seq grows with every new report of an attempt, over restarts as well;
	// gaps do no harm. A repetition keeps it.
	Seq   uint64 `json:"seq"`
	State State  `json:"state"`
	// BytesDone counts bytes held by the module while downloading, and bytes
	// acknowledged by the MCU while installing.
	BytesDone uint64 `json:"bytes_done,omitempty"`
	// Cause is set if and only if the state is final and not succeeded.
	Cause Cause `json:"cause,omitempty"`
	// Code is the host MCU's own error code, 0 for none.
	Code int `json:"code,omitempty"`
	// Detail is one sentence for a person.
	Detail string `json:"detail,omitempty"`
	// HostVersion is what the MCU reports to run; succeeded needs it. In the
	// afero dialect it is the version's id, a decimal number.
	HostVersion string `json:"host_version,omitempty"`
	// DeferS is, with StateRejected and CauseDeferred and only there, after how many
	// seconds the device wants to be asked again: 1 to MaxDeferS.
	DeferS int `json:"defer_s,omitempty"`
}

// Kind returns KindStatus.
func (*Status) Kind() Kind { return KindStatus }

// Validate implements Payload.
func (s *Status) Validate() error {
	if err := checkVersion(s.V); err != nil {
		return err
	}
	if err := checkExecution(s.Execution, s.Attempt); err != nil {
		return err
	}
	if s.Seq < 1 || s.Seq > MaxSeq {
		return badPayload("seq is %d, allowed are 1 to %d", s.Seq, uint64(MaxSeq))
	}
	if !s.State.Reportable() {
		return badPayload("state %q is not one that a device reports", s.State)
	}
	if !s.Cause.Valid() {
		return badPayload("unknown cause %q", s.Cause)
	}
	if failed := s.State.Final() && s.State != StateSucceeded; failed != (s.Cause != CauseNone) {
		return badPayload("state %s with cause %q: a cause stands with every end but success, and only there", s.State, s.Cause)
	}
	if err := s.validateDeferral(); err != nil {
		return err
	}
	if s.BytesDone > MaxImageSize {
		return badPayload("bytes_done is %d, the largest image has %d", s.BytesDone, uint64(MaxImageSize))
	}
	if s.Code < 0 || s.Code > 255 {
		return badPayload("code is %d, allowed are 0 to 255", s.Code)
	}
	if err := checkText("detail", s.Detail, MaxDetailLength); err != nil {
		return err
	}
	if s.State == StateSucceeded && s.HostVersion == "" {
		return badPayload("succeeded without host_version: only the version that the MCU reports is proof")
	}
	return checkText("host_version", s.HostVersion, MaxVersionLength)
}

// validateDeferral holds cause deferred, its state and its time together.
func (s *Status) validateDeferral() error {
	switch {
	case s.Cause != CauseDeferred && s.DeferS != 0:
		return badPayload("defer_s is %d with cause %q; it stands with cause deferred only", s.DeferS, s.Cause)
	case s.Cause != CauseDeferred:
		return nil
	case s.State != StateRejected:
		return badPayload("state %s with cause deferred: an update that is put off is rejected", s.State)
	case s.DeferS < 1 || s.DeferS > MaxDeferS:
		return badPayload("defer_s is %d, with cause deferred 1 to %d are allowed", s.DeferS, MaxDeferS)
	}
	return nil
}

// Ack says that the status with this sequence number is on disk, or was seen
// to change nothing. The device stops repeating it.
type Ack struct {
	V         int    `json:"v"`
	Execution string `json:"execution"`
	Attempt   int    `json:"attempt"`
	Seq       uint64 `json:"seq"`
	// State is what the service has recorded; a final one ends the
	// execution for the device as well.
	State State `json:"state"`
	// Superseded says that the service knows no such execution or has moved
	// on to another attempt: the device drops it.
	Superseded bool `json:"superseded,omitempty"`
}

// Kind returns KindAck.
func (*Ack) Kind() Kind { return KindAck }

// Validate implements Payload.
func (a *Ack) Validate() error {
	if err := checkVersion(a.V); err != nil {
		return err
	}
	if err := checkExecution(a.Execution, a.Attempt); err != nil {
		return err
	}
	if a.Seq < 1 || a.Seq > MaxSeq {
		return badPayload("seq is %d, allowed are 1 to %d", a.Seq, uint64(MaxSeq))
	}
	if !a.State.Valid() {
		return badPayload("unknown state %q", a.State)
	}
	return nil
}
