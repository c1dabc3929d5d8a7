package orchestrator

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// The records that there are most of, and that change most, are kept packed: a mark,
// and then each field that has a value as a number, its tag, and the value. That is a
// third of their JSON, of which most is the fields' names, and a fraction of the cost
// of reading and writing it. JSON remains what any of them may be: older stores have
// it, and what cannot be packed is written so.
//
//	text     length, bytes
//	number   binary.Uvarint, with a sign binary.Varint
//	bool     nothing: it is true
//	time     seconds since 1970 as Varint, nanoseconds as Uvarint; of UTC only
//	list     length; of each element its fields and a 0
//
// There is one way to pack a record: tags ascend, no value is the empty one, and no
// number has more bytes than it needs.

// packedMark begins a packed record. JSON of a record begins with a brace.
const packedMark = 1

// packing is a table of fields with the tags that they are packed by.
type packing[T any] struct {
	byTag  []*field[T] // from 1 on
	others []*field[T] // have no tag
}

// packed gives the fields of a table tags from 1 on, in the order of their names here.
// Tags are in what is stored: names are added at the end, and never go.
func packed[T any](fields []field[T], names ...string) *packing[T] {
	p := &packing[T]{byTag: make([]*field[T], 1, len(names)+1)}
	for _, name := range names {
		i := slices.IndexFunc(fields, func(f field[T]) bool { return f.key == keyed[T](name).key })
		if i < 0 || fields[i].pack == nil {
			panic(fmt.Sprintf("orchestrator: no field %q can be packed", name))
		}
		p.byTag = append(p.byTag, &fields[i])
	}
	for i := range fields {
		if !slices.Contains(p.byTag, &fields[i]) {
			p.others = append(p.others, &fields[i])
		}
	}
	return p
}

// packs says what became of a value.
type packs int

const (
	packsNone packs = iota // it has none
	packsIt
	packsNot // it cannot be packed
)

// append packs a record; false if that cannot be done.
func (p *packing[T]) append(b []byte, rec *T) ([]byte, bool) {
	for tag := 1; tag < len(p.byTag); tag++ {
		before := len(b)
		var how packs
		if b, how = p.byTag[tag].pack(append(b, byte(tag)), rec); how == packsNot {
			return nil, false
		} else if how == packsNone {
			b = b[:before]
		}
	}
	for _, f := range p.others {
		if _, there, err := f.put(nil, rec); there || err != nil {
			return nil, false
		}
	}
	return b, true
}

// parse reads fields up to the end, or to a 0 if nested. false for what append does
// not write.
func (p *packing[T]) parse(r *recordParser, rec *T, nested bool) bool {
	for last := 0; r.rest != ""; {
		tag := int(r.rest[0])
		r.rest = r.rest[1:]
		if tag == 0 {
			return nested
		}
		if tag <= last || tag >= len(p.byTag) || !p.byTag[tag].unpack(r, rec) {
			return false
		}
		last = tag
	}
	return !nested
}

// isPacked says whether a record is.
func isPacked(rec []byte) bool { return len(rec) > 0 && rec[0] == packedMark }

// uvarint reads a number in as few bytes as it needs.
func (p *recordParser) uvarint() (n uint64, ok bool) {
	for i := 0; i < len(p.rest) && i < binary.MaxVarintLen64; i++ {
		c := p.rest[i]
		if c < 0x80 {
			p.rest = p.rest[i+1:]
			return n | uint64(c)<<(7*i), (c > 0 || i == 0) && (i < 9 || c == 1)
		}
		n |= uint64(c&0x7f) << (7 * i)
	}
	return 0, false
}

func (p *recordParser) varint() (int64, bool) {
	u, ok := p.uvarint()
	n := int64(u >> 1)
	if u&1 != 0 {
		n = ^n
	}
	return n, ok
}

// packedText reads a text that is not empty.
func (p *recordParser) packedText() (string, bool) {
	n, ok := p.uvarint()
	if !ok || n == 0 || n > uint64(len(p.rest)) {
		return "", false
	}
	s := p.rest[:n]
	p.rest = p.rest[n:]
	return s, true
}

func packText(b []byte, s string) ([]byte, packs) {
	if s == "" {
		return b, packsNone
	}
	return append(binary.AppendUvarint(b, uint64(len(s))), s...), packsIt
}

func packUint(b []byte, n uint64) ([]byte, packs) {
	if n == 0 {
		return b, packsNone
	}
	return binary.AppendUvarint(b, n), packsIt
}

func packInt(b []byte, n int) ([]byte, packs) {
	if n == 0 {
		return b, packsNone
	}
	return binary.AppendVarint(b, int64(n)), packsIt
}

func packTime(b []byte, t time.Time) ([]byte, packs) {
	switch {
	case t.Location() != time.UTC:
		return b, packsNot
	case t.IsZero():
		return b, packsNone
	}
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond())), packsIt
}

func (p *recordParser) packedTime(out *time.Time) bool {
	s, ok := p.varint()
	if !ok {
		return false
	}
	n, ok := p.uvarint()
	if !ok || n >= uint64(time.Second) {
		return false
	}
	*out = time.Unix(s, int64(n)).UTC()
	return !out.IsZero()
}

// packedList adds to the field of a list how its elements are packed.
func packedList[T, E any](f field[T], at func(*T) *[]E, elements *packing[E]) field[T] {
	f.pack = func(b []byte, rec *T) ([]byte, packs) {
		list := *at(rec)
		if len(list) == 0 {
			return b, packsNone
		}
		b = binary.AppendUvarint(b, uint64(len(list)))
		for i := range list {
			var ok bool
			if b, ok = elements.append(b, &list[i]); !ok {
				return nil, packsNot
			}
			b = append(b, 0)
		}
		return b, packsIt
	}
	f.unpack = func(p *recordParser, rec *T) bool {
		n, ok := p.uvarint()
		if !ok || n == 0 || n > uint64(len(p.rest)) { // each has a 0 at least
			return false
		}
		list := make([]E, n)
		for i := range list {
			if !elements.parse(p, &list[i], true) {
				return false
			}
		}
		*at(rec) = list
		return true
	}
	return f
}
