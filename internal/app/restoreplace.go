package app

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"davit/internal/durable"
)

// restorePlace is the folder that a restore makes or takes, and how it was before.
type restorePlace struct {
	dir  string
	made []string // folders that were not there, from the innermost on
	// held is what the file of the folder's lock had in it; hadLock says that there was one.
	held    []byte
	hadLock bool
	lock    *durable.DirLock
}

// takePlace makes the folder if need be, and locks it. An error leaves nothing behind.
func takePlace(dir string) (*restorePlace, error) {
	p := &restorePlace{dir: dir}
	for up := filepath.Clean(dir); ; up = filepath.Dir(up) {
		if _, err := os.Lstat(up); !errors.Is(err, fs.ErrNotExist) || up == filepath.Dir(up) {
			break
		}
		p.made = append(p.made, up)
	}
	if err := durable.MakeDir(dir); err != nil {
		p.unmake()
		return nil, err
	}
	var err error
	p.held, err = os.ReadFile(p.lockFile())
	p.hadLock = !errors.Is(err, fs.ErrNotExist)
	if p.lock, err = durable.Lock(dir, "davit restore"); err != nil {
		if !p.hadLock && !errors.Is(err, durable.ErrLocked) {
			_ = os.Remove(p.lockFile()) // what is told is why it cannot be locked
		}
		p.unmake()
		return nil, err
	}
	return p, nil
}

func (p *restorePlace) lockFile() string { return filepath.Join(p.dir, durable.LockName) }

// unmake removes the folders that were made, unless somebody has put something into them.
func (p *restorePlace) unmake() {
	for _, dir := range p.made {
		_ = os.Remove(dir)
	}
}

// leave unlocks the folder. After a failure it is as it was before; the lock is given back last, so that nobody
// has taken the folder meanwhile.
func (p *restorePlace) leave(failed bool) error {
	if !failed {
		return p.lock.Unlock()
	}
	var err error
	if p.hadLock {
		err = os.WriteFile(p.lockFile(), p.held, 0o600)
	} else {
		err = os.Remove(p.lockFile())
	}
	err = errors.Join(err, p.lock.Unlock())
	p.unmake()
	return err
}
