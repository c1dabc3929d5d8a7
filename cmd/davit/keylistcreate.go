package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app/keyfile"
	"davit/trust"
)

// newList is what keylist create is told.
type newList struct {
	from, out, expires   string
	roots, images        []string
	remove, revoke       []string
	version              uint64
	rootNeed, imagesNeed int
}

func (p *program) keyListCreate() *cobra.Command {
	var n newList
	var keys signers
	cmd := p.command("create -o LIST --root KEY --images KEY --expires T --key KEY", "Write a key list, the first one or one that follows another, and sign it", noArgs,
		func(cmd *cobra.Command, _ []string) error {
			if n.out == "" || n.expires == "" {
				return usagef("keylist create: name the list with -o LIST, and say until when it is good with --expires")
			}
			if err := absent("name another file with -o; devices need the older lists to follow to the new one", n.out, n.out+keyfile.SignatureSuffix); err != nil {
				return err
			}
			l, err := n.list(time.Now())
			if err != nil {
				return err
			}
			text, err := l.Encode()
			if err != nil {
				return err
			}
			secret, err := keys.read(p, cmd)
			if err != nil {
				return err
			}
			if err := writePublic(n.out, text); err != nil {
				return err
			}
			return p.signKeyList(n.out, trust.Signed{Text: text}, l, secret, "Key list written.")
		})
	cmd.Long = `Write a key list: which root keys sign key lists, which keys sign images, how many of each
have to, and which keys are revoked for ever.

Devices have the first root keys pinned. They take a list if enough root keys of the one
before have signed it, and enough of its own; so with --from the new list begins as the old
one, with the next version, and needs signatures of old and new root keys. Others add theirs
with keylist sign. Keep every list: a new device follows them from the first one on.`
	f := cmd.Flags()
	f.StringVarP(&n.out, "output", "o", "", "key list to write (required)")
	f.StringVar(&n.from, "from", "", "key list that the new one follows")
	f.StringVar(&n.expires, "expires", "", "when the list ends (required): "+endForms)
	wholeNumber(cmd, &n.version, "version", 1, trust.MaxListVersion, "version of the list (default: 1, or the next one)")
	f.StringArrayVar(&n.roots, "root", nil, "root key to add: its file, or the key itself; repeatable")
	f.StringArrayVar(&n.images, "images", nil, "key to add that signs images, KEY or KEY=DEVICE_TYPE,... if it is for these only; repeatable")
	f.StringArrayVar(&n.remove, "remove", nil, "key to take out of the list: its id, its file, or the key itself; repeatable")
	f.StringArrayVar(&n.revoke, "revoke", nil, "key to revoke for ever: its id in the list, its file, or the key itself; repeatable")
	wholeNumber(cmd, &n.rootNeed, "root-threshold", 1, trust.MaxKeys, "how many root keys have to sign the next list (default: as before, or more than half)")
	wholeNumber(cmd, &n.imagesNeed, "images-threshold", 1, trust.MaxKeys, "how many images keys have to sign an image (default: as before, or 1)")
	keys.addTo(cmd)
	return cmd
}

// list makes the list.
func (n newList) list(now time.Time) (*trust.KeyList, error) {
	l := &trust.KeyList{}
	if n.from != "" {
		var err error
		if _, l, err = readKeyList(n.from); err != nil {
			return nil, err
		}
	}
	l.Version++
	if n.version != 0 {
		l.Version = n.version
	}
	l.Created = trust.Moment(now)
	var err error
	if l.Expires, err = parseEnd("--expires", n.expires, now); err != nil {
		return nil, err
	}
	if err := n.dropKeys(l); err != nil {
		return nil, err
	}
	if err := n.addKeys(l); err != nil {
		return nil, err
	}
	n.setThresholds(l)
	l.Sort()
	return l, nil
}

func (n newList) addKeys(l *trust.KeyList) error {
	roots, err := keyfile.PublicKeys(n.roots)
	if err != nil {
		return err
	}
	for _, key := range roots {
		l.Keys = append(l.Keys, trust.ListedKey{Key: key, Role: trust.RoleRoot})
	}
	for _, word := range n.images {
		name, types := imagesKey(word)
		key, err := keyfile.PublicKey(name)
		if err != nil {
			return err
		}
		l.Keys = append(l.Keys, trust.ListedKey{Key: key, Role: trust.RoleImages, DeviceTypes: types})
	}
	return nil
}

// imagesKey takes KEY=TYPE,... apart.
func imagesKey(word string) (name string, types []string) {
	i := strings.LastIndexByte(word, '=')
	if i < 0 {
		return word, nil
	}
	return word[:i], strings.Split(word[i+1:], ",")
}

// dropKeys takes keys out of the list, and notes those that are revoked.
func (n newList) dropKeys(l *trust.KeyList) error {
	for _, word := range n.remove {
		if _, err := drop(l, "--remove", word, true); err != nil {
			return err
		}
	}
	for _, word := range n.revoke {
		key, err := drop(l, "--revoke", word, false)
		if err != nil {
			return err
		}
		l.Revoked = append(l.Revoked, key)
	}
	return nil
}

// drop takes one key out of the list, in which it may be under another id, and
// has to be if listed is set.
func drop(l *trust.KeyList, flag, word string, listed bool) (trust.PublicKey, error) {
	var key trust.PublicKey
	if i := slices.IndexFunc(l.Keys, func(k trust.ListedKey) bool { return k.Key.ID.String() == word }); i >= 0 {
		key = l.Keys[i].Key
	} else if _, err := trust.ParseKeyID(word); err == nil {
		return key, fmt.Errorf("%s: the list has no key %s; name a key that is not in it by its file", flag, word)
	} else if key, err = keyfile.PublicKey(word); err != nil {
		return key, fmt.Errorf("%s: %w", flag, err)
	}
	before := len(l.Keys)
	l.Keys = slices.DeleteFunc(l.Keys, func(k trust.ListedKey) bool { return k.Key.SameKey(key) })
	if listed && len(l.Keys) == before {
		return key, fmt.Errorf("%s: the list has no key %v", flag, key.ID)
	}
	return key, nil
}

func (n newList) setThresholds(l *trust.KeyList) {
	roots := 0
	for _, k := range l.Keys {
		if k.Role == trust.RoleRoot {
			roots++
		}
	}
	if l.RootThreshold == 0 {
		l.RootThreshold = roots/2 + 1
	}
	if l.ImagesThreshold == 0 {
		l.ImagesThreshold = 1
	}
	if n.rootNeed != 0 {
		l.RootThreshold = n.rootNeed
	}
	if n.imagesNeed != 0 {
		l.ImagesThreshold = n.imagesNeed
	}
}
