package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/client"
)

// roleNames are the roles in ascending order, for help and completion; the
// service decides.
func roleNames() []string { return []string{"viewer", "operator", "developer", "admin"} }

func (p *program) userCommand() *cobra.Command {
	return p.parent("user", "Users: who may sign in, with which role",
		p.userCreate(), p.userList(), p.userShow(), p.userChange(), p.userPassword(),
		p.removeCommand("a user with all sessions and tokens", (*client.Client).DeleteUser))
}

func (p *program) userCreate() *cobra.Command {
	var in client.NewUser
	var password passwordFlag
	var external bool
	cmd := p.createCommand("create NAME --role ROLE", "Create a user", oneArg("the user's name"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		if in.Role == "" {
			return usagef("user create: say what the user may do with --role: %s", strings.Join(roleNames(), ", "))
		}
		in.Name = args[0]
		if !external {
			var err error
			if in.Password, err = p.newPassword(password, in.Name); err != nil {
				return err
			}
		}
		u, err := c.CreateUser(cmd.Context(), in)
		if err != nil {
			return err
		}
		return p.done(u, "User %s created with the role %s.", u.Name, u.Role)
	})
	f := cmd.Flags()
	f.StringVar(&in.Role, "role", "", "role: "+strings.Join(roleNames(), ", ")+" (required)")
	f.StringVar(&in.DisplayName, "display-name", "", "name for people (default: the name)")
	f.StringVar(&in.Email, "email", "", "e-mail address, for people")
	f.BoolVar(&external, "no-password", false, "the user signs in through OpenID Connect only")
	password.addTo(cmd, "password-file", "the user's password")
	cmd.MarkFlagsMutuallyExclusive("no-password", "password-file")
	completeWith(cmd, "role", roleNames()...)
	return cmd
}

func (p *program) userList() *cobra.Command {
	type T = client.User
	return listCommand(p, "list", "List the users", noArgs, plain((*client.Client).Users),
		column[T]{"NAME", func(u T) string { return u.Name }},
		column[T]{"ROLE", func(u T) string { return u.Role }},
		column[T]{"STATE", userState},
		column[T]{"DISPLAY NAME", func(u T) string { return u.DisplayName }},
		column[T]{"E-MAIL", func(u T) string { return u.Email }},
		column[T]{"SIGNED IN", func(u T) string { return when(u.SignedInAt) }})
}

func userState(u client.User) string {
	switch {
	case u.Disabled:
		return "disabled"
	case !u.LockedUntil.IsZero():
		return "locked"
	}
	return "active"
}

func (p *program) userShow() *cobra.Command {
	return p.apiCommand("show NAME", "Show a user", oneArg("the user's name"), func(cmd *cobra.Command, c *client.Client, args []string) error {
		u, err := c.User(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return p.show(u, func(w io.Writer) {
			fields(w, "name", u.Name, "display name", u.DisplayName, "e-mail", u.Email, "role", u.Role, "state", userState(u), "locked until", when(u.LockedUntil),
				"password", yesNo(u.HasPassword), "openid connect", u.External, "signed in", when(u.SignedInAt), "revision", revision(u.Revision), "created", when(u.CreatedAt))
		})
	})
}

func (p *program) userChange() *cobra.Command {
	var role, display, email string
	var disable, enable, unlock, ask bool
	var password passwordFlag
	cmd := p.editCommand("change NAME [flags]", "Change a user: role, names, password; disable, enable or unlock", oneArg("the user's name"),
		func(cmd *cobra.Command, c *client.Client, args []string, e *edit) error {
			patch := client.UserPatch{Role: given(cmd, "role", &role), DisplayName: given(cmd, "display-name", &display), Email: given(cmd, "email", &email)}
			if disable || enable {
				patch.Disabled = &disable
			}
			if unlock {
				patch.Unlock = &unlock
			}
			if ask || password.file != "" {
				next, err := p.newPassword(password, args[0])
				if err != nil {
					return err
				}
				patch.Password = &next
			}
			if err := somethingIn(cmd, patch); err != nil {
				return err
			}
			u, err := c.User(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			patch.Precondition = e.since(u.Revision)
			if u, err = c.UpdateUser(cmd.Context(), u.Name, patch); err != nil {
				return err
			}
			return p.done(u, "User %s changed: %s, %s.", u.Name, u.Role, userState(u))
		})
	f := cmd.Flags()
	f.StringVar(&role, "role", "", "role: "+strings.Join(roleNames(), ", "))
	f.StringVar(&display, "display-name", "", "name for people")
	f.StringVar(&email, "email", "", "e-mail address, for people")
	f.BoolVar(&disable, "disable", false, "end all sessions and refuse sign-in and tokens")
	f.BoolVar(&enable, "enable", false, "let a disabled user sign in again")
	f.BoolVar(&unlock, "unlock", false, "end a lock after too many wrong passwords")
	f.BoolVar(&ask, "password", false, "ask for a new password; all sessions of the user end")
	password.addTo(cmd, "password-file", "the new password")
	cmd.MarkFlagsMutuallyExclusive("disable", "enable")
	cmd.MarkFlagsMutuallyExclusive("password", "password-file")
	completeWith(cmd, "role", roleNames()...)
	return cmd
}

// passwordChanged is what user password prints.
type passwordChanged struct {
	Changed bool `json:"changed"`
}

func (p *program) userPassword() *cobra.Command {
	var old, next passwordFlag
	cmd := p.apiCommand("password", "Change your own password", noArgs, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		before, err := p.password(old, "Your password: ")
		if err != nil {
			return err
		}
		after, err := p.newPassword(next, "you")
		if err != nil {
			return err
		}
		if err := c.ChangePassword(cmd.Context(), before, after); err != nil {
			return err
		}
		return p.done(passwordChanged{true}, "Your password is changed.")
	})
	old.addTo(cmd, "old-password-file", "the present password")
	next.addTo(cmd, "password-file", "the new password")
	return cmd
}
