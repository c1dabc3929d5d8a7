// Package durable puts bytes on disk so that a crash leaves either the old
// file or the new one, and guards a data folder against a second process. It is
// a leaf: it imports nothing of this module and keeps no state of its own.
//
// Three system calls make a file durable, in this order: fsync of the file, so
// that its bytes are on disk before its name is; rename, which replaces a name
// atomically; fsync of the folder, without which the new name itself may be lost.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// TempPrefix begins the name of every unfinished file, so that a start-up
// sweep (RemoveTemp) can tell them from real ones.
const TempPrefix = ".tmp-"

// WriteFile replaces path with data. When it returns nil the file is on disk
// under its name; on any error the old file, if there was one, is untouched.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	f, err := Create(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer f.Abort()
	if err := f.Chmod(perm); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit(path)
}

// File is a file in the making: it has no name that a reader looks for until
// Commit. It is for one goroutine.
type File struct {
	*os.File
	done bool
}

// Create begins a file in dir, readable by its owner only.
func Create(dir string) (*File, error) {
	f, err := os.CreateTemp(dir, TempPrefix)
	if err != nil {
		return nil, err
	}
	return &File{File: f}, nil
}

// Commit makes the file durable as path, which must be on the file system of
// the folder that Create was given, and closes it. The folder of path has to be
// durable itself; it is the one that is synced. (If path is in another folder
// than the temporary name, a power cut may leave that name as well, for
// RemoveTemp.) On an error the file is removed, unless the error came from the
// folder's fsync: then the name is in place but may not survive a power cut.
func (f *File) Commit(path string) error {
	if f.done {
		return fmt.Errorf("commit %s: the file is closed", path)
	}
	if err := f.Sync(); err != nil {
		f.Abort()
		return err
	}
	f.done = true
	if err := f.Close(); err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Abort closes and removes the file; after Commit or another Abort it does
// nothing.
func (f *File) Abort() {
	if f.done {
		return
	}
	f.done = true
	_ = f.Close()
	_ = os.Remove(f.Name())
}

// SyncDir makes the names in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// RemoveTemp removes from dir what a crash left unfinished. Nobody else may be
// writing there: hold the folder's Lock.
func RemoveTemp(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, TempPrefix+"*"))
	if err != nil {
		return err
	}
	var failed error
	for _, name := range names {
		failed = errors.Join(failed, os.Remove(name))
	}
	return failed
}

// IsNoSpace says whether err means that the disk or the quota is full.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
