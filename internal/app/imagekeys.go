package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"davit/bridge"
	"davit/trust"
)

// maxKeyFile is the longest key file in bytes that is read.
const maxKeyFile = 8 << 10

// trusted reads the keys anew. An error names the file.
func (o *BridgeOptions) trusted() (bridge.Trust, error) {
	t := bridge.Trust{Optional: o.AllowUnsigned}
	var err error
	switch {
	case len(o.ImageKeys) > 0:
		t.Keys, err = readKeys(o.ImageKeys, o.ImageKeysThreshold)
	case len(o.KeyLists) > 0:
		t.Ring, err = followLists(o.KeyLists, o.RootKeys, o.RootKeysThreshold)
	}
	return t, err
}

// validateKeys refuses combinations of settings that mean nothing.
func (o *BridgeOptions) validateKeys() error {
	none := len(o.ImageKeys) == 0 && len(o.KeyLists) == 0
	switch {
	case len(o.ImageKeys) > 0 && len(o.KeyLists) > 0:
		return errors.New("name image keys with --image-keys or key lists with --key-list, not both")
	case none && o.given("require-signature") && !o.AllowUnsigned, len(o.ImageKeys) == 0 && o.ImageKeysThreshold != 0:
		return errors.New("no image keys are named, so no signature can be asked for; name them with --image-keys or in the file of --config")
	case len(o.KeyLists) == 0 && (len(o.RootKeys) > 0 || o.RootKeysThreshold != 0):
		return errors.New("root keys stand with --key-list; without a key list they sign nothing")
	case len(o.KeyLists) > 0 && len(o.RootKeys) == 0:
		return errors.New("name the pinned root keys with --root-keys: a key list alone proves nothing")
	case o.ImageKeysThreshold < 0 || o.RootKeysThreshold < 0:
		return errors.New("a threshold of keys is below 0; it is from 1 to their number, and all if it is left out")
	}
	return nil
}

// readKeys reads keys of which threshold have to sign, or all for 0.
func readKeys(names []string, threshold int) (trust.KeySet, error) {
	set := trust.KeySet{Threshold: threshold}
	for _, name := range names {
		key, err := readPublicKey(name)
		if err != nil {
			return set, fmt.Errorf("read a key: %w", err)
		}
		set.Keys = append(set.Keys, key)
	}
	if threshold == 0 {
		set.Threshold = len(set.Keys)
	}
	return set, nil
}

// followLists reads key lists and goes through them from the root keys on.
func followLists(names, roots []string, threshold int) (*trust.KeyRing, error) {
	root, err := readKeys(roots, threshold)
	if err != nil {
		return nil, err
	}
	var chain []trust.Signed
	for _, name := range names {
		text, err := readSmall(name, trust.MaxKeyListSize)
		if err != nil {
			return nil, fmt.Errorf("read a key list: %w", err)
		}
		signatures, err := readSmall(name+".minisig", trust.MaxSignaturesSize)
		if err != nil {
			return nil, fmt.Errorf("read the signatures of a key list: %w", err)
		}
		chain = append(chain, trust.Signed{Text: text, Signatures: signatures})
	}
	ring, err := trust.Follow(root, chain...)
	if err != nil {
		return nil, fmt.Errorf("key lists %s: %w", strings.Join(names, ", "), err)
	}
	return ring, nil
}

// readSmall reads a file, and no more than a byte beyond limit, which the reader of
// its content then refuses.
func readSmall(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
}

func readPublicKey(name string) (trust.PublicKey, error) {
	b, err := readSmall(name, maxKeyFile)
	if err != nil {
		return trust.PublicKey{}, err
	}
	key, err := trust.ParsePublicKey(string(b))
	if err != nil {
		return key, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}
