package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/client"
)

func (p *program) tokenCommand() *cobra.Command {
	return p.parent("token", "API tokens: sign in programs and scripts", p.tokenCreate(), p.tokenList(), p.tokenRevoke())
}

func (p *program) tokenCreate() *cobra.Command {
	var in client.NewToken
	var user, file string
	cmd := p.createCommand("create NAME [--scope SCOPE] [--out FILE]", "Create a token; its secret is shown once", oneArg("what the token is for"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			in.Name = args[0]
			var out *newFile
			if file != "" {
				var err error
				if out, err = createFile(file); err != nil {
					return err
				}
				defer out.abandon()
			}
			t, err := c.CreateToken(cmd.Context(), user, in)
			if err != nil {
				return err
			}
			if out == nil {
				return p.show(t, func(w io.Writer) { tokenCreated(w, t) })
			}
			if t.Secret == "" {
				return fmt.Errorf("%s is not written: token %s was created before with the same idempotency key, and its secret was shown then; revoke it and create another", file, t.ID)
			}
			if _, err := out.fill(strings.NewReader(t.Secret + "\n")); err != nil {
				return fmt.Errorf("token %s is created, but its secret is not kept; revoke it and create another: %w", t.ID, err)
			}
			return p.done(t.Token, "Token %s created, valid until %s; its secret is in %s and nowhere else.", t.ID, when(t.ExpiresAt), file)
		})
	f := cmd.Flags()
	f.StringArrayVar(&in.Scopes, "scope", nil, "what the token is restricted to: "+strings.Join(scopeNames(), ", ")+"; repeatable (default: all that you may do)")
	f.StringVar(&in.Expires, "expires", "", "how long it is valid, for example 720h; at most a year (default: 90 days)")
	f.StringVar(&user, "user", "", "whose token it is (default: your own)")
	f.StringVar(&file, "out", "", "file for the secret, readable by you only; DAVIT_TOKEN and --token-file take it")
	completeWith(cmd, "scope", scopeNames()...)
	return cmd
}

// scopeNames are the scopes, for help and completion; the service decides.
func scopeNames() []string {
	return []string{"account", "read", "devices:write", "groups:write", "jobs:pause", "devices:quarantine", "types:write", "images:write", "images:download", "jobs:run", "audit:read", "people:manage", "service:manage"}
}

func tokenCreated(w io.Writer, t client.NewSecret) {
	if t.Secret == "" {
		fmt.Fprintf(w, "Token %s was created before with the same idempotency key; its secret was shown then.\n", t.ID)
		return
	}
	fields(w, "id", t.ID, "name", t.Name, "scopes", strings.Join(t.Scopes, " "), "expires", when(t.ExpiresAt), "secret", t.Secret)
	fmt.Fprintln(w, "The secret is shown this once; the service keeps only its hash.")
}

func (p *program) tokenList() *cobra.Command {
	type T = client.Token
	var user string
	var all bool
	cmd := listCommand(p, "list", "List your tokens, without their secrets", noArgs,
		func(_ *cobra.Command, c *client.Client, _ []string) (client.Listing[T], error) {
			if all {
				user = client.EverybodysTokens
			}
			return filtered(c, (*client.Client).Tokens, user), nil
		},
		column[T]{"ID", func(t T) string { return t.ID }},
		column[T]{"NAME", func(t T) string { return t.Name }},
		column[T]{"USER", func(t T) string { return t.User }},
		column[T]{"SCOPES", func(t T) string {
			if len(t.Scopes) == 0 {
				return "all"
			}
			return strings.Join(t.Scopes, " ")
		}},
		column[T]{"EXPIRES", func(t T) string { return when(t.ExpiresAt) }},
		column[T]{"USED", func(t T) string { return when(t.UsedAt) }})
	cmd.Flags().StringVar(&user, "user", "", "this user's tokens instead of your own")
	cmd.Flags().BoolVar(&all, "all-users", false, "everybody's tokens")
	cmd.MarkFlagsMutuallyExclusive("user", "all-users")
	return cmd
}

// revoked is what token revoke prints.
type revoked struct {
	ID      string `json:"id"`
	Revoked bool   `json:"revoked"`
}

func (p *program) tokenRevoke() *cobra.Command {
	return p.apiCommand("revoke ID", "End a token; it is refused from now on", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		if err := c.DeleteToken(cmd.Context(), args[0]); err != nil {
			return err
		}
		return p.done(revoked{args[0], true}, "Token %s revoked.", args[0])
	})
}

func (p *program) whoamiCommand() *cobra.Command {
	return p.apiCommand("whoami", "Show whom your token speaks for and what it may do", noArgs, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		me, err := c.Me(cmd.Context())
		if err != nil {
			return err
		}
		return p.show(me, func(w io.Writer) {
			fields(w, "user", me.User, "name", me.DisplayName, "role", me.Role, "token", strings.TrimSpace(me.TokenName+" "+me.Token), "may", strings.Join(me.Scopes, " "))
		})
	})
}
