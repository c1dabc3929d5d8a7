package spool

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"davit/schemas"
)

// plain are the blocks of an image that is known.
type plain struct {
	image []byte
	size  int
}

func (p plain) Blocks() int { return (len(p.image) + p.size - 1) / p.size }

func (p plain) Range(i int) schemas.Range {
	at := i * p.size
	return schemas.Range{Offset: uint64(at), Length: uint64(min(p.size, len(p.image)-at))}
}

func (p plain) Touching(r schemas.Range) (first, end int) {
	if r.Length == 0 || r.Offset >= uint64(len(p.image)) {
		return 0, 0
	}
	last := min(r.End(), uint64(len(p.image))) - 1
	return int(r.Offset) / p.size, int(last)/p.size + 1
}

func (p plain) Check(i int, b []byte) error {
	r := p.Range(i)
	if !bytes.Equal(b, p.image[r.Offset:r.End()]) {
		return errors.New("not what was signed")
	}
	return nil
}

// However pieces come, doubled, overlapping, spoilt, and over restarts: what can be
// read is the image, the last block is held back until the whole is verified, and what
// is right in the end is never asked for again.
func TestGuardedImage(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		image, sum := image(seed, 1+r.IntN(9000))
		blocks := plain{image, 64 << r.IntN(5)}
		dir := t.TempDir()
		opts := Options{SyncBytes: int64(1000 + r.IntN(4000))}
		open := func() *Image {
			img := acquire(t, openSpool(t, dir, opts), sum, len(image))
			if _, err := img.Guard(blocks); err != nil {
				t.Fatal(err)
			}
			return img
		}
		img := open()
		for range 200 {
			if img.Held() == img.Size() {
				break
			}
			at := r.IntN(len(image))
			piece := bytes.Clone(image[at:min(len(image), at+1+r.IntN(700))])
			spoilt := r.IntN(4) == 0
			if spoilt {
				piece[r.IntN(len(piece))] ^= 1
			}
			if _, err := img.Take(piece, uint64(at)); err != nil {
				t.Fatal(err)
			}
			wantReadable(t, img, blocks)
			if r.IntN(30) == 0 {
				if err := img.Release(); err != nil {
					t.Fatal(err)
				}
				if name := dir + "/" + sum + extPart; r.IntN(2) == 0 {
					spoil(t, name, r.IntN(len(image)))
				}
				img = open()
				wantReadable(t, img, blocks)
			}
		}
		if img.Held() != img.Size() {
			for _, hole := range img.Missing(1000) {
				if bad, err := img.Take(image[hole.Offset:hole.End()], hole.Offset); err != nil {
					t.Fatal(bad, err)
				}
			}
			for _, hole := range img.Missing(1000) { // blocks of which spoilt parts were there
				if bad, err := img.Take(image[hole.Offset:hole.End()], hole.Offset); err != nil || len(bad) > 0 {
					t.Fatal(bad, err)
				}
			}
		}
		news := img.Await(schemas.Range{Length: img.Size()})
		if news == nil {
			t.Fatalf("seed %d: the last block was given out before the whole was verified", seed)
		}
		if err := img.Verify(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		<-news
		if img.Await(schemas.Range{Length: img.Size()}) != nil {
			t.Errorf("seed %d: a verified image cannot be read", seed)
		}
		if err := img.Release(); err != nil {
			t.Fatal(err)
		}
	}
}

func wantReadable(t *testing.T, img *Image, blocks plain) {
	t.Helper()
	for i := range blocks.Blocks() {
		r := blocks.Range(i)
		b := make([]byte, r.Length)
		if img.Await(r) != nil {
			if _, err := img.ReadAt(b, int64(r.Offset)); err == nil {
				t.Fatalf("block %d can be read and is not verified", i)
			}
			continue
		}
		if _, err := img.ReadAt(b, int64(r.Offset)); err != nil || blocks.Check(i, b) != nil {
			t.Fatalf("block %d can be read and is wrong, %v", i, err)
		}
	}
}

// spoil changes a byte of a file, if it has it.
func spoil(t *testing.T, name string, at int) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil || len(b) <= at {
		return
	}
	b[at] ^= 0x20
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Take says which blocks were spoilt, keeps nothing of them, and keeps the others of the
// same piece.
func TestTakeNamesSpoiltBlocks(t *testing.T) {
	image, sum := image(1, 1000)
	img := acquire(t, openSpool(t, t.TempDir(), Options{}), sum, 1000)
	defer img.Release()
	if _, err := img.Guard(plain{image, 64}); err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Clone(image)
	for _, at := range []int{0, 200, 999} {
		wrong[at] ^= 1
	}
	bad, err := img.Take(wrong, 0)
	if err != nil || !slices.Equal(bad, []int{0, 3, 15}) {
		t.Errorf("spoilt blocks %v, %v", bad, err)
	}
	want := []schemas.Range{{Offset: 0, Length: 64}, {Offset: 192, Length: 64}, {Offset: 960, Length: 40}}
	if got := img.Missing(10); !slices.Equal(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
	if bad, err := img.Take(wrong[190:260], 190); err != nil || !slices.Equal(bad, []int{3}) || img.Has(want[1]) {
		t.Errorf("spoilt blocks %v, %v", bad, err)
	}
	if bad, err := img.Take(image, 0); err != nil || len(bad) > 0 || img.Held() != 1000 {
		t.Errorf("spoilt blocks %v, %v, %d bytes", bad, err, img.Held())
	}
}

// Large pieces of whole blocks, of which the hash of the image is reckoned beside, in whatever
// order, doubled and spoilt: bad blocks are named, nothing of a spoilt piece counts, and in the end the
// image is verified without being read again.
func TestTakeInOrder(t *testing.T) {
	const size, piece = 1 << 10, worthASecondCore
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 9))
		image, sum := image(seed, 10*piece+r.IntN(3*size))
		img := acquire(t, openSpool(t, t.TempDir(), Options{SyncBytes: 1 << 30}), sum, len(image))
		if _, err := img.Guard(plain{image, size}); err != nil {
			t.Fatal(err)
		}
		pieces := r.Perm(11)
		if seed%2 == 0 {
			slices.Sort(pieces)
		}
		for _, n := range append(pieces, pieces...) {
			from := n * piece
			to := min(from+piece, len(image))
			b := bytes.Clone(image[from:to])
			spoilt := -1
			if len(b) > 0 && r.IntN(4) == 0 {
				spoilt = r.IntN(len(b))
				b[spoilt] ^= 1
			}
			there := spoilt >= 0 && img.guard.checked[(from+spoilt)/size]
			bad, err := img.Take(b, uint64(from))
			if err != nil {
				t.Fatal(err)
			}
			if want := spoilt >= 0 && !there; want != (len(bad) == 1) || want && bad[0] != (from+spoilt)/size {
				t.Fatalf("seed %d: piece %d spoilt at %d: bad %v", seed, n, spoilt, bad)
			}
		}
		for _, m := range img.Missing(100) {
			if bad, err := img.Take(image[m.Offset:m.End()], m.Offset); err != nil || len(bad) > 0 {
				t.Fatal(bad, err)
			}
		}
		if img.guard.front != len(img.guard.checked) {
			t.Errorf("seed %d: %d of %d blocks are in the hash", seed, img.guard.front, len(img.guard.checked))
		}
		if err := img.Verify(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}
