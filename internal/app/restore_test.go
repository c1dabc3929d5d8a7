package app

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"davit/internal/durable"
	"davit/orchestrator/storetest"
)

// treeOf is everything below a folder: modes of folders, contents of files.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			all[path] = d.Type().String()
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// A restore that refuses or fails leaves the disk as it was, whatever it was told to restore into.
func TestRestoreLeavesNothingBehind(t *testing.T) {
	f := newBusyFleet(t, t.TempDir(), 2)
	var archive bytes.Buffer
	backUp(t, f.server, &archive)
	whole := archive.Bytes()
	places := map[string]struct {
		into    string
		prepare func(dir string) error
	}{
		"a new folder":        {"new", func(string) error { return nil }},
		"a new folder in new": {"a/b/new", func(string) error { return nil }},
		"an empty folder":     {"empty", func(dir string) error { return os.Mkdir(filepath.Join(dir, "empty"), 0o750) }},
		"a folder with a lock": {"held", func(dir string) error {
			return plant(filepath.Join(dir, "held", durable.LockName), "davit serve (pid 1)\n")
		}},
		"a folder that is in use": {"used", func(dir string) error { return plant(filepath.Join(dir, "used", "notes.txt"), "mine") }},
		"a file":                  {"file/new", func(dir string) error { return plant(filepath.Join(dir, "file"), "mine") }},
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, p := range places {
		for what, c := range map[string]struct {
			ctx     context.Context
			archive []byte
		}{
			"no backup": {t.Context(), []byte(strings.Repeat("root:x:0:0:root:/root:/bin/sh\n", 40))}, "nothing": {t.Context(), nil},
			"cut short": {t.Context(), whole[:len(whole)*2/3]}, "given up": {cancelled, whole},
		} {
			t.Run(what+" into "+name, func(t *testing.T) {
				dir := t.TempDir()
				if err := p.prepare(dir); err != nil {
					t.Fatal(err)
				}
				before := treeOf(t, dir)
				if _, err := Restore(c.ctx, bytes.NewReader(c.archive), filepath.Join(dir, p.into)); err == nil {
					t.Error("it succeeded")
				}
				if after := treeOf(t, dir); !reflect.DeepEqual(after, before) {
					t.Errorf("it left %v, before there was %v", after, before)
				}
			})
		}
	}
}

// plant writes a file, and makes its folder.
func plant(path, content string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o600)
}

// A disk that is too small for a backup is left empty.
func TestRestoreOnAFullDiskLeavesNothingBehind(t *testing.T) {
	storetest.FullDisk(t, "16k", func(t *testing.T, disk string) {
		f := newBusyFleet(t, t.TempDir(), 2)
		var archive bytes.Buffer
		backUp(t, f.server, &archive)
		before := treeOf(t, disk)
		_, err := Restore(t.Context(), &archive, filepath.Join(disk, "data"))
		if !durable.IsNoSpace(err) {
			t.Errorf("a restore without room: %v", err)
		}
		if after := treeOf(t, disk); !reflect.DeepEqual(after, before) {
			t.Errorf("it left %v, before there was %v", after, before)
		}
		if _, err := os.Lstat(filepath.Join(disk, "data")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the folder is left over: %v", err)
		}
	})
}
