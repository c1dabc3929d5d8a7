package app

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"davit/internal/sim"
	"davit/orchestrator"
	"davit/schemas"
)

// exampleModule is one of the programs in examples/ as the module of the bench's device.
type exampleModule struct {
	t      *testing.T
	argv   []string
	folder string // what the module keeps, and the image that its host MCU runs
	cmd    *exec.Cmd
	log    bytes.Buffer
}

// lacks skips the test, or fails it under DAVIT_TEST_FULL, because a program or library is missing.
func lacks(t *testing.T, what string, err error) {
	t.Helper()
	if os.Getenv("DAVIT_TEST_FULL") != "" {
		t.Fatalf("%s is missing, which DAVIT_TEST_FULL asks for: %v", what, err)
	}
	t.Skipf("%s is missing: %v", what, err)
}

// compiledModule builds the C example. That needs a compiler and libmosquitto-dev.
func compiledModule(t *testing.T) []string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		lacks(t, "a C compiler", err)
	}
	if _, err := os.Stat("/usr/include/mosquitto.h"); err != nil {
		lacks(t, "libmosquitto-dev", err)
	}
	program := filepath.Join(t.TempDir(), "module")
	build := exec.Command(cc, "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, "module.c", "sha256.c", "-lmosquitto", "-lm")
	build.Dir = "../../examples/module-c"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	return []string{program}
}

// pythonModule is the Python example with a Python that has paho-mqtt 1.
func pythonModule(t *testing.T) []string {
	t.Helper()
	script, err := filepath.Abs("../../examples/module-python/module.py")
	if err != nil {
		t.Fatal(err)
	}
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		probe := exec.Command(python, "-c", "import paho.mqtt as p; assert p.__version__.startswith('1.')")
		if err = probe.Run(); err == nil {
			return []string{python, script}
		}
	}
	lacks(t, "Python with paho-mqtt 1.6 (Debian: python3-paho-mqtt)", err)
	return nil
}

func (m *exampleModule) start() {
	m.t.Helper()
	m.cmd = exec.Command(m.argv[0], m.argv[1:]...)
	m.cmd.Stdout, m.cmd.Stderr = &m.log, &m.log
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *exampleModule) end(signal os.Signal) error {
	_ = m.cmd.Process.Signal(signal) // it may have ended, which Wait tells
	return m.cmd.Wait()
}

// ended waits for the end of the job's execution.
func (m *exampleModule) ended(b *bench) orchestrator.Execution {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	var last orchestrator.Execution
	_, err := WatchJob(ctx, b.client, "job", WatchFuncs{
		Execution: func(e orchestrator.Execution) error { last = e; return nil },
		Job:       func(orchestrator.Job) error { return nil },
	})
	if err != nil {
		m.t.Fatalf("%v; execution %+v", err, last)
	}
	return last
}

// lossyLine is the way between a module and the broker. It loses chunks, and stands still when it has passed some.
type lossyLine struct {
	listener net.Listener
	broker   string

	mu      sync.Mutex
	drop    int64         // so many of the first chunks are lost
	spoils  bool          // the next chunk arrives with another last byte
	hold    int64         // stands still after so many chunks; 0: never
	holding chan struct{} // closed when it stands still
	chunks  int64         // that have come from the broker since the last restart
	conns   []net.Conn
	runs    sync.WaitGroup
}

func newLossyLine(t *testing.T, broker string, drop, hold int64) *lossyLine {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	line := &lossyLine{listener: l, broker: broker, drop: drop, hold: hold, holding: make(chan struct{})}
	line.runs.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			line.runs.Go(func() { line.relay(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		line.cut()
		line.runs.Wait()
	})
	return line
}

func (l *lossyLine) relay(module net.Conn) {
	defer module.Close()
	broker, err := net.Dial("tcp", l.broker)
	if err != nil {
		return // the module finds out and comes again
	}
	defer broker.Close()
	l.mu.Lock()
	l.conns = append(l.conns, module, broker)
	l.mu.Unlock()
	l.runs.Go(func() {
		_, _ = io.Copy(broker, module) // ends with either connection
		_ = broker.Close()
	})
	r := bufio.NewReader(broker)
	for {
		first, body, err := readMQTT(r)
		if err != nil {
			return
		}
		if first>>4 == mqttPublish && bytes.Contains(body[:min(len(body), 80)], []byte("/chunk")) {
			if l.lost(body) {
				continue
			}
		}
		if _, err := module.Write(mqttPacket(nil, first, body)); err != nil {
			return
		}
	}
}

// lost counts a chunk and says whether it does not arrive. Those behind the one at which the line stands still do not, as
// the module is killed then.
func (l *lossyLine) lost(body []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spoils {
		l.spoils = false
		body[len(body)-1] ^= 1
	}
	l.chunks++
	if l.hold > 0 && l.chunks >= l.hold {
		if l.chunks == l.hold {
			close(l.holding)
		}
		return true
	}
	l.drop--
	return l.drop >= 0
}

func (l *lossyLine) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close() // it may be closed already
	}
	l.conns = nil
}

// restart has the line pass everything from now on, and counts anew.
func (l *lossyLine) restart() {
	l.cut()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold, l.chunks = 0, 0
}

func (l *lossyLine) spoil() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spoils = true
}

func (l *lossyLine) passed() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.chunks
}

// startExample starts one of the examples behind a line of its own to the bench's service.
func startExample(t *testing.T, b *bench, argv []string, drop, hold int64) (*exampleModule, *lossyLine) {
	t.Helper()
	m := &exampleModule{t: t, folder: t.TempDir()}
	secret, err := b.client.RotateCredentials(t.Context(), "pump")
	if err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(b.dir, "module.password")
	if err := os.WriteFile(password, []byte(secret.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	line := newLossyLine(t, b.mqtt, drop, hold)
	host, port, _ := net.SplitHostPort(line.listener.Addr().String())
	m.argv = append(slices.Clone(argv), host, port, "pump", password, m.folder)
	m.start()
	return m, line
}

// exampleWindow is how many chunks of 4 KiB the examples ask for at once.
const exampleWindow = 32

// TestExampleModules: the modules in examples/ update their host MCU over the real broker, also when they are killed in the
// middle of the download, after which they fetch what is missing and no more. An image that is not the offer's does not
// reach the host MCU.
func TestExampleModules(t *testing.T) {
	for _, tt := range []struct {
		name string
		argv func(t *testing.T) []string
		ends bool // at a signal, and not only by its will
	}{{"C", compiledModule, true}, {"Python", pythonModule, false}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // they wait for silences
			argv := tt.argv(t)
			t.Run("killed", func(t *testing.T) {
				t.Parallel()
				killedExample(t, argv, tt.ends)
			})
			t.Run("spoiled", func(t *testing.T) {
				t.Parallel()
				if os.Getenv("DAVIT_TEST_FULL") == "" {
					t.Skip("runs under DAVIT_TEST_FULL=1")
				}
				spoiledExample(t, argv)
			})
		})
	}
}

func killedExample(t *testing.T, argv []string, ends bool) {
	b := newBench(t)
	stop := b.serve(ExternalBroker{})
	b.records()
	lost := int64(0)
	if os.Getenv("DAVIT_TEST_FULL") != "" {
		lost = 5 // is noticed after seconds of silence
	}
	m, line := startExample(t, b, argv, lost, exampleWindow*3/2)
	image := sim.BuildDemoImage("2.0.0", 600<<10+77, 1)
	b.roll(image, "2.0.0")
	select { // the second window was asked for: the first is on its disk, but for what was lost
	case <-line.holding:
	case <-time.After(patience):
		t.Errorf("only %d chunks were asked for", line.passed())
	}
	_ = m.end(os.Kill) // it says that it was killed
	line.restart()
	m.start()
	defer func() { _ = m.end(os.Kill) }() // of a test that fails
	if e := m.ended(b); e.State != schemas.StateSucceeded || e.HostVersion != "2.0.0" || e.Attempt != 1 {
		t.Errorf("execution %+v", e)
	}
	if n, all := line.passed(), int64(len(image)/4096+1); n > all-exampleWindow+lost {
		t.Errorf("%d of %d chunks came after the kill, though at least %d were there", n, all, exampleWindow-lost)
	}
	runs, err := os.ReadFile(filepath.Join(m.folder, "running"))
	if err != nil || !bytes.Equal(runs, image) {
		t.Errorf("the host MCU does not run the image: %d bytes, %v", len(runs), err)
	}
	online := func() bool {
		d, err := b.client.Device(t.Context(), "pump")
		return err == nil && d.Online
	}
	if !online() {
		t.Error("the device is not shown as online")
	}
	if err := m.end(syscall.SIGTERM); ends && err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	until(t, "the module has said goodbye", func() bool { return !online() })
	if t.Failed() {
		t.Log(m.log.String())
	}
	stop()
}

func spoiledExample(t *testing.T, argv []string) {
	b := newBench(t)
	stop := b.serve(ExternalBroker{})
	b.records()
	trace := filepath.Join(t.TempDir(), "trace")
	m, line := startExample(t, b, append(traced(t, trace), argv...), 0, 0)
	defer func() { _ = m.end(os.Kill) }() // it says that it was killed
	line.spoil()
	b.roll(sim.BuildDemoImage("2.0.0", 10<<10, 1), "2.0.0")
	if e := m.ended(b); e.State != schemas.StateFailed || e.Cause != schemas.CauseChecksum {
		t.Errorf("execution %+v", e)
	}
	if _, err := os.Stat(filepath.Join(m.folder, "running")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the host MCU has the image: %v", err)
	}
	syncedFolder(t, trace, m.folder)
	stop()
}

// traced is the command in front of another one that writes its renames and syncs to a file, with the paths of what is synced.
func traced(t *testing.T, file string) []string {
	t.Helper()
	if out, err := exec.Command("strace", "-qq", "true").CombinedOutput(); err != nil {
		lacks(t, "strace", errors.Join(err, errors.New(string(out))))
	}
	// -D: the module, and not strace, is the child that gets signals.
	return []string{"strace", "-D", "-f", "-y", "-qq", "-e", "trace=rename,renameat,renameat2,fsync", "-e", "signal=none", "-o", file}
}

// syncedFolder wants each new state to have its name for good before anything else is renamed: the folder is synced behind
// it. The last one may be under way yet.
func syncedFolder(t *testing.T, trace, folder string) {
	t.Helper()
	calls, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	renames, synced := 0, true
	for line := range strings.Lines(string(calls)) {
		switch {
		case strings.Contains(line, `"state"`):
			if !synced {
				t.Errorf("rename %d of the state was not followed by a sync of its folder:\n%s", renames, calls)
				return
			}
			renames, synced = renames+1, false
		case strings.Contains(line, "<"+folder+">"):
			synced = true
		}
	}
	if renames < 2 {
		t.Errorf("%d renames of the state:\n%s", renames, calls)
	}
}

// TestExampleLength holds the lines of code that docs/module-author.md says the Python example has: all but blank ones,
// comments and its description.
func TestExampleLength(t *testing.T) {
	source, err := os.ReadFile("../../examples/module-python/module.py")
	if err != nil {
		t.Fatal(err)
	}
	n, described := 0, false
	for line := range strings.Lines(string(source)) {
		code := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, `"""`):
			described = !described
		case described, code == "", strings.HasPrefix(code, "#"):
		default:
			n++
		}
		if len(strings.TrimRight(line, "\n")) > 99 {
			t.Errorf("longer than PEP 8 wants: %s", line)
		}
	}
	if n < 80 || n > 100 {
		t.Errorf("the Python example has %d lines of code; docs/module-author.md says that they are no more than 100", n)
	}
}
