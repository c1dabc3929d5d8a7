package orchestrator

import (
	"errors"
	"fmt"

	"davit/trust"
)

// verifier is what signatures of images are verified with: pinned keys, or a key list in
// their place; with neither nothing is verified. It does not change.
type verifier struct {
	keys trust.KeySet
	ring *trust.KeyRing
}

func newVerifier(keys trust.KeySet, ring *trust.KeyRing) (*verifier, error) {
	switch {
	case len(keys.Keys) == 0 && keys.Threshold == 0:
		return &verifier{ring: ring}, nil
	case ring != nil:
		return nil, errors.New("orchestrator: there are image keys and a key list; decide for one of them")
	}
	if err := keys.Validate(); err != nil {
		return nil, fmt.Errorf("image keys: %w", err)
	}
	return &verifier{keys: keys}, nil
}

// on says whether there are keys.
func (v *verifier) on() bool { return v.ring != nil || len(v.keys.Keys) > 0 }

// upholds says why an image that was verified before may not be offered any more to a
// device type that requires signatures; nil if it may. Only a key list revokes keys.
func (v *verifier) upholds(m *Image, deviceType string) error {
	if v.ring == nil || m.Manifest == nil {
		return nil
	}
	return v.ring.Upholds(m.Manifest.VerifiedBy, deviceType)
}

// SetKeys puts other keys in force, as Options.ImageKeys and Options.KeyRing. What was verified stays
// so, except where a signer has been revoked by the list: to devices whose type requires
// signatures such an image is not offered any more, from their next event on, and an offer that
// nobody has accepted is withdrawn. Jobs are created by the new keys. An error says that nothing has changed; that all keys are
// gone is one.
func (s *Service) SetKeys(keys trust.KeySet, ring *trust.KeyRing) error {
	v, err := newVerifier(keys, ring)
	if err != nil {
		return err
	}
	if !v.on() && s.verifier.Load().on() {
		return errors.New("there are no keys any more; restart the service if that is meant")
	}
	s.verifier.Store(v)
	return nil
}
