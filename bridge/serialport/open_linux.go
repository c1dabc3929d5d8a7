package serialport

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Open takes the port for this process alone, sets it and reads the settings
// back. The error says what to do and wraps one of the package's errors.
func Open(path string, s Settings) (*Port, error) { return take(path, s, unix.O_RDWR) }

// Listen is Open for a port that is only read: Write fails. What it cannot help
// is that Linux raises RTS and DTR on every opening.
func Listen(path string, s Settings) (*Port, error) { return take(path, s, unix.O_RDONLY) }

func take(path string, s Settings, access int) (*Port, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("open %s: %w: %w", path, ErrSettings, err)
	}
	// O_NONBLOCK so that opening does not wait for a carrier, and so that the runtime's poller owns the waiting:
	// only then does Close end a Read that has no byte to return.
	fd, err := unix.Open(path, access|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, openError(path, err)
	}
	p, err := setUp(fd, path, s)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return p, nil
}

func setUp(fd int, path string, s Settings) (*Port, error) {
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS2); err != nil {
		if errors.Is(err, unix.ENOTTY) {
			return nil, fmt.Errorf("open %s: %w; name a device such as /dev/ttyUSB0", path, ErrNotSerial)
		}
		// A legacy /dev/ttyS of a board without the chip opens, and only then says EIO.
		return nil, fmt.Errorf("open %s: %w: the driver answers %w; is there hardware behind it?", path, ErrNotSerial, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, inUse(path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The flock keeps out programs that look for it and root; TIOCEXCL everybody else.
	if err := unix.IoctlSetInt(fd, unix.TIOCEXCL, 0); err != nil {
		return nil, fmt.Errorf("take %s for this process alone: %w", path, err)
	}
	pty, err := isPTY(fd)
	if err == nil && !pty {
		lowLatency(device{fd}) // before configure, which has the last word on the settings
	}
	if err == nil {
		err = configure(device{fd}, s, pty)
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIOFLUSH) // what stood in the buffers is not ours
	}
	if err != nil {
		_ = unix.IoctlSetInt(fd, unix.TIOCNXCL, 0)
		return nil, fmt.Errorf("set %s: %w", path, err)
	}
	return &Port{file: os.NewFile(uintptr(fd), path), path: path, pty: pty}, nil
}

func inUse(path string) error {
	return fmt.Errorf("open %s: %w by another program; stop it (fuser %s names it)", path, ErrInUse, path)
}

func openError(path string, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return inUse(path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("open %s: %w; add the user to the group that owns it (often dialout), then sign in again: %w", path, ErrPermission, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("open %s: %w; is the adapter plugged in? %w", path, ErrMissing, err)
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("open %s: %w: %w", path, ErrNotSerial, err)
	}
	return fmt.Errorf("open %s: %w", path, err)
}

// Major device numbers of the slave ends of pseudo-terminals
// (Linux, Documentation/admin-guide/devices.txt).
const (
	firstPTYMajor = 136
	lastPTYMajor  = 143
)

func isPTY(fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	major := unix.Major(uint64(st.Rdev))
	return major >= firstPTYMajor && major <= lastPTYMajor, nil
}

// Close gives the port back and ends a Read or Write that waits. What the line
// has not taken by then is lost.
func (p *Port) Close() error {
	var release error
	// A driver that still has output waits in close(2) until flow control lets it go, for 30 s (closing_wait),
	// unless it is dropped; and a Write that waits must not fill the room up again.
	_ = p.file.SetWriteDeadline(time.Unix(0, 1)) // fails on a port that is closed: Close below says so
	p.writing.Lock()                             // for a Write that was waiting until just now
	defer p.writing.Unlock()
	if raw, err := p.file.SyscallConn(); err == nil {
		// The exclusive flag belongs to the terminal, not to our descriptor: a pseudo-terminal whose other end
		// keeps it open would stay closed to the next program.
		err = raw.Control(func(fd uintptr) {
			_ = unix.IoctlSetInt(int(fd), unix.TCFLSH, unix.TCOFLUSH) // fails if the other end is gone: so does TIOCNXCL
			release = unix.IoctlSetInt(int(fd), unix.TIOCNXCL, 0)
		})
		if err != nil {
			release = nil // closed already: Close below says so
		}
	}
	if errors.Is(release, unix.EIO) {
		release = nil // the other end is gone, and the flag with it
	}
	return errors.Join(release, p.file.Close())
}
