package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/orchestrator"
)

func (p *program) deviceCommand() *cobra.Command {
	type T = orchestrator.Device
	return p.parent("device", "Devices: a module and its host MCU",
		p.deviceAdd(),
		p.apiCommand("list", "List the devices", noArgs, func(cmd *cobra.Command, c *client.Client, _ []string) error {
			items, err := all(cmd.Context(), c.Devices)
			if err != nil {
				return err
			}
			return list(p, items,
				column[T]{"ID", func(d T) string { return d.ID }},
				column[T]{"TYPE", func(d T) string { return d.Type }},
				column[T]{"ONLINE", func(d T) string { return yesNo(d.Online) }},
				column[T]{"VERSIONS", func(d T) string { return pairs(d.Versions) }},
				column[T]{"LAST SEEN", func(d T) string { return when(d.LastSeen) }})
		}),
		p.apiCommand("show ID", "Show a device", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
			d, err := c.Device(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.show(d, func(w io.Writer) {
				fields(w, "id", d.ID, "type", d.Type, "online", yesNo(d.Online), "versions", pairs(d.Versions), "unconfirmed", strings.Join(d.Unconfirmed, " "), "labels", pairs(d.Labels),
					"module", d.Module, "dialect", d.Dialect, "last seen", when(d.LastSeen), "created", when(d.CreatedAt))
			})
		}),
		p.apiCommand("rotate ID", "Give a device a new password; the old one ends at once", oneArg("its id"),
			func(cmd *cobra.Command, c *client.Client, args []string) error {
				cred, err := c.RotateCredentials(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return p.show(newCredentials(cred), func(w io.Writer) { credentials(w, cred.Username, cred.Password) })
			}),
		p.removeCommand("a device", (*client.Client).DeleteDevice),
	)
}

func (p *program) deviceAdd() *cobra.Command {
	var in orchestrator.NewDevice
	cmd := p.apiCommand("add ID --type TYPE", "Add a device; prints its password, once", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			if in.Type == "" {
				return usagef("device add: name the device's type with --type")
			}
			in.ID = args[0]
			d, err := c.CreateDevice(cmd.Context(), in)
			if err != nil {
				return err
			}
			return p.show(newCredentials(d), func(w io.Writer) {
				fmt.Fprintf(w, "Device %s added.\n", in.ID)
				credentials(w, d.Username, d.Password)
			})
		})
	cmd.Flags().StringVar(&in.Type, "type", "", "device type (required)")
	cmd.Flags().StringToStringVar(&in.Labels, "label", nil, "label NAME=VALUE; repeatable")
	return cmd
}

// deviceCredentials is what device add and device rotate print.
type deviceCredentials struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Username string `json:"username"`
	Password string `json:"password"`
}

func newCredentials(d client.DeviceCredentials) deviceCredentials {
	return deviceCredentials{d.Device.ID, d.Device.Type, d.Username, d.Password}
}

// credentials prints a generated password: the only time that it is seen.
func credentials(w io.Writer, username, password string) {
	fields(w, "username", username, "password", password)
	fmt.Fprintln(w, "The password is shown this once; the service keeps only its hash.")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// pairs prints a map in the order of its keys.
func pairs(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, " ")
}
