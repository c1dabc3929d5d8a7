package fileblobs_test

import (
	"context"
	"os"
	"testing"

	"davit/orchestrator/fileblobs"
)

// TestScratchLeavesNothing: it reads back while it is open, and neither a
// closed one nor one of a process that died is there afterwards.
func TestScratchLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	names := func() int {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	b, err := fileblobs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.Scratch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 3)
	if _, err := s.Write([]byte("abcdef")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadAt(got, 2); err != nil || string(got) != "cde" {
		t.Errorf("read %q, %v", got, err)
	}
	if err := b.List(t.Context(), func(string, int64) bool { t.Error("a scratch file is listed as a blob"); return true }); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil || names() != 0 {
		t.Errorf("closed: %v, %d files are left", err, names())
	}
	if _, err := b.Scratch(t.Context()); err != nil || names() != 1 { // and never closed
		t.Fatalf("%v, %d files", err, names())
	}
	if _, err := fileblobs.Open(dir); err != nil || names() != 0 {
		t.Errorf("opened again: %v, %d files are left", err, names())
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Scratch(canceled); err == nil || names() != 0 {
		t.Errorf("a scratch file was made for a request that had ended (%v)", err)
	}
}
