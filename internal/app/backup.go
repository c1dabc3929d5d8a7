package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"davit/broker"
	"davit/gateway"
	"davit/internal/backup"
	"davit/internal/durable"
	"davit/orchestrator"
)

// looseFiles are the files of a data folder beside records and images.
func looseFiles() []string { return []string{broker.CredentialsFile, keyListName, tokenName} }

// Backup implements gateway.Storage. The records are copied into an unfinished file of
// the data folder first, at the disk's pace and not at a client's: until they are, the
// store cannot use again what is freed in it.
func (b *storage) Backup(ctx context.Context) (gateway.Backup, error) {
	leave, err := b.enter("a backup")
	if err != nil {
		return nil, err
	}
	p := &prepared{header: backup.Header{Layout: orchestrator.Layout, Program: ReadBuild().Version, CreatedAt: time.Now()}, leave: leave}
	if err := b.fill(ctx, p); err != nil {
		return nil, errors.Join(fmt.Errorf("make a backup: %w", err), p.Close())
	}
	return p, nil
}

func (b *storage) fill(ctx context.Context, p *prepared) (err error) {
	// Who is in the credentials before the records are copied is in the records: a
	// device's record is made first. Those of a device that is made in between are lost
	// at worst, as if the service had been killed before it had made them.
	for _, name := range looseFiles() {
		content, err := os.ReadFile(filepath.Join(b.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		p.loose = append(p.loose, looseFile{name, content})
	}
	if p.store, err = durable.Create(b.dir); err != nil {
		return noRoom(err)
	}
	if p.blobs, err = b.service.Snapshot(ctx, durable.Paced(p.store.File)); err != nil {
		return err
	}
	p.size, err = p.store.Seek(0, io.SeekCurrent)
	return err
}

// noRoom adds the orchestrator's kind to errors of a disk that is full, or mounted for reading only.
func noRoom(err error) error {
	switch {
	case durable.IsNoSpace(err):
		return fmt.Errorf("%w: %w", orchestrator.ErrNoSpace, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", orchestrator.ErrUnwritable, err)
	}
	return err
}

// prepared is a backup that waits to be sent.
type prepared struct {
	header backup.Header
	store  *durable.File
	size   int64
	blobs  *orchestrator.HeldBlobs
	loose  []looseFile
	leave  func()
}

type looseFile struct {
	name    string
	content []byte
}

// Name implements gateway.Backup.
func (p *prepared) Name() string {
	return "davit-" + p.header.CreatedAt.UTC().Format("20060102T150405Z") + ".tar"
}

// Send implements gateway.Backup.
func (p *prepared) Send(ctx context.Context, w io.Writer) error {
	archive, err := backup.NewWriter(w, p.header)
	if err != nil {
		return err
	}
	for _, f := range p.loose {
		if err := archive.Add(f.name, int64(len(f.content)), bytes.NewReader(f.content)); err != nil {
			return err
		}
	}
	if err := archive.Add(storeName, p.size, io.NewSectionReader(p.store, 0, p.size)); err != nil {
		return err
	}
	for _, sum := range p.blobs.Sums() {
		if err := p.sendBlob(ctx, archive, sum); err != nil {
			return err
		}
	}
	_, err = archive.Close()
	return err
}

func (p *prepared) sendBlob(ctx context.Context, archive *backup.Writer, sum string) error {
	b, err := p.blobs.Open(ctx, sum)
	if err != nil {
		return err
	}
	err = archive.Add(blobPath(sum), b.Size(), io.NewSectionReader(b, 0, b.Size()))
	return errors.Join(err, b.Close())
}

// blobPath is where a blob stands in a backup, as in the data folder.
func blobPath(sum string) string { return blobsName + "/" + sum[:2] + "/" + sum }

// Close implements gateway.Backup.
func (p *prepared) Close() error {
	defer p.leave()
	if p.store != nil {
		durable.Shrink(p.store.File)
		p.store.Abort()
	}
	if p.blobs == nil {
		return nil
	}
	return p.blobs.Release()
}
