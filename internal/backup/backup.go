// Package backup is the format of backups: one tar archive that says at its beginning
// what it is, and at its end, file by file, what has to have been in it. It is a leaf:
// it knows what a file is, and not what is in it, imports package durable only, and
// keeps no state.
//
// An archive is read in one pass and believed in nothing: its entries are plain files
// in plain USTAR or PAX headers, their names are those that the reader expects, and
// each has the size and the SHA-256 of the manifest. Nothing may stand behind its end.
package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Format is the version of the archive itself.
const Format = 1

// The first and the last entry of an archive.
const (
	headerName   = "davit-backup.json"
	manifestName = "manifest.json"
)

// Header is what an archive says at its beginning.
type Header struct {
	Format int `json:"format"`
	// Layout is that of the records, Program the version of what wrote the archive.
	Layout  int    `json:"layout"`
	Program string `json:"program"`
	// CreatedAt is the moment that the archive shows.
	CreatedAt time.Time `json:"created_at"`
}

// File is one file of an archive.
type File struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Manifest is what an archive says at its end.
type Manifest struct {
	Header
	Files []File `json:"files"`
}

// Bytes is how many bytes the files have together.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// Writer writes an archive. It is for one goroutine.
type Writer struct {
	tar      *tar.Writer
	manifest Manifest
}

// NewWriter begins an archive.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	h.Format, h.CreatedAt = Format, h.CreatedAt.UTC()
	b := &Writer{tar: tar.NewWriter(w), manifest: Manifest{Header: h, Files: []File{}}}
	return b, b.json(headerName, h)
}

// Add adds a file of exactly so many bytes.
func (w *Writer) Add(path string, size int64, content io.Reader) error {
	if err := w.entry(path, size); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(w.tar, io.TeeReader(io.LimitReader(content, size), sum))
	if err == nil && n < size {
		err = fmt.Errorf("it has %d bytes, not %d", n, size)
	}
	if err != nil {
		return fmt.Errorf("add %s to the backup: %w", path, err)
	}
	w.manifest.Files = append(w.manifest.Files, File{path, size, hex.EncodeToString(sum.Sum(nil))})
	return nil
}

// Close ends the archive and returns its manifest. Without it the archive is none.
func (w *Writer) Close() (Manifest, error) {
	if err := w.json(manifestName, w.manifest); err != nil {
		return w.manifest, err
	}
	return w.manifest, w.tar.Close()
}

func (w *Writer) json(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if err := w.entry(name, int64(len(b))); err != nil {
		return err
	}
	_, err = w.tar.Write(b)
	return err
}

func (w *Writer) entry(name string, size int64) error {
	return w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: w.manifest.CreatedAt.Truncate(time.Second)})
}

// ErrArchive is wrapped by what is said of an archive that is not one, or not whole.
var ErrArchive = errors.New("not a whole backup")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrArchive}, args...)...)
}
