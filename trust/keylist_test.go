package trust

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// listOf makes a list with root and image keys and thresholds of one.
func listOf(version uint64, roots, images []PrivateKey) *KeyList {
	l := &KeyList{Version: version, Created: made, Expires: ends, RootThreshold: 1, ImagesThreshold: 1}
	for _, k := range roots {
		l.Keys = append(l.Keys, ListedKey{k.Public(), RoleRoot, nil})
	}
	for _, k := range images {
		l.Keys = append(l.Keys, ListedKey{k.Public(), RoleImages, nil})
	}
	l.Sort()
	return l
}

func TestKeyListRoundTrip(t *testing.T) {
	k := newKeys(t, 6)
	l := listOf(3, k[:2], k[2:4])
	l.Keys[3].DeviceTypes = []string{"pump", "heater"}
	l.Revoked = publics(k[4:]...)
	l.RootThreshold, l.ImagesThreshold = 2, 2
	l.Sort()
	text := encode(t, l)
	back, err := DecodeKeyList(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if again := encode(t, back); !bytes.Equal(again, text) {
		t.Errorf("another text:\n%s\n%s", text, again)
	}
	if !reflect.DeepEqual(back, l) {
		t.Errorf("decoded %+v, want %+v", back, l)
	}
	if _, err := DecodeManifest(text); err == nil {
		t.Error("a key list is a manifest, too")
	}
	if _, err := DecodeKeyList(encode(t, build(t, randomImage(9), terms()))); err == nil {
		t.Error("a manifest is a key list, too")
	}
}

func TestLargestKeyList(t *testing.T) {
	k := newKeys(t, MaxKeys)
	l := listOf(1, k[:2], k[2:])
	for range MaxRevoked {
		l.Revoked = append(l.Revoked, newKey(t).Public())
	}
	l.Sort()
	if text := encode(t, l); len(text) > MaxKeyListSize {
		t.Errorf("%d bytes", len(text))
	}
	l.Keys = append(l.Keys, ListedKey{newKey(t).Public(), RoleImages, nil})
	l.Sort()
	_, err := l.Encode()
	refused(t, err, ErrMalformed)
}

// TestKeyListMutated changes what a list says, one thing at a time.
func TestKeyListMutated(t *testing.T) {
	k := newKeys(t, 5)
	good := listOf(3, k[:2], k[2:4])
	good.Revoked = publics(k[4])
	alias := func(k PublicKey) PublicKey { k.ID++; return k }
	for name, change := range map[string]func(*keyListText){
		"format version":            func(l *keyListText) { l.V = 2 },
		"version 0":                 func(l *keyListText) { l.Version = 0 },
		"a huge version":            func(l *keyListText) { l.Version = MaxListVersion + 1 },
		"no creation":               func(l *keyListText) { l.Created = time.Time{} },
		"no end":                    func(l *keyListText) { l.Expires = time.Time{} },
		"ends before it begins":     func(l *keyListText) { l.Expires = l.Created },
		"root threshold 0":          func(l *keyListText) { l.RootThreshold = 0 },
		"negative":                  func(l *keyListText) { l.RootThreshold = -1 },
		"over the root keys":        func(l *keyListText) { l.RootThreshold = 3 },
		"images threshold 0":        func(l *keyListText) { l.ImagesThreshold = 0 },
		"over the images keys":      func(l *keyListText) { l.ImagesThreshold = 3 },
		"no keys":                   func(l *keyListText) { l.Keys = []listedKeyText{} },
		"keys null":                 func(l *keyListText) { l.Keys = nil },
		"no root keys":              func(l *keyListText) { l.Keys = l.Keys[2:] },
		"revoked null":              func(l *keyListText) { l.Revoked = nil },
		"a key's id":                func(l *keyListText) { l.Keys[0].ID = l.Keys[1].ID },
		"a key's id in small":       func(l *keyListText) { l.Keys[0].ID = strings.ToLower(l.Keys[0].ID) },
		"another role":              func(l *keyListText) { l.Keys[2].Role = "Images" },
		"no role":                   func(l *keyListText) { l.Keys[2].Role = "" },
		"a root key's device types": func(l *keyListText) { l.Keys[0].DeviceTypes = []string{"pump"} },
		"descending device types":   func(l *keyListText) { l.Keys[2].DeviceTypes = []string{"pump", "heater"} },
		"a key's text":              func(l *keyListText) { l.Keys[0].PublicKey = "RW" + l.Keys[0].PublicKey },
		"a key file":                func(l *keyListText) { l.Keys[0].PublicKey = string(k[0].Public().File()) },
		"a key with a newline":      func(l *keyListText) { l.Keys[0].PublicKey += "\n" },
		"another order":             func(l *keyListText) { slices.Reverse(l.Keys) },
		"a key twice":               func(l *keyListText) { l.Keys = slices.Insert(l.Keys, 0, l.Keys[0]) },
		"a key in two roles": func(l *keyListText) {
			l.Keys[2] = l.Keys[0]
			l.Keys[2].Role = RoleImages
		},
		"a key under two ids": func(l *keyListText) {
			a := alias(mustKey(t, l.Keys[0].PublicKey))
			l.Keys = slices.Insert(l.Keys, 1, listedKeyText{ID: a.ID.String(), Role: RoleRoot, PublicKey: a.String()})
		},
		"a revoked key": func(l *keyListText) { l.Revoked[0] = l.Keys[2].PublicKey },
		"a revoked key under another id": func(l *keyListText) {
			l.Revoked[0] = alias(mustKey(t, l.Keys[2].PublicKey)).String()
		},
		"revoked twice":       func(l *keyListText) { l.Revoked = append(l.Revoked, l.Revoked[0]) },
		"revoked, no key":     func(l *keyListText) { l.Revoked[0] = "x" },
		"revoked, an id only": func(l *keyListText) { l.Revoked[0] = k[4].Public().ID.String() },
	} {
		t.Run(name, func(t *testing.T) {
			var l keyListText
			if err := decodeText("key list", encode(t, good), MaxKeyListSize, keyListV, &l); err != nil {
				t.Fatal(err)
			}
			change(&l)
			text, err := encodeText(l)
			if err != nil {
				t.Fatal(err)
			}
			_, err = DecodeKeyList(text)
			refused(t, err, ErrMalformed)
			// Signed by everybody it is no better.
			_, err = Follow(KeySet{publics(k[:2]...), 1}, sign(t, text, k...))
			refused(t, err, ErrMalformed)
		})
	}
}

func mustKey(t *testing.T, word string) PublicKey {
	t.Helper()
	k, err := ParsePublicKey(word)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestRotation(t *testing.T) {
	k := newKeys(t, 6)
	pinned := KeySet{publics(k[0]), 1}
	first := listOf(1, k[:1], k[4:5])
	second := listOf(2, k[1:4], k[5:]) // other roots, two of three; another image key, the old one revoked
	second.RootThreshold = 2
	second.Revoked = publics(k[4])
	third := listOf(7, k[2:4], k[5:])
	third.Revoked = publics(k[4], k[1])
	third.Sort()
	s1, s2, s3 := sign(t, encode(t, first), k[0]), sign(t, encode(t, second), k[0], k[1], k[3]), sign(t, encode(t, third), k[1], k[2])
	ring, err := Follow(pinned, s1, s2, s3)
	if err != nil {
		t.Fatal(err)
	}
	if ring.Version() != 7 || len(ring.List().Keys) != 3 {
		t.Errorf("in force: %+v", ring.List())
	}

	if err := ring.Check(ends.Add(-time.Second)); err != nil {
		t.Error(err)
	}
	refused(t, ring.Check(ends), ErrKeyListExpired)
	refused(t, ring.Check(made.Add(-25*time.Hour)), ErrNotYetValid)

	one, err := Follow(pinned, s1)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		from *KeyRing
		list Signed
		want Reason
	}{
		"without the old root":         {one, sign(t, encode(t, second), k[1], k[2], k[3]), ErrUnknownKey},
		"without the new roots":        {one, sign(t, encode(t, second), k[0]), ErrUnknownKey},
		"too few of the new roots":     {one, sign(t, encode(t, second), k[0], k[1]), ErrThreshold},
		"one of them twice":            {one, sign(t, encode(t, second), k[0], k[1], k[1]), ErrThreshold},
		"by an image key":              {one, sign(t, encode(t, second), k[4]), ErrKeyScope},
		"by a new image key":           {one, sign(t, encode(t, second), k[5]), ErrUnknownKey},
		"unsigned":                     {one, Signed{encode(t, second), nil}, ErrUnsigned},
		"signatures of another list":   {one, Signed{encode(t, second), s1.Signatures}, ErrBadSignature},
		"a list in between left out":   {one, s3, ErrUnknownKey},
		"the same list again":          {one, s1, ErrKeyListRollback},
		"an older list":                {ring, sign(t, encode(t, second), k[2], k[3]), ErrKeyListRollback},
		"the first list":               {ring, sign(t, encode(t, first), k[0], k[2], k[3]), ErrKeyListRollback},
		"by the old root, now revoked": {ring, sign(t, encode(t, second), k[1]), ErrRevokedKey},
	} {
		t.Run(name, func(t *testing.T) {
			before := c.from.List()
			_, err := c.from.Next(c.list)
			refused(t, err, c.want)
			if !reflect.DeepEqual(c.from.List(), before) {
				t.Error("the ring has changed")
			}
		})
	}
	t.Run("a revoked key forgotten", func(t *testing.T) {
		l := listOf(8, k[2:4], k[4:5])
		_, err := ring.Next(sign(t, encode(t, l), k[2:4]...))
		refused(t, err, ErrUnrevoked)
	})
	t.Run("a revoked key under another id", func(t *testing.T) {
		l := listOf(8, k[2:4], k[4:5])
		l.Keys[2].Key.ID = 1<<64 - 1
		l.Revoked = publics(k[1])
		_, err := ring.Next(sign(t, encode(t, l), k[2:4]...))
		refused(t, err, ErrUnrevoked)
	})
}

func TestFollowFromPinnedRoots(t *testing.T) {
	k := newKeys(t, 4)
	l := listOf(1, k[:3], k[3:])
	l.RootThreshold = 2
	text := encode(t, l)
	two := KeySet{publics(k[:3]...), 2}
	if _, err := Follow(two, sign(t, text, k[0], k[2])); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		pinned KeySet
		chain  []Signed
		want   Reason
	}{
		"no list":                      {two, nil, ErrUnsigned},
		"one root only":                {two, []Signed{sign(t, text, k[0])}, ErrThreshold},
		"one root twice":               {two, []Signed{sign(t, text, k[0], k[0])}, ErrThreshold},
		"its own threshold not met":    {KeySet{publics(k[0]), 1}, []Signed{sign(t, text, k[0])}, ErrThreshold},
		"other roots pinned":           {KeySet{publics(newKey(t)), 1}, []Signed{sign(t, text, k...)}, ErrUnknownKey},
		"nothing pinned":               {KeySet{}, []Signed{sign(t, text, k...)}, ErrPolicy},
		"a pinned key twice":           {KeySet{publics(k[0], k[0]), 2}, []Signed{sign(t, text, k[0])}, ErrPolicy},
		"the list twice":               {two, []Signed{sign(t, text, k[:2]...), sign(t, text, k[:2]...)}, ErrKeyListRollback},
		"more lists than anybody has":  {two, make([]Signed, MaxChain+1), ErrMalformed},
		"a wrong one after a good one": {two, []Signed{sign(t, text, k[:2]...), {text, []byte("x")}}, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			ring, err := Follow(c.pinned, c.chain...)
			refused(t, err, c.want)
			if ring != nil {
				t.Error("a ring all the same")
			}
		})
	}
}

// TestEveryByteOfAKeyListCounts, as of a manifest.
func TestEveryByteOfAKeyListCounts(t *testing.T) {
	k := newKeys(t, 3)
	l := listOf(1, k[:1], k[1:2])
	l.Revoked = publics(k[2])
	s := sign(t, encode(t, l), k[0])
	for i := range s.Text {
		changed := bytes.Clone(s.Text)
		changed[i] ^= 1
		_, err := Follow(KeySet{publics(k[0]), 1}, Signed{changed, s.Signatures})
		refused(t, err, ErrBadSignature)
		if l, err := DecodeKeyList(changed); err == nil && !bytes.Equal(encode(t, l), changed) {
			t.Fatalf("two texts for one list:\n%s", changed)
		}
	}
}
