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

// List is a key list that lasts for a day, of one root key and keys that sign images for all
// device types.
func List(version uint64, root trust.PrivateKey, images ...trust.PrivateKey) trust.KeyList {
	now := trust.Moment(time.Now())
	l := trust.KeyList{
		Version: version, Created: now, Expires: now.Add(24 * time.Hour), RootThreshold: 1, ImagesThreshold: 1,
		Keys: []trust.ListedKey{{Key: root.Public(), Role: trust.RoleRoot}},
	}
	for _, key := range images {
		l.Keys = append(l.Keys, trust.ListedKey{Key: key.Public(), Role: trust.RoleImages})
	}
	l.Sort()
	return l
}

// SignList signs a key list with a root key.
func SignList(t testing.TB, l trust.KeyList, root trust.PrivateKey) trust.Signed {
	t.Helper()
	text, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := root.Sign(text, l.TrustedComment())
	if err != nil {
		t.Fatal(err)
	}
	return trust.Signed{Text: text, Signatures: trust.EncodeSignatures([]trust.Signature{signature})}
}

// Ring is a key list in force, followed from its root key.
func Ring(t testing.TB, l trust.KeyList, root trust.PrivateKey) *trust.KeyRing {
	t.Helper()
	ring, err := trust.Follow(Keys(1, root), SignList(t, l, root))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}
