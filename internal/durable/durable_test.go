package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteFileReplacesAndLeavesNoTemp(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, want := range []string{"old", "new and longer"} {
		if err := WriteFile(path, []byte(want), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Fatalf("read %q, %v; want %q", got, err, want)
		}
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", st.Mode())
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("%d files in the folder, want 1", len(names))
	}
}

func TestAbortedFileKeepsTheOldOne(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("half"); err != nil {
		t.Fatal(err)
	}
	f.Abort()
	f.Abort()
	if err := f.Commit(path); err == nil {
		t.Error("commit after abort succeeded")
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("read %q", got)
	}
}

func TestRemoveTempSweepsOnlyUnfinished(t *testing.T) {
	dir := t.TempDir()
	if err := WriteFile(filepath.Join(dir, "keep"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Create(dir) // a crash: neither committed nor aborted
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := RemoveTemp(dir); err != nil {
		t.Fatal(err)
	}
	names, _ := os.ReadDir(dir)
	if len(names) != 1 || names[0].Name() != "keep" {
		t.Errorf("left: %v", names)
	}
}

func TestSecondLockSaysWhoHolds(t *testing.T) {
	dir := t.TempDir()
	l, err := Lock(dir, "davit serve")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lock(dir, "davit serve")
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "davit serve (pid ") || !strings.Contains(err.Error(), dir) {
		t.Errorf("second lock: %v", err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(dir, "davit serve")
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	if err := again.Unlock(); err != nil {
		t.Fatal(err)
	}
}

func TestMakeDirSaysWhatIsInTheWay(t *testing.T) {
	base := t.TempDir()
	file, link, made := filepath.Join(base, "file"), filepath.Join(base, "link"), filepath.Join(base, "a", "b")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(made, link)); err != nil {
		t.Fatal(err)
	}
	for dir, words := range map[string]string{
		file:                       file + " is there and is no folder",
		link:                       link + " is a link to " + made + ", which is not there",
		filepath.Join(file, "sub"): "not a directory",
	} {
		if err := MakeDir(dir); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v; want %q", dir, err, words)
		}
	}
	for _, dir := range []string{made, link} {
		if err := MakeDir(dir); err != nil {
			t.Error(err)
		}
	}
	if info, err := os.Stat(made); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
}
