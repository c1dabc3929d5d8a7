// Package keyfile reads the public keys and signed key lists that people name on the
// command line and in configuration files: a key is a file of minisign, or the key itself;
// a key list is a file with its signatures beside it. Bridge, service and the commands
// that work offline all read them here, so that one word means one key everywhere.
//
// The package reads files and keeps nothing. What it reads is judged by package trust.
package keyfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"davit/trust"
)

// SignatureSuffix is what minisign adds to the name of a signed file.
const SignatureSuffix = ".minisig"

// MaxKeyFile is the longest key file in bytes that is read.
const MaxKeyFile = 4 << 10

// ReadBounded reads a file that has to be small; more than limit bytes are an error, and
// are not read.
func ReadBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes, so it is not what it is taken for", path, limit)
	}
	return b, nil
}

// PublicKey reads a public key: word is the key itself, or else a file with it.
func PublicKey(word string) (trust.PublicKey, error) {
	if key, err := trust.ParsePublicKey(word); err == nil {
		return key, nil
	}
	text, err := ReadBounded(word, MaxKeyFile)
	if err != nil {
		return trust.PublicKey{}, fmt.Errorf("%s is neither a minisign public key nor a file with one: %w", word, err)
	}
	key, err := trust.ParsePublicKey(string(text))
	if err != nil {
		return trust.PublicKey{}, fmt.Errorf("%s: %w", word, err)
	}
	return key, nil
}

// PublicKeys reads several, each as PublicKey does.
func PublicKeys(words []string) ([]trust.PublicKey, error) {
	var keys []trust.PublicKey
	for _, word := range words {
		key, err := PublicKey(word)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Set reads keys of which threshold have to sign: all, if it is 0.
func Set(words []string, threshold int) (trust.KeySet, error) {
	keys, err := PublicKeys(words)
	if threshold == 0 {
		threshold = len(keys)
	}
	return trust.KeySet{Keys: keys, Threshold: threshold}, err
}

// Signed reads a signed text of at most limit bytes and its signatures, which are in the
// files that are named, or else beside it. Where there are none beside it the signatures
// are empty.
func Signed(path string, limit int64, signatures ...string) (trust.Signed, error) {
	text, err := ReadBounded(path, limit)
	if err != nil {
		return trust.Signed{}, err
	}
	s := trust.Signed{Text: text}
	beside := len(signatures) == 0
	if beside {
		signatures = []string{path + SignatureSuffix}
	}
	for _, name := range signatures {
		more, err := ReadBounded(name, trust.MaxSignaturesSize)
		if beside && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return trust.Signed{}, err
		}
		s.Signatures = append(s.Signatures, more...)
	}
	return s, nil
}

// Follow reads key lists, from the oldest on, and follows them from pinned root keys, of
// which threshold (0 means all) have to have signed the first. An error names the file.
func Follow(lists, roots []string, threshold int) (*trust.KeyRing, error) {
	root, err := Set(roots, threshold)
	if err != nil {
		return nil, err
	}
	if len(lists) > trust.MaxChain {
		return nil, fmt.Errorf("%d key lists are named, at most %d are allowed", len(lists), trust.MaxChain)
	}
	var ring *trust.KeyRing
	for _, path := range lists {
		s, err := Signed(path, trust.MaxKeyListSize)
		switch {
		case err != nil:
		case len(s.Signatures) == 0:
			err = fmt.Errorf("it has no signatures; they have to be in %s", path+SignatureSuffix)
		case ring == nil:
			ring, err = trust.Follow(root, s)
		default:
			ring, err = ring.Next(s)
		}
		if err != nil {
			return nil, fmt.Errorf("key list %s: %w", path, err)
		}
	}
	return ring, nil
}
