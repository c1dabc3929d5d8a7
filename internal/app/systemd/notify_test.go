package systemd

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// listen is a manager's socket.
func listen(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func receive(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestManagerHearsEachChange(t *testing.T) {
	for kind, name := range map[string]string{"path": filepath.Join(t.TempDir(), "notify"), "abstract": "@davit-test-" + t.Name()} {
		t.Run(kind, func(t *testing.T) {
			conn := listen(t, name)
			m := New([]string{"HOME=/", "NOTIFY_SOCKET=" + name, "LANG=C"})
			for want, tell := range map[string]func() error{
				"READY=1\nSTATUS=MQTT on :1883 STOPPING=1": func() error { return m.Ready("MQTT on :1883\nSTOPPING=1") },
				"RELOADING=1":           m.Reloading,
				"STOPPING=1\nSTATUS=by": func() error { return m.Stopping("by") },
			} {
				if err := tell(); err != nil {
					t.Fatal(err)
				}
				if got := receive(t, conn); got != want {
					t.Errorf("the manager heard %q, want %q", got, want)
				}
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	if err := New([]string{"NOTIFY_SOCKETS=/x"}).Ready("x"); err != nil {
		t.Errorf("without a manager: %v", err)
	}
	err := New([]string{"NOTIFY_SOCKET=" + filepath.Join(t.TempDir(), "gone")}).Ready("x")
	if err == nil || !strings.Contains(err.Error(), "READY=1") {
		t.Errorf("with a manager that is gone: %v", err)
	}
}

// A manager that reads nothing, with a queue that is full, holds a program up for no longer than patience.
func TestManagerThatReadsNothing(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	listen(t, name)
	m := New([]string{"NOTIFY_SOCKET=" + name})
	begin := time.Now()
	for range 100_000 {
		err := m.Reloading()
		if err == nil {
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "NOTIFY_SOCKET") {
			t.Errorf("telling it: %v", err)
		}
		if took := time.Since(begin); took < patience {
			t.Errorf("given up after %v", took)
		}
		return
	}
	t.Error("the queue is never full")
}
