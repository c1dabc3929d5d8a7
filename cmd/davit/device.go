package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/orchestrator"
)

func (p *program) deviceCommand() *cobra.Command {
	return p.parent("device", "Devices: a module and its host MCU",
		p.deviceAdd(), p.deviceImport(), p.deviceList(), p.deviceShow(), p.deviceExecutions(), p.deviceChange(),
		p.deviceRotate(), p.deviceClaim(), p.deviceQuarantine(), p.deviceRelease(),
		p.removeCommand("a device and its credentials", (*client.Client).DeleteDevice),
	)
}

func (p *program) deviceQuarantine() *cobra.Command {
	var reason string
	cmd := p.apiCommand("quarantine ID [--reason TEXT]", "Shut a device out at once: connections, logins, offers and fetches", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			d, err := c.QuarantineDevice(cmd.Context(), args[0], reason)
			if err != nil {
				return err
			}
			return p.done(d, "Device %s is in quarantine; davit device release %s ends that.", d.ID, d.ID)
		})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for people and the audit log")
	return cmd
}

func (p *program) deviceRelease() *cobra.Command {
	return p.apiCommand("release ID", "End the quarantine of a device", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			d, err := c.ReleaseDevice(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.done(d, "Device %s is released.", d.ID)
		})
}

// quarantined says since when and why a device is in quarantine, nothing if it is not.
func quarantined(d orchestrator.Device) string {
	if d.QuarantinedAt.IsZero() {
		return ""
	}
	said := "since " + when(d.QuarantinedAt)
	if d.QuarantineReason != "" {
		said += ": " + d.QuarantineReason
	}
	return said
}

func (p *program) deviceAdd() *cobra.Command {
	var in orchestrator.NewDevice
	var file string
	cmd := p.createCommand("add ID --type TYPE [--out FILE]", "Add a device; prints its password, once", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			if in.Type == "" {
				return usagef("device add: name the device's type with --type")
			}
			in.ID = args[0]
			return p.keep(file, "Device "+in.ID+" added.", func() (issued, error) {
				cred, err := c.CreateDevice(cmd.Context(), in)
				return newCredentials(cred), err
			})
		})
	intoFile(cmd, &file, "")
	cmd.Flags().StringVar(&in.Type, "type", "", "device type (required)")
	cmd.Flags().StringToStringVar(&in.Labels, "label", nil, "label NAME=VALUE; repeatable")
	return cmd
}

func (p *program) deviceList() *cobra.Command {
	var filter orchestrator.DeviceFilter
	var online, offline bool
	cmd := listCommand(p, "list", "List the devices, all or those that the flags describe", noArgs,
		func(_ *cobra.Command, c *client.Client, _ []string) (client.Listing[client.DeviceView], error) {
			if online || offline {
				filter.Online = &online
			}
			return filtered(c, (*client.Client).Devices, filter), nil
		}, detailColumns()...)
	f := cmd.Flags()
	f.StringVar(&filter.Type, "type", "", "only devices of this type")
	f.StringVar(&filter.Group, "group", "", "only devices of this group")
	f.StringVar(&filter.Label, "label", "", "only devices with this label, NAME or NAME=VALUE")
	f.StringVar(&filter.Version, "version", "", "only devices that report this version, IMAGE_TYPE=VERSION")
	f.BoolVar(&online, "online", false, "only devices that are connected")
	f.BoolVar(&offline, "offline", false, "only devices that are not connected")
	f.StringVar(&filter.Text, "text", "", "only devices with this text in their id or labels")
	f.StringVar(&filter.Query, "query", "", "only devices that this query finds, for example 'online and label.site == \"berlin\"'")
	cmd.MarkFlagsMutuallyExclusive("online", "offline")
	return cmd
}

func deviceColumns() []column[orchestrator.Device] {
	type T = orchestrator.Device
	return []column[T]{
		{"ID", func(d T) string { return d.ID }},
		{"TYPE", func(d T) string { return d.Type }},
		{"DIALECT", func(d T) string { return d.Dialect }},
		{"ONLINE", func(d T) string { return yesNo(d.Online) }},
		{"VERSIONS", func(d T) string { return pairs(d.Versions) }},
		{"LAST SEEN", func(d T) string { return when(d.LastSeen) }},
		{"LABELS", func(d T) string { return pairs(d.Labels) }},
	}
}

// detailColumns are those of a device, and what other records say of it.
func detailColumns() []column[client.DeviceView] {
	type T = client.DeviceView
	now := time.Now()
	var all []column[T]
	for _, c := range deviceColumns() {
		all = append(all, column[T]{c.title, func(d T) string { return c.value(d.Device) }})
	}
	return append(all,
		column[T]{"UNDER WAY", func(d T) string { return stateOf(d.Execution) }},
		column[T]{"GROUPS", func(d T) string { return strings.Join(d.Groups, " ") }},
		column[T]{"PASSWORD", func(d T) string { return passwordOf(d.Login, now) }},
		column[T]{"QUARANTINE", func(d T) string { return quarantined(d.Device) }})
}

func (p *program) deviceShow() *cobra.Command {
	return p.apiCommand("show ID", "Show a device, its groups and what is under way on it", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			d, err := c.DeviceDetail(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			versions := d.Versions
			if d.Dialect == orchestrator.DialectAfero && !p.json {
				if versions, err = numbered(cmd.Context(), c, d.Versions); err != nil {
					return err
				}
			}
			return p.show(d, func(w io.Writer) {
				fields(w, "id", d.ID, "type", d.Type, "online", yesNo(d.Online), "quarantine", quarantined(d.Device), "silent", yes(d.Silent, "no hello for longer than its type allows"),
					"versions", pairs(versions), "unconfirmed", strings.Join(d.Unconfirmed, " "), "labels", pairs(d.Labels), "groups", strings.Join(d.Groups, " "),
					"module", d.Module, "dialect", d.Dialect, "last seen", when(d.LastSeen), "last hello", when(d.HelloAt), "claim", d.Claim, "password", passwordOf(d.Login, time.Now()),
					"under way", underWay(d.Execution), "waiting", count(d.Waiting, "execution"), "revision", revision(d.Revision), "created", when(d.CreatedAt))
			})
		})
}

// numbered puts behind each version, by image type, the number by which host MCUs of
// the afero dialect know it: "1.1.0 (2)". The images of the version tell it; where
// they are gone, there is none.
func numbered(ctx context.Context, c *client.Client, versions map[string]string) (map[string]string, error) {
	out := maps.Clone(versions)
	for imageType, version := range versions {
		for _, archived := range []bool{false, true} {
			images := filtered(c, (*client.Client).Images, orchestrator.ImageFilter{ImageType: imageType, Text: version, Archived: archived})
			for i, err := range client.All(ctx, images) {
				if err != nil {
					return nil, err
				}
				if i.Version == version {
					out[imageType] = fmt.Sprintf("%s (%d)", version, i.VersionID)
					break
				}
			}
		}
	}
	return out, nil
}

// stateOf is where a device's execution stands, if one is under way.
func stateOf(e *orchestrator.Execution) string {
	if e == nil {
		return ""
	}
	return string(e.State)
}

func underWay(e *orchestrator.Execution) string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf("%s of job %s: %s %s, %s of %s", e.ID, e.Job, e.State, e.Version, size(e.BytesDone), size(e.BytesTotal))
}

func (p *program) deviceExecutions() *cobra.Command {
	type T = orchestrator.Execution
	return listCommand(p, "executions ID", "List what jobs did on a device, the newest first", oneArg("its id"),
		func(_ *cobra.Command, c *client.Client, args []string) (client.Listing[T], error) {
			return filtered(c, (*client.Client).DeviceExecutions, args[0]), nil
		},
		column[T]{"ID", func(e T) string { return e.ID }},
		column[T]{"JOB", func(e T) string { return e.Job }},
		column[T]{"VERSION", func(e T) string { return e.Version }},
		column[T]{"STATE", func(e T) string { return string(e.State) }},
		column[T]{"CAUSE", func(e T) string { return string(e.Cause) }},
		column[T]{"ATTEMPT", func(e T) string { return fmt.Sprint(e.Attempt) }},
		column[T]{"CREATED", func(e T) string { return when(e.CreatedAt) }},
		column[T]{"ENDED", func(e T) string { return when(e.EndedAt) }})
}

func (p *program) deviceChange() *cobra.Command {
	var set map[string]string
	var drop []string
	cmd := p.editCommand("change ID --label NAME=VALUE", "Change a device's labels", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string, e *edit) error {
			if len(set)+len(drop) == 0 {
				return usagef("device change: say what to change with --label or --remove-label")
			}
			d, err := c.Device(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			labels := maps.Clone(d.Labels)
			if labels == nil {
				labels = map[string]string{}
			}
			for _, name := range drop {
				if _, ok := labels[name]; !ok {
					return usagef("device %s has no label %q", d.ID, name)
				}
				delete(labels, name)
			}
			maps.Copy(labels, set)
			changed, err := c.UpdateDevice(cmd.Context(), d.ID, orchestrator.DevicePatch{Precondition: e.since(d.Revision), Labels: &labels})
			if err != nil {
				return err
			}
			return p.done(changed, "Device %s has the labels: %s", changed.ID, cell(pairs(changed.Labels)))
		})
	cmd.Flags().StringToStringVar(&set, "label", nil, "label NAME=VALUE to add or change; repeatable")
	cmd.Flags().StringArrayVar(&drop, "remove-label", nil, "name of a label to take away; repeatable")
	return cmd
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// yes is the text if b, and nothing otherwise.
func yes(b bool, text string) string {
	if b {
		return text
	}
	return ""
}

// count prints a number of things, nothing for none.
func count(n int, thing string) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// pairs prints a map in the order of its keys.
func pairs(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, " ")
}
