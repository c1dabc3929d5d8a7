//go:build linux

package serialport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var line8O1 = Settings{Baud: 115_200, Parity: ParityOdd, RTSCTS: true}

// pty returns the controlling end of a new pseudo-terminal and the other end's
// path.
func pty(t *testing.T) (*os.File, string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	master := os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return master, fmt.Sprintf("/dev/pts/%d", n)
}

func open(t *testing.T, path string, s Settings) *Port {
	t.Helper()
	p, err := Open(path, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// readBack reads the settings through a descriptor of the test's own.
func readBack(t *testing.T, path string) *unix.Termios {
	t.Helper()
	p, err := unix.Open(path, unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("a second descriptor needs root while the port is held exclusively: %v", err)
	}
	defer unix.Close(p)
	got, err := unix.IoctlGetTermios(p, unix.TCGETS2)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What a pseudo-terminal keeps, read from the kernel: everything but PARENB.
func TestSettingsReadBackFromKernel(t *testing.T) {
	for _, c := range []struct {
		s     Settings
		flags uint32
	}{
		{line8O1, unix.CS8 | unix.PARODD | unix.CRTSCTS},
		{Settings{Baud: 9600, Parity: ParityNone}, unix.CS8},
		{Settings{Baud: 921_600, Parity: ParityEven, RTSCTS: true}, unix.CS8 | unix.CRTSCTS},
		{Settings{Baud: 250_000, Parity: ParityOdd}, unix.CS8 | unix.PARODD}, // no Bxxx constant has this speed
	} {
		t.Run(fmt.Sprintf("%d_%s_%t", c.s.Baud, c.s.Parity, c.s.RTSCTS), func(t *testing.T) {
			_, path := pty(t)
			if p := open(t, path, c.s); !p.Pseudo() {
				t.Error("not recognised as a pseudo-terminal")
			}
			got := readBack(t, path)
			if flags := got.Cflag & verified; flags != c.flags {
				t.Errorf("control flags %#x, want %#x", flags, c.flags)
			}
			if got.Ispeed != uint32(c.s.Baud) || got.Ospeed != uint32(c.s.Baud) {
				t.Errorf("speeds %d and %d, want %d", got.Ispeed, got.Ospeed, c.s.Baud)
			}
			if got.Lflag != 0 || got.Oflag != 0 || got.Iflag&^(unix.INPCK|unix.IGNPAR) != 0 {
				t.Errorf("the line is not raw: iflag %#x oflag %#x lflag %#x", got.Iflag, got.Oflag, got.Lflag)
			}
		})
	}
}

// driver is a terminal that clears flags as the kernel does for some hardware.
type driver struct {
	t       unix.Termios
	asked   unix.Termios
	clears  uint32
	baud    uint32
	refuses error
}

func (d *driver) Get() (*unix.Termios, error) { t := d.t; return &t, nil }
func (d *driver) Set(t *unix.Termios) error {
	d.asked, d.t = *t, *t
	d.t.Cflag &^= d.clears
	if d.baud != 0 {
		d.t.Ispeed, d.t.Ospeed = d.baud, d.baud
	}
	return d.refuses
}

// PARENB cannot be read back from a pseudo-terminal, so the request is looked
// at where the kernel masks it.
func TestParityIsAskedFor(t *testing.T) {
	d := &driver{clears: unix.PARENB}
	if err := configure(d, line8O1, true); err != nil {
		t.Fatalf("a pseudo-terminal clears PARENB, which is no error: %v", err)
	}
	want := uint32(unix.CS8 | unix.PARENB | unix.PARODD | unix.CRTSCTS)
	if got := d.asked.Cflag & verified; got != want {
		t.Errorf("asked for %#x, want %#x", got, want)
	}
	if d.asked.Iflag != unix.INPCK|unix.IGNPAR {
		t.Errorf("input flags %#x: parity is not checked", d.asked.Iflag)
	}
}

func TestFlagThatDoesNotStickIsAnError(t *testing.T) {
	for _, c := range []struct {
		name string
		d    driver
		want string
	}{
		{"PARENB on a real port", driver{clears: unix.PARENB}, "parity (PARENB)"},
		{"PARODD", driver{clears: unix.PARODD}, "PARODD"},
		{"CRTSCTS", driver{clears: unix.CRTSCTS}, "RTS/CTS flow control (CRTSCTS)"},
		{"CS8", driver{clears: unix.CS8 &^ unix.CS7}, "CS8"},
		{"speed", driver{baud: 38_400}, "input speed 115200 (the port has 38400)"},
		{"all refused", driver{refuses: unix.EINVAL}, "invalid argument"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := configure(&c.d, line8O1, false)
			if !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want ErrSettings naming %q", err, c.want)
			}
		})
	}
	if err := configure(&driver{baud: 115_740}, line8O1, false); err != nil {
		t.Errorf("half a per cent off is what dividers do: %v", err)
	}
}

// A real port, if the machine has one that is not the console.
func TestRealPortKeepsParity(t *testing.T) {
	path := realPort()
	if path == "" {
		t.Skip("no serial port but pseudo-terminals and the console; name one in DAVIT_TEST_TTY to test it")
	}
	open(t, path, line8O1)
	if got := readBack(t, path).Cflag & verified; got != unix.CS8|unix.PARENB|unix.PARODD|unix.CRTSCTS {
		t.Errorf("control flags %#x", got)
	}
}

func realPort() string {
	if path := os.Getenv("DAVIT_TEST_TTY"); path != "" {
		return path
	}
	consoles, err := os.ReadFile("/proc/consoles")
	if err != nil {
		return ""
	}
	ports, _ := filepath.Glob("/dev/tty[SU]*")
	for _, path := range ports {
		if strings.Contains(string(consoles), filepath.Base(path)+" ") {
			continue
		}
		if p, err := Open(path, Settings{Baud: 9600, Parity: ParityNone}); err == nil {
			_ = p.Close()
			return path
		}
	}
	return ""
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		s          Settings
		want       error
	}{
		{"missing", filepath.Join(dir, "ttyUSB9"), line8O1, ErrMissing},
		{"a file", file, line8O1, ErrNotSerial},
		{"a folder", dir, line8O1, ErrNotSerial},
		{"below a file", filepath.Join(file, "x"), line8O1, ErrNotSerial},
		{"baud", file, Settings{Baud: 1, Parity: ParityOdd}, ErrSettings},
		{"parity", file, Settings{Baud: 9600, Parity: "mark"}, ErrSettings},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Open(c.path, c.s)
			if err == nil {
				_ = p.Close()
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.path) {
				t.Errorf("error %v, want %v with the path", err, c.want)
			}
		})
	}
	if err := openError("/dev/ttyS1", unix.EACCES); !errors.Is(err, ErrPermission) || !strings.Contains(err.Error(), "dialout") {
		t.Errorf("EACCES: %v", err)
	}
	if err := openError("/dev/ttyS1", unix.EBUSY); !errors.Is(err, ErrInUse) {
		t.Errorf("EBUSY: %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	_, path := pty(t)
	first := open(t, path, line8O1)
	if p, err := Open(path, line8O1); !errors.Is(err, ErrInUse) {
		if err == nil {
			_ = p.Close()
		}
		t.Fatalf("second Open: %v, want ErrInUse", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path, line8O1)
}

func TestBytesPassUnchanged(t *testing.T) {
	master, path := pty(t)
	p := open(t, path, line8O1)
	want := make([]byte, 256) // every byte: newline, ^C, ^S and 0xff among them
	for i := range want {
		want[i] = byte(i)
	}
	for _, way := range []struct {
		from io.Writer
		to   io.Reader
	}{{p, master}, {master, p}} {
		if _, err := way.from.Write(want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(way.to, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("got % x", got)
		}
	}
}

func TestCloseEndsRead(t *testing.T) {
	_, path := pty(t)
	p := open(t, path, line8O1)
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		close(began)
		_, err := p.Read(make([]byte, 1))
		ended <- err
	}()
	<-began
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	wait(t, ended, os.ErrClosed)
}

// A full kernel buffer is what flow control that is held back looks like.
func TestCloseEndsWrite(t *testing.T) {
	_, path := pty(t)
	p := open(t, path, line8O1)
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		close(began)
		_, err := p.Write(make([]byte, 1<<20))
		ended <- err
	}()
	<-began
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	wait(t, ended, os.ErrClosed)
}

func TestUnpluggedPortIsDead(t *testing.T) {
	master, path := pty(t)
	p := open(t, path, line8O1)
	ended := make(chan error, 1)
	go func() {
		_, err := p.Read(make([]byte, 1))
		ended <- err
	}()
	if err := master.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, io.EOF) && !errors.Is(err, unix.EIO) {
			t.Errorf("Read on a dead port: %v, want io.EOF or EIO", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Read still waits for a port that is gone")
	}
	if _, err := p.Write([]byte{1}); !errors.Is(err, unix.EIO) {
		t.Errorf("Write on a dead port: %v, want EIO", err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("Close of a dead port: %v", err)
	}
}

func wait(t *testing.T, ended <-chan error, want error) {
	t.Helper()
	select {
	case err := <-ended:
		if !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still waiting after Close")
	}
}

// A line that takes nothing, as with RTS held low, holds up neither Write after
// Close nor Close itself, and what waited is not sent after it.
func TestCloseDropsWhatTheLineDoesNotTake(t *testing.T) {
	master, path := pty(t)
	p := open(t, path, line8O1)
	wrote := make(chan error, 1)
	go func() {
		_, err := p.Write(make([]byte, 1<<20)) // more than any buffer of the kernel's holds
		wrote <- err
	}()
	// The first bytes are there: the writer is in its Write, and will wait in it since nobody reads any more.
	if _, err := io.ReadFull(master, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- p.Close() }()
	limit := time.After(10 * time.Second)
	for what, c := range map[string]chan error{"Close": closed, "Write": wrote} {
		select {
		case err := <-c:
			if failed := err != nil; failed != (what == "Write") {
				t.Errorf("%s: %v", what, err)
			}
		case <-limit:
			t.Fatalf("%s waits for the line", what)
		}
	}
	// What the other end's terminal has already is its own; it holds a page.
	if b, _ := io.ReadAll(master); len(b) > os.Getpagesize() {
		t.Errorf("%d bytes came after Close", len(b))
	}
	again := open(t, path, line8O1)
	if _, err := again.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}
