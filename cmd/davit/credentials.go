package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/client"
)

// issued is what a command gets that makes a password, which is empty if the
// request was a repeated one.
type issued interface {
	login() (username, password string)
	// withoutPassword is what --json prints when the password is in a file.
	withoutPassword() any
}

// deviceCredentials is what device add and device rotate print.
type deviceCredentials struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Username string `json:"username"`
	Password string `json:"password,omitempty"`
	Note     string `json:"note,omitempty"`
}

func newCredentials(d client.DeviceCredentials) deviceCredentials {
	return deviceCredentials{d.Device.ID, d.Device.Type, d.Username, d.Password, d.Note}
}

func (d deviceCredentials) login() (username, password string) { return d.Username, d.Password }

func (d deviceCredentials) withoutPassword() any { d.Password = ""; return d }

// bridgeCredentials is what bridge add and bridge rotate print.
type bridgeCredentials struct{ client.Bridge }

func (b bridgeCredentials) login() (username, password string) { return b.Username, b.Password }

func (b bridgeCredentials) withoutPassword() any { b.Password = ""; return b }

// intoFile adds the flag that names the file that a password goes into, instead of the screen.
func intoFile(cmd *cobra.Command, file *string, reader string) *cobra.Command {
	cmd.Flags().StringVar(file, "out", "", "file for the password, readable by you only"+reader+" (default: it is printed)")
	return cmd
}

// keep asks for a password and prints it, after the sentence done if there is one,
// or writes it into the file, which is begun before it asks, so that no password
// is lost because it cannot be written.
func (p *program) keep(file, done string, ask func() (issued, error)) error {
	var out *newFile
	if file != "" {
		var err error
		if out, err = createFile(file); err != nil {
			return err
		}
		defer out.abandon()
	}
	got, err := ask()
	if err != nil {
		return err
	}
	username, password := got.login()
	switch {
	case out == nil:
		return p.show(got, func(w io.Writer) {
			if done != "" {
				fmt.Fprintln(w, done)
			}
			credentials(w, username, password)
		})
	case password == "":
		return fmt.Errorf("%s is not written: this was done before with the same idempotency key, and the password was shown then; the rotate command makes a new one", file)
	}
	if _, err := out.fill(strings.NewReader(password + "\n")); err != nil {
		return fmt.Errorf("the password of %s is made, but not kept; the rotate command makes another: %w", username, err)
	}
	return p.done(got.withoutPassword(), "%s", strings.TrimSpace(fmt.Sprintf("%s The password of %s is in %s and nowhere else.", done, username, file)))
}

// credentials prints a generated password: the only time that it is seen.
func credentials(w io.Writer, username, password string) {
	if password == "" {
		fmt.Fprintln(w, "This was done before with the same idempotency key; the password was shown then. The rotate command makes a new one.")
		return
	}
	fields(w, "username", username, "password", password)
	fmt.Fprintln(w, "The password is shown this once; the service keeps only its hash.")
}
