package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app/keyfile"
	"davit/trust"
)

// verification is what image verify is told.
type verification struct {
	manifest, format      string
	signatures            []string
	keys, lists, rootKeys []string
	threshold, rootNeed   int
	deviceTypes           []string
	imageType, version    string
	counter               uint64
}

func (p *program) imageVerify() *cobra.Command {
	var v verification
	cmd := p.command("verify FILE --public-key KEY | --key-list LIST --root-key KEY", "Verify an image by its signed manifest, as a device does, without a service", oneArg("the image"),
		func(cmd *cobra.Command, args []string) error {
			if v.manifest == "" {
				v.manifest = args[0] + manifestSuffix
			}
			if (len(v.keys) == 0) == (len(v.lists) == 0) {
				return usagef("image verify: name the keys that are trusted with --public-key, or a key list with --key-list and its root keys with --root-key")
			}
			return p.verifyImage(args[0], v)
		})
	cmd.Long = `Verify an image as a device does: signatures, device type, image type, version, counter
and end of its manifest, and then the image itself, block by block and as a whole.`
	f := cmd.Flags()
	f.StringVar(&v.manifest, "manifest", "", "manifest (FILE.manifest)")
	f.StringArrayVar(&v.signatures, "signature", nil, "signature file (MANIFEST.minisig); repeatable")
	f.StringArrayVar(&v.keys, "public-key", nil, "trusted key: its file, or the key itself; repeatable")
	wholeNumber(cmd, &v.threshold, "threshold", 0, trust.MaxKeys, "how many of the keys have to sign (default all)")
	f.StringArrayVar(&v.lists, "key-list", nil, "key list that says which keys are trusted; repeatable, from the oldest on")
	f.StringArrayVar(&v.rootKeys, "root-key", nil, "pinned root key of the first key list: its file, or the key itself; repeatable")
	wholeNumber(cmd, &v.rootNeed, "root-threshold", 0, trust.MaxKeys, "how many of the root keys have to sign (default all)")
	f.StringArrayVar(&v.deviceTypes, "device-type", nil, "device type that the image is for (default: each that the manifest names); repeatable")
	f.StringVar(&v.imageType, "image-type", "", "image type that the image has to be of (default: the manifest's)")
	f.StringVar(&v.version, "version", "", "version that the image has to be (default: the manifest's)")
	wholeNumber(cmd, &v.counter, "counter", 0, trust.MaxCounter, "security counter of what the device has run")
	f.StringVar(&v.format, "format", "auto", "format of the image: auto, binary or ihex")
	completeWith(cmd, "format", "auto", "binary", "ihex")
	cmd.MarkFlagsMutuallyExclusive("public-key", "key-list")
	cmd.MarkFlagsMutuallyExclusive("public-key", "root-key")
	return cmd
}

func (p *program) verifyImage(file string, v verification) error {
	s, err := keyfile.Signed(v.manifest, trust.MaxManifestSize, v.signatures...)
	if err != nil {
		return err
	}
	policy := trust.Policy{Counter: v.counter, Now: time.Now()}
	if len(v.lists) > 0 {
		policy.Ring, err = followLists(v.lists, v.rootKeys, v.rootNeed)
	} else {
		policy.Pinned, err = keyfile.Set(v.keys, v.threshold)
	}
	if err != nil {
		return err
	}
	m, err := trust.DecodeManifest(s.Text)
	if err != nil {
		return fmt.Errorf("%s: %w", v.manifest, err)
	}
	// What the image is offered as is what the manifest says, as far as nothing else
	// was asked for; the image itself is held against it below.
	policy.Offered = trust.Offered{ImageType: m.ImageType, Version: m.Version, Size: m.Size, SHA256: m.SHA256}
	if v.imageType != "" {
		policy.Offered.ImageType = v.imageType
	}
	if v.version != "" {
		policy.Offered.Version = v.version
	}
	if len(v.deviceTypes) == 0 {
		v.deviceTypes = m.DeviceTypes
	}
	var verified *trust.Verified
	for _, policy.DeviceType = range v.deviceTypes {
		if verified, err = policy.Check(s); err != nil {
			return fmt.Errorf("%s: %w", v.manifest, err)
		}
	}
	if err := p.flatImage(file, v.format, verified.CheckImage); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var by []string
	for _, key := range verified.SignedBy() {
		by = append(by, key.ID.String())
	}
	result := newSignedImage(v.manifest, m, by)
	return p.show(result, func(w io.Writer) {
		fmt.Fprintln(w, "The image is what was signed.")
		result.fields(w)
	})
}
