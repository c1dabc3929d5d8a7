package trust

import (
	"slices"
	"time"
)

// KeyRing is a key list that was reached from pinned root keys: each list was
// signed by enough root keys of the one before it and of itself. It does not
// change and may be used by several goroutines.
type KeyRing struct{ list KeyList }

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
	ring, err := admit(root, nil, chain[0])
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
	return admit(KeySet{r.list.role(RoleRoot), r.list.RootThreshold}, &r.list, s)
}

// admit takes a list that enough of the old root keys have signed, and enough of
// its own: otherwise a list could be put in force that nobody can replace. The
// signatures of the old keys are verified before anything is parsed.
func admit(root KeySet, old *KeyList, s Signed) (*KeyRing, error) {
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
	return &KeyRing{*list}, nil
}

// List is the list in force.
func (r *KeyRing) List() KeyList { return r.list.clone() }

// Version is that of the list in force.
func (r *KeyRing) Version() uint64 { return r.list.Version }

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
		if k.Role == RoleImages && (len(k.DeviceTypes) == 0 || slices.Contains(k.DeviceTypes, deviceType)) {
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
