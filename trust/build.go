package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	"davit/schemas"
)

// Build reads an image to its end and makes its manifest. It needs one block of
// memory, and 32 bytes for each block. Errors of r are returned wrapped; all
// others are ErrMalformed.
func Build(r io.Reader, t Terms) (*Manifest, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	t.DeviceTypes = slices.Clone(t.DeviceTypes)
	m := &Manifest{Terms: t}
	whole, block := sha256.New(), make([]byte, t.BlockSize)
	for {
		n, end, err := readBlock(r, block)
		if err != nil {
			return nil, fmt.Errorf("read the image: %w", err)
		}
		if n > 0 {
			if len(m.hashes) == MaxBlocks*sha256.Size {
				return nil, tooManyBlocks(t.BlockSize)
			}
			if m.Size += uint64(n); m.Size > schemas.MaxImageSize {
				return nil, refuse(ErrMalformed, "the image has more than %d bytes", uint64(schemas.MaxImageSize))
			}
			whole.Write(block[:n])
			sum := sha256.Sum256(block[:n])
			m.hashes = append(m.hashes, sum[:]...)
		}
		if end {
			break
		}
	}
	if m.Size == 0 {
		return nil, refuse(ErrMalformed, "the image is empty; there is nothing to sign")
	}
	m.SHA256 = hex.EncodeToString(whole.Sum(nil))
	return m, nil
}

// readBlock fills block as far as r goes, and says whether r has ended. Unlike
// io.ReadFull it tells a reader that ends from one that breaks off: an image of
// which the rest is missing is never taken for a shorter one.
func readBlock(r io.Reader, block []byte) (n int, end bool, err error) {
	for n < len(block) {
		read, err := r.Read(block[n:])
		n += read
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}
