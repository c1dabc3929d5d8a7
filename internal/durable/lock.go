package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// LockName is the file in a data folder whose flock says that it is in use.
const LockName = "LOCK"

// ErrLocked is wrapped by the error of Lock when another process holds the
// folder.
var ErrLocked = errors.New("in use")

// DirLock is the exclusive use of a data folder.
type DirLock struct{ f *os.File }

// Lock takes the folder for this process. who names the program in the message
// that a second process gets, for example "davit serve". The lock ends with
// Unlock or with the process, however it ends: nothing stale is left to remove.
func Lock(dir, who string) (*DirLock, error) {
	path := filepath.Join(dir, LockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("data folder %s is %w by %s; stop that process or choose another folder", dir, ErrLocked, holder(path))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The content only serves the message above, so it need not be durable, and a full disk does not keep a
	// service from starting again.
	holder := fmt.Appendf(nil, "%s (pid %d)\n", who, os.Getpid())
	_, err = f.WriteAt(holder, 0)
	if err == nil {
		err = f.Truncate(int64(len(holder)))
	}
	if err != nil && !IsNoSpace(err) {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return &DirLock{f}, nil
}

func holder(path string) string {
	b, err := os.ReadFile(path)
	if s := strings.TrimSpace(string(b)); err == nil && s != "" {
		return s
	}
	return "another process"
}

// Unlock gives the folder back.
func (l *DirLock) Unlock() error { return l.f.Close() }
