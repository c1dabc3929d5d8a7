package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"davit/internal/durable"
)

// newFile is a file in the making, which only its owner may read and which
// appears when it is complete.
type newFile struct {
	file *durable.File
	path string
}

// createFile begins a file. Commands that are given a secret begin the file for
// it before they ask, so that no secret is lost because it cannot be written.
func createFile(path string) (*newFile, error) {
	if path == "-" {
		return nil, usagef("- is not taken here, because the file appears when it is whole; name one")
	}
	// The name is given by a rename, which would put a file in the place of a device, for whoever may.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s cannot be written: it is there and is no file; name a file", path)
	}
	f, err := durable.Create(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be written: %w", path, err)
	}
	return &newFile{f, path}, nil
}

// fill writes the whole file and gives it its name.
func (f *newFile) fill(content io.Reader) (int64, error) {
	n, err := f.write(content)
	if err == nil {
		err = f.commit()
	}
	return n, err
}

// write adds to the file.
func (f *newFile) write(content io.Reader) (int64, error) {
	n, err := io.Copy(durable.Paced(f.file.File), content)
	return n, f.told(err)
}

// commit gives the file its name.
func (f *newFile) commit() error { return f.told(f.file.Commit(f.path)) }

func (f *newFile) told(err error) error {
	if err != nil {
		err = fmt.Errorf("%s is not written: %w", f.path, err)
	}
	return err
}

// abandon removes what is not complete.
func (f *newFile) abandon() {
	if f != nil {
		f.file.Abort()
	}
}
