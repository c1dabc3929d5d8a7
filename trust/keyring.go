package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// KeyRing is a key list that was reached from pinned root keys: each list was
// signed by enough root keys of the one before it and of itself. It does not
// change and may be used by several goroutines.
type KeyRing struct {
	list   KeyList
	anchor string
}

// MaxChain is how many key lists Follow takes.
const MaxChain = 256

// Follow goes through key lists in their order, from the pinned root keys on:
// the first has to be signed by enough of them, as it has to be by its own root
// keys. The lists in between may have expired; whether the last one has is looked
// at when an image is checked. Keep the whole chain: a device that knows only the
// pinned keys needs it from the beginning, and one that starts again follows it
// again, so that what lies on a disk need not be trusted.
func Follow(root KeySet, chain ...Signed) (*KeyRing, error) {
	if len(chain) == 0 {
		return nil, refuse(ErrUnsigned, "there is no key list")
	}
	if len(chain) > MaxChain {
		return nil, refuse(ErrMalformed, "there are %d key lists in the chain, at most %d are allowed", len(chain), MaxChain)
	}
	ring, err := admit(root, root.name(), nil, chain[0])
	for _, s := range chain[1:] {
		if err != nil {
			break
		}
		ring, err = ring.Next(s)
	}
	return ring, err
}

// Next goes on to a newer list. The ring that it is called on does not change.
// Errors are ErrMalformed, those of signatures, ErrKeyListRollback and
// ErrUnrevoked.
func (r *KeyRing) Next(s Signed) (*KeyRing, error) {
	return admit(KeySet{r.list.role(RoleRoot), r.list.RootThreshold}, r.anchor, &r.list, s)
}

// admit takes a list that enough of the old root keys have signed, and enough of
// its own: otherwise a list could be put in force that nobody can replace. The
// signatures of the old keys are verified before anything is parsed.
func admit(root KeySet, anchor string, old *KeyList, s Signed) (*KeyRing, error) {
	var aside bystanders
	if old != nil {
		aside = bystanders{revoked: old.Revoked, scoped: old.role(RoleImages)}
	}
	if _, err := root.signers("key list", s, aside); err != nil {
		return nil, err
	}
	list, err := DecodeKeyList(s.Text)
	if err != nil {
		return nil, err
	}
	if old != nil && list.Version <= old.Version {
		return nil, refuse(ErrKeyListRollback, "the key list has version %d, and version %d is in force; only a newer one replaces it", list.Version, old.Version)
	}
	if old != nil {
		for _, key := range old.Revoked {
			if !list.revoked(key) {
				return nil, refuse(ErrUnrevoked, "key %v was revoked, and version %d of the key list does not say so any more; keep it among the revoked keys", key.ID, list.Version)
			}
		}
	}
	own := KeySet{list.role(RoleRoot), list.RootThreshold}
	if _, err := own.signers("key list", s, bystanders{revoked: list.Revoked, scoped: list.role(RoleImages)}); err != nil {
		return nil, err
	}
	return &KeyRing{*list, anchor}, nil
}

// List is the list in force.
func (r *KeyRing) List() KeyList { return r.list.clone() }

// Version is that of the list in force.
func (r *KeyRing) Version() uint64 { return r.list.Version }

// Anchor names the pinned root keys that the list was reached from, and how many of them
// have to sign: lower-case hexadecimal digits, the same for the same keys in whatever order.
// Whoever remembers the version of a list remembers it for these.
func (r *KeyRing) Anchor() string { return r.anchor }

// Digest is the SHA-256 of the list's text in lower-case hexadecimal digits. A list has one
// text, so two lists of one version that differ are told apart by it.
func (r *KeyRing) Digest() string {
	text, err := r.list.Encode()
	if err != nil { // it was decoded from its text
		panic(fmt.Sprintf("trust: a key list in force has no text: %v", err))
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// name is what Anchor says of a set.
func (k KeySet) name() string {
	var words []string
	for _, key := range k.Keys {
		words = append(words, key.String())
	}
	slices.Sort(words)
	sum := sha256.Sum256(fmt.Appendf(nil, "%d of %s", k.Threshold, strings.Join(words, " ")))
	return hex.EncodeToString(sum[:])
}

// Upholds says whether an image that was verified before, as signed by the keys with these
// ids, may go on being used for a device type. Keys that are only not listed any more
// change nothing for it. But once one of them is revoked, enough of the others have to be
// in the list, for the type. The error is ErrRevokedKey.
func (r *KeyRing) Upholds(signedBy []string, deviceType string) error {
	var gone []string
	for _, key := range r.list.Revoked {
		if id := key.ID.String(); slices.Contains(signedBy, id) {
			gone = append(gone, id)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	left := 0
	for _, k := range r.list.Keys {
		if k.Role == RoleImages && k.signsFor(deviceType) && slices.Contains(signedBy, k.Key.ID.String()) {
			left++
		}
	}
	if left >= r.list.ImagesThreshold {
		return nil
	}
	return refuse(ErrRevokedKey, "version %d of the key list revoked key %s, and the keys that are left of those that signed are %d of the %d that have to sign for device type %q; sign the image anew",
		r.list.Version, strings.Join(gone, ", "), left, r.list.ImagesThreshold, deviceType)
}

// signsFor says whether a key for images may sign for a device type.
func (k ListedKey) signsFor(deviceType string) bool {
	return len(k.DeviceTypes) == 0 || slices.Contains(k.DeviceTypes, deviceType)
}

// Check says whether the list may still be used at a moment. Errors are
// ErrKeyListExpired and ErrNotYetValid.
func (r *KeyRing) Check(now time.Time) error {
	if !now.Before(r.list.Expires) {
		return refuse(ErrKeyListExpired, "version %d of the key list expired at %s, and it is %s: get a newer list from the OEM, or set this machine's clock", r.list.Version, moment(r.list.Expires), moment(now))
	}
	return checkClock("key list", r.list.Created, now)
}

// images are the keys that may sign for a device type, and those that may not.
func (r *KeyRing) images(deviceType string) (KeySet, bystanders, error) {
	set, aside := KeySet{Threshold: r.list.ImagesThreshold}, bystanders{revoked: r.list.Revoked}
	for _, k := range r.list.Keys {
		if k.Role == RoleImages && k.signsFor(deviceType) {
			set.Keys = append(set.Keys, k.Key)
		} else {
			aside.scoped = append(aside.scoped, k.Key)
		}
	}
	if len(set.Keys) < set.Threshold {
		return KeySet{}, aside, refuse(ErrThreshold, "version %d of the key list has %d keys that may sign images for device type %q, and %d have to: nothing can be accepted for it until a newer list has more",
			r.list.Version, len(set.Keys), deviceType, set.Threshold)
	}
	return set, aside, nil
}
