// Package mosquittotest runs mosquitto, a broker that is not ours, for tests. It lets everybody in and keeps
// nothing over a restart. A test that needs it is skipped where the program is missing, and fails there under
// DAVIT_TEST_FULL=1. The package is for tests only and of ours imports logtest alone.
package mosquittotest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"davit/internal/logtest"
)

// patience is how long it may take to listen.
const patience = 20 * time.Second

// Broker is a mosquitto on a port of its own, which it keeps over restarts.
type Broker struct {
	path, conf, addr string
	cmd              *exec.Cmd // nil while it does not run
	said             logtest.Buffer
}

// Run starts a broker on a free port; it ends with the test. Settings are further lines of its configuration.
func Run(t testing.TB, settings ...string) *Broker {
	t.Helper()
	b := New(t, settings...)
	b.Start(t)
	return b
}

// New is Run for a broker that Start starts later.
func New(t testing.TB, settings ...string) *Broker {
	t.Helper()
	b := &Broker{path: program(t), conf: filepath.Join(t.TempDir(), "mosquitto.conf"), addr: freeAddr(t)}
	host, port, _ := net.SplitHostPort(b.addr)
	lines := append([]string{"listener " + port + " " + host, "allow_anonymous true", "persistence false"}, settings...)
	if err := os.WriteFile(b.conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Kill)
	return b
}

// program finds mosquitto, which Debian puts where not every PATH leads.
func program(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("DAVIT_TEST_FULL") == "1" {
		t.Fatal("mosquitto is not installed, and DAVIT_TEST_FULL=1 wants it: apt-get install mosquitto")
	}
	t.Skip("mosquitto is not installed: apt-get install mosquitto")
	return ""
}

// freeAddr is an address that was free a moment ago: mosquitto chooses no port itself.
func freeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

// Addr is where it listens, host:port.
func (b *Broker) Addr() string { return b.addr }

// URL is its address for clients.
func (b *Broker) URL() string { return "mqtt://" + b.addr }

// Start starts it, again after Kill, and returns when it listens.
func (b *Broker) Start(t testing.TB) {
	t.Helper()
	b.cmd = exec.Command(b.path, "-c", b.conf)
	b.cmd.Stdout, b.cmd.Stderr = &b.said, &b.said
	if err := b.cmd.Start(); err != nil {
		b.cmd = nil
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", b.addr)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("mosquitto does not listen: %v\n%s", err, &b.said)
		}
	}
}

// Kill ends it at once, with everything that it retained.
func (b *Broker) Kill() {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait() // it says "killed"
	b.cmd = nil
}
