package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/backup"
	"davit/internal/client"
)

func (p *program) storageCommand() *cobra.Command {
	return p.apiCommand("storage", "Show what the service's data folder takes, and what its disk has left", noArgs,
		func(cmd *cobra.Command, c *client.Client, _ []string) error {
			u, err := c.Storage(cmd.Context())
			if err != nil {
				return err
			}
			return p.show(u, func(w io.Writer) {
				fmt.Fprintf(w, "records  %s, of which %s are free\n", size(uint64(u.Records)), size(uint64(u.RecordsFree)))
				fmt.Fprintf(w, "images   %s in %d files\n", size(uint64(u.Images)), u.ImageFiles)
				fmt.Fprintf(w, "disk     %s of %s left\n", size(uint64(u.DiskFree)), size(uint64(u.Disk)))
			})
		})
}

func (p *program) compactCommand() *cobra.Command {
	cmd := p.apiCommand("compact", "Give back to the disk what is free in a service's records, while it runs", noArgs,
		func(cmd *cobra.Command, c *client.Client, _ []string) error {
			got, err := c.Compact(cmd.Context())
			if err != nil {
				return err
			}
			return p.done(got, "The records have %s, %s before; it took %v, and updates waited %v.", size(uint64(got.After)), size(uint64(got.Before)),
				time.Duration(got.Took).Round(time.Millisecond), time.Duration(got.Stop).Round(100*time.Microsecond))
		})
	cmd.Long = `Give back to the disk what is free in a service's records, while it runs. Their file never
becomes shorter by itself: what is deleted makes room in it for what comes. davit storage
shows how much that is. The file is written anew beside the old one, so the disk needs
room for it; updates wait for some milliseconds when the files are exchanged.`
	return cmd
}

// backedUp is what backup prints.
type backedUp struct {
	File      string    `json:"file"`
	Bytes     int64     `json:"bytes"`
	Files     int       `json:"files"`
	Layout    int       `json:"layout"`
	CreatedAt time.Time `json:"created_at"`
}

func (p *program) backupCommand() *cobra.Command {
	var file string
	cmd := p.apiCommand("backup --out FILE", "Back up a service that runs: everything in its data folder, at one moment", noArgs,
		func(cmd *cobra.Command, c *client.Client, _ []string) error {
			if file == "" {
				return usagef("backup: name the file to write with --out FILE")
			}
			if dir, ok := app.InDataFolder(file); ok {
				return usagef("backup: %s lies in the data folder %s, and would be lost with it; name a file elsewhere", file, dir)
			}
			out, err := createFile(file)
			if err != nil {
				return err
			}
			defer out.abandon()
			archive, err := c.Backup(cmd.Context())
			if err != nil {
				return err
			}
			defer archive.Close()
			m, n, err := verified(archive, out)
			if err != nil {
				return fmt.Errorf("backup: %w", err)
			}
			return p.done(backedUp{file, n, len(m.Files), m.Layout, m.CreatedAt}, "%s: %s in %d files, verified. It is as secret as the data folder.", file, size(uint64(n)), len(m.Files))
		})
	cmd.Flags().StringVar(&file, "out", "", "file to write, readable by you only (required)")
	cmd.Long = `Back up a service that runs: everything in its data folder, as it is at one moment, in
one archive from which davit restore makes a folder. The service goes on meanwhile; it
needs room on its disk for a copy of its records. What arrives is verified, and the file
appears when it is whole. Keep it as secret as the data folder: it has the admin token
and the hashes of all passwords.`
	return cmd
}

// verified writes an archive to a file while it is verified.
func verified(archive io.Reader, out *newFile) (backup.Manifest, int64, error) {
	r, w := io.Pipe()
	var m backup.Manifest
	read := make(chan error, 1)
	go func() {
		var err error
		m, err = backup.Verify(r)
		_ = r.CloseWithError(err) // never fails
		read <- err
	}()
	n, err := out.write(io.TeeReader(archive, w))
	_ = w.CloseWithError(err) // never fails
	if bad := <-read; bad != nil && (err == nil || errors.Is(bad, backup.ErrArchive)) {
		err = bad
	}
	if err == nil {
		err = out.commit()
	}
	return m, n, err
}

func (p *program) restoreCommand() *cobra.Command {
	var dir string
	cmd := p.command("restore ARCHIVE --data DIR", "Make a data folder of a backup", oneArg("the backup's file"),
		func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return usagef("restore: name the folder to make with --data")
			}
			f, err := os.Open(args[0])
			if err != nil {
				return cannotError{fmt.Errorf("restore: %w", err)}
			}
			defer f.Close()
			r, err := app.Restore(cmd.Context(), f, dir)
			if errors.Is(err, backup.ErrArchive) {
				return fmt.Errorf("restore: %s is %w", args[0], err)
			}
			if err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			return p.done(r, "%s: %s in %d files, as the service was at %s. Start it with: davit serve --data %s", dir, size(uint64(r.Bytes)), r.Files, r.CreatedAt.Format(time.RFC3339), dir)
		})
	cmd.Flags().StringVar(&dir, "data", "", "folder to make, which must be empty or not there (required)")
	cmd.Long = `Make a data folder of a backup that davit backup has written. Everything in the archive
is verified: sizes and hashes of all files, that images have the content that they are
named after, that the records can be opened and have all of their images. An archive of
an older davit is taken; davit serve brings its records to the present layout. While a
folder is being restored, nothing starts from it; an interrupted restore is repeated.

What devices have reported since the backup is not in it. They report again what they
run, so a device that has been updated since is seen to have succeeded when it says so.`
	return cmd
}
