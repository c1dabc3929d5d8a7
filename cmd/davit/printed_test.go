package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"davit/internal/secrettest"
)

// printedTo names the variable with the folder in which the scripts' processes keep a copy of what they
// print.
const printedTo = "DAVIT_TEST_PRINTED"

// mainWatched is main for the scripts. What the process prints goes to a folder of its own as well, with the
// arguments that others see of it (proc(5), cmdline).
func mainWatched() {
	dir := os.Getenv(printedTo)
	if dir == "" {
		main()
	}
	s, err := copied(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(run(os.Args[1:], s))
}

func copied(dir string) (streams, error) {
	own, err := os.MkdirTemp(dir, "run-")
	if err != nil {
		return streams{}, err
	}
	args, err := os.ReadFile("/proc/self/cmdline")
	err = errors.Join(err, os.WriteFile(filepath.Join(own, "args"), args, 0o600))
	out, failedOut := os.Create(filepath.Join(own, "out"))
	log, failedErr := os.Create(filepath.Join(own, "err"))
	return streams{os.Stdin, io.MultiWriter(os.Stdout, out), io.MultiWriter(os.Stderr, log)}, errors.Join(err, failedOut, failedErr)
}

// printedRun is one process.
type printedRun struct {
	args     []string
	out, err string
}

func readRuns(dir string) (runs []printedRun, err error) {
	folders, err := filepath.Glob(filepath.Join(dir, "run-*"))
	for _, folder := range folders {
		var texts [3]string
		for i, name := range []string{"args", "out", "err"} {
			b, failed := os.ReadFile(filepath.Join(folder, name))
			if errors.Is(failed, fs.ErrNotExist) {
				failed = nil // it was killed before it had begun
			}
			texts[i], err = string(b), errors.Join(err, failed)
		}
		runs = append(runs, printedRun{strings.Split(strings.TrimRight(texts[0], "\x00"), "\x00"), texts[1], texts[2]})
	}
	return runs, err
}

// shows says whether the purpose of the command is to show a secret, once, on its standard output.
func (r printedRun) shows() bool {
	return len(r.args) > 2 && slices.Contains([]string{"device add", "device rotate", "device import", "bridge add", "bridge rotate", "token create"}, r.args[1]+" "+r.args[2])
}

// shown are the secrets that the command has shown, as a table or as JSON.
func (r printedRun) shown() []string {
	var all []string
	if r.shows() {
		for _, m := range regexp.MustCompile(`(?m)\b(?:password|secret)"?: *"?([^\s",]{16,})`).FindAllStringSubmatch(r.out, -1) {
			all = append(all, m[1])
		}
	}
	return all
}

// searchRuns fails the test if a process of a script has printed a secret, or had one among its arguments:
// passwords and tokens that were shown or written to files, and what is in the files that its flags name.
func searchRuns(w *secrettest.Watch, work, printed string) {
	runs, err := readRuns(printed)
	if len(runs) == 0 {
		err = errors.Join(err, errors.New("no process has left a copy of what it printed"))
	}
	if err == nil {
		err = plantFiles(w, work)
	}
	for _, r := range runs {
		for _, secret := range r.shown() {
			w.Plant(secret)
		}
		for i, a := range r.args[:len(r.args)-1] {
			if strings.HasSuffix(a, "password-file") || strings.HasSuffix(a, "passphrase-file") || a == "--token-file" {
				plantLine(w, filepath.Join(work, r.args[i+1]))
			}
		}
	}
	for _, r := range runs {
		where := filepath.Base(work) + ": " + strings.Join(r.args, " ")
		w.Search(where+": arguments", strings.Join(r.args, " "))
		w.Search(where+": standard error", r.err)
		if !r.shows() {
			w.Search(where+": standard output", r.out)
		}
	}
	if err != nil {
		w.Fail(err)
	}
}

// plantFiles looks for the files that davit keeps secrets in, or writes them to when it is asked.
func plantFiles(w *secrettest.Watch, work string) error {
	return filepath.WalkDir(work, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		switch {
		case strings.HasSuffix(name, ".token"), strings.HasSuffix(name, ".password"), d.Name() == "tty.txt":
			plantLine(w, name)
		case strings.HasSuffix(name, ".key"):
			b, err := os.ReadFile(name)
			for _, line := range regexp.MustCompile(`(?m)^[A-Za-z0-9+/=]{40,}$`).FindAllString(string(b), -1) {
				w.Plant(line)
			}
			return err
		case d.Name() == "secrets.csv":
			b, err := os.ReadFile(name)
			for _, m := range regexp.MustCompile(`(?m),([A-Z0-9]{20,})$`).FindAllStringSubmatch(string(b), -1) {
				w.Plant(m[1])
			}
			return err
		}
		return nil
	})
}

// plantLine plants the first line of a file, if there is one.
func plantLine(w *secrettest.Watch, name string) {
	b, err := os.ReadFile(name)
	if err != nil {
		return // a script may name a file that is missing
	}
	line, _, _ := strings.Cut(string(b), "\n")
	w.Plant(strings.TrimSpace(line))
}

// witness is a test that notes its failures instead.
type witness struct {
	testing.TB
	said []string
}

func (f *witness) Error(args ...any) { f.said = append(f.said, fmt.Sprint(args...)) }

// TestSecretsOfScriptsAreFound: a secret that a script has come by, in whatever way, is found wherever it was
// printed, and only there.
func TestSecretsOfScriptsAreFound(t *testing.T) {
	const shown = "K7QX2WVN4JH6T3M5P8RB"
	for _, c := range []struct {
		name  string
		files map[string]string // in the script's folder
		runs  []printedRun
		want  string // in what is said; nothing is to be said if empty
	}{
		{"shown once", nil, []printedRun{{[]string{"davit", "device", "add", "a"}, "password: " + shown + "\n", "added\n"}}, ""},
		{"shown again", nil, []printedRun{{[]string{"davit", "device", "add", "a"}, `{"password":"` + shown + `"}`, ""}, {[]string{"davit", "device", "list"}, "a " + shown, ""}}, "davit device list: standard output"},
		{"logged", nil, []printedRun{{[]string{"davit", "token", "create", "a"}, `"secret": "` + shown + `"`, "POST " + shown}}, "davit token create a: standard error"},
		{"an argument", map[string]string{"rack.password": shown}, []printedRun{{[]string{"davit", "bridge", "--password", shown}, "", ""}}, ": arguments"},
		{"a file of a flag", map[string]string{"anna.txt": "correct horse\n"}, []printedRun{{[]string{"davit", "user", "create", "--password-file", "anna.txt"}, "", "bad: correct horse"}}, "standard error"},
		{"the admin token", map[string]string{"data/admin.token": shown + "\n"}, []printedRun{{[]string{"davit", "serve"}, "{}", "token=" + shown}}, "davit serve: standard error"},
		{"a key", map[string]string{"a.key": "untrusted comment: x\n" + strings.Repeat(shown, 3) + "\n"}, []printedRun{{[]string{"davit", "image", "sign"}, "", strings.Repeat(shown, 3)}}, "davit image sign"},
		{"a list", map[string]string{"secrets.csv": "username,password\na," + shown + "\n"}, []printedRun{{[]string{"davit", "audit", "list"}, shown, ""}}, "davit audit list"},
		{"nothing", map[string]string{"rack.password": shown}, []printedRun{{[]string{"davit", "bridge", "--password-file", "rack.password"}, "ready", "connected"}}, ""},
	} {
		work, printed := t.TempDir(), t.TempDir()
		for name, text := range c.files {
			put(t, filepath.Join(work, name), text)
		}
		for i, r := range c.runs {
			own := filepath.Join(printed, fmt.Sprintf("run-%d", i))
			put(t, filepath.Join(own, "args"), strings.Join(r.args, "\x00")+"\x00")
			put(t, filepath.Join(own, "out"), r.out)
			put(t, filepath.Join(own, "err"), r.err)
		}
		f := &witness{TB: t}
		searchRuns(secrettest.New(f), work, printed)
		if said := strings.Join(f.said, "\n"); (c.want == "") != (said == "") || !strings.Contains(said, c.want) {
			t.Errorf("%s: said %q, want %q", c.name, said, c.want)
		}
	}
}

func put(t *testing.T, name, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(name), 0o700)
	if err = errors.Join(err, os.WriteFile(name, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}
