package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"davit/schemas"
)

// Verified is a manifest that a policy has let pass. Only Policy.Check makes
// one, and only from it are the hashes of blocks to be had. It does not change
// and may be used by several goroutines. The zero value has no block and accepts
// none.
type Verified struct {
	m      Manifest
	digest [sha256.Size]byte
	signed []PublicKey
}

// Manifest is what was signed.
func (v *Verified) Manifest() Manifest { return v.m.clone() }

// Digest is the SHA-256 of the manifest's text in lower-case hexadecimal digits, by
// which two manifests of one image are told apart.
func (v *Verified) Digest() string { return hex.EncodeToString(v.digest[:]) }

// SignedBy are the keys that signed, in the order of the policy's keys.
func (v *Verified) SignedBy() []PublicKey { return append([]PublicKey(nil), v.signed...) }

// Size is the image's size in bytes.
func (v *Verified) Size() uint64 { return v.m.Size }

// SHA256 of the image, 64 lower-case hexadecimal digits.
func (v *Verified) SHA256() string { return v.m.SHA256 }

// BlockSize is the size in bytes of every block but the last.
func (v *Verified) BlockSize() int { return v.m.BlockSize }

// Blocks is the number of blocks.
func (v *Verified) Blocks() int { return len(v.m.hashes) / sha256.Size }

// Hash is the SHA-256 of a block. It panics if there is no such block.
func (v *Verified) Hash(index int) [sha256.Size]byte {
	return [sha256.Size]byte(v.m.hashes[index*sha256.Size:])
}

// Range is where a block lies in the image; its length is 0 if there is no such
// block.
func (v *Verified) Range(index int) schemas.Range {
	if index < 0 || index >= v.Blocks() {
		return schemas.Range{}
	}
	offset := uint64(index) * uint64(v.m.BlockSize)
	return schemas.Range{Offset: offset, Length: min(uint64(v.m.BlockSize), v.m.Size-offset)}
}

// Index is the block that holds the byte at offset, or -1 behind the image's end.
func (v *Verified) Index(offset uint64) int {
	if offset >= v.m.Size {
		return -1
	}
	return int(offset / uint64(v.m.BlockSize))
}

// Touching are the blocks [first, end) of which r has at least one byte, as far
// as they are in the image; none if first == end.
func (v *Verified) Touching(r schemas.Range) (first, end int) {
	if r.Length == 0 || r.Offset >= v.m.Size {
		return 0, 0
	}
	last := v.m.Size - 1
	if r.Length-1 < last-r.Offset {
		last = r.Offset + r.Length - 1
	}
	return v.Index(r.Offset), v.Index(last) + 1
}

// Within are the blocks [first, end) that lie in r as a whole; none if
// first == end. A last block that is short counts when r reaches the image's end.
func (v *Verified) Within(r schemas.Range) (first, end int) {
	first, end = v.Touching(r)
	if first < end && v.Range(first).Offset < r.Offset {
		first++
	}
	// What Touching returned lies in the image, so r.End() is compared only where it
	// cannot have overflowed: the last block touched begins before it.
	if first < end {
		last := v.Range(end - 1)
		if last.Offset+last.Length-r.Offset > r.Length {
			end--
		}
	}
	if first >= end {
		return 0, 0
	}
	return first, end
}

// Span is the range from the beginning of block first to that of block end,
// clipped to the image.
func (v *Verified) Span(first, end int) schemas.Range {
	if first < 0 || first >= end || end > v.Blocks() {
		return schemas.Range{}
	}
	from, last := v.Range(first).Offset, v.Range(end-1)
	return schemas.Range{Offset: from, Length: last.Offset + last.Length - from}
}

// Check says whether data are exactly the bytes of a block. It allocates nothing
// unless they are not. Errors are ErrBlock.
func (v *Verified) Check(index int, data []byte) error {
	r := v.Range(index)
	if r.Length == 0 {
		return refuse(ErrBlock, "there is no block %d; the signed image has %d", index, v.Blocks())
	}
	if uint64(len(data)) != r.Length {
		return refuse(ErrBlock, "block %d at offset %d has %d bytes instead of %d", index, r.Offset, len(data), r.Length)
	}
	if sha256.Sum256(data) != v.Hash(index) {
		return refuse(ErrBlock, "block %d at offset %d of image %s is not what was signed; fetch it again, and look for what changes it on the way if that goes on", index, r.Offset, v.m.SHA256)
	}
	return nil
}

// CheckImage reads a whole image and says whether it is the signed one, block by
// block and as a whole. Errors are ErrBlock and ErrMismatch, or r's own, wrapped.
func (v *Verified) CheckImage(r io.Reader) error {
	whole, block := sha256.New(), make([]byte, v.m.BlockSize)
	for i := range v.Blocks() {
		want := block[:v.Range(i).Length]
		n, _, err := readBlock(r, want)
		if err != nil {
			return fmt.Errorf("read the image: %w", err)
		}
		if n < len(want) {
			return refuse(ErrMismatch, "the image ends after %d bytes; the signed one has %d", v.Range(i).Offset+uint64(n), v.m.Size)
		}
		if err := v.Check(i, want); err != nil {
			return err
		}
		whole.Write(want)
	}
	switch n, _, err := readBlock(r, make([]byte, 1)); {
	case err != nil:
		return fmt.Errorf("read the image: %w", err)
	case n > 0:
		return refuse(ErrMismatch, "the image goes on after %d bytes, where the signed one ends", v.m.Size)
	}
	if hex.EncodeToString(whole.Sum(nil)) != v.m.SHA256 {
		return refuse(ErrMismatch, "the image's SHA-256 is not the signed one, although its blocks are: the manifest contradicts itself, sign the image anew")
	}
	return nil
}
