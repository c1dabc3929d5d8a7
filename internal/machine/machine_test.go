package machine

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListenerNamesTheProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who listens")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	for _, wanted := range []string{addr, "localhost:" + port, ":" + port, "0.0.0.0:" + port} {
		if p, ok := This().Listener(wanted); !ok || p.PID != os.Getpid() {
			t.Errorf("%s: %v %v", wanted, p, ok)
		}
	}
	for _, other := range []string{"127.0.0.2:" + port, "[::1]:" + port, "127.0.0.1:0", "nonsense"} {
		if p, ok := This().Listener(other); ok {
			t.Errorf("%s collides with %s", other, p)
		}
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if p, ok := This().Listener(addr); ok {
		t.Errorf("closed, and still %s", p)
	}
}

func TestListeningReadsTheKernelsTable(t *testing.T) {
	for _, c := range []struct {
		line, want, inode string
	}{
		{"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 48011 1", "127.0.0.1:8080", "48011"},
		{"   1: 00000000000000000000000001000000:075B 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 7 1", "[::1]:1883", "7"},
		{"   2: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 48012 1", "", ""},
		{"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", "", ""},
		{"   3: 010000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 48011 1", "", ""},
		{"", "", ""},
	} {
		at, inode, ok := listening(c.line)
		if ok != (c.want != "") || ok && (at != netip.MustParseAddrPort(c.want) || inode != c.inode) {
			t.Errorf("%q: %v %q %v", c.line, at, inode, ok)
		}
	}
}

func FuzzListening(f *testing.F) {
	f.Add("   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 48011 1")
	f.Fuzz(func(t *testing.T, line string) {
		if at, _, ok := listening(line); ok && !at.IsValid() {
			t.Errorf("%q: %v", line, at)
		}
	})
}

func TestLockerAndHolder(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who locks")
	}
	file := filepath.Join(t.TempDir(), "LOCK")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if p, ok := This().Locker(file); ok {
		t.Errorf("%s holds a lock that nobody took", p)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if p, ok := This().Locker(file); !ok || p.PID != os.Getpid() {
		t.Errorf("%v %v", p, ok)
	}
	if p, ok := This().Locker(file + ".none"); ok {
		t.Errorf("%s locks what is not there", p)
	}
	if p, ok := This().Holder(file); ok {
		t.Errorf("this process is told of as another: %s", p)
	}
}

func TestProcessesTellNoSecrets(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"proc/10/comm": "davit\n", "proc/10/cmdline": "davit\x00serve\x00--broker-password\x00hunter2\x00",
		"proc/11/comm": "Modem\x1bManager\n", "proc/11/cmdline": "/usr/sbin/ModemManager\x00hunter2\x00",
		"proc/12/comm": "davit\n", "proc/12/cmdline": "davit\x00hunter2\x00",
		"proc/sys/net/core/somaxconn": "4096\n",
	} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := At(root)
	for pid, want := range map[int]string{10: "davit serve (pid 10)", 11: "Modem?Manager (pid 11)", 12: "davit (pid 12)", 99: "process (pid 99)"} {
		if got := m.Process(pid).String(); got != want || strings.Contains(got, "hunter2") {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if p, ok := m.Running("davit"); !ok || p.PID != 10 {
		t.Errorf("%v %v", p, ok)
	}
	if _, ok := m.Running("sshd"); ok {
		t.Error("sshd runs")
	}
	if n, ok := m.Number("proc/sys/net/core/somaxconn"); !ok || n != 4096 {
		t.Errorf("%d %v", n, ok)
	}
	if _, ok := m.Number("proc/none"); ok {
		t.Error("there is a number in no file")
	}
}
