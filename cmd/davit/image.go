package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/client"
	"davit/orchestrator"
)

func (p *program) imageCommand() *cobra.Command {
	return p.parent("image", "Images: firmware binaries and what is known of them",
		p.imagePush(), p.imageList(), p.imageShow(), p.imageDownload(),
		p.removeCommand("an image", (*client.Client).DeleteImage),
	)
}

func (p *program) imagePush() *cobra.Command {
	var in orchestrator.NewImage
	cmd := p.apiCommand("push FILE --image-type TYPE --device-type TYPE --version V", "Upload an image: a raw binary or an Intel HEX file", oneArg("the file"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			switch {
			case in.ImageType == "":
				return usagef("image push: say what kind of firmware it is with --image-type")
			case len(in.DeviceTypes) == 0:
				return usagef("image push: say which devices it fits with --device-type")
			case in.Version == "":
				return usagef("image push: name the image's version with --version")
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			in.FileName = filepath.Base(args[0])
			image, err := c.UploadImage(cmd.Context(), in, f)
			if err != nil {
				return err
			}
			return p.show(image, func(w io.Writer) {
				fmt.Fprintf(w, "Image uploaded.\n")
				imageFields(w, image)
			})
		})
	f := cmd.Flags()
	f.StringVar(&in.ImageType, "image-type", "", "image type (required)")
	f.StringArrayVar(&in.DeviceTypes, "device-type", nil, "device type that the image fits (required); repeatable")
	f.StringVar(&in.Version, "version", "", "version that the host MCU reports when it runs the image (required)")
	f.StringVar(&in.MinVersion, "min-version", "", "the exact version that must be running for the image to be deployed")
	f.StringVar(&in.Description, "description", "", "what the image brings")
	f.StringArrayVar(&in.Tags, "tag", nil, "tag; repeatable")
	f.StringVar(&in.Format, "format", "auto", "auto, binary or ihex")
	return cmd
}

func (p *program) imageList() *cobra.Command {
	type T = orchestrator.Image
	var filter orchestrator.ImageFilter
	cmd := p.apiCommand("list", "List the images", noArgs, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		items, err := all(cmd.Context(), imagePages(c, filter))
		if err != nil {
			return err
		}
		return list(p, items,
			column[T]{"ID", func(i T) string { return i.ID }},
			column[T]{"IMAGE TYPE", func(i T) string { return i.ImageType }},
			column[T]{"VERSION", func(i T) string { return i.Version }},
			column[T]{"SIZE", func(i T) string { return fmt.Sprint(i.Size) }},
			column[T]{"DEVICE TYPES", func(i T) string { return strings.Join(i.DeviceTypes, " ") }},
			column[T]{"TAGS", func(i T) string { return strings.Join(i.Tags, " ") }},
			column[T]{"FILE", func(i T) string { return i.FileName }})
	})
	cmd.Flags().StringVar(&filter.ImageType, "image-type", "", "only images of this type")
	cmd.Flags().StringVar(&filter.DeviceType, "device-type", "", "only images that fit this device type")
	cmd.Flags().StringVar(&filter.Tag, "tag", "", "only images with this tag")
	return cmd
}

func (p *program) imageShow() *cobra.Command {
	return p.apiCommand("show ID", "Show an image", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		image, err := c.Image(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return p.show(image, func(w io.Writer) { imageFields(w, image) })
	})
}

func imageFields(w io.Writer, i orchestrator.Image) {
	fields(w, "id", i.ID, "image type", i.ImageType, "device types", strings.Join(i.DeviceTypes, " "), "version", i.Version,
		"min version", i.MinVersion, "description", i.Description, "tags", strings.Join(i.Tags, " "), "size", fmt.Sprintf("%d bytes", i.Size),
		"sha-256", i.SHA256, "format", i.Format, "start address", address(i.StartAddress), "entry address", address(i.EntryAddress),
		"file", i.FileName, "left out", strings.Join(i.LeftOut, "; "), "uploaded", when(i.CreatedAt))
}

func address(a *uint64) string {
	if a == nil {
		return ""
	}
	return fmt.Sprintf("%#08x", *a)
}

// downloaded is what image download prints.
type downloaded struct {
	ID     string `json:"id"`
	File   string `json:"file"`
	Size   uint64 `json:"size"`
	SHA256 string `json:"sha256"`
}

func (p *program) imageDownload() *cobra.Command {
	var file string
	cmd := p.apiCommand("download ID --output FILE", "Download an image as the flat binary that host MCUs get", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			if file == "" {
				return usagef("image download: name the file to write with --output")
			}
			image, err := app.DownloadImage(cmd.Context(), c, args[0], file)
			if err != nil {
				return err
			}
			return p.done(downloaded{image.ID, file, image.Size, image.SHA256}, "%s: %d bytes, SHA-256 agrees.", file, image.Size)
		})
	cmd.Flags().StringVarP(&file, "output", "o", "", "file to write (required)")
	return cmd
}
