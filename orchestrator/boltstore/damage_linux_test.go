package boltstore_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"davit/orchestrator"
	"davit/orchestrator/boltstore"
)

// failingCommit names the store of the process that TestCommitThatFailsOverDamage starts.
const failingCommit = "DAVIT_TEST_FAILING_COMMIT"

// A commit that the disk refuses is taken back by bbolt, which reads all pages for that on a goroutine of its own: where one
// was damaged meanwhile, the process ends with a panic that nobody can catch (docs/datafolder.md). What counts is that
// nothing is acknowledged, and that the next start says what is wrong. If this fails because the process ends in
// order, bbolt has mended that: say so in the document.
func TestCommitThatFailsOverDamage(t *testing.T) {
	if path := os.Getenv(failingCommit); path != "" {
		damageAndFail(t, path)
		return
	}
	whole, _ := manyPages(t)
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	program := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCommitThatFailsOverDamage$")
	program.Env = append(os.Environ(), failingCommit+"="+path)
	out, err := program.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("panic: ")) || !bytes.Contains(out, []byte("freepages")) || bytes.Contains(out, []byte("the update was answered")) {
		t.Errorf("%v:\n%s", err, out)
	}
	if _, err := boltstore.Open(boltstore.Options{Path: path}); !errors.Is(err, boltstore.ErrDamaged) || !strings.Contains(err.Error(), "davit restore") {
		t.Errorf("the next start says %v", err)
	}
}

// damageAndFail clears what a store that is in use has in its tables, and has an update of another table meet a full disk.
func damageAndFail(t *testing.T, path string) {
	s, err := boltstore.Open(boltstore.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	size := os.Getpagesize()
	for at := 2 * size; at < len(b); at += size {
		if bytes.Contains(b[at:at+size], []byte("key-")) {
			if _, err := f.WriteAt(make([]byte, size), int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(len(b)), Max: uint64(len(b))}); err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(w orchestrator.Writer) error { return w.Put("small", []byte("large"), make([]byte, 64<<20)) })
	t.Logf("the update was answered: %v", err)
}
