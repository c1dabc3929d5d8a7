package main

import (
	"github.com/spf13/cobra"

	"davit/internal/app"
)

// imageKeys are the keys with which a service verifies signatures of images.
type imageKeys struct {
	keys, lists, roots  []string
	threshold, rootNeed int
}

func (k *imageKeys) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&k.keys, "image-keys", nil, "key that signatures of images are verified with: a public key file of minisign, or the key itself; repeatable")
	f.IntVar(&k.threshold, "image-keys-threshold", 0, "how many of those keys have to sign an image (default all)")
	f.StringArrayVar(&k.lists, "key-list", nil, "key list that says which keys are trusted; repeatable, from the oldest on")
	f.StringArrayVar(&k.roots, "root-keys", nil, "pinned root key of the first key list: a public key file of minisign, or the key itself; repeatable")
	f.IntVar(&k.rootNeed, "root-keys-threshold", 0, "how many of the root keys have to sign a key list (default all)")
}

// read reads the keys into the options of a server.
func (k *imageKeys) read(o *app.ServerOptions) (err error) {
	switch {
	case len(k.keys) > 0 && len(k.lists) > 0:
		return usagef("name image keys with --image-keys or a key list with --key-list, not both")
	case len(k.keys) == 0 && k.threshold != 0:
		return usagef("--image-keys-threshold stands with --image-keys")
	case len(k.lists) == 0 && len(k.roots)+k.rootNeed > 0:
		return usagef("--root-keys and --root-keys-threshold stand with --key-list")
	case len(k.lists) > 0 && len(k.roots) == 0:
		return usagef("name the pinned root keys with --root-keys: a key list alone proves nothing")
	case len(k.lists) > 0:
		o.KeyRing, err = followLists(k.lists, k.roots, k.rootNeed)
	case len(k.keys) > 0:
		if o.ImageKeys, err = keySet(k.keys, k.threshold); err == nil {
			err = o.ImageKeys.Validate()
		}
	}
	return err
}
