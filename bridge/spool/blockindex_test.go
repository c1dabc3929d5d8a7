package spool

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func (p plain) Hash(i int) [sha256.Size]byte {
	r := p.Range(i)
	return sha256.Sum256(p.image[r.Offset:r.End()])
}

// pool are blocks from which images are made that have some of them in common.
func pool(n, size int) [][]byte {
	r := rand.New(rand.NewPCG(3, uint64(size)))
	all := make([][]byte, n)
	for i := range all {
		all[i] = make([]byte, size)
		for j := range all[i] {
			all[i][j] = byte(r.Uint32())
		}
	}
	return all
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// keepWhole puts an image into the spool, verified block by block, and gives it back.
func keepWhole(t testing.TB, s *Spool, image []byte, size int) {
	t.Helper()
	img, err := s.Acquire(sumOf(image), uint64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := img.Guard(plain{image, size}); err != nil {
		t.Fatal(err)
	}
	if _, err := img.Take(image, 0); err != nil {
		t.Fatal(err)
	}
	if err := img.Verify(); err != nil {
		t.Fatal(err)
	}
	if err := img.Release(); err != nil {
		t.Fatal(err)
	}
}

// TestReuse: random images with blocks in common, in blocks of one size or not, some of them
// damaged on disk since: what is taken is exactly what others have whole, and is right.
func TestReuse(t *testing.T) {
	const size, other = 64, 128
	blocks := map[int][][]byte{size: pool(12, size), other: pool(6, other)}
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 5))
		dir := t.TempDir()
		s := openSpool(t, dir, Options{})
		draw := func(of int) []byte {
			var b []byte
			for range 2 + r.IntN(11) {
				b = append(b, blocks[of][r.IntN(len(blocks[of]))]...)
			}
			return append(b, blocks[of][0][:r.IntN(of)]...)
		}
		there := map[string]bool{} // blocks that can be taken
		kept := map[string]bool{}
		for range r.IntN(3) {
			of := []int{size, size, other}[r.IntN(3)]
			donor := draw(of)
			if kept[sumOf(donor)] {
				continue
			}
			kept[sumOf(donor)] = true
			keepWhole(t, s, donor, of)
			file := filepath.Join(dir, sumOf(donor)+extDone)
			damaged := -1
			var err error
			switch r.IntN(5) {
			case 1:
				damaged = r.IntN(len(donor))
				b := bytes.Clone(donor)
				b[damaged] ^= 1
				err = os.WriteFile(file, b, 0o600)
			case 2: // the index is cut off, in its head or behind a block: what is left of it counts
				err = os.Truncate(filepath.Join(dir, sumOf(donor)+extIndex), int64(r.IntN(indexHeader+1)))
				of = 0
			case 3:
				err = os.Remove(file)
				of = 0
			}
			if err != nil {
				t.Fatal(seed, err)
			}
			for at := 0; of == size && at < len(donor); at += of {
				end := min(at+of, len(donor))
				if damaged < at || damaged >= end {
					there[string(donor[at:end])] = true
				}
			}
		}
		wanted := draw(size)
		if kept[sumOf(wanted)] {
			continue
		}
		img, err := s.Acquire(sumOf(wanted), uint64(len(wanted)))
		if err != nil {
			t.Fatal(seed, err)
		}
		p := plain{wanted, size}
		if n := r.IntN(len(wanted)); n > 0 {
			if err := img.WriteAt(wanted[:n], 0); err != nil {
				t.Fatal(seed, err)
			}
		}
		if _, err := img.Guard(p); err != nil {
			t.Fatal(seed, err)
		}
		before := img.Held()
		got, err := img.Reuse(context.Background())
		if err != nil {
			t.Fatal(seed, err)
		}
		blocksGot, held := 0, before
		for i := range p.Blocks() {
			b := p.Range(i)
			if there[string(wanted[b.Offset:b.End()])] != img.guard.checked[i] && b.Offset >= before {
				t.Fatalf("seed %d: block %d is there: %v", seed, i, img.guard.checked[i])
			}
			if img.guard.checked[i] && b.End() > before {
				blocksGot++
				held += b.End() - max(b.Offset, before)
			}
		}
		if got.Blocks != blocksGot || img.Held() != held {
			t.Fatalf("seed %d: %+v and %d bytes held, want %d blocks and %d bytes", seed, got, img.Held(), blocksGot, held)
		}
		for _, m := range img.Missing(100) {
			if bad, err := img.Take(wanted[m.Offset:m.End()], m.Offset); err != nil || len(bad) > 0 {
				t.Fatalf("seed %d: %v, %v", seed, bad, err)
			}
		}
		if err := img.Verify(); err != nil {
			t.Fatal(seed, err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, sumOf(wanted)+extDone)); err != nil || !bytes.Equal(b, wanted) {
			t.Fatalf("seed %d: the image is another: %v", seed, err)
		}
		if err := img.Release(); err != nil {
			t.Fatal(seed, err)
		}
	}
}

// An index goes with its image, when that makes room and when it is gone at the next start.
func TestIndexGoesWithItsImage(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, Options{Limit: 5000})
	first, second, third := pool(1, 2000)[0], pool(1, 2001)[0], pool(1, 2002)[0]
	index := func(image []byte) bool {
		_, err := os.Stat(filepath.Join(dir, sumOf(image)+extIndex))
		return err == nil
	}
	for _, image := range [][]byte{first, second, third} {
		keepWhole(t, s, image, 512)
		if !index(image) {
			t.Error("no index was kept")
		}
	}
	if index(first) || !index(second) {
		t.Error("the index of an image that made room is there, or another one is not")
	}
	if err := os.Remove(filepath.Join(dir, sumOf(second)+extDone)); err != nil {
		t.Fatal(err)
	}
	openSpool(t, dir, Options{})
	if index(second) || !index(third) {
		t.Error("the index of an image that is not there is, or another one is not")
	}
}

// A caller that does not want the image any more is not kept.
func TestReuseEnds(t *testing.T) {
	s := openSpool(t, t.TempDir(), Options{})
	donor := pool(1, 4096)[0]
	keepWhole(t, s, donor, 512)
	wanted := append(bytes.Clone(donor), 1)
	img := acquire(t, s, sumOf(wanted), len(wanted))
	if _, err := img.Guard(plain{wanted, 512}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got, err := img.Reuse(ctx); err == nil || got.Blocks > 0 {
		t.Errorf("%+v, %v", got, err)
	}
}
