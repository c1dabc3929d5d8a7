package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// passwordFlag names the file that a password is read from. Passwords are
// never arguments: other users of the machine can see those.
type passwordFlag struct{ name, file string }

func (f *passwordFlag) addTo(cmd *cobra.Command, name, what string) {
	f.name = name
	cmd.Flags().StringVar(&f.file, name, "", "file with "+what+", - for standard input (default: asked for on the terminal)")
}

// newPassword reads a password that is going to be set; on a terminal it is
// asked for twice.
func (p *program) newPassword(f passwordFlag, whose string) (string, error) {
	first, err := p.password(f, fmt.Sprintf("New password for %s: ", whose))
	if err != nil || f.file != "" {
		return first, err
	}
	second, err := p.password(f, "Once more: ")
	if err == nil && second != first {
		err = errors.New("the two passwords are not the same; nothing is changed")
	}
	return first, err
}

// password reads a password from the file that the flag names, or from the
// terminal without showing it.
func (p *program) password(f passwordFlag, prompt string) (string, error) {
	if f.file == "" {
		return p.ask(f, prompt)
	}
	in := p.in
	if f.file != "-" {
		file, err := os.Open(f.file)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		defer file.Close()
		in = file
	}
	const longest = 4096
	line, err := bufio.NewReader(io.LimitReader(in, longest)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", fmt.Errorf("%s has no password in its first line", f.file)
	}
	return line, nil
}

func (p *program) ask(f passwordFlag, prompt string) (string, error) {
	terminal, ok := p.in.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return "", usagef("there is no terminal to ask for the password on; give it with --%s FILE, or --%s - for standard input", f.name, f.name)
	}
	fmt.Fprint(p.err, prompt)
	b, err := term.ReadPassword(int(terminal.Fd()))
	fmt.Fprintln(p.err)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	if len(b) == 0 {
		return "", errors.New("no password was typed; nothing is changed")
	}
	return string(b), nil
}
