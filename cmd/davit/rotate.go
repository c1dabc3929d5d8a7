package main

import (
	"cmp"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/orchestrator"
)

// rotateCommand gives one device or bridge a new password at once, or orders that some
// change theirs by themselves.
func (p *program) rotateCommand(thing, reader string, atOnce func(cmd *cobra.Command, c *client.Client, id string) (issued, error), name func(n *client.NewRotation, ids []string, all bool)) *cobra.Command {
	var file, older string
	var order, all bool
	cmd := p.apiCommand("rotate ID [--out FILE] | rotate --order ID... | rotate --all [--older-than 90d]",
		"Give a "+thing+" a new password, the old one ends at once; or have some change theirs over MQTT", cobra.ArbitraryArgs,
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			order = order || all || older != ""
			switch {
			case !order && len(args) == 1:
				return p.keep(file, "", func() (issued, error) { return atOnce(cmd, c, args[0]) })
			case !order && len(args) > 1:
				return usagef("%s rotate: a new password is made for one %s at a time; --order has all of these change theirs by themselves", thing, thing)
			case file != "":
				return usagef("%s rotate: --out is for the password of one %s that is made at once, and not together with --order, --all or --older-than", thing, thing)
			case all == (len(args) > 0):
				return usagef("%s rotate: name %ss, or say --all", thing, thing)
			}
			n := client.NewRotation{}
			if older != "" {
				age, err := parseDays("older-than", older)
				if err != nil {
					return err
				}
				n.OlderThan = orchestrator.Duration(age)
			}
			name(&n, args, all)
			done, err := c.OrderRotation(cmd.Context(), n)
			if err != nil {
				return err
			}
			return p.done(done, "%s to change a password that was not to be changed before; their passwords stay good until then.", cmp.Or(count(done.Ordered, thing), "No "+thing))
		})
	intoFile(cmd, &file, reader)
	f := cmd.Flags()
	f.BoolVar(&order, "order", false, "have them ask for another password by themselves; the present one stays good until they have logged in with it")
	f.BoolVar(&all, "all", false, "order it of all "+thing+"s that have a password")
	f.StringVar(&older, "older-than", "", "order it only where the password is at least so old, for example 90d")
	return cmd
}

func (p *program) deviceRotate() *cobra.Command {
	return p.rotateCommand("device", "", func(cmd *cobra.Command, c *client.Client, id string) (issued, error) {
		cred, err := c.RotateCredentials(cmd.Context(), id)
		return newCredentials(cred), err
	}, func(n *client.NewRotation, ids []string, all bool) { n.Devices, n.AllDevices = ids, all })
}

func (p *program) bridgeRotate() *cobra.Command {
	return p.rotateCommand("bridge", "; davit bridge takes it as --password-file", func(cmd *cobra.Command, c *client.Client, id string) (issued, error) {
		b, err := c.RotateBridge(cmd.Context(), id)
		return bridgeCredentials{b}, err
	}, func(n *client.NewRotation, ids []string, all bool) { n.Bridges, n.AllBridges = ids, all })
}

// passwordOf says how a password stands: its age, and what is under way.
func passwordOf(l *client.Login, now time.Time) string {
	if l == nil {
		return "none"
	}
	said := "of unknown age"
	if !l.PasswordSince.IsZero() {
		said = age(now.Sub(l.PasswordSince))
	}
	switch {
	case !l.PendingUntil.IsZero():
		said += ", another is given"
	case !l.RotateOrdered.IsZero():
		said += ", to be changed"
	}
	return said
}

// age is a time in its largest unit.
func age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return count(int(d/(24*time.Hour)), "day")
	case d >= 2*time.Hour:
		return count(int(d/time.Hour), "hour")
	case d >= 2*time.Minute:
		return count(int(d/time.Minute), "minute")
	}
	return "new"
}
