package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"davit/schemas"
)

func TestBlocksOfAnImage(t *testing.T) {
	image := randomImage(10*MinBlockSize + 17)
	v := verified(t, image, terms())
	for i := range v.Blocks() {
		r := v.Range(i)
		block := image[r.Offset:r.End()]
		if err := v.Check(i, block); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{
			"empty": nil, "cut": block[:len(block)-1], "longer": append(bytes.Clone(block), 0), "padded": append(bytes.Clone(block), make([]byte, MinBlockSize)...),
			"the next one": image[min(int(r.End()), len(image)-1):], "zeros": make([]byte, len(block)),
		} {
			err := v.Check(i, data)
			refused(t, err, ErrBlock)
			if len(data) != len(block) && !strings.Contains(err.Error(), fmt.Sprintf("has %d bytes instead of %d", len(data), len(block))) {
				t.Errorf("block %d %s: %v", i, name, err)
			}
		}
		flipped := bytes.Clone(block)
		flipped[i%len(flipped)] ^= 0x10
		refused(t, v.Check(i, flipped), ErrBlock)
	}
	refused(t, v.Check(-1, image[:MinBlockSize]), ErrBlock)
	refused(t, v.Check(v.Blocks(), image[:MinBlockSize]), ErrBlock)
	refused(t, v.Check(1<<62, image[:MinBlockSize]), ErrBlock)
}

// TestReorderedBlocks: a block is right at its own place only.
func TestReorderedBlocks(t *testing.T) {
	image := randomImage(8 * MinBlockSize)
	v := verified(t, image, terms())
	for i := range v.Blocks() {
		for j := range v.Blocks() {
			r := v.Range(j)
			if err := v.Check(i, image[r.Offset:r.End()]); (err == nil) != (i == j) {
				t.Errorf("the bytes of block %d as block %d: %v", j, i, err)
			}
		}
	}
}

// TestEqualBlocksHaveEqualHashes: what a spool has of one image serves another.
func TestEqualBlocksHaveEqualHashes(t *testing.T) {
	a := randomImage(4 * MinBlockSize)
	b := append(bytes.Clone(a[2*MinBlockSize:]), a...)
	va, vb := verified(t, a, terms()), verified(t, b, terms())
	for i := range va.Blocks() {
		if va.Hash(i) != vb.Hash(i+2) {
			t.Errorf("block %d has another hash in another image", i)
		}
	}
}

func TestNothingIsVerifiedByDefault(t *testing.T) {
	var v Verified
	if v.Blocks() != 0 || v.Size() != 0 || v.Index(0) != -1 || v.Range(0).Length != 0 {
		t.Error("the zero value has blocks")
	}
	refused(t, v.Check(0, nil), ErrBlock)
	refused(t, v.CheckImage(bytes.NewReader(nil)), ErrMismatch)
	refused(t, v.CheckImage(bytes.NewReader([]byte("x"))), ErrMismatch)
	if first, end := v.Touching(schemas.Range{Length: 1}); first != end {
		t.Error("the zero value is touched")
	}
	for i := range reflect.TypeFor[Verified]().NumField() {
		if f := reflect.TypeFor[Verified]().Field(i); f.IsExported() {
			t.Errorf("%s can be set from outside", f.Name)
		}
	}
	if f, ok := reflect.TypeFor[Manifest]().FieldByName("hashes"); !ok || f.IsExported() {
		t.Error("a manifest gives away its hashes")
	}
}

func TestCheckImage(t *testing.T) {
	image := randomImage(3*MinBlockSize + 5)
	v := verified(t, image, terms())
	if err := v.CheckImage(iotest.HalfReader(bytes.NewReader(image))); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(image)
	flipped[len(image)-1] ^= 1
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		r    io.Reader
		want error
	}{
		"cut":                   {bytes.NewReader(image[:len(image)-1]), ErrMismatch},
		"cut at a block":        {bytes.NewReader(image[:MinBlockSize]), ErrMismatch},
		"longer":                {bytes.NewReader(append(bytes.Clone(image), 0)), ErrMismatch},
		"empty":                 {bytes.NewReader(nil), ErrMismatch},
		"changed":               {bytes.NewReader(flipped), ErrBlock},
		"a reader that fails":   {io.MultiReader(bytes.NewReader(image[:10]), iotest.ErrReader(broken)), broken},
		"one that fails at end": {io.MultiReader(bytes.NewReader(image), iotest.ErrReader(broken)), broken},
		"one that breaks off":   {io.MultiReader(bytes.NewReader(image), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
		"that has no end":       {io.MultiReader(bytes.NewReader(image), zeros{}), ErrMismatch},
	} {
		if err := v.CheckImage(c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestManifestThatContradictsItself: blocks of one image and the hash of another
// under one signature.
func TestManifestThatContradictsItself(t *testing.T) {
	a, b := randomImage(2*MinBlockSize), randomImage(2*MinBlockSize + 1)[1:]
	m, key := build(t, a, terms()), newKey(t)
	m.hashes = build(t, b, terms()).hashes
	v, err := policyFor(m, key).Check(sign(t, encode(t, m), key))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, v.CheckImage(bytes.NewReader(a)), ErrBlock)
	refused(t, v.CheckImage(bytes.NewReader(b)), ErrMismatch)
}

// TestRanges holds the translation of ranges into blocks against a count of
// bytes.
func TestRanges(t *testing.T) {
	image := randomImage(7*MinBlockSize + 9)
	v := verified(t, image, terms())
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.OneOf(rapid.Uint64Range(0, v.Size()+2000), rapid.Uint64(),
			rapid.Map(rapid.Uint64Range(0, 9), func(n uint64) uint64 { return n * MinBlockSize }))
		r := schemas.Range{Offset: at.Draw(t, "offset"), Length: at.Draw(t, "length")}
		in := func(n uint64) bool { return n >= r.Offset && n-r.Offset < r.Length }
		var touching, within []int
		for i := range v.Blocks() {
			b, n := v.Range(i), uint64(0)
			for at := b.Offset; at < b.End(); at++ {
				if in(at) {
					n++
				}
				if v.Index(at) != i {
					t.Fatalf("byte %d is in block %d, not %d", at, v.Index(at), i)
				}
			}
			if n > 0 {
				touching = append(touching, i)
			}
			if n == b.Length {
				within = append(within, i)
			}
		}
		check := func(name string, first, end int, want []int) {
			var got []int
			for i := first; i < end; i++ {
				got = append(got, i)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s %+v: blocks %v, want %v", name, r, got, want)
			}
		}
		first, end := v.Touching(r)
		check("touching", first, end, touching)
		if span := v.Span(first, end); first < end && (span.Offset != v.Range(first).Offset || span.End() != v.Range(end-1).End()) {
			t.Fatalf("span of %d to %d is %+v", first, end, span)
		}
		first, end = v.Within(r)
		check("within", first, end, within)
	})
	if v.Index(v.Size()) != -1 || v.Span(3, 3).Length != 0 || v.Span(0, v.Blocks()+1).Length != 0 || v.Span(-1, 2).Length != 0 {
		t.Error("there are blocks behind the end")
	}
}

// TestCheckAllocatesNothing guards what a block costs on its way to the line.
func TestCheckAllocatesNothing(t *testing.T) {
	image := randomImage(4 * MinBlockSize)
	v := verified(t, image, terms())
	block := image[MinBlockSize : 2*MinBlockSize]
	if n := testing.AllocsPerRun(100, func() {
		if err := v.Check(1, block); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a block, want none", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	terms := terms()
	terms.BlockSize = DefaultBlockSize
	image := randomImage(1 << 20)
	v := verified(b, image, terms)
	b.SetBytes(DefaultBlockSize)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		index := i % v.Blocks()
		r := v.Range(index)
		if err := v.Check(index, image[r.Offset:r.End()]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPolicy is what a manifest of an image of 1 MiB costs once.
func BenchmarkPolicy(b *testing.B) {
	terms := terms()
	terms.BlockSize = DefaultBlockSize
	m, key := build(b, randomImage(1<<20), terms), newKey(b)
	s, policy := sign(b, encode(b, m), key), policyFor(m, key)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policy.Check(s); err != nil {
			b.Fatal(err)
		}
	}
}
