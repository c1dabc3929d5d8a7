package app

import (
	"fmt"
	"io"
	"os"

	"davit/bridge"
	"davit/trust"
)

// maxKeyFile is the longest key file in bytes that is read.
const maxKeyFile = 8 << 10

// trusted reads the keys of images anew. An error names the file.
func (o *BridgeOptions) trusted() (bridge.Trust, error) {
	t := bridge.Trust{Optional: o.AllowUnsigned}
	if len(o.ImageKeys) == 0 {
		return t, nil
	}
	for _, name := range o.ImageKeys {
		key, err := readImageKey(name)
		if err != nil {
			return t, fmt.Errorf("read an image key: %w", err)
		}
		t.Keys.Keys = append(t.Keys.Keys, key)
	}
	t.Keys.Threshold = max(1, o.ImageKeysThreshold)
	return t, nil
}

func readImageKey(name string) (trust.PublicKey, error) {
	f, err := os.Open(name)
	if err != nil {
		return trust.PublicKey{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return trust.PublicKey{}, err
	}
	key, err := trust.ParsePublicKey(string(b))
	if err != nil {
		return key, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}
