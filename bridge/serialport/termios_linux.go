package serialport

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// terminal is what configure needs of a port; tests put a driver in its place
// that masks flags.
type terminal interface {
	Get() (*unix.Termios, error)
	Set(*unix.Termios) error
}

type device struct{ fd int }

func (d device) Get() (*unix.Termios, error) { return unix.IoctlGetTermios(d.fd, unix.TCGETS2) }
func (d device) Set(t *unix.Termios) error   { return unix.IoctlSetTermios(d.fd, unix.TCSETS2, t) }

// parity is s.Parity as control flags.
func (s Settings) parity() (cflag uint32) {
	switch s.Parity {
	case ParityOdd:
		return unix.PARENB | unix.PARODD
	case ParityEven:
		return unix.PARENB
	}
	return 0
}

// The control flags that configure decides and verifies.
const verified = unix.CSIZE | unix.CSTOPB | unix.PARENB | unix.PARODD | unix.CRTSCTS | unix.CMSPAR

// request is what the driver is asked for: raw, 8 data bits, 1 stop bit, and s.
func request(old unix.Termios, s Settings) unix.Termios {
	t := old
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	if s.Parity != ParityNone {
		// Check parity on input and drop a byte that fails: the frame's CRC then fails, and it is sent again.
		// Handing the byte on as 0 would do no better.
		t.Iflag = unix.INPCK | unix.IGNPAR
	}
	t.Cflag &^= verified | unix.CBAUD | unix.CBAUD<<unix.IBSHIFT | unix.HUPCL
	t.Cflag |= unix.CS8 | unix.CREAD | unix.CLOCAL | s.parity()
	if s.RTSCTS {
		t.Cflag |= unix.CRTSCTS
	}
	// BOTHER takes any speed as a number, the usual ones included.
	t.Cflag |= unix.BOTHER | unix.BOTHER<<unix.IBSHIFT
	t.Ispeed, t.Ospeed = uint32(s.Baud), uint32(s.Baud)
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0 // a byte is handed on as soon as it is there
	return t
}

// configure sets the terminal and fails unless every setting reads back. TCSETS2
// succeeds if any part of the request was carried out, so its nil means
// nothing.
func configure(t terminal, s Settings, pty bool) error {
	old, err := t.Get()
	if err != nil {
		return err
	}
	want := request(*old, s)
	if err := t.Set(&want); err != nil {
		return fmt.Errorf("%w: %w", ErrSettings, err)
	}
	got, err := t.Get()
	if err != nil {
		return err
	}
	return compare(&want, got, pty)
}

// baudTolerance is how far, in per cent, a driver's real speed may be from what was
// asked: a UART frame of 11 bits stands about 4 between both ends.
const baudTolerance = 2

func compare(want, got *unix.Termios, pty bool) error {
	mask := uint32(verified)
	if pty {
		// Linux clears PARENB on every pseudo-terminal (drivers/tty/pty.c, pty_set_termios); the other flags are
		// kept although nothing acts on them.
		mask &^= unix.PARENB
	}
	var wrong []string
	for _, f := range []struct {
		name string
		bits uint32
	}{
		{"8 data bits (CS8)", unix.CSIZE}, {"1 stop bit (CSTOPB)", unix.CSTOPB}, {"parity (PARENB)", unix.PARENB},
		{"odd parity (PARODD)", unix.PARODD}, {"mark parity (CMSPAR)", unix.CMSPAR}, {"RTS/CTS flow control (CRTSCTS)", unix.CRTSCTS},
	} {
		if (want.Cflag^got.Cflag)&f.bits&mask != 0 {
			wrong = append(wrong, f.name)
		}
	}
	for _, speed := range []struct {
		name      string
		want, got uint32
	}{{"input speed", want.Ispeed, got.Ispeed}, {"output speed", want.Ospeed, got.Ospeed}} {
		if off := max(speed.want, speed.got) - min(speed.want, speed.got); uint64(off)*100 > uint64(speed.want)*baudTolerance {
			wrong = append(wrong, fmt.Sprintf("%s %d (the port has %d)", speed.name, speed.want, speed.got))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w: the driver does not take %s; choose other settings or another adapter", ErrSettings, strings.Join(wrong, ", "))
	}
	return nil
}
