package app

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"davit/orchestrator"
)

// TestCompactingOfRealRecords has a service find by itself, after a quiet time, that most of its records' file is free, and
// give that back: the file is shorter, what was in it is there, and the audit log says who did it.
func TestCompactingOfRealRecords(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(t, dir)
	o.CompactFree = DefaultCompactFree
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx := t.Context()
	if _, err := s.service.CreateImageType(ctx, orchestrator.NewImageType{ID: testImageType}); err != nil {
		t.Fatal(err)
	}
	const spare = orchestrator.Table("spare")
	large := bytes.Repeat([]byte{1}, compactLeast+compactLeast/8)
	fill := func(f func(orchestrator.Writer) error) {
		t.Helper()
		if err := s.storage.store.Update(ctx, f); err != nil {
			t.Fatal(err)
		}
	}
	fill(func(w orchestrator.Writer) error { return w.Put(spare, []byte("k"), large) })
	fill(func(w orchestrator.Writer) error { return w.Delete(spare, []byte("k")) })
	fill(func(w orchestrator.Writer) error { return w.Put(spare, []byte("k"), nil) }) // what was deleted is free from the next update on
	length := func() int64 {
		info, err := os.Stat(filepath.Join(dir, storeName))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := length()
	if s.compacting.look(ctx) {
		t.Fatal("it compacts, or cannot, before anything was quiet for a while")
	}
	s.compacting.since = s.compacting.since.Add(-compactQuiet)
	if !s.compacting.look(ctx) {
		t.Fatal("it does not compact after a quiet time")
	}
	if after := length(); after > before-compactLeast {
		t.Errorf("the file had %d bytes and has %d", before, after)
	}
	if _, err := s.service.ImageType(ctx, testImageType); err != nil {
		t.Error(err)
	}
	entries, _, err := s.service.AuditEntries(ctx, orchestrator.AuditFilter{Kind: orchestrator.KindStorage}, orchestrator.Page{})
	if err != nil || len(entries) != 1 || entries[0].Action != "compact" || entries[0].ID != "records" || entries[0].Actor.Kind != orchestrator.ActorSystem || len(entries[0].After) == 0 {
		t.Errorf("the audit log has %+v, %v", entries, err)
	}
}
