package spool

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"davit/internal/durable"
)

// An index has the SHA-256 of each block of an image that is whole and was verified block by block, so
// that another image finds the blocks that both have. It is a hint and no more: bytes that are
// found by it are hashed before they are used. It lies beside the image as SHA.idx:
// indexMagic | size of the image (8) | size of a block (4) | hash of each block (32), MSB first.
const extIndex = ".idx"

const (
	indexMagic  = "davitix1"
	indexHeader = len(indexMagic) + 8 + 4
)

// writeIndex keeps the hashes of the image's blocks; mu is held. Without it nothing is wrong
// but that the blocks are fetched again.
func (img *Image) writeIndex() error {
	g := img.guard
	if g == nil {
		return nil
	}
	b := make([]byte, 0, indexHeader+len(g.checked)*sha256.Size)
	b = append(b, indexMagic...)
	b = binary.BigEndian.AppendUint64(b, img.size)
	b = binary.BigEndian.AppendUint32(b, uint32(g.Range(0).Length))
	for i := range g.checked {
		sum := g.Hash(i)
		b = append(b, sum[:]...)
	}
	const owner = 0o600
	return durable.WriteFile(img.path(extIndex), b, owner)
}

// Reused is what Reuse took from other images.
type Reused struct {
	Blocks int
	Bytes  uint64
}

// Reuse takes blocks that the image misses from other images of the spool that have them, as
// far as those were verified block by block, with blocks of the same size. Each is hashed
// before it is taken, as if the network had said it. The image needs a guard. An error is of
// this image's own files, or ctx's; what is wrong with another image is only that its blocks are not used.
func (img *Image) Reuse(ctx context.Context) (Reused, error) {
	var all Reused
	donors := img.spool.indexed(img.sum)
	if len(donors) == 0 {
		return all, nil
	}
	wanted := img.wantedBlocks()
	for _, sum := range donors {
		if len(wanted.first) == 0 {
			break
		}
		if err := ctx.Err(); err != nil {
			return all, err
		}
		n, err := img.reuseFrom(ctx, sum, wanted)
		all.Blocks += n.Blocks
		all.Bytes += n.Bytes
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// wantedBlocks are blocks that are not there, by their hash.
type wantedBlocks struct {
	first map[[sha256.Size]byte]int // the last of those with this hash
	next  []int                     // by block, another one with its hash, or -1
	// maybe has a bit for each beginning of a hash that is wanted: nearly all blocks of an image
	// that has nothing in common are done with after a look at it.
	maybe [1 << 16 / 64]uint64
}

// bit is where maybe has the bit of a hash.
func bit(hash *[sha256.Size]byte) (word int, mask uint64) {
	n := int(hash[0])<<8 | int(hash[1])
	return n / 64, 1 << (n % 64)
}

// find returns the places of a block, nil if it is not wanted.
func (w *wantedBlocks) find(hash *[sha256.Size]byte) (places []int) {
	if word, mask := bit(hash); w.maybe[word]&mask == 0 {
		return nil
	}
	i, ok := w.first[*hash]
	for ; ok && i >= 0; i = w.next[i] {
		places = append(places, i)
	}
	return places
}

// wantedBlocks are those that the image misses.
func (img *Image) wantedBlocks() *wantedBlocks {
	img.mu.Lock()
	defer img.mu.Unlock()
	w := &wantedBlocks{}
	if img.guard == nil || img.verified {
		return w
	}
	w.first, w.next = make(map[[sha256.Size]byte]int, len(img.guard.checked)), make([]int, len(img.guard.checked))
	for i, checked := range img.guard.checked {
		if checked {
			continue
		}
		hash := img.guard.Hash(i)
		w.next[i] = -1
		if other, twice := w.first[hash]; twice {
			w.next[i] = other
		}
		w.first[hash] = i
		word, mask := bit(&hash)
		w.maybe[word] |= mask
	}
	return w
}

// indexed are the other images that have an index, those used last first.
func (s *Spool) indexed(but string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for sum := range s.stored {
		if sum == but {
			continue
		}
		if _, err := os.Stat(filepath.Join(s.dir, sum+extIndex)); err == nil {
			all = append(all, sum)
		}
	}
	s.byUse(all)
	return all
}

// donor is another image while blocks are taken from it.
type donor struct {
	index *os.File
	image *os.File
	size  uint64
	block int
}

// openDonor opens an image with its index; nil if they cannot be used.
func (s *Spool) openDonor(sum string) *donor {
	d := &donor{}
	var err error
	if d.index, err = os.Open(filepath.Join(s.dir, sum+extIndex)); err != nil {
		return nil
	}
	var head [indexHeader]byte
	if d.image, err = os.Open(filepath.Join(s.dir, sum+extDone)); err == nil {
		_, err = io.ReadFull(d.index, head[:])
	}
	d.size = binary.BigEndian.Uint64(head[len(indexMagic):])
	d.block = int(binary.BigEndian.Uint32(head[len(indexMagic)+8:]))
	if err != nil || string(head[:len(indexMagic)]) != indexMagic || d.block == 0 {
		d.close()
		return nil
	}
	return d
}

func (d *donor) close() {
	_ = d.index.Close()
	if d.image != nil {
		_ = d.image.Close()
	}
}

// reuseFrom takes from one image what is wanted and there, and takes it out of wanted.
func (img *Image) reuseFrom(ctx context.Context, sum string, wanted *wantedBlocks) (all Reused, err error) {
	d := img.spool.openDonor(sum)
	if d == nil {
		return all, nil
	}
	defer d.close()
	img.mu.Lock()
	same := img.guard != nil && d.block == len(img.guard.buf)
	img.mu.Unlock()
	if !same {
		return all, nil
	}
	const hashes = 256 // of the index in memory at a time
	part, block := make([]byte, hashes*sha256.Size), make([]byte, d.block)
	for offset := uint64(0); offset < d.size && len(wanted.first) > 0; {
		n, err := io.ReadFull(d.index, part)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return all, nil // the index is not whole
		}
		for at := 0; at+sha256.Size <= n && offset < d.size; at += sha256.Size {
			hash := (*[sha256.Size]byte)(part[at:])
			b := block[:min(uint64(d.block), d.size-offset)]
			if places := wanted.find(hash); places != nil {
				if err := ctx.Err(); err != nil {
					return all, err
				}
				if _, err := d.image.ReadAt(b, int64(offset)); err == nil && sha256.Sum256(b) == *hash {
					delete(wanted.first, *hash)
					taken, err := img.place(places, b)
					block = make([]byte, d.block) // the other is the image's
					all.Blocks += taken
					all.Bytes += uint64(taken) * uint64(len(b))
					if err != nil {
						return all, err
					}
				}
			}
			offset += uint64(len(b))
		}
	}
	return all, nil
}

// place puts a block where it belongs, and returns in how many places it was missing.
func (img *Image) place(places []int, b []byte) (taken int, err error) {
	for _, i := range places {
		img.mu.Lock()
		r := img.guard.Range(i)
		missing := r.Length == uint64(len(b)) && !img.guard.checked[i]
		img.mu.Unlock()
		if !missing {
			continue
		}
		bad, err := img.Take(b, r.Offset)
		if err != nil {
			return taken, err
		}
		if len(bad) == 0 {
			taken++
		}
	}
	return taken, nil
}

// sweepIndexes removes indexes whose image is not there.
func (s *Spool) sweepIndexes() error {
	names, err := filepath.Glob(filepath.Join(s.dir, "*"+extIndex))
	if err != nil {
		return err
	}
	for _, name := range names {
		image := name[:len(name)-len(extIndex)] + extDone
		if _, err := os.Stat(image); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}
