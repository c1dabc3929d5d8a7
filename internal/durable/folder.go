package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// MakeDir makes a data folder, its owner's alone, if it is not there. The error says what is in its place,
// or that this user may not use it.
func MakeDir(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("make the data folder: %s is there and is no folder; name another one", dir)
	}
	if to, e := os.Readlink(dir); e == nil && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make the data folder: %s is a link to %s, which is not there; make that folder, or name another one", dir, to)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	return Usable(dir)
}

// Usable is an *fs.PathError unless this user may list a folder, go into it and write in it.
func Usable(dir string) error {
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Op: "write in", Path: dir, Err: err}
	}
	return nil
}
