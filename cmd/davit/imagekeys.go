package main

import (
	"github.com/spf13/cobra"

	"davit/internal/app/keyfile"
	"davit/trust"
)

// addKeyFlags adds the flags that say which keys images have to be signed with, to bridge
// and service alike.
func addKeyFlags(cmd *cobra.Command, s *keyfile.Source) {
	f := cmd.Flags()
	f.StringArrayVar(&s.Keys, "image-keys", nil, "key that images have to be signed with: a public key file of minisign, or the key itself; repeatable (default none: no signature is verified)")
	wholeNumber(cmd, &s.Threshold, "image-keys-threshold", 0, trust.MaxKeys, "how many of those keys have to sign an image (default, and 0: all)")
	f.StringArrayVar(&s.Lists, "key-list", nil, "key list that says who may sign images, in the place of --image-keys, with its signatures in FILE.minisig; repeatable, from the oldest on")
	f.StringArrayVar(&s.Roots, "root-keys", nil, "pinned root key by which the first key list is believed: a public key file of minisign, or the key itself; repeatable")
	wholeNumber(cmd, &s.RootThreshold, "root-keys-threshold", 0, trust.MaxKeys, "how many of the root keys have to sign it (default, and 0: all)")
	keyFile(cmd, "image-keys", "pub")
	file(cmd, "key-list")
	keyFile(cmd, "root-keys", "pub")
}
