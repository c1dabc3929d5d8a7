// Package login keeps the password of a bridge in its file and follows its changes. While
// a change is under way there are two files, and one of their passwords is good at every
// moment: FILE has the one that is tried first, FILE.previous the one before. It knows
// nothing of the connection.
package login

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"davit/internal/durable"
)

// previousSuffix is that of the file with the password before.
const previousSuffix = ".previous"

// File is a password in a file. Its methods may be called from any goroutine.
type File struct {
	path  string
	write func(path, password string) error
	clear func(path string) error

	mu      sync.Mutex
	current string // FILE's
	before  string // FILE.previous's; empty if there is none
	trying  string // what Password said last
	renewed chan struct{}
}

// Open reads the password of path, and the one before if a change was under way.
func Open(path string) (*File, error) {
	f := &File{path: path, write: write, clear: remove, renewed: make(chan struct{}, 1)}
	var err error
	if f.current, err = read(path); err != nil {
		return nil, err
	}
	f.before, err = read(path + previousSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if f.before == f.current {
		f.before = ""
	}
	f.trying = f.current
	return f, nil
}

func read(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	password := strings.TrimSpace(string(b))
	if password == "" || strings.ContainsAny(password, "\r\n") {
		return "", fmt.Errorf("%s holds no password: it should be one line of text", path)
	}
	return password, nil
}

func write(path, password string) error {
	return durable.WriteFile(path, []byte(password+"\n"), 0o600)
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Since is when FILE was written; the zero time if that cannot be told.
func (f *File) Since() time.Time {
	info, err := os.Stat(f.path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Password is the one to log in with now.
func (f *File) Password() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trying
}

// Renewed receives when there is another password, and the connection is to be made anew.
func (f *File) Renewed() <-chan struct{} { return f.renewed }

// Put keeps another password before it is used: the present one as FILE.previous, then the
// new one as FILE. When it returns nil the new one is tried first.
func (f *File) Put(password string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	good := f.trying // it is logged in with this one
	if err := f.write(f.path+previousSuffix, good); err != nil {
		return fmt.Errorf("keep the present password: %w", err)
	}
	f.before = good
	if err := f.write(f.path, password); err != nil {
		return fmt.Errorf("keep the new password: %w", err)
	}
	f.current, f.trying = password, password
	select {
	case f.renewed <- struct{}{}:
	default: // it is known already
	}
	return nil
}

// Refused says that the broker does not take the password: the other one is tried next,
// if there is one.
func (f *File) Refused() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.before == "" {
		return
	}
	if f.trying == f.current {
		f.trying = f.before
	} else {
		f.trying = f.current
	}
}

// Accepted says that the broker has taken the password. That ends a change: the other
// password is forgotten, on disk as well.
func (f *File) Accepted() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.trying != f.current {
		if err := f.write(f.path, f.trying); err != nil {
			return fmt.Errorf("go back to the password before: %w", err)
		}
		f.current = f.trying
	}
	if err := f.clear(f.path + previousSuffix); err != nil {
		return fmt.Errorf("forget the password before: %w", err)
	}
	f.before = ""
	return nil
}
