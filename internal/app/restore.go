package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"davit/internal/backup"
	"davit/internal/durable"
	"davit/orchestrator"
)

// restoringName is a file in a data folder that is being restored: no service starts
// from the folder before it is gone.
const restoringName = "RESTORING"

// Restored says what a restore has brought back.
type Restored struct {
	Data      string    `json:"data"`
	CreatedAt time.Time `json:"created_at"` // the moment that the backup shows
	Program   string    `json:"program"`    // what wrote it
	Layout    int       `json:"layout"`
	Files     int       `json:"files"`
	Bytes     int64     `json:"bytes"`
}

// Restore makes a data folder of a backup. The folder must not exist, or be empty; what
// an interrupted restore left in it is removed first. It verifies the whole archive, that
// images have the content that they are named after, and that the records can be opened
// and refer to images that are there. Until all of it is on disk the folder is marked, so
// that nothing starts from it. An error leaves nothing of its own behind: a folder that was
// not there is gone again, one that was is as it was.
func Restore(ctx context.Context, archive io.Reader, dir string) (out Restored, err error) {
	p, err := takePlace(dir)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, p.leave(err != nil)) }()
	if err := clearRestore(dir); err != nil {
		return out, err
	}
	if err := durable.WriteFile(filepath.Join(dir, restoringName), nil, 0o600); err != nil {
		return out, err
	}
	target := &restoring{dir: dir}
	m, err := backup.Read(readerOf{ctx, archive}, target)
	if err == nil && !target.records {
		err = fmt.Errorf("%w: it has no records", backup.ErrArchive)
	}
	if err == nil {
		err = openRestored(ctx, dir)
	}
	if err == nil {
		err = syncTree(dir)
	}
	if err != nil {
		return out, errors.Join(err, clearRestore(dir))
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, restoringName)), durable.SyncDir(dir)); err != nil {
		return out, err
	}
	return Restored{dir, m.CreatedAt, m.Program, m.Layout, len(m.Files), m.Bytes()}, nil
}

// clearRestore leaves a folder empty if a restore was under way in it, and refuses any
// other that is not.
func clearRestore(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	interrupted := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == restoringName })
	for _, e := range entries {
		switch name := e.Name(); {
		case name == durable.LockName || name == "lost+found" || name == restoringName:
		case !interrupted:
			return fmt.Errorf("folder %s is not empty: it has %s; restore into a new folder", dir, name)
		default:
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	if !interrupted {
		return nil
	}
	return errors.Join(durable.SyncDir(dir), os.Remove(filepath.Join(dir, restoringName)))
}

// restoring puts the files of a backup in their places.
type restoring struct {
	dir     string
	records bool // there were some
}

// Begin implements backup.Target.
func (r *restoring) Begin(h backup.Header) error {
	if h.Layout > orchestrator.Layout {
		return &orchestrator.LayoutError{Have: h.Layout, Program: h.Program}
	}
	return nil
}

// blobFile is the path of a blob in a backup.
var blobFile = regexp.MustCompile(`^` + blobsName + `/([0-9a-f]{2})/([0-9a-f]{64})$`)

// File implements backup.Target.
func (r *restoring) File(name string, _ int64, content io.Reader) error {
	blob := blobFile.FindStringSubmatch(name)
	if name != storeName && !slices.Contains(looseFiles(), name) && (blob == nil || blob[2][:2] != blob[1]) {
		return fmt.Errorf("%w: %q is no file of a data folder", backup.ErrArchive, name)
	}
	r.records = r.records || name == storeName
	to := filepath.Join(r.dir, filepath.FromSlash(name))
	if blob != nil {
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(durable.Paced(f), sum), content); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); blob != nil && got != blob[2] {
		return fmt.Errorf("%w: the content of %s hashes to %s", backup.ErrArchive, name, got)
	}
	return nil
}

// openRestored opens the records, and looks whether the images that they need are there.
func openRestored(ctx context.Context, dir string) (err error) {
	store, blobs, err := openData(dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	missing, err := orchestrator.MissingBlobs(ctx, store, blobs)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("%w: %d images are missing, the first is %s", backup.ErrArchive, len(missing), missing[0])
	}
	return err
}

// syncTree makes the names of a folder and of all below it durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = durable.SyncDir(p)
		}
		return err
	})
}

// readerOf is a reader that ends with a context.
type readerOf struct {
	ctx context.Context
	r   io.Reader
}

func (r readerOf) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
