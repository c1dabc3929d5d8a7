// Package signtest signs images for tests of what keeps and offers signed images.
package signtest

import (
	"bytes"
	"testing"
	"time"

	"davit/trust"
)

// Key makes a key.
func Key(t testing.TB) trust.PrivateKey {
	t.Helper()
	key, err := trust.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Keys are the public halves, of which threshold have to sign.
func Keys(threshold int, keys ...trust.PrivateKey) trust.KeySet {
	set := trust.KeySet{Threshold: threshold}
	for _, key := range keys {
		set.Keys = append(set.Keys, key.Public())
	}
	return set
}

// Terms of a manifest that was made at created and lasts for a day.
func Terms(imageType, deviceType, version string, created time.Time) trust.Terms {
	created = trust.Moment(created)
	return trust.Terms{
		ImageType: imageType, DeviceTypes: []string{deviceType}, Version: version, Counter: 7, BlockSize: trust.MinBlockSize,
		Created: created, Expires: created.Add(24 * time.Hour),
	}
}

// Sign makes the manifest of an image and signs it with each key.
func Sign(t testing.TB, image []byte, terms trust.Terms, keys ...trust.PrivateKey) trust.Signed {
	t.Helper()
	m, err := trust.Build(bytes.NewReader(image), terms)
	if err != nil {
		t.Fatal(err)
	}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var all []trust.Signature
	for _, key := range keys {
		signature, err := key.Sign(text, m.TrustedComment())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, signature)
	}
	return trust.Signed{Text: text, Signatures: trust.EncodeSignatures(all)}
}
