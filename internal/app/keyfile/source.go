package keyfile

import (
	"errors"
	"fmt"

	"davit/trust"
)

// Source says where the keys are that images have to be signed with: Keys, or key lists
// with pinned root keys in their place. With neither there are none.
type Source struct {
	// Keys are public keys (PublicKey), of which Threshold have to sign; 0 means all.
	Keys      []string
	Threshold int
	// Lists are files with key lists, from the oldest on, and Roots the pinned root keys, of
	// which RootThreshold have to have signed the first list; 0 means all.
	Lists, Roots  []string
	RootThreshold int
}

// None says whether the source names no keys.
func (s *Source) None() bool { return len(s.Keys) == 0 && len(s.Lists) == 0 }

// Validate refuses combinations that mean nothing, by the names of the flags; it reads
// no file.
func (s *Source) Validate() error {
	var wrong []error
	switch {
	case len(s.Keys) > 0 && len(s.Lists) > 0:
		wrong = append(wrong, errors.New("name image keys with --image-keys or key lists with --key-list, not both"))
	case len(s.Keys) == 0 && s.Threshold != 0:
		wrong = append(wrong, errors.New("--image-keys-threshold stands with --image-keys, and no image keys are named"))
	}
	switch {
	case len(s.Lists) == 0 && (len(s.Roots) > 0 || s.RootThreshold != 0):
		wrong = append(wrong, errors.New("--root-keys and --root-keys-threshold stand with --key-list; without a key list root keys sign nothing"))
	case len(s.Lists) > 0 && len(s.Roots) == 0:
		wrong = append(wrong, errors.New("name the pinned root keys with --root-keys: a key list alone proves nothing"))
	}
	if s.Threshold < 0 || s.RootThreshold < 0 {
		wrong = append(wrong, errors.New("a threshold of keys is below 0; it is from 1 to their number, and all if it is left out"))
	}
	return errors.Join(wrong...)
}

// Read reads the keys anew: a set, or a key list in its place.
func (s *Source) Read() (keys trust.KeySet, ring *trust.KeyRing, err error) {
	switch {
	case len(s.Lists) > 0:
		ring, err = Follow(s.Lists, s.Roots, s.RootThreshold)
	case len(s.Keys) > 0:
		if keys, err = Set(s.Keys, s.Threshold); err == nil {
			err = keys.Validate()
		}
		if err != nil {
			err = fmt.Errorf("image keys: %w", err)
		}
	}
	return keys, ring, err
}

// Files are all files that Read may read: signatures of key lists, too, and words that are
// keys themselves, of which there is no file.
func (s *Source) Files() []string {
	files := append([]string(nil), s.Keys...)
	files = append(files, s.Roots...)
	for _, list := range s.Lists {
		files = append(files, list, list+SignatureSuffix)
	}
	return files
}
