package sim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// PTY is a Line whose module end is a real pseudo-terminal: a program that
// opens Path finds a serial port whose bytes go to and fro at the line's speed,
// with the line's faults. A pseudo-terminal takes any termios settings but its
// own speed, parity and RTS/CTS are without effect: they are the Line's.
type PTY struct {
	line *Line
	link string

	mu    sync.Mutex
	plug  *plug // nil while unplugged
	close bool
}

// plug is one pseudo-terminal, from its making to its hang-up.
type plug struct {
	master, slave *os.File
	path          string
	gone          chan struct{} // closed when both pumps have ended
}

// OpenPTY makes a line behind a pseudo-terminal.
func OpenPTY(cfg LineConfig) (*PTY, error) { return OpenPTYAt(cfg, "") }

// OpenPTYAt is OpenPTY with a stable name: link becomes a symbolic link to the
// terminal while the line is plugged, as /dev/serial/by-id is one. The system
// gives a replugged terminal another name; the link's stays.
func OpenPTYAt(cfg LineConfig, link string) (*PTY, error) {
	p := &PTY{line: NewLine(cfg), link: link}
	p.line.exact = true
	if err := p.Replug(); err != nil {
		return nil, err
	}
	return p, nil
}

// Path is what a program opens as its serial port: the link if there is one.
// It is empty while the line is unplugged and has no link.
func (p *PTY) Path() string {
	if p.link != "" {
		return p.link
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.plug == nil {
		return ""
	}
	return p.plug.path
}

// Line is the line behind the terminal, for its counters and faults.
func (p *PTY) Line() *Line { return p.line }

// MCU returns the open handle of the MCU's end, as Line.MCU does.
func (p *PTY) MCU() *End { return p.line.MCU() }

// Unplug hangs the terminal up: a program that has it open gets EIO, and the
// link is gone. It returns when that has happened.
func (p *PTY) Unplug() {
	p.mu.Lock()
	current := p.plug
	p.mu.Unlock()
	p.line.Unplug()
	if current != nil {
		<-current.gone
	}
}

// Replug makes a new terminal after Unplug; while plugged it does nothing.
func (p *PTY) Replug() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.close {
		return fmt.Errorf("replug: %w", os.ErrClosed)
	}
	if p.plug != nil {
		return nil
	}
	pl, err := openPlug(p.link)
	if err != nil {
		return err
	}
	p.line.Replug()
	end, err := p.line.Open()
	if err != nil {
		return errors.Join(err, pl.hangUp(p.link))
	}
	p.plug = pl
	go p.run(pl, end)
	return nil
}

// Close unplugs for good and frees both ends.
func (p *PTY) Close() error {
	p.mu.Lock()
	p.close = true
	p.mu.Unlock()
	p.Unplug()
	return p.line.MCU().Close()
}

// run carries bytes between the terminal and the line's module end until the
// line is unplugged or the terminal fails. Each pump may be stuck in the
// terminal (nobody reads it), so the hang-up waits for neither.
func (p *PTY) run(pl *plug, end *End) {
	var pumps sync.WaitGroup
	pumps.Go(func() {
		_, _ = io.CopyBuffer(plain{pl.master}, plain{end}, make([]byte, 4<<10))
		_ = end.Close()
	})
	pumps.Go(func() {
		_, _ = io.CopyBuffer(plain{end}, plain{pl.master}, make([]byte, 1<<10))
		_ = end.Close()
	})
	<-end.done
	_ = pl.hangUp(p.link)
	pumps.Wait()
	p.mu.Lock()
	p.plug = nil
	p.mu.Unlock()
	close(pl.gone)
}

// plain hides every method but Read and Write, so that io.CopyBuffer uses the
// buffer that it is given.
type plain struct{ io.ReadWriter }

func openPlug(link string) (*plug, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("make a pseudo-terminal: %w", err)
	}
	pl := &plug{master: master, slave: slave, path: slave.Name(), gone: make(chan struct{})}
	if pl.master, err = pollable(master); err != nil {
		return nil, errors.Join(fmt.Errorf("make a pseudo-terminal: %w", err), pl.hangUp(""))
	}
	if err := makeRaw(slave); err != nil {
		return nil, errors.Join(fmt.Errorf("set %s to raw mode: %w", pl.path, err), pl.hangUp(""))
	}
	if link == "" {
		return pl, nil
	}
	if err := replaceLink(pl.path, link); err != nil {
		return nil, errors.Join(err, pl.hangUp(""))
	}
	return pl, nil
}

// pollable returns f as a file whose reads and writes end when it is closed;
// the library that opened it left it in blocking mode. f is closed, unless
// there is an error.
func pollable(f *os.File) (*os.File, error) {
	c, err := f.SyscallConn()
	if err != nil {
		return f, err
	}
	fd, dupErr := -1, error(nil)
	if err := c.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return f, err
	}
	if dupErr != nil {
		return f, dupErr
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return f, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), f.Name()), f.Close()
}

// makeRaw clears echo, line editing and character translation, so that bytes
// pass unchanged even before a program has set the port up. The slave stays
// open for as long as the plug lives: the settings would be lost, and the
// master would hang up, whenever the last program closed it.
func makeRaw(tty *os.File) error {
	c, err := tty.SyscallConn()
	if err != nil {
		return err
	}
	var rawErr error
	err = c.Control(func(fd uintptr) { _, rawErr = term.MakeRaw(int(fd)) })
	return errors.Join(err, rawErr)
}

// replaceLink points link at target in one step.
func replaceLink(target, link string) error {
	tmp := filepath.Join(filepath.Dir(link), fmt.Sprintf(".%s.%d", filepath.Base(link), time.Now().UnixNano()))
	if err := os.Symlink(target, tmp); err != nil {
		return fmt.Errorf("link %s to %s: %w", link, target, err)
	}
	if err := os.Rename(tmp, link); err != nil {
		return errors.Join(fmt.Errorf("link %s to %s: %w", link, target, err), os.Remove(tmp))
	}
	return nil
}

// hangUp removes the link, if it is this plug's, and closes the terminal.
func (pl *plug) hangUp(link string) error {
	if target, err := os.Readlink(link); err == nil && target == pl.path {
		_ = os.Remove(link)
	}
	return errors.Join(pl.slave.Close(), pl.master.Close())
}
