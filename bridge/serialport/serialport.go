// Package serialport opens a serial port with the settings that a host MCU's
// line needs, odd parity and RTS/CTS flow control included, and proves that
// the kernel took them by reading them back.
//
// It talks to termios through golang.org/x/sys/unix and not through a serial
// library: the libraries at hand (go.bug.st/serial 1.8.0 and albenik/go-serial
// 2.6.1) open a port with CRTSCTS cleared, offer no option for it and keep the
// file descriptor to themselves, so the flag could only be set through a second
// descriptor, which TIOCEXCL is there to prevent.
//
// The package is the only one that may touch termios; it imports nothing of
// this module. It starts no goroutine; a Port may be read, written and closed
// from different goroutines at the same time.
package serialport

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// Parity of the line.
type Parity string

// The parities.
const (
	ParityNone Parity = "none"
	ParityOdd  Parity = "odd"
	ParityEven Parity = "even"
)

// Limits of Settings.Baud in bit/s.
const (
	MinBaud = 300
	MaxBaud = 4_000_000
)

// Settings of a port. There are always 8 data bits and 1 stop bit.
type Settings struct {
	Baud   int // bit/s, MinBaud to MaxBaud
	Parity Parity
	RTSCTS bool
}

// Errors that Open wraps, one for each thing that a person has to do about it.
var (
	// ErrMissing: there is no such port.
	ErrMissing = errors.New("no such port")
	// ErrPermission: the user may not open the port.
	ErrPermission = errors.New("no permission")
	// ErrInUse: another program has the port open.
	ErrInUse = errors.New("in use")
	// ErrNotSerial: the path is not a serial port.
	ErrNotSerial = errors.New("not a serial port")
	// ErrSettings: the driver did not take the settings.
	ErrSettings = errors.New("settings not taken")
)

// Port is an open serial port.
type Port struct {
	file *os.File
	path string
	pty  bool
	// writing is held by Write, so that Close can drop what is left of it.
	writing sync.Mutex
}

// Validate returns an error that says which setting is out of its range.
func (s Settings) Validate() error {
	if s.Baud < MinBaud || s.Baud > MaxBaud {
		return fmt.Errorf("baud is %d, allowed are %d to %d", s.Baud, MinBaud, MaxBaud)
	}
	switch s.Parity {
	case ParityNone, ParityOdd, ParityEven:
		return nil
	}
	return fmt.Errorf("parity is %q, allowed are none, odd and even", s.Parity)
}

// Path is the path that the port was opened by.
func (p *Port) Path() string { return p.path }

// Pseudo says whether the port is a pseudo-terminal, on which the kernel keeps
// no parity bit.
func (p *Port) Pseudo() bool { return p.pty }

// Read waits for at least one byte. It returns an error that wraps
// os.ErrClosed after Close, and io.EOF or EIO when the port is gone.
func (p *Port) Read(b []byte) (int, error) {
	n, err := p.file.Read(b)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO) {
		err = fmt.Errorf("%s has hung up; was the adapter unplugged? %w", p.path, err)
	}
	return n, err
}

// Write returns when the kernel has all of b, which flow control may delay. Close
// ends the wait: the error then wraps os.ErrClosed.
func (p *Port) Write(b []byte) (int, error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	n, err := p.file.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) { // which only Close sets
		err = fmt.Errorf("write %s: %w", p.path, os.ErrClosed)
	}
	return n, err
}
