//go:build linux

package serialport

import (
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListen: a port that is only read has its settings, is held, takes no byte and
// gives back what comes.
func TestListen(t *testing.T) {
	master, path := pty(t)
	p, err := Listen(path, Settings{Baud: 9600, Parity: ParityNone})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if got := readBack(t, path); got.Cflag&verified != unix.CS8 || got.Ispeed != 9600 || got.Lflag != 0 {
		t.Errorf("control flags %#x, local flags %#x, speed %d", got.Cflag, got.Lflag, got.Ispeed)
	}
	if _, err := p.Write([]byte("x")); !errors.Is(err, syscall.EBADF) {
		t.Errorf("a port that is only read was written to: %v", err)
	}
	if _, err := Open(path, line8O1); !errors.Is(err, ErrInUse) {
		t.Errorf("the port was opened a second time: %v", err)
	}
	if _, err := master.Write([]byte("heard")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	if n, err := p.Read(b); err != nil || string(b[:n]) != "heard" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	// Nothing went the other way, where an echo would be by now.
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	said := -1
	if err := raw.Control(func(fd uintptr) { said, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); err != nil || said != 0 {
		t.Errorf("the listener said %d bytes, %v", said, err)
	}
}
