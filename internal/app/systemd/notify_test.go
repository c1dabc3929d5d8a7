package systemd

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"davit/internal/managertest"
)

func TestManagerHearsEachChange(t *testing.T) {
	for kind, name := range map[string]string{"path": filepath.Join(t.TempDir(), "notify"), "abstract": "@davit-test-" + t.Name()} {
		t.Run(kind, func(t *testing.T) {
			manager := managertest.Listen(t, name)
			m := New([]string{"HOME=/", manager.Environ(), "LANG=C"})
			for want, tell := range map[string]func() error{
				"READY=1\nSTATUS=MQTT on :1883 STOPPING=1": func() error { return m.Ready("MQTT on :1883\nSTOPPING=1") },
				"RELOADING=1":           m.Reloading,
				"STOPPING=1\nSTATUS=by": func() error { return m.Stopping("by") },
			} {
				if err := tell(); err != nil {
					t.Fatal(err)
				}
				if got := manager.Next(); got != want {
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
	manager := managertest.Listen(t, filepath.Join(t.TempDir(), "notify"))
	manager.Fill()
	begin := time.Now()
	err := New([]string{manager.Environ()}).Reloading()
	if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "NOTIFY_SOCKET") {
		t.Errorf("telling it: %v", err)
	}
	if took := time.Since(begin); took < patience {
		t.Errorf("given up after %v", took)
	}
}
