package trust

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Role is what a key of a key list may sign.
type Role string

// The roles.
const (
	// RoleRoot keys sign key lists.
	RoleRoot Role = "root"
	// RoleImages keys sign manifests.
	RoleImages Role = "images"
)

// Bounds of a key list.
const (
	// MaxKeyListSize is the longest key list in bytes.
	MaxKeyListSize = 64 << 10
	// MaxRevoked is how many revoked keys a list may name.
	MaxRevoked = 256
	// MaxListVersion is the highest version of a key list.
	MaxListVersion = 1<<53 - 1
)

const keyListV = 1

// ListedKey is a key of a key list.
type ListedKey struct {
	Key  PublicKey
	Role Role
	// DeviceTypes are those for which an images key counts, ascending; all if there
	// are none. A root key has none.
	DeviceTypes []string
}

// KeyList says which keys are trusted for what. Only a KeyRing, which has
// verified its signatures, decides anything by it.
type KeyList struct {
	// Version grows with each list, from 1.
	Version uint64
	// Created and Expires say from when to when images may be accepted by the list,
	// in whole seconds of UTC.
	Created, Expires time.Time
	// RootThreshold and ImagesThreshold are how many keys of the role have to sign.
	RootThreshold, ImagesThreshold int
	// Keys are the root keys and then the others, each by ascending id. A key has
	// one role.
	Keys []ListedKey
	// Revoked are the keys that were trusted once and never will be again, by
	// ascending id. They are named whole, as anybody can give a key another id.
	Revoked []PublicKey
}

type keyListText struct {
	V               int             `json:"v"`
	Version         uint64          `json:"version"`
	Created         time.Time       `json:"created"`
	Expires         time.Time       `json:"expires"`
	RootThreshold   int             `json:"root_threshold"`
	ImagesThreshold int             `json:"images_threshold"`
	Keys            []listedKeyText `json:"keys"`
	Revoked         []string        `json:"revoked"`
}

type listedKeyText struct {
	ID          string   `json:"id"`
	Role        Role     `json:"role"`
	DeviceTypes []string `json:"device_types,omitempty"`
	PublicKey   string   `json:"public_key"`
}

// TrustedComment is what davit has signatures of the list say beside it.
func (l *KeyList) TrustedComment() string {
	return fmt.Sprintf("davit key list v1 version %d", l.Version)
}

// Sort puts keys, their device types and revoked keys into the order that the
// text demands.
func (l *KeyList) Sort() {
	for i := range l.Keys {
		slices.Sort(l.Keys[i].DeviceTypes)
	}
	slices.SortStableFunc(l.Keys, compareListed)
	slices.SortStableFunc(l.Revoked, func(a, b PublicKey) int { return cmp.Compare(a.ID, b.ID) })
}

func compareListed(a, b ListedKey) int {
	return cmp.Or(-cmp.Compare(a.Role, b.Role), cmp.Compare(a.Key.ID, b.Key.ID))
}

// Encode returns the list's one text, or why it can have none.
func (l *KeyList) Encode() ([]byte, error) {
	if err := l.validate(); err != nil {
		return nil, err
	}
	t := keyListText{V: keyListV, Version: l.Version, Created: l.Created, Expires: l.Expires, RootThreshold: l.RootThreshold,
		ImagesThreshold: l.ImagesThreshold, Keys: []listedKeyText{}, Revoked: []string{}}
	for _, k := range l.Keys {
		t.Keys = append(t.Keys, listedKeyText{k.Key.ID.String(), k.Role, k.DeviceTypes, k.Key.String()})
	}
	for _, k := range l.Revoked {
		t.Revoked = append(t.Revoked, k.String())
	}
	text, err := encodeText(t)
	if err == nil && len(text) > MaxKeyListSize {
		err = fmt.Errorf("it has %d bytes, at most %d are allowed", len(text), MaxKeyListSize)
	}
	if err != nil {
		return nil, refuse(ErrMalformed, "the key list cannot be written: %v", err)
	}
	return text, nil
}

// DecodeKeyList reads a key list's text. It says nothing about who wrote it.
// Errors are ErrMalformed.
func DecodeKeyList(text []byte) (*KeyList, error) {
	var t keyListText
	if err := decodeText("key list", text, MaxKeyListSize, keyListV, &t); err != nil {
		return nil, err
	}
	if t.V != keyListV {
		return nil, refuse(ErrMalformed, "the key list has format version %d; this program knows version %d", t.V, keyListV)
	}
	if t.Keys == nil || t.Revoked == nil {
		return nil, refuse(ErrMalformed, "keys and revoked of the key list have to be lists")
	}
	l := &KeyList{Version: t.Version, Created: t.Created, Expires: t.Expires, RootThreshold: t.RootThreshold, ImagesThreshold: t.ImagesThreshold}
	for _, k := range t.Keys {
		key, err := parseListed(k.PublicKey)
		if err != nil {
			return nil, err
		}
		if key.ID.String() != k.ID {
			return nil, refuse(ErrMalformed, "key %.40q of the key list has the id %v in its public key", k.ID, key.ID)
		}
		l.Keys = append(l.Keys, ListedKey{key, k.Role, k.DeviceTypes})
	}
	for _, word := range t.Revoked {
		key, err := parseListed(word)
		if err != nil {
			return nil, err
		}
		l.Revoked = append(l.Revoked, key)
	}
	if err := l.validate(); err != nil {
		return nil, err
	}
	return l, nil
}

// parseListed reads a public key that stands in a list: one word, nothing else.
func parseListed(word string) (PublicKey, error) {
	key, err := ParsePublicKey(word)
	if err == nil && key.String() != word {
		err = refuse(ErrMalformed, "a public key of the key list is not the key alone")
	}
	return key, err
}

func (l *KeyList) validate() error {
	if l.Version < 1 || l.Version > MaxListVersion {
		return refuse(ErrMalformed, "version of the key list is %d, allowed are 1 to %d", l.Version, uint64(MaxListVersion))
	}
	if err := checkSpan("key list", l.Created, l.Expires); err != nil {
		return err
	}
	if len(l.Keys) > MaxKeys || len(l.Revoked) > MaxRevoked {
		return refuse(ErrMalformed, "the key list has %d keys and %d revoked ones, at most %d and %d are allowed", len(l.Keys), len(l.Revoked), MaxKeys, MaxRevoked)
	}
	if err := l.validateKeys(); err != nil {
		return err
	}
	for i, key := range l.Revoked {
		if i > 0 && l.Revoked[i-1].ID >= key.ID {
			return refuse(ErrMalformed, "revoked keys of the key list have to ascend by their ids, and %v does not come after %v", key.ID, l.Revoked[i-1].ID)
		}
	}
	return l.validateThresholds()
}

func (l *KeyList) validateKeys() error {
	var all []PublicKey
	for i, k := range l.Keys {
		in := "key " + k.Key.ID.String() + " of the key list"
		switch {
		case k.Role != RoleRoot && k.Role != RoleImages:
			return refuse(ErrMalformed, "role of %s is %.40q, allowed are %s and %s", in, k.Role, RoleRoot, RoleImages)
		case k.Role == RoleRoot && len(k.DeviceTypes) > 0:
			return refuse(ErrMalformed, "%s is a root key, which is for every device type; leave its device_types out", in)
		case i > 0 && compareListed(l.Keys[i-1], k) >= 0:
			return refuse(ErrMalformed, "%s does not come after key %v: root keys come first, and ids ascend", in, l.Keys[i-1].Key.ID)
		case k.Key.weak():
			return refuse(ErrMalformed, "%s is no key: anybody can make signatures that agree with it", in)
		case l.revoked(k.Key):
			return refuse(ErrMalformed, "%s is revoked in the same list", in)
		}
		if err := checkDeviceTypes(in, k.DeviceTypes); err != nil {
			return err
		}
		all = append(all, k.Key)
	}
	if a, b, twice := repeated(all); twice {
		return refuse(ErrMalformed, "keys %v and %v of the key list are one key, or have one id: each key has one role and counts once", a.ID, b.ID)
	}
	return nil
}

// validateThresholds: the root role has to be able to sign the next list. An
// images role without keys is one that accepts nothing, which is how an OEM
// stops all updates.
func (l *KeyList) validateThresholds() error {
	roots, images := len(l.role(RoleRoot)), len(l.role(RoleImages))
	if l.RootThreshold < 1 || l.RootThreshold > roots {
		return refuse(ErrMalformed, "root_threshold of the key list is %d with %d root keys; it has to be from 1 to their number", l.RootThreshold, roots)
	}
	if l.ImagesThreshold < 1 || l.ImagesThreshold > max(images, 1) {
		return refuse(ErrMalformed, "images_threshold of the key list is %d with %d images keys; it has to be from 1 to their number", l.ImagesThreshold, images)
	}
	return nil
}

// role are the keys of a role.
func (l *KeyList) role(r Role) []PublicKey {
	var keys []PublicKey
	for _, k := range l.Keys {
		if k.Role == r {
			keys = append(keys, k.Key)
		}
	}
	return keys
}

// revoked says whether the list names the key as revoked, under whatever id.
func (l *KeyList) revoked(key PublicKey) bool { return slices.ContainsFunc(l.Revoked, key.SameKey) }

func (l *KeyList) clone() KeyList {
	c := *l
	c.Keys, c.Revoked = slices.Clone(l.Keys), slices.Clone(l.Revoked)
	for i := range c.Keys {
		c.Keys[i].DeviceTypes = slices.Clone(c.Keys[i].DeviceTypes)
	}
	return c
}
