package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/orchestrator"
)

func (p *program) groupCommand() *cobra.Command {
	type T = orchestrator.Group
	return p.parent("group", "Named sets of devices",
		p.groupCreate(),
		p.apiCommand("list", "List the groups", noArgs, func(cmd *cobra.Command, c *client.Client, _ []string) error {
			items, err := all(cmd.Context(), c.Groups)
			if err != nil {
				return err
			}
			return list(p, items,
				column[T]{"ID", func(g T) string { return g.ID }},
				column[T]{"DEVICES", func(g T) string { return fmt.Sprint(len(g.Devices)) }},
				column[T]{"DESCRIPTION", func(g T) string { return g.Description }})
		}),
		p.apiCommand("show ID", "Show a group", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
			g, err := c.Group(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.show(g, func(w io.Writer) {
				fields(w, "id", g.ID, "description", g.Description, "devices", strings.Join(g.Devices, " "), "created", when(g.CreatedAt))
			})
		}),
		p.removeCommand("a group", (*client.Client).DeleteGroup),
	)
}

func (p *program) groupCreate() *cobra.Command {
	var in orchestrator.NewGroup
	cmd := p.apiCommand("create ID --device ID", "Create a group", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		in.ID = args[0]
		g, err := c.CreateGroup(cmd.Context(), in)
		if err != nil {
			return err
		}
		return p.done(g, "Group %s created with %d devices.", g.ID, len(g.Devices))
	})
	cmd.Flags().StringVar(&in.Description, "description", "", "what it is for")
	cmd.Flags().StringArrayVar(&in.Devices, "device", nil, "device of the group; repeatable")
	return cmd
}
