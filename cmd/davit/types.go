package main

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/client"
	"davit/orchestrator"
)

func (p *program) imageTypeCommand() *cobra.Command {
	return p.parent("image-type", "Categories of firmware, for example application or bootloader",
		p.imageTypeCreate(),
		p.apiCommand("list", "List the image types", noArgs, func(cmd *cobra.Command, c *client.Client, _ []string) error {
			items, err := all(cmd.Context(), c.ImageTypes)
			if err != nil {
				return err
			}
			return list(p, items,
				column[orchestrator.ImageType]{"ID", func(t orchestrator.ImageType) string { return t.ID }},
				column[orchestrator.ImageType]{"NAME", func(t orchestrator.ImageType) string { return t.Name }},
				column[orchestrator.ImageType]{"DESCRIPTION", func(t orchestrator.ImageType) string { return t.Description }})
		}),
		p.removeCommand("an image type", (*client.Client).DeleteImageType),
	)
}

func (p *program) imageTypeCreate() *cobra.Command {
	var in orchestrator.NewImageType
	cmd := p.apiCommand("create ID", "Create an image type", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		in.ID = args[0]
		t, err := c.CreateImageType(cmd.Context(), in)
		if err != nil {
			return err
		}
		return p.done(t, "Image type %s created.", t.ID)
	})
	cmd.Flags().StringVar(&in.Name, "name", "", "name for people (default: the id)")
	cmd.Flags().StringVar(&in.Description, "description", "", "what it is for")
	return cmd
}

func (p *program) deviceTypeCommand() *cobra.Command {
	type T = orchestrator.DeviceType
	return p.parent("device-type", "Classes of product: their protocol, image types and limits",
		p.deviceTypeCreate(),
		p.apiCommand("list", "List the device types", noArgs, func(cmd *cobra.Command, c *client.Client, _ []string) error {
			items, err := all(cmd.Context(), c.DeviceTypes)
			if err != nil {
				return err
			}
			return list(p, items,
				column[T]{"ID", func(t T) string { return t.ID }},
				column[T]{"DIALECT", func(t T) string { return t.Dialect }},
				column[T]{"IMAGE TYPES", enabledTypes},
				column[T]{"DESCRIPTION", func(t T) string { return t.Description }})
		}),
		p.apiCommand("show ID", "Show a device type", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
			t, err := c.DeviceType(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.show(t, func(w io.Writer) {
				fields(w, "id", t.ID, "name", t.Name, "description", t.Description, "dialect", t.Dialect, "image types", enabledTypes(t), "created", when(t.CreatedAt))
			})
		}),
		p.removeCommand("a device type", (*client.Client).DeleteDeviceType),
	)
}

func enabledTypes(t orchestrator.DeviceType) string {
	ids := make([]string, len(t.ImageTypes))
	for i, e := range t.ImageTypes {
		ids[i] = e.ID
	}
	return strings.Join(ids, ", ")
}

func (p *program) deviceTypeCreate() *cobra.Command {
	var in orchestrator.NewDeviceType
	var types []string
	var times struct{ answer, verdict, boot, version time.Duration }
	cmd := p.apiCommand("create ID --image-type TYPE", "Create a device type", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			in.ID = args[0]
			for _, s := range types {
				t, err := app.ParseEnabledType(s)
				if err != nil {
					return usageError{err}
				}
				in.ImageTypes = append(in.ImageTypes, t)
			}
			if len(in.ImageTypes) == 0 {
				return usagef("device-type create: name at least one --image-type that the devices take")
			}
			in.AnswerTimeout, in.VerdictTimeout = orchestrator.Duration(times.answer), orchestrator.Duration(times.verdict)
			in.BootTimeout, in.VersionTimeout = orchestrator.Duration(times.boot), orchestrator.Duration(times.version)
			t, err := c.CreateDeviceType(cmd.Context(), in)
			if err != nil {
				return err
			}
			return p.done(t, "Device type %s created; it takes: %s.", t.ID, enabledTypes(t))
		})
	f := cmd.Flags()
	f.StringVar(&in.Name, "name", "", "name for people (default: the id)")
	f.StringVar(&in.Description, "description", "", "what it is")
	f.StringVar(&in.Dialect, "dialect", "ayla", "protocol of the host MCU")
	f.StringArrayVar(&types, "image-type", nil, "image type that the devices take: ID[,property=VERSION_PROPERTY][,limit=BYTES]; repeatable")
	f.DurationVar(&times.answer, "answer-timeout", 0, "how long the host MCU may leave offers unanswered (default: the bridge's)")
	f.DurationVar(&times.verdict, "verdict-timeout", 0, "how long to wait for a verdict after the last piece (default: the bridge's)")
	f.DurationVar(&times.boot, "boot-timeout", 0, "how long the host MCU may take to boot (default: the bridge's)")
	f.DurationVar(&times.version, "version-timeout", 0, "how long it may then take to report its version (default: the bridge's)")
	return cmd
}

// removeCommand builds the command that deletes one record; what says which
// kind, with its article.
func (p *program) removeCommand(what string, del func(*client.Client, context.Context, string) error) *cobra.Command {
	return p.apiCommand("remove ID", "Remove "+what, oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		if err := del(c, cmd.Context(), args[0]); err != nil {
			return err
		}
		return p.done(removed{args[0], true}, "%s removed.", args[0])
	})
}

type removed struct {
	ID      string `json:"id"`
	Removed bool   `json:"removed"`
}
