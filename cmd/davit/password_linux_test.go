package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// awaitNoEcho waits until what is typed is not shown.
func awaitNoEcho(t *testing.T, screen *os.File) {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		mode, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
		switch {
		case err != nil:
			t.Error(err)
			return
		case mode.Lflag&unix.ECHO == 0:
			return
		case time.Now().After(deadline):
			t.Error("the terminal goes on showing what is typed")
			return
		}
	}
}

// typist answers each prompt on a terminal with the next line and returns
// everything that was to be seen on it.
func typist(t *testing.T, screen *os.File, lines ...string) func() string {
	t.Helper()
	seen := make(chan string, 1)
	go func() {
		var all bytes.Buffer
		b := make([]byte, 256)
		for {
			n, err := screen.Read(b)
			all.Write(b[:n])
			if err != nil {
				seen <- all.String()
				return
			}
			if len(lines) > 0 && strings.HasSuffix(all.String(), ": ") {
				awaitNoEcho(t, screen)
				if _, err := io.WriteString(screen, lines[0]+"\n"); err != nil {
					t.Error(err)
				}
				lines = lines[1:]
			}
		}
	}()
	return func() string { return <-seen }
}

// TestPasswordOnTerminal: a password is asked for twice and never shown.
func TestPasswordOnTerminal(t *testing.T) {
	for name, c := range map[string]struct {
		typed []string
		want  string
		wrong string
	}{
		"twice the same": {typed: []string{"correct horse", "correct horse"}, want: "correct horse"},
		"not the same":   {typed: []string{"correct horse", "battery"}, wrong: "not the same"},
		"nothing":        {typed: []string{""}, wrong: "no password was typed"},
	} {
		t.Run(name, func(t *testing.T) {
			screen, terminal, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer screen.Close()
			seen := typist(t, screen, c.typed...)
			p := &program{streams: streams{in: terminal, out: io.Discard, err: terminal}}
			got, err := p.newPassword(passwordFlag{name: "password-file"}, "anna")
			if err := terminal.Close(); err != nil {
				t.Fatal(err)
			}
			text := seen()
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("%v; want an error that says %q", err, c.wrong)
				}
			} else if err != nil || got != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
			if !strings.Contains(text, "New password for anna: ") || strings.Contains(text, "horse") || strings.Contains(text, "battery") {
				t.Errorf("the terminal shows %q", text)
			}
		})
	}
}
