package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fleetPatience is how long a fleet may take to become ready, and it and its service to end.
const fleetPatience = time.Minute

// servedFleet is davit sim fleet --serve. Its output is one pipe that its service has as well: it ends when both have.
type servedFleet struct {
	t   *testing.T
	cmd *exec.Cmd
	out *os.File
	all *bufio.Reader
	tmp string
}

func startServedFleet(t *testing.T) *servedFleet {
	// A hangup that these tests were started to ignore (nohup) would be ignored by the fleet as well; one that is
	// caught is not.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangups) })
	ctx, cancel := context.WithTimeout(t.Context(), fleetPatience)
	t.Cleanup(cancel)
	f := &servedFleet{t: t, tmp: t.TempDir()}
	f.cmd = exec.CommandContext(ctx, "davit", "sim", "fleet", "--serve", "--devices", "2", "--every", "100ms", "--hold", "forever")
	f.cmd.Env = append(os.Environ(), "TMPDIR="+f.tmp)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	f.out, f.all = r, bufio.NewReader(r)
	f.cmd.Stdout, f.cmd.Stderr = w, w
	if err := errors.Join(f.cmd.Start(), w.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	for line := ""; !strings.Contains(line, "all 2 devices have connected"); {
		if line, err = f.all.ReadString('\n'); err != nil {
			t.Fatal(err, f.cmd.Wait())
		}
	}
	return f
}

// service is the folder of its service, if there is one.
func (f *servedFleet) service() []string {
	folders, err := filepath.Glob(filepath.Join(f.tmp, "davit-fleet-*"))
	if err != nil {
		f.t.Fatal(err)
	}
	return folders
}

// rest reads to the end of both processes.
func (f *servedFleet) rest() string {
	if err := f.out.SetReadDeadline(time.Now().Add(fleetPatience)); err != nil {
		f.t.Fatal(err)
	}
	b, err := io.ReadAll(f.all)
	if err != nil {
		f.t.Fatalf("the service goes on: %v", err)
	}
	return string(b)
}

// TestServiceOfAFleetEndsWithIt: whatever ends the fleet ends its service as well.
func TestServiceOfAFleetEndsWithIt(t *testing.T) {
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		f := startServedFleet(t)
		if len(f.service()) != 1 {
			t.Error("no folder of a service")
		}
		if err := f.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		f.rest() // the folder stays
		_ = f.cmd.Wait()
	})
	t.Run("terminal closed", func(t *testing.T) {
		t.Parallel()
		f := startServedFleet(t)
		if err := f.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		said := f.rest()
		_ = f.cmd.Wait()
		if code := f.cmd.ProcessState.ExitCode(); code != exitOK || !strings.Contains(said, "2 online in the end") {
			t.Errorf("exit code %d, said %q", code, said)
		}
		if left := f.service(); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("nobody reads", func(t *testing.T) {
		t.Parallel()
		f := startServedFleet(t)
		if err := f.out.Close(); err != nil {
			t.Fatal(err)
		}
		_ = f.cmd.Wait()
		if f.cmd.ProcessState.Success() {
			t.Error("it says that all is well, and nobody has read what")
		}
		if left := f.service(); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}
