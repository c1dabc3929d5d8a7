package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"davit/broker"
	"davit/gateway/people"
	"davit/internal/durable"
	"davit/internal/logevent"
	"davit/orchestrator"
	"davit/orchestrator/boltstore"
	"davit/orchestrator/fileblobs"
)

// The names inside a service's data folder, beside the token (token.go), the key list
// (serverkeys.go) and the credentials (package broker).
const (
	storeName = "davit.db"
	blobsName = "blobs"
)

// takeFolder makes the folder if need be, locks it and sweeps what a crash
// left unfinished.
func (s *Server) takeFolder(dir, who string) error {
	lock, err := lockFolder(dir, who)
	if err != nil {
		return err
	}
	s.cleanup.add("data folder", lock.Unlock)
	return nil
}

// lockFolder makes a data folder, takes it and removes unfinished files.
func lockFolder(dir, who string) (*durable.DirLock, error) {
	if err := durable.MakeDir(dir); err != nil {
		return nil, err
	}
	if err := usable(dir); err != nil {
		return nil, err
	}
	lock, err := durable.Lock(dir, who)
	if err != nil {
		return nil, err
	}
	if err := durable.RemoveTemp(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("sweep the data folder: %w", err), lock.Unlock())
	}
	return lock, nil
}

// usable says what keeps a folder from being a service's.
func usable(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, restoringName)); err == nil {
		return fmt.Errorf("data folder %s is half restored: a restore was interrupted; remove the folder and run davit restore again", dir)
	}
	for _, name := range []string{bridgeLayoutName, "spool"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("data folder %s belongs to a bridge: it has %s; name the service's own folder with --data", dir, name)
		}
	}
	return nil
}

// openData opens records and blobs of a data folder that is locked. onCommit, if it is
// not nil, is called after each commit.
func openData(dir string, onCommit func(int, time.Duration, error)) (*boltstore.Store, *fileblobs.Blobs, error) {
	blobs, err := fileblobs.Open(filepath.Join(dir, blobsName))
	if err != nil {
		return nil, nil, fmt.Errorf("open the images: %w", err)
	}
	if err := durable.Usable(filepath.Join(dir, blobsName)); err != nil {
		return nil, nil, fmt.Errorf("open the images: %w", err)
	}
	if err := RecordsGone(dir); err != nil {
		return nil, nil, err
	}
	store, err := boltstore.Open(boltstore.Options{Path: filepath.Join(dir, storeName), OnCommit: onCommit})
	if err != nil {
		return nil, nil, fmt.Errorf("open the records: %w", err)
	}
	if err := ours(store); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", filepath.Join(dir, storeName), err), store.Close())
	}
	return store, blobs, nil
}

// InDataFolder says in which service's data folder a file would lie, if in any.
func InDataFolder(file string) (dir string, ok bool) {
	dir, err := filepath.Abs(filepath.Dir(file))
	if resolved, e := filepath.EvalSymlinks(dir); e == nil {
		dir = resolved
	}
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, storeName)); err == nil {
			return dir, true
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return "", false
}

// RecordsGone says that a data folder has what comes after records, and no records. Made anew they would be
// empty, and images that no record knows are deleted when a service starts.
func RecordsGone(dir string) error {
	path := filepath.Join(dir, storeName)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil // whether it is whole is for the store to say
	}
	left := blobsName
	if images, err := fs.Glob(os.DirFS(dir), blobsName+"/??/*"); err != nil || len(images) == 0 {
		if _, err := os.Stat(filepath.Join(dir, broker.CredentialsFile)); err != nil {
			return nil // nothing was ever recorded here
		}
		left = broker.CredentialsFile
	}
	return fmt.Errorf("the records %s are missing, and %s beside them is there; put the file back, or restore a backup into a new folder (davit restore FILE --data NEW) and start the service with that", path, left)
}

// ours says whether a store is one of this program, or of a newer davit.
func ours(store *boltstore.Store) error {
	tables, err := store.Tables()
	if err != nil || len(tables) == 0 {
		return err
	}
	known := append(orchestrator.Tables(), people.Tables()...)
	if slices.ContainsFunc(tables, func(t orchestrator.Table) bool { return slices.Contains(known, t) }) {
		return nil
	}
	return fmt.Errorf("this is the store of another program: it has the tables %q and none of davit's; name davit's folder with --data", tables[:min(3, len(tables))])
}

// openData opens records and blobs, and brings records of an older layout to this
// program's.
func (s *Server) openData(dir string, m *orchestrator.Metrics) (*boltstore.Store, *fileblobs.Blobs, error) {
	store, blobs, err := openData(dir, func(updates int, took time.Duration, err error) {
		m.Commit(updates, took, err)
		s.disk.committed(err)
	})
	if err != nil {
		return nil, nil, err
	}
	from, err := orchestrator.Migrate(context.Background(), store, ReadBuild().Version, time.Now())
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("data folder %s: %w", dir, err), store.Close())
	}
	if from != orchestrator.Layout {
		s.log.Info("the records were brought to the layout of this program", "event", logevent.StoreMigrated, "from", from, "layout", orchestrator.Layout)
	}
	return store, blobs, nil
}
