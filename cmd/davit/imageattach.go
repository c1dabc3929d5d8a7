package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app/keyfile"
	"davit/internal/client"
	"davit/orchestrator"
	"davit/trust"
)

// manifestFlags name an image's signed manifest.
type manifestFlags struct {
	manifest   string
	signatures []string
}

func (m *manifestFlags) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&m.manifest, "manifest", "", "signed manifest of the image, as davit image sign writes it")
	f.StringSliceVar(&m.signatures, "signature", nil, "signature file (MANIFEST.minisig); repeatable, or several divided by commas")
}

// read reads the manifest, if one is named, and has it say of the image what the flags
// do not.
func (m *manifestFlags) read(in *orchestrator.NewImage) (*orchestrator.NewManifest, error) {
	if m.manifest == "" && len(m.signatures) > 0 {
		return nil, usagef("image push: name what was signed with --manifest")
	}
	if m.manifest == "" {
		return nil, nil
	}
	signed, says, err := m.open()
	if err != nil {
		return nil, err
	}
	if in.ImageType == "" {
		in.ImageType = says.ImageType
	}
	if len(in.DeviceTypes) == 0 {
		in.DeviceTypes = says.DeviceTypes
	}
	if in.Version == "" {
		in.Version = says.Version
	}
	return signed, nil
}

// open reads the manifest and its signatures.
func (m *manifestFlags) open() (*orchestrator.NewManifest, *trust.Manifest, error) {
	signed, err := keyfile.Signed(m.manifest, trust.MaxManifestSize, m.signatures...)
	if err != nil {
		return nil, nil, err
	}
	says, err := trust.DecodeManifest(signed.Text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", m.manifest, err)
	}
	return &orchestrator.NewManifest{Manifest: string(signed.Text), Signatures: string(signed.Signatures)}, says, nil
}

// attachPushed gives an image that was just uploaded its manifest, or removes it again.
func attachPushed(ctx context.Context, c *client.Client, image orchestrator.Image, signed orchestrator.NewManifest) (orchestrator.Image, error) {
	with, err := c.AttachManifest(ctx, image.ID, signed)
	if err == nil || image.Manifest != nil {
		return with, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if removed := c.DeleteImage(ctx, image.ID); removed != nil {
		return with, fmt.Errorf("%w; image %s stays without a manifest, as it could not be removed (%w)", err, image.ID, removed)
	}
	return with, fmt.Errorf("%w; the image was not kept", err)
}

func (p *program) imageAttach() *cobra.Command {
	var m manifestFlags
	cmd := p.apiCommand("attach ID --manifest FILE", "Give an image its signed manifest", oneArg("the image's id"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			if m.manifest == "" {
				return usagef("image attach: name the signed manifest with --manifest")
			}
			signed, _, err := m.open()
			if err != nil {
				return err
			}
			image, err := c.AttachManifest(cmd.Context(), args[0], *signed)
			if err != nil {
				return err
			}
			return p.show(image, func(w io.Writer) {
				fmt.Fprintln(w, "Manifest attached.")
				imageFields(w, image)
			})
		})
	cmd.Long = `Give an image that was uploaded its signed manifest, or another one. The service holds it
against the image, block by block, and verifies the signatures if it has keys. That is refused
while a job that has not ended uses the image: upload the file as another image then.`
	m.addTo(cmd)
	return cmd
}

// manifestFields are what is known of an image's manifest.
func manifestFields(m *orchestrator.ImageManifest) []string {
	if m == nil {
		return nil
	}
	verified := strings.Join(m.VerifiedBy, " ")
	if verified == "" {
		verified = "nobody: the service had no keys"
	}
	return []string{"signed by", strings.Join(m.SignedBy, " "), "verified by", verified, "counter", strconv.FormatUint(m.Counter, 10),
		"signed for", strings.Join(m.DeviceTypes, " "), "signed", when(m.Created), "expires", when(m.Expires), "manifest", exactSize(m.Size) + ", SHA-256 " + m.SHA256}
}
