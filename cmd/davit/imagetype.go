package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/orchestrator"
)

func (p *program) imageTypeCommand() *cobra.Command {
	type T = orchestrator.ImageType
	return p.parent("image-type", "Categories of firmware, for example application or bootloader",
		p.imageTypeCreate(),
		listCommand(p, "list", "List the image types", noArgs, plain((*client.Client).ImageTypes),
			column[T]{"ID", func(t T) string { return t.ID }},
			column[T]{"NAME", func(t T) string { return t.Name }},
			column[T]{"DESCRIPTION", func(t T) string { return t.Description }}),
		p.apiCommand("show ID", "Show an image type", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
			t, err := c.ImageType(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.show(t, func(w io.Writer) {
				fields(w, "id", t.ID, "name", t.Name, "description", t.Description, "revision", revision(t.Revision), "created", when(t.CreatedAt))
			})
		}),
		p.imageTypeChange(),
		p.removeCommand("an image type that nothing uses", (*client.Client).DeleteImageType),
	)
}

func (p *program) imageTypeCreate() *cobra.Command {
	var in orchestrator.NewImageType
	cmd := p.createCommand("create ID", "Create an image type", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
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

func (p *program) imageTypeChange() *cobra.Command {
	var name, description string
	cmd := p.editCommand("change ID [--name N] [--description D]", "Change an image type's name or description; its id never changes", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string, e *edit) error {
			patch := orchestrator.ImageTypePatch{Name: given(cmd, "name", &name), Description: given(cmd, "description", &description)}
			if err := somethingIn(cmd, patch); err != nil {
				return err
			}
			t, err := c.ImageType(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			patch.Precondition = e.since(t.Revision)
			if t, err = c.UpdateImageType(cmd.Context(), t.ID, patch); err != nil {
				return err
			}
			return p.done(t, "Image type %s changed.", t.ID)
		})
	cmd.Flags().StringVar(&name, "name", "", "name for people")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
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
