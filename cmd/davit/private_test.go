package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// filesIn lists the regular files below a folder.
func filesIn(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

// searchModes fails the test if somebody else than its owner may read or change a file that has a secret in
// it, or lies in the data folder of a service or a bridge; those in brought are the script's own. It returns
// how many files it looked at.
func searchModes(t testing.TB, work string, brought []string) (looked int) {
	names, err := filesIn(work)
	if err != nil {
		t.Error(err)
	}
	var data []string
	for _, name := range names {
		if filepath.Base(name) == "LOCK" {
			data = append(data, filepath.Dir(name)+string(filepath.Separator))
		}
	}
	for _, name := range names {
		if slices.Contains(brought, name) || !private(name, data) {
			continue
		}
		looked++
		if info, err := os.Stat(name); err != nil {
			t.Error(err)
		} else if info.Mode().Perm()&0o077 != 0 {
			t.Error(name, "is not its owner's alone:", info.Mode())
		}
	}
	return looked
}

// secretEnds end the names of files that have secrets in them, as davit's commands write them.
var secretEnds = []string{".key", ".token", ".password", ".password.claim", ".password.previous", ".tar", "secrets.csv"}

// private says whether a file is its owner's alone, by its name or its folder. Certificates and revocation
// lists are everybody's.
func private(name string, data []string) bool {
	in := func(dir string) bool { return strings.HasPrefix(name, dir) }
	ends := func(end string) bool { return strings.HasSuffix(name, end) }
	return !ends(".pem") && (slices.ContainsFunc(data, in) || slices.ContainsFunc(secretEnds, ends))
}

// TestPrivateFilesAreFound: a file with a secret that others may read fails a script, wherever it is.
func TestPrivateFilesAreFound(t *testing.T) {
	work := t.TempDir()
	for name, mode := range map[string]fs.FileMode{
		"a.key": 0o644, "x/b.token": 0o640, "b.password": 0o604, "one.tar": 0o620, "secrets.csv": 0o606, "data/LOCK": 0o600, "data/blobs/ab/x": 0o660,
		"brought.key": 0o644, "lab/LOCK": 0o600, "lab/ca.pem": 0o644, "a.pub": 0o644, "good.key": 0o600,
	} {
		name = filepath.Join(work, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, nil, mode), os.Chmod(name, mode)); err != nil {
			t.Fatal(err)
		}
	}
	found := &witness{TB: t}
	if n := searchModes(found, work, []string{filepath.Join(work, "brought.key")}); n != 9 {
		t.Errorf("it looked at %d files", n)
	}
	if len(found.said) != 6 {
		t.Errorf("found %q", found.said)
	}
}
