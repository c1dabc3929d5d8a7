package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app/keyfile"
	"davit/internal/rehearsal"
	"davit/trust"
)

// manifestSuffix is what image sign adds to the name of an image.
const manifestSuffix = ".manifest"

// signedImage is what the commands about manifests print.
type signedImage struct {
	Manifest    string    `json:"manifest"`
	Image       string    `json:"image"`
	ImageType   string    `json:"image_type"`
	DeviceTypes []string  `json:"device_types"`
	Version     string    `json:"version"`
	Counter     uint64    `json:"counter"`
	Size        uint64    `json:"size"`
	BlockSize   int       `json:"block_size"`
	Blocks      int       `json:"blocks"`
	Created     time.Time `json:"created"`
	Expires     time.Time `json:"expires"`
	// Signatures are the ids of the keys that signatures name, or, once verified,
	// of those that signed.
	Signatures []string `json:"signatures"`
}

func newSignedImage(path string, m *trust.Manifest, signatures []string) signedImage {
	return signedImage{path, m.Image(), m.ImageType, m.DeviceTypes, m.Version, m.Counter, m.Size, m.BlockSize, m.Blocks(), m.Created, m.Expires, signatures}
}

func (s signedImage) fields(w io.Writer) {
	fields(w, "manifest", s.Manifest, "image", s.Image, "image type", s.ImageType, "device types", strings.Join(s.DeviceTypes, " "), "version", s.Version,
		"counter", strconv.FormatUint(s.Counter, 10), "size", exactSize(s.Size), "blocks", fmt.Sprintf("%d of %s", s.Blocks, size(uint64(s.BlockSize))),
		"created", when(s.Created), "expires", when(s.Expires), "signed by", strings.Join(s.Signatures, " "))
}

func (p *program) imageSign() *cobra.Command {
	terms := trust.Terms{BlockSize: trust.DefaultBlockSize}
	var keys signers
	var out, format, expires string
	cmd := p.command("sign FILE --key KEY --image-type TYPE --device-type TYPE --version V --counter N --expires T", "Write and sign an image's manifest, without a service", oneArg("the file"),
		func(cmd *cobra.Command, args []string) (err error) {
			if out == "" {
				out = args[0] + manifestSuffix
			}
			if err := signNeeds(cmd); err != nil {
				return err
			}
			terms.Created = trust.Moment(time.Now())
			if terms.Expires, err = parseEnd("--expires", expires, time.Now()); err != nil {
				return err
			}
			slices.Sort(terms.DeviceTypes)
			return p.signImage(cmd, args[0], out, format, terms, keys)
		})
	cmd.Long = `Write an image's manifest and sign it. Both files (FILE.manifest and
FILE.manifest.minisig) go with the image to the service; nothing is sent by this command.

The manifest says what the image is for and until when, and has the hash of every block,
so that devices verify the image while it arrives. An Intel HEX file is made a flat image
first, as the service does at an upload: what devices get is what is signed.

The counter is what keeps devices from going back: one that has run an image with a higher
counter refuses this one. Raise it when a release closes a hole. The stock minisign can sign
the manifest as well (minisign -S -m FILE.manifest).`
	f := cmd.Flags()
	keys.addTo(cmd)
	f.StringVar(&terms.ImageType, "image-type", "", "image type (required)")
	f.StringArrayVar(&terms.DeviceTypes, "device-type", nil, "device type that may run the image (required); repeatable")
	f.StringVar(&terms.Version, "version", "", "version that the host MCU reports when it runs the image (required)")
	wholeNumber(cmd, &terms.Counter, "counter", 0, trust.MaxCounter, "security counter (required)")
	f.StringVar(&expires, "expires", "", "when the manifest ends (required): "+endForms)
	into(cmd, "block-size", "SIZE", fmt.Sprintf("size of the blocks, a power of two (%s)", size(trust.DefaultBlockSize)), rehearsal.ParseSize, func(v float64) { terms.BlockSize = int(v) })
	f.StringVarP(&out, "output", "o", "", "manifest to write (FILE.manifest)")
	f.StringVar(&format, "format", "auto", "auto, binary or ihex")
	completeWith(cmd, "format", "auto", "binary", "ihex")
	return cmd
}

// signNeeds asks for what nobody should sign without having said it.
func signNeeds(cmd *cobra.Command) error {
	for _, flag := range []struct{ name, why string }{
		{"image-type", "what kind of firmware it is"}, {"device-type", "which devices may run it"}, {"version", "which version it is"},
		{"counter", "its security counter, which is at least that of the release before"}, {"expires", "until when it may be installed"},
	} {
		if !cmd.Flags().Changed(flag.name) {
			return usagef("image sign: say with --%s %s", flag.name, flag.why)
		}
	}
	return nil
}

func (p *program) signImage(cmd *cobra.Command, file, out, format string, terms trust.Terms, from signers) error {
	if err := absent("remove it, name another file with -o, or add a signature to it with image cosign", out, out+keyfile.SignatureSuffix); err != nil {
		return err
	}
	m, text, err := p.measure(file, format, terms)
	if err != nil {
		return err
	}
	keys, err := from.read(p, cmd)
	if err != nil {
		return err
	}
	all, err := addSignatures(trust.Signed{Text: text}, m.TrustedComment(), keys)
	if err != nil {
		return err
	}
	if err := writePublic(out, text); err != nil {
		return err
	}
	if err := writeSignatures(out, all); err != nil {
		return err
	}
	result := newSignedImage(out, m, signatureIDs(all))
	return p.show(result, func(w io.Writer) {
		fmt.Fprintln(w, "Image signed.")
		result.fields(w)
	})
}

// measure makes the manifest of a file, and its text.
func (p *program) measure(file, format string, terms trust.Terms) (m *trust.Manifest, text []byte, err error) {
	err = p.flatImage(file, format, func(r io.Reader) error {
		if m, err = trust.Build(r, terms); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err // names the file
	}
	text, err = m.Encode()
	return m, text, err
}

func (p *program) imageCosign() *cobra.Command {
	var keys signers
	var manifest, format string
	cmd := p.command("cosign FILE --key KEY [--manifest FILE]", "Add a signature to an image's manifest, where several keys have to sign", oneArg("the image"),
		func(cmd *cobra.Command, args []string) error {
			if manifest == "" {
				manifest = args[0] + manifestSuffix
			}
			return p.cosignImage(cmd, args[0], manifest, format, keys)
		})
	cmd.Long = `Add a signature to a manifest that somebody else has written. The manifest is held against
the image first: nothing is signed that you do not have before you. What the manifest says
is printed; look at it before you pass the signature on.`
	keys.addTo(cmd)
	f := cmd.Flags()
	f.StringVar(&manifest, "manifest", "", "manifest (FILE.manifest)")
	f.StringVar(&format, "format", "auto", "format of the image: auto, binary or ihex")
	completeWith(cmd, "format", "auto", "binary", "ihex")
	return cmd
}

func (p *program) cosignImage(cmd *cobra.Command, file, manifest, format string, from signers) error {
	s, err := keyfile.Signed(manifest, trust.MaxManifestSize)
	if err != nil {
		return err
	}
	m, err := trust.DecodeManifest(s.Text)
	if err != nil {
		return fmt.Errorf("%s: %w", manifest, err)
	}
	_, text, err := p.measure(file, format, m.Terms)
	if err != nil {
		return err
	}
	if !bytes.Equal(text, s.Text) {
		return fmt.Errorf("%s is not the manifest of %s: size, hash or blocks are others; nothing is signed", manifest, file)
	}
	keys, err := from.read(p, cmd)
	if err != nil {
		return err
	}
	all, err := addSignatures(s, m.TrustedComment(), keys)
	if err != nil {
		return fmt.Errorf("%s: %w", manifest+keyfile.SignatureSuffix, err)
	}
	if err := writeSignatures(manifest, all); err != nil {
		return err
	}
	result := newSignedImage(manifest, m, signatureIDs(all))
	return p.show(result, func(w io.Writer) {
		fmt.Fprintln(w, "Signature added.")
		result.fields(w)
	})
}
