package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"davit/internal/logtest"
	"davit/internal/sim"
)

// sessionPatience is how long a block of the documents may take, and a program to become ready or to end.
const sessionPatience = 60 * time.Second

// needed are the programs that a page takes beside davit and the shell's own. Where one is missing the page is not run,
// unless DAVIT_TEST_FULL is set.
var needed = map[string][]string{
	"docs/module-author.md": {"cc", "/usr/include/mosquitto.h", "/usr/lib/python3/dist-packages/paho"},
	"docs/cli.md":           {"minisign", "go"},
}

// session is one page being worked through: a folder with what a reader has, and the shells.
type session struct {
	t      *testing.T
	page   string
	dir    string
	staged bool // the words in capitals have a value, see stageOf
	swap   *strings.Replacer
	server string
	state  string // file with the variables of the shell
}

// TestDocumentedSessions runs the documents: the blocks of each page in their order, in one folder of its own. What is
// put in the place of what a page says is the two usual addresses (free ports), a serial adapter (a simulated host MCU on a
// pseudo-terminal), the build of davit (this program, made of the same source), and the folders of a machine by those of a
// folder of the page. A reader has docs/ and examples/, two images of firmware, and recordings in wire/; what a page takes for granted beyond that
// stands in testdata/docs (stageOf).
func TestDocumentedSessions(t *testing.T) {
	if raceDetector {
		t.Skip("programs under the race detector take several times as long; the whole check runs them without it")
	}
	ran := 0
	for _, page := range pagesOf(t) {
		all, _ := blocksOf(readPage(t, page))
		var blocks []block
		for _, b := range all {
			if !strings.HasPrefix(b.note, noteNotRun) && !strings.HasPrefix(b.note, noteRunBy) {
				blocks = append(blocks, b)
			}
		}
		if len(blocks) == 0 {
			continue
		}
		ran += len(blocks)
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) {
			t.Parallel()
			lackOf(t, append([]string{"bash", "awk"}, needed[page]...))
			s := newSession(t, page, blocks)
			before, after := s.stageOf(page)
			s.work(before)
			s.work(blocks)
			s.work(after)
		})
	}
	if ran < 64 {
		t.Errorf("%d blocks are run; the documents must have lost some", ran)
	}
}

// lackOf skips the test, or fails it under DAVIT_TEST_FULL, if a program or file is missing.
func lackOf(t *testing.T, names []string) {
	t.Helper()
	for _, name := range names {
		_, err := exec.LookPath(name)
		if filepath.IsAbs(name) {
			_, err = os.Stat(name)
		}
		switch {
		case err != nil && os.Getenv("DAVIT_TEST_FULL") != "":
			t.Fatalf("%s is missing, which DAVIT_TEST_FULL asks for: %v", name, err)
		case err != nil:
			t.Skipf("%s is missing: %v", name, err)
		}
	}
}

// ttyUSB0 is the adapter that the documents plug in.
const ttyUSB0 = "/dev/ttyUSB0"

func newSession(t *testing.T, page string, blocks []block) *session {
	s := &session{t: t, page: page, dir: t.TempDir()}
	s.state = filepath.Join(s.dir, ".shell")
	http := freeAddress(t)
	s.server = "http://" + http
	s.swap = strings.NewReplacer("127.0.0.1:1883", freeAddress(t), "127.0.0.1:8080", http, "127.0.0.1:1884", freeAddress(t), "127.0.0.1:8081", freeAddress(t),
		"davit.example.com:8883", freeAddress(t), "127.0.0.1:6060", freeAddress(t), ttyUSB0, filepath.Join(s.dir, "ttyUSB0"),
		"/etc/davit", filepath.Join(s.dir, "etc/davit"), "/var/lib/davit", filepath.Join(s.dir, "var/lib/davit"),
		"/usr/lib/systemd", filepath.Join(s.dir, "usr/lib/systemd"), "/etc/systemd", filepath.Join(s.dir, "etc/systemd"),
		"/usr/local/bin", filepath.Join(s.dir, "bin"), "go build -o davit ./cmd/davit", `ln -s "$(type -P davit)" davit`)
	for _, folder := range []string{"docs", "examples", "deploy"} {
		if err := os.CopyFS(filepath.Join(s.dir, folder), os.DirFS(filepath.Join(repository, folder))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(s.dir, "wire"), os.DirFS(filepath.Join(repository, "bridge/sniff/testdata"))); err != nil {
		t.Fatal(err)
	}
	for name, version := range map[string]string{"factory.bin": "1.0.0", "firmware.bin": "2.1.0"} {
		if err := os.WriteFile(filepath.Join(s.dir, name), sim.BuildDemoImage(version, 8<<10, 1), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range blocks {
		if strings.Contains(b.text, ttyUSB0) {
			s.keep("davit mcu --link ttyUSB0", page+": the simulated host MCU")
			break
		}
	}
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// placeholder is a word of a command that a reader replaces by a value of their own.
var placeholder = regexp.MustCompile(`(^|[ \n])(IMAGE|ID|DIR|BEFORE|NEW)([ )\n]|$)`)

// stageOf reads what a page takes for granted, such as a service with devices: the blocks of the page of the same name in
// testdata/docs, up to the heading "After"; those behind it look at what the page has done. They also have a function of
// the shell for each word in capitals that a reader replaces, which prints its value.
func (s *session) stageOf(page string) (before, after []block) {
	text, err := os.ReadFile(filepath.Join("testdata/docs", filepath.Base(page)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if os.Getenv("DAVIT_TEST_FULL") == "" {
		s.t.Skip("pages that need a service of their own run under DAVIT_TEST_FULL=1")
	}
	s.staged = true
	head, tail, _ := strings.Cut(string(text), "\n# After\n")
	before, _ = blocksOf(head)
	after, _ = blocksOf(tail)
	return before, after
}

func (s *session) work(blocks []block) {
	for _, b := range blocks {
		at := fmt.Sprintf("%s:%d", s.page, b.line)
		switch {
		case b.note == noteRunning:
			s.keep(b.script(), at)
		case b.console:
			for _, e := range b.entries() {
				if got := s.do(e.command, at, b.note == noteFails); !shows(e.output, got) {
					s.t.Errorf("%s: $ %s prints\n%s\nand the page says\n%s", at, e.command, got, e.output)
				}
			}
		default:
			s.do(b.text, at, b.note == noteFails)
		}
	}
}

// shows says whether output is what a page shows of it. A line "..." stands for any lines, and
// "..." in a line for anything in it.
func shows(page, output string) bool {
	pattern := `(?s)^`
	for line := range strings.Lines(page) {
		if strings.TrimSpace(line) == "..." {
			pattern += `(.*\n)?`
		} else {
			pattern += strings.ReplaceAll(regexp.QuoteMeta(strings.TrimRight(line, " \n")), `\.\.\.`, `[^\n]*`) + ` *\n`
		}
	}
	return regexp.MustCompile(pattern + `$`).MatchString(output)
}

func (s *session) command(ctx context.Context, script string) *exec.Cmd {
	script = s.swap.Replace(script)
	if s.staged {
		script = placeholder.ReplaceAllString(script, `$1"$$($2)"$3`)
	}
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = s.dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DAVIT_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	if cache, err := os.UserCacheDir(); err == nil && os.Getenv("GOCACHE") == "" { // a go command builds its tools once, and not in each HOME
		cmd.Env = append(cmd.Env, "GOCACHE="+filepath.Join(cache, "go-build"))
	}
	cmd.Env = append(cmd.Env, "HOME="+s.dir, "GORACE=atexit_sleep_ms=0", "DAVIT_SERVER="+s.server)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// before gives a shell the variables, functions and folder that the page has left.
func (s *session) before() string { return "[ ! -e " + s.state + " ] || . " + s.state + "\n" }

// do runs a block in the page's shell, whose variables and folder go on to the next one, and returns what it prints.
func (s *session) do(script, at string, fails bool) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), sessionPatience)
	defer cancel()
	before := "set -a; " + s.before()
	if fails {
		script = "! " + script + "\n[ $? = 0 ]" // a command behind ! never ends the shell by itself
	}
	after := "\n{ export -p; declare -f; printf 'cd %q\\n' \"$PWD\"; } >" + s.state
	cmd := s.command(ctx, before+script+after)
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &both, &both
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("%s: %v\n%s\nprints\n%s", at, err, script, both.String())
	}
	return both.String()
}

// keep runs a block in a shell of its own until the page ends, and waits for its first line. It has to end in order.
func (s *session) keep(script, at string) {
	s.t.Helper()
	cmd := s.command(context.Background(), s.before()+script)
	out, log := &logtest.Buffer{}, &logtest.Buffer{}
	first := make(chan struct{})
	cmd.Stdout, cmd.Stderr = &firstLine{to: out, told: first}, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		select {
		case err := <-ended:
			if err != nil {
				s.t.Errorf("%s: %v\n%s%s", at, err, out, log)
			}
		case <-time.After(sessionPatience):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
			s.t.Errorf("%s does not end\n%s%s", at, out, log)
		}
		if s.t.Failed() {
			s.t.Logf("%s\n%s%s", at, out, log)
		}
	})
	select {
	case <-first:
	case err := <-ended:
		ended <- err
		s.t.Fatalf("%s ends before it is ready: %v\n%s%s", at, err, out, log)
	case <-time.After(sessionPatience):
		s.t.Fatalf("%s says nothing\n%s%s", at, out, log)
	}
}

// firstLine tells when a line was written to it.
type firstLine struct {
	to   *logtest.Buffer
	told chan struct{}
	done bool
}

func (f *firstLine) Write(p []byte) (int, error) {
	n, err := f.to.Write(p)
	if !f.done && bytes.IndexByte(p, '\n') >= 0 {
		f.done = true
		close(f.told)
	}
	return n, err
}

func TestShows(t *testing.T) {
	for _, tt := range []struct {
		page, output string
		want         bool
	}{
		{"a\nb\n", "a\nb\n", true},
		{"a\nb\n", "a  \nb\n", true},
		{"a\n", "a\nb\n", false},
		{"...\nb\n...\n", "a\nb\nc\n", true},
		{"...\nb\n...\n", "a\nc\n", false},
		{"a\n...\n", "a\n", true},
		{"a ... c\n", "a b c\n", true},
		{"a ... c\n", "a b\nc\n", false},
		{"", "", true},
		{"", "a\n", false},
	} {
		if got := shows(tt.page, tt.output); got != tt.want {
			t.Errorf("shows(%q, %q) = %v", tt.page, tt.output, got)
		}
	}
}
