package spool

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"davit/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// image makes size bytes from seed and their SHA-256.
func image(seed uint64, size int) ([]byte, string) {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	sum := sha256.Sum256(b)
	return b, hex.EncodeToString(sum[:])
}

func openSpool(t *testing.T, dir string, opts Options) *Spool {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func acquire(t *testing.T, s *Spool, sum string, size int) *Image {
	t.Helper()
	img, err := s.Acquire(sum, uint64(size))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func put(t *testing.T, img *Image, data []byte, from, to int) {
	t.Helper()
	if err := img.WriteAt(data[from:to], uint64(from)); err != nil {
		t.Fatal(err)
	}
}

func TestImageIsReadOnlyAfterVerification(t *testing.T) {
	data, sum := image(1, 10_000)
	s := openSpool(t, t.TempDir(), Options{})
	img := acquire(t, s, sum, len(data))
	put(t, img, data, 5_000, 10_000)
	if err := img.Verify(); err == nil {
		t.Fatal("verified with half of the bytes")
	}
	put(t, img, data, 0, 6_000)
	if _, err := img.ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("bytes were handed out before they were verified")
	}
	if err := img.Verify(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(img, 0, int64(img.Size())))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back %d bytes, error %v", len(got), err)
	}
	if err := img.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestCompleteImageIsVerifiedAgainAfterRestart(t *testing.T) {
	data, sum := image(2, 3_000)
	dir := t.TempDir()
	img := acquire(t, openSpool(t, dir, Options{}), sum, len(data))
	put(t, img, data, 0, len(data))
	if err := errors.Join(img.Verify(), img.Release()); err != nil {
		t.Fatal(err)
	}
	again := acquire(t, openSpool(t, dir, Options{}), sum, len(data))
	if again.Held() != uint64(len(data)) || again.Verified() {
		t.Errorf("held %d, verified %t; want all of it, unverified", again.Held(), again.Verified())
	}
	if err := errors.Join(again.Verify(), again.Release()); err != nil {
		t.Error(err)
	}

	// A bit that rots on the disk is found, and the image is fetched again.
	path := filepath.Join(dir, sum+extDone)
	rotten := slices.Clone(data)
	rotten[1234] ^= 1
	if err := os.WriteFile(path, rotten, 0o600); err != nil {
		t.Fatal(err)
	}
	third := acquire(t, openSpool(t, dir, Options{}), sum, len(data))
	if err := third.Verify(); !errors.Is(err, ErrChecksum) {
		t.Fatalf("Verify of a rotten file: %v", err)
	}
	if third.Held() != 0 {
		t.Errorf("%d rotten bytes are still held", third.Held())
	}
	put(t, third, data, 0, len(data))
	if err := errors.Join(third.Verify(), third.Release()); err != nil {
		t.Error(err)
	}
}

func TestWrongBytesAreThrownAway(t *testing.T) {
	data, sum := image(3, 4_096)
	s := openSpool(t, t.TempDir(), Options{})
	img := acquire(t, s, sum, len(data))
	wrong := slices.Clone(data)
	wrong[0] ^= 0x80
	put(t, img, wrong, 0, len(wrong))
	if err := img.Verify(); !errors.Is(err, ErrChecksum) {
		t.Fatalf("Verify: %v, want ErrChecksum", err)
	}
	if got := img.Missing(5); !slices.Equal(got, []schemas.Range{{Offset: 0, Length: 4_096}}) {
		t.Errorf("missing %v, want all", got)
	}
	put(t, img, data, 0, len(data))
	if err := errors.Join(img.Verify(), img.Release()); err != nil {
		t.Error(err)
	}
}

// copyDir is what a crash leaves: the files as they are, nothing closed.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestPartSurvivesRestartAndCrash(t *testing.T) {
	data, sum := image(4, 100_000)
	dir := t.TempDir()
	img := acquire(t, openSpool(t, dir, Options{SyncBytes: 20_000, SyncEvery: time.Hour}), sum, len(data))
	put(t, img, data, 0, 25_000) // synced
	put(t, img, data, 40_000, 50_000)

	crashed := acquire(t, openSpool(t, copyDir(t, dir), Options{}), sum, len(data))
	if want := []schemas.Range{{Offset: 25_000, Length: 75_000}}; !slices.Equal(crashed.Missing(9), want) {
		t.Errorf("after a crash %v are missing, want %v", crashed.Missing(9), want)
	}
	if err := crashed.Release(); err != nil {
		t.Fatal(err)
	}

	if err := img.Release(); err != nil {
		t.Fatal(err)
	}
	next := acquire(t, openSpool(t, dir, Options{}), sum, len(data))
	if want := []schemas.Range{{Offset: 25_000, Length: 15_000}, {Offset: 50_000, Length: 50_000}}; !slices.Equal(next.Missing(9), want) {
		t.Errorf("after a restart %v are missing, want %v", next.Missing(9), want)
	}
	put(t, next, data, 25_000, 100_000)
	if err := errors.Join(next.Verify(), next.Release()); err != nil {
		t.Error(err)
	}
}

func TestTornJournal(t *testing.T) {
	data, sum := image(5, 3_000)
	dir := t.TempDir()
	opts := Options{SyncBytes: 1}
	img := acquire(t, openSpool(t, dir, opts), sum, len(data))
	put(t, img, data, 0, 1_000)
	put(t, img, data, 2_000, 3_000)
	if err := img.Release(); err != nil {
		t.Fatal(err)
	}
	journal := filepath.Join(dir, sum+extMap)
	whole, err := os.ReadFile(journal)
	if err != nil || len(whole) != 2*recordSize {
		t.Fatalf("journal of %d bytes, error %v", len(whole), err)
	}
	for cut := range len(whole) {
		if err := os.WriteFile(journal, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		img := acquire(t, openSpool(t, dir, opts), sum, len(data))
		if want := uint64(cut / recordSize * 1_000); img.Held() != want {
			t.Errorf("cut at %d: %d bytes held, want %d", cut, img.Held(), want)
		}
		put(t, img, data, 1_000, 2_000)
		if err := img.Release(); err != nil {
			t.Fatal(err)
		}
		img = acquire(t, openSpool(t, dir, opts), sum, len(data))
		if !img.Has(schemas.Range{Offset: 1_000, Length: 1_000}) {
			t.Errorf("cut at %d: an entry behind the torn one is lost", cut)
		}
		if err := img.Release(); err != nil {
			t.Fatal(err)
		}
	}
}

// A journal whose entries do not fit the image belongs to something else.
func TestJournalOfAnotherSize(t *testing.T) {
	data, sum := image(6, 2_000)
	dir := t.TempDir()
	img := acquire(t, openSpool(t, dir, Options{SyncBytes: 1}), sum, len(data))
	put(t, img, data, 0, 2_000)
	if err := img.Release(); err != nil {
		t.Fatal(err)
	}
	small := acquire(t, openSpool(t, dir, Options{}), sum, 1_000)
	if small.Held() != 0 {
		t.Errorf("%d bytes held", small.Held())
	}
	if err := small.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestOneImageForAll(t *testing.T) {
	data, sum := image(7, 1_000)
	s := openSpool(t, t.TempDir(), Options{})
	a, b := acquire(t, s, sum, len(data)), acquire(t, s, sum, len(data))
	if a != b {
		t.Fatal("two copies of one image")
	}
	put(t, a, data, 0, len(data))
	if err := errors.Join(a.Verify(), a.Release()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ReadAt(make([]byte, 10), 0); err != nil {
		t.Errorf("closed under the second user: %v", err)
	}
	if _, err := s.Acquire(sum, 999); err == nil {
		t.Error("another size for the same hash was accepted")
	}
	if err := b.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestUnusedImagesMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := openSpool(t, dir, Options{Limit: 3_000})
		var sums []string
		for i := range 3 {
			data, sum := image(uint64(10+i), 1_000)
			img := acquire(t, s, sum, len(data))
			put(t, img, data, 0, len(data))
			if err := errors.Join(img.Verify(), img.Release()); err != nil {
				t.Fatal(err)
			}
			sums = append(sums, sum)
			time.Sleep(time.Second)
		}
		kept := acquire(t, s, sums[0], 1_000) // in use: must stay
		_, sum := image(20, 1_500)
		img := acquire(t, s, sum, 1_500)
		if s.Used() > 3_000 {
			t.Errorf("%d bytes used, the limit is 3000", s.Used())
		}
		for i, want := range []bool{true, false, false} {
			if _, err := os.Stat(filepath.Join(dir, sums[i]+extDone)); (err == nil) != want {
				t.Errorf("image %d on disk: %t, want %t", i, err == nil, want)
			}
		}
		if _, err := s.Acquire(sums[2], 1_000); !errors.Is(err, ErrFull) {
			t.Errorf("Acquire beyond the limit: %v, want ErrFull", err)
		}
		if err := errors.Join(kept.Release(), img.Release()); err != nil {
			t.Fatal(err)
		}
		for s.Spare() {
		}
		if s.Used() != 0 {
			t.Errorf("a full disk does not make the spool give up unused images")
		}
	})
}

// Images that somebody wants later make room last, as long as anybody does.
func TestKeptImagesMakeRoomLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := openSpool(t, dir, Options{Limit: 10_000})
		var sums []string
		for i := range 4 {
			_, sum := image(uint64(30+i), 1_000)
			if err := acquire(t, s, sum, 1_000).Release(); err != nil {
				t.Fatal(err)
			}
			sums = append(sums, sum)
			time.Sleep(time.Second)
		}
		s.Keep(sums[0], "a")
		s.Keep(sums[0], "b")
		s.Keep(sums[1], "a")
		s.Keep(sums[1], "a")
		s.Keep("not on disk", "a")
		s.LetGo(sums[0], "a") // b wants it
		s.LetGo(sums[1], "a")
		s.LetGo(sums[2], "nobody")
		for _, want := range []int{1, 2, 3, 0} {
			if !s.Spare() {
				t.Fatal("nothing makes room")
			}
			for i, sum := range sums {
				if _, err := os.Stat(filepath.Join(dir, sum+extPart)); i == want && err == nil {
					t.Errorf("image %d did not make room", i)
				}
			}
		}
		if s.Spare() || s.Used() != 0 {
			t.Errorf("%d bytes are left", s.Used())
		}
	})
}

func TestWritesOutsideTheImageAreRefused(t *testing.T) {
	data, sum := image(8, 1_000)
	s := openSpool(t, t.TempDir(), Options{})
	img := acquire(t, s, sum, len(data))
	for _, offset := range []uint64{1, 1_000, 1 << 63, ^uint64(0)} {
		if err := img.WriteAt(data, offset); err == nil {
			t.Errorf("1000 bytes at %d of an image of 1000 were accepted", offset)
		}
	}
	if err := img.Release(); err != nil {
		t.Fatal(err)
	}
	for _, sum := range []string{"", "../../etc/passwd", sum[:63], sum + "0"} {
		if _, err := s.Acquire(sum, 10); err == nil {
			t.Errorf("%q was taken for a SHA-256", sum)
		}
	}
}
