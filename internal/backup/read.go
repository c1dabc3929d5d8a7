package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"davit/internal/durable"
)

// What an archive may have at most, so that reading one is bounded.
const (
	maxHeader   = 64 << 10
	maxManifest = 256 << 20
	maxFiles    = 1 << 20
)

// Target takes the files of an archive as they come; they are verified only when Read
// has returned without an error.
type Target interface {
	// Begin is called once, with what the archive says at its beginning; an error ends
	// the reading.
	Begin(Header) error
	// File takes a file of that size: it says whether it expects such a path, and reads
	// the content to its end.
	File(path string, size int64, content io.Reader) error
}

// Read reads a whole archive. An error that is not the target's or the reader's own
// wraps ErrArchive.
func Read(r io.Reader, to Target) (Manifest, error) {
	counted := &counter{Reader: r}
	a := &archive{tar: tar.NewReader(counted)}
	if err := a.header(to); err != nil {
		return a.found, err
	}
	for {
		name, size, err := a.next()
		if err != nil {
			return a.found, err
		}
		if name == manifestName {
			if err := a.manifest(size); err != nil {
				return a.found, err
			}
			return a.found, a.end(counted)
		}
		if err := a.file(to, name, size); err != nil {
			return a.found, err
		}
	}
}

// Verify reads an archive and keeps nothing of it.
func Verify(r io.Reader) (Manifest, error) { return Read(r, nowhere{}) }

type nowhere struct{}

func (nowhere) Begin(Header) error { return nil }
func (nowhere) File(_ string, _ int64, content io.Reader) error {
	_, err := io.Copy(io.Discard, content)
	return err
}

// archive is one that is being read; found is what was in it so far.
type archive struct {
	tar   *tar.Reader
	found Manifest
	seen  map[string]bool
}

// next reads the header of an entry.
func (a *archive) next() (name string, size int64, err error) {
	h, err := a.tar.Next()
	switch {
	case errors.Is(err, io.EOF):
		return "", 0, broken("it ends before its manifest")
	case err != nil:
		return "", 0, truncated(err)
	}
	for key := range h.PAXRecords {
		if key != "size" && key != "path" { // sparse files among others
			return "", 0, broken("entry %q has the extension %q", h.Name, key)
		}
	}
	if h.Typeflag != tar.TypeReg || h.Size < 0 {
		return "", 0, broken("entry %q is no plain file", h.Name)
	}
	return h.Name, h.Size, nil
}

// truncated is what an error of the archive's reader says of the archive.
func truncated(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return broken("it is cut off")
	case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong), errors.Is(err, tar.ErrInsecurePath):
		return broken("%v", err)
	}
	return err
}

func (a *archive) header(to Target) error {
	name, size, err := a.next()
	if err != nil {
		return err
	}
	if name != headerName || size > maxHeader {
		return broken("it begins with %q; a backup of davit begins with %s", name, headerName)
	}
	b, err := io.ReadAll(a.tar)
	if err != nil {
		return truncated(err)
	}
	if err := durable.DecodeJSON(b, &a.found.Header); err != nil {
		return broken("%s: %v", headerName, err)
	}
	if f := a.found.Format; f != Format {
		return broken("it has format %d, written by davit %s; this davit reads format %d", f, a.found.Program, Format)
	}
	a.found.Files, a.seen = []File{}, map[string]bool{headerName: true, manifestName: true}
	return to.Begin(a.found.Header)
}

func (a *archive) file(to Target, name string, size int64) error {
	if a.seen[name] || len(a.found.Files) == maxFiles {
		return broken("entry %q is there twice, or there are too many", name)
	}
	a.seen[name] = true
	sum := sha256.New()
	content := &counter{Reader: io.TeeReader(a.tar, sum)}
	if err := to.File(name, size, content); err != nil {
		return truncated(err)
	}
	if content.n != size {
		return fmt.Errorf("%s: %d of its %d bytes were read", name, content.n, size)
	}
	a.found.Files = append(a.found.Files, File{name, size, hex.EncodeToString(sum.Sum(nil))})
	return nil
}

// manifest compares what was read with what the archive says of itself.
func (a *archive) manifest(size int64) error {
	if size > maxManifest {
		return broken("%s has %d bytes", manifestName, size)
	}
	b, err := io.ReadAll(a.tar)
	if err != nil {
		return truncated(err)
	}
	var says Manifest
	if err := durable.DecodeJSON(b, &says); err != nil {
		return broken("%s: %v", manifestName, err)
	}
	if says.Header != a.found.Header {
		return broken("its manifest is of another backup")
	}
	for i, f := range says.Files {
		if i >= len(a.found.Files) {
			return broken("%s is missing", f.Path)
		}
		if have := a.found.Files[i]; have != f {
			return broken("%s has %d bytes with the SHA-256 %s; the manifest says %s, %d bytes, %s", have.Path, have.Size, have.SHA256, f.Path, f.Size, f.SHA256)
		}
	}
	if len(a.found.Files) > len(says.Files) {
		return broken("%s is not in its manifest", a.found.Files[len(says.Files)].Path)
	}
	return nil
}

// end checks that nothing stands behind the manifest but the end of a tar file: two
// blocks of zeros, which is where Writer ends.
func (a *archive) end(all *counter) error {
	const block = 512
	if _, err := a.tar.Next(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = broken("something stands behind its manifest")
		}
		return truncated(err)
	}
	if all.n%block != 0 || !all.ended(2*block) {
		return broken("it is cut off in its last blocks")
	}
	var rest [1]byte
	if _, err := io.ReadFull(all, rest[:]); !errors.Is(err, io.EOF) {
		if err == nil {
			err = broken("something stands behind its end")
		}
		return err
	}
	return nil
}

// counter counts what is read, and remembers the last of it.
type counter struct {
	io.Reader
	n    int64
	last []byte
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	const most = 1024
	if n >= most {
		c.last = append(c.last[:0], p[n-most:n]...)
	} else {
		c.last = append(c.last, p[:n]...)
		c.last = slices.Delete(c.last, 0, max(0, len(c.last)-most))
	}
	return n, err
}

// ended says whether the last n bytes are zeros.
func (c *counter) ended(n int) bool {
	return len(c.last) >= n && len(bytes.Trim(c.last[len(c.last)-n:], "\x00")) == 0
}
