package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/ca"
)

func (p *program) caCommand() *cobra.Command {
	cmd := p.parent("ca", "A small certificate authority for labs, in a folder and offline",
		p.caInit(), p.caIssue(), p.caRevoke(), p.caCRL(), p.caList())
	cmd.Long = `A small certificate authority for labs, in a folder and offline. It makes the client
certificates by which devices and bridges log in over TLS, server certificates, and the
list of those that were revoked:

  davit ca init lab
  davit ca issue lab --server davit.example.com,192.0.2.7
  davit ca issue lab --bridge gw-1
  davit serve ... --mqtts :8883 --tls-cert lab/issued/server-davit.example.com.pem \
    --tls-key lab/issued/server-davit.example.com.key \
    --mqtts-client-ca lab/ca.pem --mqtts-client-crl lab/crl.pem
  davit ca revoke lab --bridge gw-1

Whoever reads the folder's ca.key can be any device; keep it off the service.`
	return cmd
}

func (p *program) caInit() *cobra.Command {
	var n ca.New
	cmd := p.command("init DIR", "Make a certificate authority", oneArg("its folder"), func(_ *cobra.Command, args []string) error {
		if n.Days == 0 || n.CRLDays == 0 {
			return errNoDays
		}
		if err := ca.Init(args[0], n, time.Now()); err != nil {
			return fmt.Errorf("ca init: %w", err)
		}
		made := map[string]string{"certificate": filepath.Join(args[0], ca.CertificateFile), "crl": filepath.Join(args[0], ca.CRLFile)}
		return p.done(made, "Authority made: its certificate is %s, its revocation list %s.", made["certificate"], made["crl"])
	})
	f := cmd.Flags()
	f.StringVar(&n.Name, "name", "", "common name of its certificate (default davit lab CA)")
	f.IntVar(&n.Days, "days", ca.DefaultRootDays, "how many days its certificate is valid")
	f.IntVar(&n.CRLDays, "crl-days", ca.DefaultCRLDays, "how many days a revocation list is good for; davit ca crl writes a new one")
	return cmd
}

// errNoDays is the answer to a lifetime of none, which would otherwise mean the usual one.
var errNoDays = usagef("ca: a lifetime of 0 days; it has at least one")

// caFlags are the ways to name whom a certificate is for.
type caFlags struct{ device, bridge, server string }

func (c *caFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.device, "device", "", "id of a device")
	f.StringVar(&c.bridge, "bridge", "", "id of a bridge")
	f.StringVar(&c.server, "server", "", "host names and IP addresses of a server, separated by commas")
	cmd.MarkFlagsMutuallyExclusive("device", "bridge", "server")
}

// named returns what the flags name, nothing if they name nobody.
func (c *caFlags) named() (ca.Kind, string) {
	switch {
	case c.device != "":
		return ca.Device, c.device
	case c.bridge != "":
		return ca.Bridge, c.bridge
	case c.server != "":
		return ca.Server, c.server
	}
	return "", ""
}

func (p *program) caIssue() *cobra.Command {
	var who caFlags
	var days int
	cmd := p.command("issue DIR --device ID | --bridge ID | --server NAME[,NAME|IP...]", "Make a key and a certificate for a device, a bridge or a server", oneArg("the authority's folder"),
		func(_ *cobra.Command, args []string) error {
			kind, name := who.named()
			if kind == "" {
				return usagef("ca issue: say whom the certificate is for with --device, --bridge or --server")
			}
			if days == 0 {
				return errNoDays
			}
			made, err := ca.Issue(args[0], ca.Request{Kind: kind, Name: name, Days: days}, time.Now())
			if err != nil {
				return fmt.Errorf("ca issue: %w", err)
			}
			return p.show(made, func(w io.Writer) {
				fields(w, string(kind), name, "certificate", made.Certificate, "key", made.Key, "serial", made.Serial, "valid until", when(made.NotAfter))
			})
		})
	who.add(cmd)
	cmd.Flags().IntVar(&days, "days", ca.DefaultIssuedDays, "how many days it is valid")
	return cmd
}

func (p *program) caRevoke() *cobra.Command {
	var who caFlags
	var reason string
	cmd := p.command("revoke DIR SERIAL | --device ID | --bridge ID | --server NAMES", "Revoke certificates and write the revocation list", nil,
		func(_ *cobra.Command, args []string) error {
			kind, name := who.named()
			selected := ca.Selection{Kind: kind, Name: name}
			switch {
			case len(args) == 0 || len(args) > 2:
				return usagef("ca revoke takes the authority's folder, and a serial number or --device, --bridge or --server")
			case len(args) == 2 && kind != "" || len(args) == 1 && kind == "":
				return usagef("ca revoke: name one thing, a serial number or --device, --bridge or --server")
			case len(args) == 2:
				selected.Serial = args[1]
			}
			revoked, err := ca.Revoke(args[0], selected, reason, time.Now())
			if err != nil {
				return fmt.Errorf("ca revoke: %w", err)
			}
			if revoked == nil {
				revoked = []ca.Entry{}
			}
			crl := filepath.Join(args[0], ca.CRLFile)
			if len(revoked) == 0 {
				return p.done(revoked, "Revoked already; %s is written anew.", crl)
			}
			return p.done(revoked, "Revoked %s; it stands in %s.", count(len(revoked), "certificate"), crl)
		})
	who.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "unspecified", "why: "+strings.Join(ca.Reasons(), ", "))
	completeWith(cmd, "reason", ca.Reasons()...)
	return cmd
}

func (p *program) caCRL() *cobra.Command {
	return p.command("crl DIR", "Write the revocation list anew, before the present one ends", oneArg("the authority's folder"),
		func(_ *cobra.Command, args []string) error {
			end, err := ca.WriteCRL(args[0], time.Now())
			if err != nil {
				return fmt.Errorf("ca crl: %w", err)
			}
			crl := filepath.Join(args[0], ca.CRLFile)
			return p.done(map[string]any{"crl": crl, "next_update": end}, "%s is good until %s.", crl, when(end))
		})
}

func (p *program) caList() *cobra.Command {
	return p.command("list DIR", "List the certificates that the authority has issued", oneArg("its folder"), func(_ *cobra.Command, args []string) error {
		all, err := ca.List(args[0])
		if err != nil {
			return fmt.Errorf("ca list: %w", err)
		}
		if p.json {
			for _, e := range all {
				if err := p.printJSON(e); err != nil {
					return err
				}
			}
			return nil
		}
		return table(p, all,
			column[ca.Entry]{"SERIAL", func(e ca.Entry) string { return e.Serial }},
			column[ca.Entry]{"KIND", func(e ca.Entry) string { return string(e.Kind) }},
			column[ca.Entry]{"NAME", func(e ca.Entry) string { return e.Name }},
			column[ca.Entry]{"VALID UNTIL", func(e ca.Entry) string { return when(e.NotAfter) }},
			column[ca.Entry]{"REVOKED", func(e ca.Entry) string { return when(e.RevokedAt) }})
	})
}
