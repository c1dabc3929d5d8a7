package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/app/bridgefile"
	"davit/internal/client"
	"davit/orchestrator"
)

func (p *program) claimCommand() *cobra.Command {
	type T = client.Claim
	return p.parent("claim", "Tokens with which modules make themselves devices",
		p.claimCreate(),
		listCommand(p, "list", "List the claims, without their tokens", noArgs, plain((*client.Client).Claims),
			column[T]{"ID", func(c T) string { return c.ID }},
			column[T]{"TYPE", func(c T) string { return c.DeviceType }},
			column[T]{"STATE", func(c T) string { return string(c.State) }},
			column[T]{"USED", claimUses},
			column[T]{"DEVICES", func(c T) string { return c.Devices }},
			column[T]{"EXPIRES", func(c T) string { return when(c.ExpiresAt) }},
			column[T]{"LAST USED", func(c T) string { return when(c.LastUsedAt) }}),
		p.apiCommand("show ID", "Show a claim, without its token", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
			v, err := c.Claim(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.show(v, func(w io.Writer) { claimFields(w, v) })
		}),
		p.apiCommand("revoke ID", "End a claim; devices that were made with it stay", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
			v, err := c.RevokeClaim(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.done(v, "Claim %s is revoked; its token is refused from now on.", v.ID)
		}),
	)
}

// claimUses is how many devices were made, of how many.
func claimUses(c client.Claim) string {
	if c.Uses == 0 {
		return fmt.Sprintf("%d of any number", c.Used)
	}
	return fmt.Sprintf("%d of %d", c.Used, c.Uses)
}

func claimFields(w io.Writer, c client.Claim) {
	fields(w, "id", c.ID, "state", string(c.State), "device type", c.DeviceType, "devices", c.Devices, "labels", pairs(c.Labels), "groups", strings.Join(c.Groups, " "),
		"description", c.Description, "used", claimUses(c), "last used", when(c.LastUsedAt), "expires", when(c.ExpiresAt), "revoked", when(c.RevokedAt),
		"created", when(c.CreatedAt)+" by "+c.CreatedBy)
}

func (p *program) claimCreate() *cobra.Command {
	var in orchestrator.NewClaim
	var expires, uses, file string
	cmd := p.createCommand("create ID --device-type TYPE [--uses N] [--out FILE]", "Create a claim; its token is shown once", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			in.ID = args[0]
			if in.DeviceType == "" {
				return usagef("claim create: name the type of the devices with --device-type")
			}
			valid, err := parseDays("expires", expires)
			if err != nil {
				return err
			}
			in.Expires = orchestrator.Duration(valid)
			if in.Unlimited = uses == "unlimited"; !in.Unlimited {
				if in.Uses, err = strconv.Atoi(uses); err != nil || in.Uses < 1 {
					return usagef("--uses is %q; it is a number of devices, or unlimited", uses)
				}
			}
			var out *newFile
			if file != "" {
				if out, err = createFile(file); err != nil {
					return err
				}
				defer out.abandon()
			}
			made, err := c.CreateClaim(cmd.Context(), in)
			if err != nil {
				return err
			}
			return p.claimCreated(made, out)
		})
	intoFile(cmd, &file, "").Flags().Lookup("out").Usage = "file for the token, readable by you only (default: it is printed)"
	f := cmd.Flags()
	f.StringVar(&in.DeviceType, "device-type", "", "type of the devices (required)")
	f.StringVar(&uses, "uses", "1", "how many devices can be made in all, or unlimited")
	f.StringVar(&expires, "expires", "30d", "how long it is good, for example 12h or 30d; at most 365d")
	f.StringVar(&in.Devices, "devices", "", "only these ids: a pattern such as 'pump-*'")
	f.StringToStringVar(&in.Labels, "label", nil, "label NAME=VALUE of the devices; repeatable")
	f.StringArrayVar(&in.Groups, "group", nil, "static group that the devices are put into; repeatable")
	f.StringVar(&in.Description, "description", "", "what it is for")
	return cmd
}

// claimCreated shows a new claim, with its token if that is not for a file.
func (p *program) claimCreated(c client.Claim, out *newFile) error {
	switch {
	case c.Token == "" && out != nil:
		return fmt.Errorf("%s is not written: claim %s was created before with the same idempotency key, and its token was shown then; revoke it and create another", out.path, c.ID)
	case out != nil:
		if _, err := out.fill(strings.NewReader(c.Token + "\n")); err != nil {
			return fmt.Errorf("claim %s is created, but its token is not kept; revoke it and create another: %w", c.ID, err)
		}
		c.Token = ""
		return p.done(c, "Claim %s created, good for %s until %s; its token is in %s and nowhere else.", c.ID, claimGood(c), when(c.ExpiresAt), out.path)
	}
	return p.show(c, func(w io.Writer) {
		claimFields(w, c)
		if c.Token == "" {
			fmt.Fprintf(w, "Claim %s was created before with the same idempotency key; its token was shown then.\n", c.ID)
			return
		}
		fields(w, "username", c.Username, "token", c.Token)
		fmt.Fprintln(w, "The token is shown this once; the service keeps only its hash.")
	})
}

func claimGood(c client.Claim) string {
	if c.Uses == 0 {
		return "any number of devices"
	}
	return count(c.Uses, "device")
}

// parseDays reads a duration that may be in days.
func parseDays(flag, s string) (time.Duration, error) {
	d, err := bridgefile.ParseAge(s)
	if err != nil {
		return 0, usagef("--%s %w", flag, err)
	}
	return d, nil
}

// deviceClaim is a module's own command, not one of the service's API.
func (p *program) deviceClaim() *cobra.Command {
	var o app.ClaimOptions
	var logs *logFlags
	var timeout time.Duration
	cmd := p.command("claim --broker URL --token-file FILE --id ID --out FILE", "Make a device with a claim's token, over MQTT; writes its password to a file", noArgs,
		func(cmd *cobra.Command, _ []string) error {
			for flag, v := range map[string]string{"token-file": o.TokenFile, "id": o.Device, "out": o.Out} {
				if v == "" {
					return usagef("device claim: --%s is missing", flag)
				}
			}
			var err error
			if o.Log, err = logs.logger(p); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			if err := app.ClaimDevice(ctx, o); err != nil {
				return err
			}
			return p.done(claimedDevice{o.Device, o.Device}, "Device %s is claimed; its password is in %s and nowhere else.", o.Device, o.Out)
		})
	f := cmd.Flags()
	f.StringVar(&o.Broker, "broker", "mqtt://127.0.0.1:1883", "the MQTT broker's URL: mqtt, mqtts, ws or wss; over a network mqtts or wss")
	f.StringVar(&o.CAFile, "ca", "", "PEM file with the certificates that vouch for the broker (default: the system's)")
	f.StringVar(&o.TokenFile, "token-file", "", "file with the claim's token (required)")
	f.StringVar(&o.Device, "id", "", "id that the device is to have (required)")
	f.StringVar(&o.DeviceType, "device-type", "", "type that the device has to be of; a claim for another one is refused")
	f.StringVar(&o.Out, "out", "", "file for the password, readable by you only (required)")
	f.BoolVar(&o.Force, "force", false, "overwrite the file")
	f.DurationVar(&timeout, "timeout", time.Minute, "how long to try")
	logs = addLogFlags(cmd, "warn", nil)
	return cmd
}

// claimedDevice is what device claim prints.
type claimedDevice struct {
	ID       string `json:"id"`
	Username string `json:"username"`
}
