package trust

import "fmt"

// Reason says why something was refused. The list is fixed, so that it can be
// the label of a metric; errors.Is finds it in every error of this package.
type Reason string

// Error makes a Reason something that errors.Is can look for.
func (r Reason) Error() string { return string(r) }

// The reasons of refusals.
const (
	// ErrPolicy: the policy itself is incomplete or contradicts itself.
	ErrPolicy Reason = "policy"
	// ErrMalformed: a text is not what a conforming signer can have written.
	ErrMalformed Reason = "malformed"
	// ErrUnsigned: there is no signature.
	ErrUnsigned Reason = "unsigned"
	// ErrUnknownKey: no signature is by a key that is trusted.
	ErrUnknownKey Reason = "unknown_key"
	// ErrKeyScope: the keys that signed are trusted, but not for this.
	ErrKeyScope Reason = "key_scope"
	// ErrRevokedKey: the only known key that signed has been revoked.
	ErrRevokedKey Reason = "revoked_key"
	// ErrBadSignature: a trusted key is named, and the signature is not its own.
	ErrBadSignature Reason = "bad_signature"
	// ErrThreshold: fewer trusted keys signed than have to.
	ErrThreshold Reason = "threshold"
	// ErrKeyListRollback: a key list is not newer than the one that is known.
	ErrKeyListRollback Reason = "key_list_rollback"
	// ErrKeyListExpired: the key list is past its end.
	ErrKeyListExpired Reason = "key_list_expired"
	// ErrUnrevoked: a key list drops or uses a key that was revoked before.
	ErrUnrevoked Reason = "unrevoked"
	// ErrDeviceType: the manifest is for other device types.
	ErrDeviceType Reason = "device_type"
	// ErrImageType: the manifest is for another image type.
	ErrImageType Reason = "image_type"
	// ErrMismatch: manifest and image, or manifest and offer, do not belong
	// together (mix and match).
	ErrMismatch Reason = "mismatch"
	// ErrTooLarge: the image is over the policy's limit.
	ErrTooLarge Reason = "too_large"
	// ErrRollback: the security counter is below the device's.
	ErrRollback Reason = "rollback"
	// ErrExpired: the manifest is past its end.
	ErrExpired Reason = "expired"
	// ErrNotYetValid: the text was made later than now: a clock is wrong.
	ErrNotYetValid Reason = "not_yet_valid"
	// ErrBlock: a block's bytes are not those that were signed.
	ErrBlock Reason = "block"
)

// Reasons lists every Reason.
func Reasons() []Reason {
	return []Reason{ErrPolicy, ErrMalformed, ErrUnsigned, ErrUnknownKey, ErrKeyScope, ErrRevokedKey, ErrBadSignature, ErrThreshold,
		ErrKeyListRollback, ErrKeyListExpired, ErrUnrevoked, ErrDeviceType, ErrImageType, ErrMismatch, ErrTooLarge, ErrRollback,
		ErrExpired, ErrNotYetValid, ErrBlock}
}

// Refusal is the error of everything that is refused: a Reason, and a sentence
// that says what, where and what to do.
type Refusal struct {
	Reason Reason
	Text   string
}

// Error returns the sentence.
func (r *Refusal) Error() string { return r.Text }

// Unwrap returns the Reason.
func (r *Refusal) Unwrap() error { return r.Reason }

func refuse(reason Reason, format string, args ...any) error {
	return &Refusal{reason, fmt.Sprintf(format, args...)}
}
