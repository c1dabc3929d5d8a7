package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/client"
	"davit/orchestrator"
)

func (p *program) imageCommand() *cobra.Command {
	return p.parent("image", "Images: firmware binaries and what is known of them",
		p.imagePush(), p.imageList(), p.imageShow(), p.imageDownload(), p.imageChange(), p.imageSign(), p.imageCosign(), p.imageVerify(),
		p.removeCommand("an image that no job uses", (*client.Client).DeleteImage),
	)
}

func (p *program) imageList() *cobra.Command {
	type T = orchestrator.Image
	var filter orchestrator.ImageFilter
	cmd := listCommand(p, "list", "List the images, all or those that the flags describe", noArgs,
		func(_ *cobra.Command, c *client.Client, _ []string) (client.Listing[T], error) {
			return filtered(c, (*client.Client).Images, filter), nil
		},
		column[T]{"ID", func(i T) string { return i.ID }},
		column[T]{"IMAGE TYPE", func(i T) string { return i.ImageType }},
		column[T]{"VERSION", func(i T) string { return i.Version }},
		column[T]{"VERSION ID", func(i T) string { return number(i.VersionID) }},
		column[T]{"SIZE", func(i T) string { return size(i.Size) }},
		column[T]{"DEVICE TYPES", func(i T) string { return strings.Join(i.DeviceTypes, " ") }},
		column[T]{"TAGS", func(i T) string { return strings.Join(i.Tags, " ") }},
		column[T]{"FILE", func(i T) string { return i.FileName }},
		column[T]{"UPLOADED", func(i T) string { return when(i.CreatedAt) }})
	f := cmd.Flags()
	f.StringVar(&filter.ImageType, "image-type", "", "only images of this type")
	f.StringVar(&filter.DeviceType, "device-type", "", "only images that fit this device type")
	f.StringVar(&filter.Tag, "tag", "", "only images with this tag")
	f.StringVar(&filter.Text, "text", "", "only images with this text in their name, version, description, file name or tags")
	f.BoolVar(&filter.Archived, "archived", false, "the archived images instead of the others")
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
	all := []string{"id", i.ID, "name", i.Name, "image type", i.ImageType, "device types", strings.Join(i.DeviceTypes, " "), "version", i.Version,
		"version id", number(i.VersionID), "min version", i.MinVersion, "description", i.Description, "tags", strings.Join(i.Tags, " "), "size", exactSize(i.Size),
		"sha-256", i.SHA256, "format", i.Format, "start address", address(i.StartAddress), "entry address", address(i.EntryAddress),
		"file", i.FileName}
	all = append(all, sentences("left out", i.LeftOut)...)
	all = append(all, detectedFields(i.Detected)...)
	all = append(all, sentences("warning", i.Warnings)...)
	fields(w, append(all, "archived", when(i.ArchivedAt), "revision", revision(i.Revision), "uploaded", when(i.CreatedAt))...)
}

// detectedFields are what a file says of itself.
func detectedFields(d *orchestrator.Detected) []string {
	if d == nil {
		return nil
	}
	text := d.Format
	if d.Name != "" {
		text += ", " + d.Name
	}
	if d.Version != "" {
		text += ", version " + d.Version
	}
	if d.Size != 0 {
		text += ", " + exactSize(d.Size)
	}
	return append([]string{"the file says", text}, sentences("", d.Facts)...)
}

// sentences are one field for each of them.
func sentences(name string, list []string) []string {
	var all []string
	for _, s := range list {
		all = append(all, name, s)
	}
	return all
}

// exactSize prints a size exactly, and for people where that says more.
func exactSize(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%d bytes (%s)", n, size(n))
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
	cmd := p.apiCommand("download ID -o FILE", "Download an image as the flat binary that host MCUs get", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			if file == "" {
				return usagef("image download: name the file to write with -o FILE")
			}
			image, err := app.DownloadImage(cmd.Context(), c, args[0], file)
			if err != nil {
				return err
			}
			return p.done(downloaded{image.ID, file, image.Size, image.SHA256}, "%s: %d bytes, SHA-256 agrees.", file, image.Size)
		})
	// Here -o is the file, as everywhere else that something is downloaded; --json prints JSON.
	cmd.Flags().StringVarP(&file, "output", "o", "", "file to write (required)")
	return cmd
}

func (p *program) imageChange() *cobra.Command {
	var name, version, minVersion, description string
	var types, tags []string
	var archive, restore bool
	cmd := p.editCommand("change ID [flags]", "Change what is known of an image, archive it or bring it back", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string, e *edit) error {
			types, tags = words(types), words(tags)
			patch := orchestrator.ImagePatch{
				Name: given(cmd, "name", &name), Version: given(cmd, "version", &version), MinVersion: given(cmd, "min-version", &minVersion), Description: given(cmd, "description", &description),
				DeviceTypes: given(cmd, "device-type", &types), Tags: given(cmd, "tag", &tags),
			}
			if archive || restore {
				patch.Archived = &archive
			}
			if err := somethingIn(cmd, patch); err != nil {
				return err
			}
			image, err := c.Image(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			patch.Precondition = e.since(image.Revision)
			if image, err = c.UpdateImage(cmd.Context(), image.ID, patch); err != nil {
				return err
			}
			return p.show(image, func(w io.Writer) {
				fmt.Fprintln(w, "Image changed.")
				imageFields(w, image)
			})
		})
	f := cmd.Flags()
	f.StringVar(&version, "version", "", "version that the host MCU reports; not once a job has used the image")
	f.StringVar(&minVersion, "min-version", "", "the exact version that must be running, '' for any; not once a job has used the image")
	f.StringVar(&name, "name", "", "what people call the firmware, without its version")
	f.StringVar(&description, "description", "", "what the image brings")
	f.StringArrayVar(&types, "device-type", nil, "device type that the image fits, in place of those that it has; repeatable")
	f.StringArrayVar(&tags, "tag", nil, "tag, in place of those that it has, '' for none; repeatable")
	f.BoolVar(&archive, "archive", false, "hide the image and keep new jobs from it")
	f.BoolVar(&restore, "restore", false, "bring an archived image back")
	cmd.MarkFlagsMutuallyExclusive("archive", "restore")
	return cmd
}
