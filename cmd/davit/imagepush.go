package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/client"
	"davit/orchestrator"
)

func (p *program) imagePush() *cobra.Command {
	var in orchestrator.NewImage
	var check bool
	var manifest manifestFlags
	cmd := p.createCommand("push FILE --image-type TYPE --device-type TYPE [--version V]", "Upload an image: a raw binary or an Intel HEX file", oneArg("the file"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			signed, err := manifest.read(&in)
			switch {
			case err != nil:
				return err
			case check:
			case in.ImageType == "":
				return usagef("image push: say what kind of firmware it is with --image-type")
			case len(in.DeviceTypes) == 0:
				return usagef("image push: say which devices it fits with --device-type")
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			in.FileName = filepath.Base(args[0])
			if check {
				return p.checkImage(cmd.Context(), c, in, f, p.progress(f, in.FileName))
			}
			return p.push(cmd.Context(), c, in, f, signed)
		})
	cmd.Long = `Upload an image. It is streamed to the service, which keeps nothing of it if
something is wrong.

The service reads what the file says of itself (MCUboot, ESP-IDF, the demo's header)
and warns where that and what was typed disagree. Without --version the version is the
one that the file names. With --check the file is only looked at: nothing is kept.

With --manifest the image is signed (davit image sign): image type, device types and version
are then those of the manifest where no flag says otherwise, and nothing is kept of an image
that the manifest is not about.

Every version of an image type gets a number, by which host MCUs of the afero dialect
know it. Name it with --version-id only if the firmware has its number compiled in, or to
tell which version it is that devices run from the factory.`
	f := cmd.Flags()
	f.StringVar(&in.ImageType, "image-type", "", "image type (required)")
	f.StringArrayVar(&in.DeviceTypes, "device-type", nil, "device type that the image fits (required); repeatable")
	f.StringVar(&in.Version, "version", "", "version that the host MCU reports when it runs the image (default: the one that the file names)")
	f.Uint64Var(&in.VersionID, "version-id", 0, "the version's number, for host MCUs that know versions by number (default: the next one of the image type)")
	f.StringVar(&in.Name, "name", "", "what people call the firmware, without its version (default: its image type)")
	f.StringVar(&in.MinVersion, "min-version", "", "the exact version that must be running for the image to be deployed")
	f.StringVar(&in.Description, "description", "", "what the image brings")
	f.StringArrayVar(&in.Tags, "tag", nil, "tag; repeatable")
	f.StringVar(&in.Format, "format", "auto", "auto, binary or ihex")
	manifest.addTo(cmd)
	f.BoolVar(&check, "check", false, "only show what the file says of itself and which images have the same content")
	completeWith(cmd, "format", "auto", "binary", "ihex")
	return cmd
}

// push uploads an image, and the manifest that it has, if any.
func (p *program) push(ctx context.Context, c *client.Client, in orchestrator.NewImage, f *os.File, signed *orchestrator.NewManifest) error {
	progress := p.progress(f, in.FileName)
	if in.Version == "" {
		return p.pushStaged(ctx, c, in, f, progress)
	}
	image, err := c.UploadImage(ctx, in, f, progress...)
	if err == nil && signed != nil {
		image, err = attachPushed(ctx, c, image, *signed)
	}
	if err != nil {
		return err
	}
	return p.pushed(image)
}

func (p *program) pushed(image orchestrator.Image) error {
	return p.show(image, func(w io.Writer) {
		fmt.Fprintf(w, "Image uploaded.\n")
		imageFields(w, image)
	})
}

// stage uploads a file that is not an image yet.
func stage(ctx context.Context, c *client.Client, in orchestrator.NewImage, f *os.File, progress []func(int64)) (orchestrator.Upload, error) {
	return c.StageUpload(ctx, orchestrator.NewUpload{FileName: in.FileName, Format: in.Format}, f, progress...)
}

// pushStaged uploads the file first and takes the version from what it says
// of itself.
func (p *program) pushStaged(ctx context.Context, c *client.Client, in orchestrator.NewImage, f *os.File, progress []func(int64)) error {
	up, err := stage(ctx, c, in, f, progress)
	if err != nil {
		return err
	}
	if up.Detected == nil || up.Detected.Version == "" {
		discard(ctx, c, up.ID)
		return usagef("image push: %s does not name its version, so name it with --version", in.FileName)
	}
	in.Version = up.Detected.Version
	image, err := c.CreateImage(ctx, up.ID, in)
	if err != nil {
		discard(ctx, c, up.ID)
		return err
	}
	return p.pushed(image)
}

// discard throws an upload away. If that fails, the service does it a day
// later, and there is a better error to report.
func discard(ctx context.Context, c *client.Client, upload string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = c.DiscardUpload(ctx, upload)
}

// checkImage shows what a file says of itself and keeps nothing.
func (p *program) checkImage(ctx context.Context, c *client.Client, in orchestrator.NewImage, f *os.File, progress []func(int64)) error {
	up, err := stage(ctx, c, in, f, progress)
	if err != nil {
		return err
	}
	if err := c.DiscardUpload(ctx, up.ID); err != nil {
		return err
	}
	return p.show(up, func(w io.Writer) {
		all := []string{"file", up.FileName, "format", up.Format, "size", exactSize(up.Size), "sha-256", up.SHA256,
			"start address", address(up.StartAddress), "entry address", address(up.EntryAddress)}
		all = append(all, sentences("left out", up.LeftOut)...)
		all = append(all, detectedFields(up.Detected)...)
		fields(w, append(all, sentences("same content", up.Duplicates)...)...)
		if up.Detected == nil {
			fmt.Fprintln(w, "The file is of no known format; its version has to be named with --version.")
		}
	})
}

// progressEvery is how often the line that shows an upload's progress changes.
const progressEvery = 100 * time.Millisecond

// progress shows on a terminal how much of a file is sent; elsewhere nothing.
func (p *program) progress(f *os.File, name string) []func(int64) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 || !app.IsTerminal(p.err) {
		return nil
	}
	total, last := info.Size(), time.Time{}
	return []func(int64){func(sent int64) {
		now := time.Now()
		if sent < total && now.Sub(last) < progressEvery {
			return
		}
		last = now
		fmt.Fprintf(p.err, "\r%s  %s of %s  %3d %%", cell(name), size(uint64(sent)), size(uint64(total)), 100*sent/total)
		if sent >= total {
			fmt.Fprint(p.err, "\r\033[K")
		}
	}}
}
