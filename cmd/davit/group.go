package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/orchestrator"
)

func (p *program) groupCommand() *cobra.Command {
	type T = orchestrator.Group
	return p.parent("group", "Named sets of devices, listed or by query",
		p.groupCreate(),
		listCommand(p, "list", "List the groups", noArgs, plain((*client.Client).Groups),
			column[T]{"ID", func(g T) string { return g.ID }},
			column[T]{"DEVICES", groupDevices},
			column[T]{"DESCRIPTION", func(g T) string { return g.Description }}),
		p.groupShow(),
		listCommand(p, "devices ID", "List the devices that a group has now", oneArg("its id"),
			func(_ *cobra.Command, c *client.Client, args []string) (client.Listing[orchestrator.Device], error) {
				return filtered(c, (*client.Client).GroupDevices, args[0]), nil
			}, deviceColumns()...),
		p.groupPreview(),
		p.groupChange(),
		p.removeCommand("a group; its devices stay", (*client.Client).DeleteGroup),
	)
}

func groupDevices(g orchestrator.Group) string {
	if g.Query != "" {
		return "by query: " + g.Query
	}
	return fmt.Sprint(len(g.Devices))
}

func (p *program) groupShow() *cobra.Command {
	return p.apiCommand("show ID", "Show a group", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		g, err := c.Group(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return p.show(g, func(w io.Writer) {
			fields(w, "id", g.ID, "description", g.Description, "query", g.Query, "devices", strings.Join(g.Devices, " "), "revision", revision(g.Revision), "created", when(g.CreatedAt))
		})
	})
}

func (p *program) groupCreate() *cobra.Command {
	var in orchestrator.NewGroup
	cmd := p.createCommand("create ID --device ID | --query QUERY", "Create a group", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		in.ID = args[0]
		g, err := c.CreateGroup(cmd.Context(), in)
		if err != nil {
			return err
		}
		if g.Query != "" {
			return p.done(g, "Group %s created; davit group devices %s lists what its query finds.", g.ID, g.ID)
		}
		return p.done(g, "Group %s created with %d devices.", g.ID, len(g.Devices))
	})
	cmd.Flags().StringVar(&in.Description, "description", "", "what it is for")
	cmd.Flags().StringArrayVar(&in.Devices, "device", nil, "device of the group; repeatable")
	cmd.Flags().StringVar(&in.Query, "query", "", "the group is what this query finds, whenever it is asked (davit group preview tries it)")
	cmd.MarkFlagsMutuallyExclusive("device", "query")
	return cmd
}

func (p *program) groupChange() *cobra.Command {
	var description, query string
	var devices, add, remove []string
	cmd := p.editCommand("change ID [flags]", "Change a group's description, devices or query", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string, e *edit) error {
			listed := cmd.Flags().Changed("device") || len(add)+len(remove) > 0
			if !listed {
				if err := somethingIn(cmd, orchestrator.GroupPatch{Description: given(cmd, "description", &description), Query: given(cmd, "query", &query)}); err != nil {
					return err
				}
			}
			g, err := c.Group(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if listed {
				if g.Devices, err = mergeDevices(g, given(cmd, "device", &devices), add, remove); err != nil {
					return err
				}
			}
			if cmd.Flags().Changed("description") {
				g.Description = description
			}
			if cmd.Flags().Changed("query") {
				g.Query = query
			}
			// The group is replaced as a whole, so that what is not named has to be sent along.
			patch := orchestrator.GroupPatch{Precondition: e.since(g.Revision), Description: &g.Description, Devices: &g.Devices}
			if g.Query != "" {
				patch.Devices, patch.Query = nil, &g.Query
			}
			if g, err = c.ReplaceGroup(cmd.Context(), g.ID, patch); err != nil {
				return err
			}
			return p.done(g, "Group %s changed; devices: %s.", g.ID, groupDevices(g))
		})
	f := cmd.Flags()
	f.StringVar(&description, "description", "", "what it is for")
	f.StringArrayVar(&devices, "device", nil, "device of the group, in place of those that it has; repeatable")
	f.StringArrayVar(&add, "add", nil, "device to add; repeatable")
	f.StringArrayVar(&remove, "remove", nil, "device to take out; repeatable")
	f.StringVar(&query, "query", "", "new query of a dynamic group")
	for _, list := range []string{"device", "add", "remove"} {
		cmd.MarkFlagsMutuallyExclusive("query", list)
	}
	return cmd
}

// mergeDevices is the list of a static group after a change.
func mergeDevices(g orchestrator.Group, instead *[]string, add, remove []string) ([]string, error) {
	if g.Query != "" {
		return nil, usagef("group %s is dynamic: its devices are those that its query finds; change it with --query", g.ID)
	}
	list := slices.Clone(g.Devices)
	if instead != nil {
		list = words(*instead)
	}
	for _, id := range remove {
		i := slices.Index(list, id)
		if i < 0 {
			return nil, usagef("group %s has no device %q", g.ID, id)
		}
		list = slices.Delete(list, i, i+1)
	}
	for _, id := range add {
		if !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	return list, nil
}

func (p *program) groupPreview() *cobra.Command {
	var sample int
	cmd := p.apiCommand("preview QUERY", "Show what a query finds, without keeping anything", oneArg("the query"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			found, err := c.PreviewQuery(cmd.Context(), args[0], sample)
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(found)
			}
			fmt.Fprintf(p.out, "The query finds %d devices, %d of them online. %s\n", found.Count, found.Online, found.Plan)
			if len(found.Sample) == 0 {
				return nil
			}
			fmt.Fprintf(p.out, "\nThe first %d:\n", len(found.Sample))
			return table(p, found.Sample, deviceColumns()...)
		})
	cmd.Flags().IntVar(&sample, "sample", 10, "how many of the devices to show")
	cmd.Long = `Show what a query finds: how many devices, and the first of them. For example
  davit group preview 'type == "board" and online and version.application < "2.0.0"'
docs/queries.md describes the language.`
	return cmd
}
