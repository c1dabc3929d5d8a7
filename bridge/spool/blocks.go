package spool

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"davit/internal/durable"
	"davit/schemas"
)

// Blocks are the hashes of an image's blocks, as a signed manifest has them
// (trust.Verified). Block i is the range that Range says; a block that is not what
// was signed is an error of Check.
type Blocks interface {
	Blocks() int
	Range(index int) schemas.Range
	Touching(r schemas.Range) (first, end int)
	Check(index int, data []byte) error
	Hash(index int) [sha256.Size]byte
}

// guard is what an image knows of its blocks.
type guard struct {
	Blocks
	checked []bool
	front   int        // blocks from the beginning on that are checked
	whole   *wholeHash // of those
	buf     []byte
}

// restart forgets all blocks.
func (g *guard) restart() {
	clear(g.checked)
	g.front = 0
	g.whole.reset()
}

// Guard has every block checked against blocks from now on, before it counts as
// there as a whole, and checks those that are on disk already. Those that are not
// what was signed are thrown away; Guard returns how many. The first guard stays: an image
// has one SHA-256, and whatever was signed for that is about the same bytes.
func (img *Image) Guard(blocks Blocks) (bad int, err error) {
	img.mu.Lock()
	defer img.mu.Unlock()
	if img.guard != nil || img.verified {
		return 0, nil
	}
	g := &guard{Blocks: blocks, checked: make([]bool, blocks.Blocks()), whole: newWholeHash(), buf: make([]byte, blocks.Range(0).Length)}
	if last := blocks.Range(blocks.Blocks() - 1); last.End() != img.size {
		return 0, fmt.Errorf("image spool: the blocks of image %.8s end at byte %d of %d", img.sum, last.End(), img.size)
	}
	img.guard = g
	for i := range g.checked {
		ok, err := img.settle(i)
		if err != nil {
			return bad, fmt.Errorf("image spool: %w", err)
		}
		if !ok {
			bad++
		}
	}
	return bad, nil
}

// settle checks a block on disk, if all of it is there, and throws it away if it
// is not what was signed, which it says.
func (img *Image) settle(index int) (ok bool, err error) {
	g, r := img.guard, img.guard.Range(index)
	if g.checked[index] || !img.have.Covers(r.Offset, r.End()) {
		return true, nil
	}
	b := g.buf[:r.Length]
	if _, err := img.file.ReadAt(b, int64(r.Offset)); err != nil {
		return false, err
	}
	if g.Check(index, b) != nil {
		// The journal may still name these bytes. A restart reads and checks them once more.
		img.have.Remove(r.Offset, r.End())
		img.unsynced.Remove(r.Offset, r.End())
		return false, nil
	}
	return true, img.pass(index, b)
}

// pass notes that a block, whose bytes are b, is what was signed and on disk. The hash of the
// whole goes along with the front, so that the image need not be read once more at the end;
// only blocks that came before their turn are.
func (img *Image) pass(index int, b []byte) error {
	g := img.guard
	g.checked[index] = true
	if g.front == index {
		g.whole.write(b)
		g.front++
	}
	return img.catchUp()
}

// Take is WriteAt for bytes that the network said. With a guard it checks the blocks that
// they complete, whole ones before they are written, and returns the indexes of those
// that are not what was signed: nothing of them is kept. Blocks that have been checked are never
// written again.
func (img *Image) Take(b []byte, offset uint64) (bad []int, err error) {
	img.mu.Lock()
	defer img.mu.Unlock()
	end := offset + uint64(len(b))
	if img.guard == nil || end > img.size || end < offset {
		return nil, img.write(b, offset)
	}
	g := img.guard
	first, last := g.Touching(schemas.Range{Offset: offset, Length: uint64(len(b))})
	if done, err := img.takeInOrder(b, offset, first, last); done || err != nil {
		return nil, err
	}
	from := offset // of what is to be written in one piece
	flush := func(to uint64) error {
		if from >= to {
			return nil
		}
		return img.write(b[from-offset:to-offset], from)
	}
	var whole, parts []int
	for i := first; i < last; i++ {
		r := g.Range(i)
		complete := r.Offset >= offset && r.End() <= end
		switch {
		case g.checked[i]:
		case !complete:
			parts = append(parts, i)
			continue
		case g.Check(i, b[r.Offset-offset:r.End()-offset]) == nil:
			whole = append(whole, i)
			continue
		default:
			bad = append(bad, i)
		}
		if err := flush(r.Offset); err != nil {
			return bad, err
		}
		from = min(r.End(), end)
	}
	if err := flush(end); err != nil {
		return bad, err
	}
	for _, i := range whole {
		r := g.Range(i)
		if err := img.pass(i, b[r.Offset-offset:r.End()-offset]); err != nil {
			return bad, err
		}
	}
	for _, i := range parts {
		ok, err := img.settle(i)
		if err != nil {
			return bad, fmt.Errorf("image spool: %w", err)
		}
		if !ok {
			bad = append(bad, i)
		}
	}
	return bad, nil
}

// takeInOrder is Take for the usual case, in which whole blocks come that continue those
// that are checked: the image's own hash is reckoned on another core, and nobody waits for
// it. It does nothing if it is another case, or if a block is not what was signed. mu is held.
func (img *Image) takeInOrder(b []byte, offset uint64, first, last int) (done bool, err error) {
	g := img.guard
	if len(b) < worthASecondCore || first != g.front || first >= last || g.Range(first).Offset != offset || g.Range(last-1).End() != offset+uint64(len(b)) {
		return false, nil
	}
	if slices.Contains(g.checked[first:last], true) {
		return false, nil
	}
	for i := first; i < last; i++ {
		r := g.Range(i)
		if g.Check(i, b[r.Offset-offset:r.End()-offset]) != nil {
			return false, nil
		}
	}
	if err := img.write(b, offset); err != nil {
		return false, err
	}
	g.whole.writeLater(b)
	for i := first; i < last; i++ {
		g.checked[i] = true
	}
	g.front = last
	return true, img.catchUp()
}

// catchUp takes along what is checked already behind the front; mu is held.
func (img *Image) catchUp() error {
	g := img.guard
	for g.front < len(g.checked) && g.checked[g.front] {
		r := g.Range(g.front)
		b := g.buf[:r.Length]
		if _, err := img.file.ReadAt(b, int64(r.Offset)); err != nil {
			return fmt.Errorf("image spool: %w", err)
		}
		g.whole.write(b)
		g.front++
	}
	img.tell()
	return nil
}

// write puts bytes in place that are within the image, unless they are there; mu is held.
func (img *Image) write(b []byte, offset uint64) error {
	end := offset + uint64(len(b))
	if end > img.size || end < offset {
		return fmt.Errorf("image spool: bytes %d to %d of an image of %d", offset, end, img.size)
	}
	if img.have.Covers(offset, end) {
		return nil
	}
	err := img.put(b, offset)
	for durable.IsNoSpace(err) && img.spool.Spare() {
		err = img.put(b, offset)
	}
	if durable.IsNoSpace(err) {
		err = errors.Join(err, img.discard())
	}
	if err != nil {
		return fmt.Errorf("image spool: %w", err)
	}
	return nil
}

// Await returns nil when bytes of r may be read: the image is verified, or the blocks in
// question are checked. Otherwise it returns a channel that is closed when it is worth asking
// again. The last block stays back until the image's own SHA-256 has agreed, so that
// nobody is given a whole image that is not verified as a whole.
func (img *Image) Await(r schemas.Range) <-chan struct{} {
	img.mu.Lock()
	defer img.mu.Unlock()
	if img.readable(r) {
		return nil
	}
	if img.news == nil {
		img.news = make(chan struct{})
	}
	return img.news
}

// readable says whether bytes of r may be read; mu is held.
func (img *Image) readable(r schemas.Range) bool {
	if img.verified || img.guard == nil {
		return img.verified
	}
	g := img.guard
	first, end := g.Touching(r)
	if end == len(g.checked) {
		return false
	}
	for i := first; i < end; i++ {
		if i >= g.front && !g.checked[i] {
			return false
		}
	}
	return true
}

// tell wakes those who wait for bytes; mu is held.
func (img *Image) tell() {
	if img.news != nil {
		close(img.news)
		img.news = nil
	}
}

// Block is where a block lies in an image with a guard.
func (img *Image) Block(index int) schemas.Range {
	img.mu.Lock()
	defer img.mu.Unlock()
	return img.guard.Range(index)
}
