package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// The pages of bbolt's files (go.etcd.io/bbolt, internal/common, page.go and bucket.go): a header with the page's own
// number, its kind, the number of its elements and of the pages that belong to it; then the elements, 16 bytes each,
// which say where in the page their key and value are.
const (
	pageFlags    = 8  // uint16
	pageCount    = 10 // uint16
	pageOverflow = 12 // uint32
	elementSize  = 16
	bucketHeader = 16

	branchPage  = 0x01
	leafPage    = 0x02
	bucketEntry = 0x01

	// deepest is how many pages may lie above one another: of trees that are deeper no file has room for.
	deepest = 64
)

// pageWalk goes through all pages that are in use. bbolt has no checksums for them and believes what they say: it would
// panic, in a goroutine of its own, or answer with bytes from elsewhere.
type pageWalk struct {
	b     []byte // the file
	size  int64  // of a page
	pages int64
	seen  []uint64 // a bit for each page that belongs to another one already; tables share it
	table string
	// tables are the roots of those that have pages of their own, which are gone through on all processors: a start
	// waits for it.
	tables map[string]uint64
}

// check goes through the tree below the root page, and then through all tables.
func (w *pageWalk) check(root uint64) error {
	w.seen, w.tables = make([]uint64, w.pages/64+1), map[string]uint64{}
	if err := w.readable(func() error { return w.tree(root, nil, nil, 0) }); err != nil {
		return err
	}
	var all errgroup.Group
	all.SetLimit(runtime.GOMAXPROCS(0))
	for name, root := range w.tables {
		all.Go(func() error {
			t := *w
			t.table = name
			return t.readable(func() error { return t.tree(root, nil, nil, 1) })
		})
	}
	return all.Wait()
}

// readable turns what comes of a page that the disk cannot read into an error.
func (w *pageWalk) readable(walk func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a page cannot be read: %v", p)
		}
	}()
	return walk()
}

// wrong is what is wrong with a page.
func (w *pageWalk) wrong(id uint64, format string, args ...any) error {
	where := ""
	if w.table != "" {
		where = fmt.Sprintf(" of table %.40q", w.table)
	}
	return fmt.Errorf("page %d%s, at byte %d, %s", id, where, int64(id)*w.size, fmt.Sprintf(format, args...))
}

// tree checks a page and what is below it, whose keys are from low to high; nil is no limit.
func (w *pageWalk) tree(id uint64, low, high []byte, depth int) error {
	if id < 2 || id >= uint64(w.pages) {
		return w.wrong(id, "is named by another page and does not exist")
	}
	at := int64(id) * w.size
	overflow := int64(binary.NativeEndian.Uint32(w.b[at+pageOverflow:]))
	if own := binary.NativeEndian.Uint64(w.b[at:]); own != id || depth > deepest || int64(id)+overflow >= w.pages {
		return w.wrong(id, "is none of the store's: its header does not fit")
	}
	for n := id; n <= id+uint64(overflow); n++ {
		if atomic.OrUint64(&w.seen[n/64], 1<<(n%64))&(1<<(n%64)) != 0 {
			return w.wrong(n, "is in use twice")
		}
	}
	return w.elements(id, w.b[at:at+(overflow+1)*w.size], low, high, depth)
}

// elements checks what is in a page, or in a small table that lies in a page.
func (w *pageWalk) elements(id uint64, p, low, high []byte, depth int) error {
	kind, count := binary.NativeEndian.Uint16(p[pageFlags:]), int(binary.NativeEndian.Uint16(p[pageCount:]))
	first := pageHeader + count*elementSize
	if kind != branchPage && kind != leafPage || first > len(p) || kind == branchPage && count == 0 {
		return w.wrong(id, "is neither a branch nor a leaf (kind %#x, %d elements)", kind, count)
	}
	key := func(i int) (key, value []byte, ok bool) {
		at := pageHeader + i*elementSize
		e := p[at : at+elementSize]
		pos, k, v := binary.NativeEndian.Uint32(e), binary.NativeEndian.Uint32(e[4:]), uint32(0)
		if kind == leafPage {
			pos, k, v = binary.NativeEndian.Uint32(e[4:]), binary.NativeEndian.Uint32(e[8:]), binary.NativeEndian.Uint32(e[12:])
		}
		from := int64(at) + int64(pos)
		if k == 0 || from < int64(first) || from+int64(k)+int64(v) > int64(len(p)) {
			return nil, nil, false
		}
		return p[from : from+int64(k) : len(p)], p[from+int64(k) : from+int64(k)+int64(v)], true
	}
	last, end := low, first
	for i := range count {
		k, v, ok := key(i)
		if !ok {
			return w.wrong(id, "has an element that lies outside of it (%d)", i)
		}
		// bbolt writes keys and values one behind the other, without a gap.
		if from := len(p) - cap(k); from != end {
			return w.wrong(id, "has an element whose size is another one than that of its key and value (%d)", i)
		}
		end += len(k) + len(v)
		if c := bytes.Compare(k, last); c < 0 || c == 0 && i > 0 || high != nil && i == count-1 && bytes.Compare(k, high) >= 0 {
			return w.wrong(id, "has keys that are not in their order (element %d)", i)
		}
		last = k
		e := p[pageHeader+i*elementSize:]
		if kind == leafPage {
			if err := w.leaf(id, binary.NativeEndian.Uint32(e), k, v, depth); err != nil {
				return err
			}
			continue
		}
		next := high
		if i+1 < count {
			if next, _, ok = key(i + 1); !ok {
				return w.wrong(id, "has an element that lies outside of it (%d)", i+1)
			}
		}
		if err := w.tree(binary.NativeEndian.Uint64(e[8:]), k, next, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// leaf checks an element of a leaf: a value, or a table.
func (w *pageWalk) leaf(id uint64, flags uint32, key, value []byte, depth int) error {
	switch {
	case flags == 0:
		return nil
	case flags != bucketEntry || w.table != "" || len(value) < bucketHeader:
		return w.wrong(id, "has an element that is neither a value nor a table")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		w.tables[string(key)] = root
		return nil
	}
	w.table = string(key)
	defer func() { w.table = "" }()
	if len(value) < bucketHeader+pageHeader || binary.NativeEndian.Uint16(value[bucketHeader+pageFlags:]) != leafPage {
		return w.wrong(id, "has a table in it that is none")
	}
	return w.elements(id, value[bucketHeader:], nil, nil, depth+1)
}
