package orchestrator_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"davit/orchestrator"
	"davit/schemas"
)

// TestPackedFields holds the packings to the tables: every field has a tag. A new
// field of Execution, Tracked or Attempt gets a line in its table and its name at the
// end of the packing.
func TestPackedFields(t *testing.T) {
	execution, attempt := orchestrator.PackedNames()
	for table, names := range map[string][]string{"execution": execution, "attempt": attempt} {
		want := slices.Sorted(slices.Values(orchestrator.FieldTables()[table].Names))
		if got := slices.Sorted(slices.Values(names)); !slices.Equal(got, want) {
			t.Errorf("%s: packed are\n%v, there are\n%v", table, got, want)
		}
	}
}

// TestTagsStay reads an execution with every field that was packed when packing
// began: what a tag means never changes.
func TestTagsStay(t *testing.T) {
	execution, attempt := orchestrator.PackedNames()
	first := []string{"state", "priority", "history", "id", "job", "device", "image", "image_type", "version", "version_id", "attempt", "cause", "code",
		"detail", "bytes_done", "bytes_total", "host_version", "seq", "wave", "goal", "downloaded", "confirmed", "not_before", "due_at", "created_at",
		"offered_at", "updated_at", "ended_at", "order", "min_version", "ignore_validation", "sha256", "lane", "rank", "action", "install", "defer_until",
		"phase_at", "tries", "retries", "met", "ended", "failing", "rev"}
	if !slices.Equal(execution[:len(first)], first) {
		t.Errorf("the tags of executions begin with\n%v, in stores they are\n%v", execution[:len(first)], first)
	}
	first = []string{"attempt", "version", "state", "cause", "code", "detail", "bytes_done", "host_version", "offered_at", "ended_at"}
	if !slices.Equal(attempt[:len(first)], first) {
		t.Errorf("the tags of attempts begin with\n%v, in stores they are\n%v", attempt[:len(first)], first)
	}
}

// TestPackedExecution packs executions and reads them again; what is damaged is not
// read, or is the one packing of what it is read as.
func TestPackedExecution(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := &orchestrator.ExecutionRecord{}
		fill(t, reflect.ValueOf(rec).Elem())
		b, ok := orchestrator.PackExecution(rec)
		if !ok {
			t.Fatalf("%+v is not packed", rec)
		}
		if len(rec.History) == 0 {
			rec.History = nil
		}
		if got, ok := orchestrator.ReadExecution(b); !ok || !reflect.DeepEqual(got, rec) {
			t.Fatalf("%q is read (%v) as\n%+v, want\n%+v", b, ok, got, rec)
		}
		if j, err := json.Marshal(rec); err == nil && bytes.Equal(j, b) {
			t.Fatal("a packed record is JSON")
		}
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		onePacking(t, append(slices.Clone(b[:i]), b[i+1:]...))
		onePacking(t, b[:i])
		b[i] = rapid.Byte().Draw(t, "byte")
		onePacking(t, b)
	})
}

// onePacking holds that of what can be read there is no other packing.
func onePacking(t interface{ Fatalf(string, ...any) }, b []byte) {
	if len(b) == 0 || b[0] == '{' {
		return
	}
	rec, ok := orchestrator.ReadExecution(b)
	if !ok {
		return
	}
	if again, ok := orchestrator.PackExecution(rec); !ok || !bytes.Equal(again, b) {
		t.Fatalf("%q is read as %+v, whose packing is %q (%v)", b, rec, again, ok)
	}
}

// FuzzPackedExecution reads anything.
func FuzzPackedExecution(f *testing.F) {
	b, _ := orchestrator.PackExecution(&orchestrator.ExecutionRecord{Rev: 300, Tracked: orchestrator.Tracked{Execution: orchestrator.Execution{
		ID: "ex-1", State: schemas.StateQueued, Code: -1, Downloaded: true, CreatedAt: time.Unix(1, 5).UTC(),
		History: []orchestrator.Attempt{{Attempt: 1, Cause: schemas.CauseSerial}},
	}}})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) { onePacking(t, b) })
}

// TestWhatCannotBePackedIsJSON stores a time of a zone as the older stores did.
func TestWhatCannotBePackedIsJSON(t *testing.T) {
	zone := time.FixedZone("", 3600)
	rec := &orchestrator.ExecutionRecord{}
	rec.ID, rec.OfferedAt = "ex-1", time.Date(2026, 3, 1, 12, 0, 0, 0, zone)
	b := must[[]byte](t)(orchestrator.StoredExecution(rec))
	if !json.Valid(b) {
		t.Fatalf("stored is %q", b)
	}
	if got, ok := orchestrator.ReadExecution(b); !ok || !got.OfferedAt.Equal(rec.OfferedAt) {
		t.Errorf("%s is read (%v) as %+v", b, ok, got)
	}
}

// TestStoreOfJSON goes on with a store whose executions are all JSON, as those of the
// first versions are: it is whole, says the same, and whoever follows the feed misses
// nothing when it changes.
func TestStoreOfJSON(t *testing.T) {
	e := newEnv(t, boltAt(t, filepath.Join(t.TempDir(), "store.db")))
	ids := e.fleet(3)
	e.job("j", e.image("2", content(10, 1)).ID, ids...)
	e.ok(e.Status(ctx, ids[1], status(e.execution("j", ids[1]), 1, schemas.StateDownloading)))
	e.ok(e.Status(ctx, ids[2], status(e.execution("j", ids[2]), 1, schemas.StateFailed)))
	before := must[orchestrator.JobChanges](t)(e.Changes(ctx, "j", 0, 0))
	e.ok(e.store.Update(ctx, func(w orchestrator.Writer) error {
		for _, x := range before.Executions {
			e.ok(orchestrator.StoreAsJSON(w, x.ID))
		}
		return nil
	}))
	e.checkClean()
	if after := must[orchestrator.JobChanges](t)(e.Changes(ctx, "j", 0, 0)); !reflect.DeepEqual(after, before) {
		t.Errorf("of JSON it says\n%+v, want\n%+v", after, before)
	}
	f := &follower{picture: map[string]string{}}
	for i, d := range ids[:2] {
		f.catchUp(e, 2)
		if truth := e.truth(); !maps.Equal(f.picture, truth) {
			t.Errorf("the feed tells\n%v, want\n%v", f.picture, truth)
		}
		e.ok(e.Status(ctx, d, status(e.execution("j", d), 2, schemas.StateInstalling)))
		if x := e.execution("j", d); x.State != schemas.StateInstalling {
			t.Errorf("device %d: %s", i, x.State)
		}
	}
	e.checkClean()
	f.catchUp(e, 2)
	if truth := e.truth(); !maps.Equal(f.picture, truth) {
		t.Errorf("the feed tells\n%v, want\n%v", f.picture, truth)
	}
}
