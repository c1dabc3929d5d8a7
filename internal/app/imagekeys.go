package app

import (
	"errors"

	"davit/bridge"
)

// trusted reads the keys anew. An error names the file.
func (o *BridgeOptions) trusted() (t bridge.Trust, err error) {
	t.Optional = o.AllowUnsigned
	t.Keys, t.Ring, err = o.Keys.Read()
	return t, err
}

// validateKeys refuses combinations of settings that mean nothing.
func (o *BridgeOptions) validateKeys() error {
	if o.Keys.None() && o.given("require-signature") && !o.AllowUnsigned {
		return errors.New("no image keys are named, so no signature can be asked for; name them with --image-keys or in the file of --config")
	}
	return o.Keys.Validate()
}
