package fileblobs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"davit/orchestrator"
	"davit/orchestrator/fileblobs"
	"davit/orchestrator/storetest"
)

var ctx = context.Background()

func open(t testing.TB, dir string) *fileblobs.Blobs {
	t.Helper()
	b, err := fileblobs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, b *fileblobs.Blobs, content []byte) string {
	t.Helper()
	w, err := b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	sum, size, err := w.Commit()
	if err != nil || size != int64(len(content)) {
		t.Fatalf("commit: %d, %v", size, err)
	}
	return sum
}

func list(t testing.TB, b *fileblobs.Blobs) []string {
	t.Helper()
	var sums []string
	if err := b.List(ctx, func(sum string, _ int64) bool { sums = append(sums, sum); return true }); err != nil {
		t.Fatal(err)
	}
	return sums
}

// files lists every file under dir.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	b := open(t, dir)
	content := bytes.Repeat([]byte("davit"), 10_000)
	sum := write(t, b, content)
	want := sha256.Sum256(content)
	if sum != hex.EncodeToString(want[:]) {
		t.Errorf("named %s", sum)
	}
	if got := files(t, dir); len(got) != 1 || got[0] != filepath.Join(dir, sum[:2], sum) {
		t.Errorf("files %v", got)
	}
	b = open(t, dir)
	r, err := b.Open(ctx, sum)
	if err != nil || r.Size() != int64(len(content)) {
		t.Fatalf("open: %v", err)
	}
	defer r.Close()
	part := make([]byte, 10)
	if _, err := r.ReadAt(part, 12_345); err != nil || !bytes.Equal(part, content[12_345:12_355]) {
		t.Errorf("read %q, %v", part, err)
	}
	if err := b.Remove(ctx, sum); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(ctx, sum); err != nil {
		t.Errorf("removing twice: %v", err)
	}
	if _, err := b.Open(ctx, sum); !errors.Is(err, orchestrator.ErrNotFound) {
		t.Errorf("open of a removed blob: %v", err)
	}
	if _, err := r.ReadAt(part, 0); err != nil {
		t.Errorf("a blob that is being read was lost by its removal: %v", err)
	}
}

func TestNamesThatAreNoBlobs(t *testing.T) {
	dir := t.TempDir()
	b := open(t, filepath.Join(dir, "blobs"))
	if err := os.WriteFile(filepath.Join(dir, "secret"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, sum := range []string{"", "..", "../secret", strings.Repeat("A", 64), strings.Repeat("a", 63), strings.Repeat("../", 21) + "a"} {
		if _, err := b.Open(ctx, sum); !errors.Is(err, orchestrator.ErrInvalid) {
			t.Errorf("open %q: %v", sum, err)
		}
		if err := b.Remove(ctx, sum); !errors.Is(err, orchestrator.ErrInvalid) {
			t.Errorf("remove %q: %v", sum, err)
		}
	}
}

func TestUnfinishedBlobsAreSwept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	b := open(t, dir)
	kept := write(t, b, []byte("kept"))
	w, err := b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	if got := list(t, b); len(got) != 1 {
		t.Errorf("an unfinished blob is listed: %v", got)
	}
	if n := len(files(t, dir)); n != 2 {
		t.Fatalf("%d files while one is written", n)
	}
	b = open(t, dir) // as after a crash: the writer was neither committed nor aborted
	if got := files(t, dir); len(got) != 1 || filepath.Base(got[0]) != kept {
		t.Errorf("files after the sweep: %v", got)
	}
	if _, _, err := w.Commit(); err == nil {
		t.Error("a swept blob was committed")
	}
	w.Abort()
	w, err = b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if n := len(files(t, dir)); n != 1 {
		t.Errorf("%d files after an abort", n)
	}
}

func TestSameContentAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	b := open(t, dir)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() { write(t, b, bytes.Repeat([]byte{byte(i % 2)}, 5000)) })
	}
	wg.Wait()
	sums := list(t, b)
	if len(sums) != 2 || sums[0] >= sums[1] || len(files(t, dir)) != 2 {
		t.Errorf("listed %v, files %v", sums, files(t, dir))
	}
}

// TestDamagedBlobIsReplaced uploads content again whose file was cut short.
func TestDamagedBlobIsReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	b := open(t, dir)
	content := []byte("the whole content")
	sum := write(t, b, content)
	path := filepath.Join(dir, sum[:2], sum)
	if err := os.Truncate(path, 3); err != nil {
		t.Fatal(err)
	}
	write(t, b, content)
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file has %q, %v", got, err)
	}
}

func TestFullDisk(t *testing.T) {
	storetest.FullDisk(t, "256k", func(t *testing.T, dir string) {
		dir = filepath.Join(dir, "blobs")
		b := open(t, dir)
		kept := write(t, b, []byte("kept"))
		w, err := b.Create(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = w.Write(make([]byte, 10_000))
		}
		if !errors.Is(err, orchestrator.ErrNoSpace) {
			t.Errorf("write to a full disk: %v", err)
		}
		w.Abort()
		if got := files(t, dir); len(got) != 1 || filepath.Base(got[0]) != kept {
			t.Errorf("left behind: %v", got)
		}
		write(t, b, make([]byte, 100_000)) // there is room again
	})
}

// TestMapped: where a file can be mapped, its bytes are in memory, also after it
// was removed, and a blob that is closed unmapped gets no mapping.
func TestMapped(t *testing.T) {
	b := open(t, filepath.Join(t.TempDir(), "blobs"))
	content := bytes.Repeat([]byte("davit"), 10_000)
	sum := write(t, b, content)
	r, err := b.Open(ctx, sum)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(ctx, sum); err != nil {
		t.Fatal(err)
	}
	m := r.(orchestrator.MappedBlob).Mapped()
	if m == nil && runtime.GOOS == "linux" {
		t.Error("the file is not mapped")
	}
	if m != nil && !bytes.Equal(m, content) {
		t.Error("the mapping has other bytes than the file")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	sum = write(t, b, content)
	if r, err = b.Open(ctx, sum); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if r.(orchestrator.MappedBlob).Mapped() != nil {
		t.Error("a closed blob was mapped")
	}
}

// TestBytes: how much all blobs have is known without a look at the folder, the same as
// after a new start.
func TestBytes(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	sums := []string{write(t, b, make([]byte, 1000)), write(t, b, make([]byte, 20)), write(t, b, make([]byte, 1000))} // the last is there already
	if err := os.WriteFile(filepath.Join(dir, sums[1][:2], sums[1]), make([]byte, 7), 0o600); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir)
	if got := b.Bytes(); got != 1007 {
		t.Errorf("%d bytes after a file was damaged, want 1007", got)
	}
	write(t, b, make([]byte, 20)) // takes the damaged one's place
	for i, want := range []int64{1020, 20, 20, 0} {
		if i > 0 {
			if err := b.Remove(ctx, sums[[]int{0, 0, 1}[i-1]]); err != nil { // one of them twice
				t.Fatal(err)
			}
		}
		if got := b.Bytes(); got != want || open(t, dir).Bytes() != want {
			t.Errorf("step %d: %d bytes, %d after a new start, want %d", i, got, open(t, dir).Bytes(), want)
		}
	}
}
