package trust

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// What was verified stays so until one that signed it is revoked; then enough of the others
// have to be listed, for the device type.
func TestUpholds(t *testing.T) {
	k := newKeys(t, 5) // root, three for images, one that is not listed
	now := Moment(time.Now())
	ring := func(threshold int, revoked []PrivateKey, images ...ListedKey) *KeyRing {
		l := KeyList{Version: 2, Created: now, Expires: now.Add(time.Hour), RootThreshold: 1, ImagesThreshold: threshold,
			Keys: append([]ListedKey{{Key: k[0].Public(), Role: RoleRoot}}, images...), Revoked: publics(revoked...)}
		l.Sort()
		r, err := Follow(KeySet{publics(k[0]), 1}, sign(t, encode(t, &l), k[0]))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	listed := func(i int, types ...string) ListedKey { return ListedKey{k[i].Public(), RoleImages, types} }
	for name, c := range map[string]struct {
		ring *KeyRing
		by   []int
		ok   bool
	}{
		"all listed":                     {ring(1, nil, listed(1)), []int{1}, true},
		"rotated away":                   {ring(1, nil, listed(2)), []int{1}, true},
		"threshold raised":               {ring(2, nil, listed(1), listed(2)), []int{1}, true},
		"somebody else revoked":          {ring(1, k[3:4], listed(1)), []int{1}, true},
		"revoked":                        {ring(1, k[1:2], listed(2)), []int{1}, false},
		"one of two, one is enough":      {ring(1, k[1:2], listed(2)), []int{1, 2}, true},
		"one of two, two have to":        {ring(2, k[1:2], listed(2), listed(3)), []int{1, 2}, false},
		"one of three, two have to":      {ring(2, k[1:2], listed(2), listed(3)), []int{1, 2, 3}, true},
		"the other is for another type":  {ring(1, k[1:2], listed(2, "fan"), listed(3)), []int{1, 2}, false},
		"the other is for this type":     {ring(1, k[1:2], listed(2, "pump"), listed(3)), []int{1, 2}, true},
		"the other is not listed":        {ring(1, k[1:2], listed(2)), []int{1, 4}, false},
		"a root key is no key of images": {ring(1, k[1:2], listed(2)), []int{1, 0}, false},
	} {
		var by []string
		for _, i := range c.by {
			by = append(by, k[i].Public().ID.String())
		}
		err := c.ring.Upholds(by, "pump")
		if (err == nil) != c.ok || err != nil && (!errors.Is(err, ErrRevokedKey) || !strings.Contains(err.Error(), k[1].Public().ID.String())) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
