package sim

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/term"
)

// openTTY opens a terminal as a bridge would: raw, with deadlines.
func openTTY(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func newPTY(t *testing.T, cfg LineConfig, link string) *PTY {
	t.Helper()
	p, err := OpenPTYAt(cfg, link)
	if err != nil {
		t.Fatalf("no pseudo-terminal on this machine: %v", err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestPTYCarriesEveryByteAtLineSpeed(t *testing.T) {
	const size = 6000
	p := newPTY(t, LineConfig{Baud: 230400}, "")
	tty := openTTY(t, p.Path())
	if state, err := term.GetState(int(tty.Fd())); err != nil || state == nil {
		t.Fatalf("not a terminal: %v", err)
	}
	want := byteTimes(size, 11, 230400)
	sent := randomBytes(3, size) // all byte values: control characters must pass
	// An answer to what was read late has begun earlier (End.beginLocked), so that the second way may take less than the
	// line needs; both together do not.
	begin := time.Now()
	need := time.Duration(0)
	for _, dir := range []struct {
		name string
		w    io.Writer
		r    io.Reader
	}{{"to the MCU", tty, p.MCU()}, {"from the MCU", p.MCU(), tty}} {
		go func() { _, _ = dir.w.Write(sent) }()
		got := make([]byte, size)
		if _, err := io.ReadFull(dir.r, got); err != nil {
			t.Fatalf("%s: %v", dir.name, err)
		}
		took := time.Since(begin)
		if !bytes.Equal(got, sent) {
			t.Errorf("%s: other bytes came out", dir.name)
		}
		// The clocks that it is measured and timed with may run a little differently.
		if need += want; took < need-need/100 || took > need+2*time.Second {
			t.Errorf("%s: after %v, the line needs %v for %d bytes each way", dir.name, took, need, size)
		}
	}
}

func TestPTYUnplugHangsUp(t *testing.T) {
	link := filepath.Join(t.TempDir(), "ttyTEST")
	p := newPTY(t, LineConfig{}, link)
	tty := openTTY(t, p.Path())
	ended := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(tty, make([]byte, 1))
		ended <- err
	}()
	p.Unplug()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a read on the unplugged terminal returned data")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("a read on the unplugged terminal hangs")
	}
	if _, err := os.Lstat(link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link is still there: %v", err)
	}
	if err := p.Replug(); err != nil {
		t.Fatal(err)
	}
	again := openTTY(t, p.Path())
	go func() { _, _ = p.MCU().Write([]byte("hello")) }()
	got := make([]byte, 5)
	if _, err := io.ReadFull(again, got); err != nil || string(got) != "hello" {
		t.Errorf("after replug: %q, %v", got, err)
	}
}

// TestPTYEndsWithFullBuffers: nobody reads the terminal, every buffer is full,
// and Close still ends everything (goleak sees to the goroutines).
func TestPTYEndsWithFullBuffers(t *testing.T) {
	p := newPTY(t, LineConfig{Baud: 10_000_000}, "")
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for {
			if _, err := p.MCU().Write(make([]byte, 1<<10)); err != nil {
				return
			}
			if _, from := p.Line().Stats(); from.Written > 30_000 {
				return
			}
		}
	}()
	tty := openTTY(t, p.Path())
	go func() { _, _ = tty.Write(make([]byte, 60_000)) }()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if _, from := p.Line().Stats(); from.Delivered > 4096 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	_ = tty.Close()
	<-wrote
	if err := p.Replug(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("replug after Close: %v", err)
	}
}
