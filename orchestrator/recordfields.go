package orchestrator

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The records that are read and written with every report have codecs of their
// own: a table with a line for each field. A table writes byte for byte what
// json.Marshal does, and reads what it wrote, at a tenth of the cost. What does not
// look like that (the record of another program, a field it does not know, a text
// that is not plain) is left to encoding/json, so a table can be incomplete only in
// speed when reading; TestFieldTables holds it to the struct's tags.

// field is one field of a record of type T.
type field[T any] struct {
	key string // `"name":`
	// put appends the value. It says false to leave the field out, and an error
	// for what JSON cannot hold.
	put func(b []byte, rec *T) ([]byte, bool, error)
	// get reads the value; false for one that it does not know how to read.
	get func(p *recordParser, rec *T) bool
	// pack and unpack are the same for packed records (recordpack.go); nil for a
	// field that no packed record has.
	pack   func(b []byte, rec *T) ([]byte, packs)
	unpack func(p *recordParser, rec *T) bool
}

// fieldRule says whether a field is written when it has no value.
type fieldRule bool

const (
	always  fieldRule = true
	ifThere fieldRule = false // omitempty, omitzero
)

func keyed[T any](name string) field[T] { return field[T]{key: `"` + name + `":`} }

// appendFields writes a record.
func appendFields[T any](b []byte, fields []field[T], rec *T) ([]byte, error) {
	start := len(b)
	for i := range fields {
		before := len(b)
		b = append(append(b, ','), fields[i].key...)
		var there bool
		var err error
		if b, there, err = fields[i].put(b, rec); err != nil {
			return nil, err
		}
		if !there {
			b = b[:before]
		}
	}
	if len(b) == start {
		b = append(b, ',')
	}
	b[start] = '{'
	return append(b, '}'), nil
}

// parseFields reads an object whose fields stand in the order of the table.
func parseFields[T any](p *recordParser, fields []field[T], rec *T) bool {
	if !p.literal("{") {
		return false
	}
	first := true
	for i := range fields {
		rest := p.rest
		if !first {
			if rest == "" || rest[0] != ',' {
				break
			}
			rest = rest[1:]
		}
		value, ok := strings.CutPrefix(rest, fields[i].key)
		if !ok {
			continue
		}
		p.rest, first = value, false
		if !fields[i].get(p, rec) {
			return false
		}
	}
	return p.literal("}")
}

func textField[T any, S ~string](name string, at func(*T) *S, when fieldRule) field[T] {
	f := keyed[T](name)
	f.put = func(b []byte, rec *T) ([]byte, bool, error) {
		s := string(*at(rec))
		return appendText(b, s), bool(when) || s != "", nil
	}
	f.get = func(p *recordParser, rec *T) bool {
		s, ok := p.escaped()
		*at(rec) = S(s)
		return ok
	}
	f.pack = func(b []byte, rec *T) ([]byte, packs) { return packText(b, string(*at(rec))) }
	f.unpack = func(p *recordParser, rec *T) bool {
		s, ok := p.packedText()
		*at(rec) = S(s)
		return ok
	}
	return f
}

func intField[T any](name string, at func(*T) *int, when fieldRule) field[T] {
	f := keyed[T](name)
	f.put = func(b []byte, rec *T) ([]byte, bool, error) {
		n := *at(rec)
		return strconv.AppendInt(b, int64(n), 10), bool(when) || n != 0, nil
	}
	f.get = func(p *recordParser, rec *T) bool { return p.int(at(rec)) }
	f.pack = func(b []byte, rec *T) ([]byte, packs) { return packInt(b, *at(rec)) }
	f.unpack = func(p *recordParser, rec *T) bool {
		n, ok := p.varint()
		*at(rec) = int(n)
		return ok && n != 0
	}
	return f
}

func (p *recordParser) int(out *int) bool {
	sign := 1
	if p.literal("-") {
		sign = -1
	}
	n, ok := p.number()
	*out = sign * int(n)
	return ok
}

func uintField[T any](name string, at func(*T) *uint64, when fieldRule) field[T] {
	f := keyed[T](name)
	f.put = func(b []byte, rec *T) ([]byte, bool, error) {
		n := *at(rec)
		return strconv.AppendUint(b, n, 10), bool(when) || n != 0, nil
	}
	f.get = func(p *recordParser, rec *T) bool { return p.revision(at(rec)) }
	f.pack = func(b []byte, rec *T) ([]byte, packs) { return packUint(b, *at(rec)) }
	f.unpack = func(p *recordParser, rec *T) bool {
		n, ok := p.uvarint()
		*at(rec) = n
		return ok && n != 0
	}
	return f
}

func boolField[T any](name string, at func(*T) *bool, when fieldRule) field[T] {
	f := keyed[T](name)
	f.put = func(b []byte, rec *T) ([]byte, bool, error) {
		v := *at(rec)
		return strconv.AppendBool(b, v), bool(when) || v, nil
	}
	f.get = func(p *recordParser, rec *T) bool {
		*at(rec) = p.literal("true")
		return *at(rec) || p.literal("false")
	}
	f.pack = func(b []byte, rec *T) ([]byte, packs) {
		if !*at(rec) {
			return b, packsNone
		}
		return b, packsIt
	}
	f.unpack = func(_ *recordParser, rec *T) bool {
		*at(rec) = true
		return true
	}
	return f
}

func timeField[T any](name string, at func(*T) *time.Time, when fieldRule) field[T] {
	f := keyed[T](name)
	f.put = func(b []byte, rec *T) ([]byte, bool, error) {
		t := *at(rec)
		if !bool(when) && t.IsZero() {
			return b, false, nil
		}
		b, err := t.AppendText(append(b, '"'))
		return append(b, '"'), true, err
	}
	f.get = func(p *recordParser, rec *T) bool { return p.time(at(rec)) }
	f.pack = func(b []byte, rec *T) ([]byte, packs) { return packTime(b, *at(rec)) }
	f.unpack = func(p *recordParser, rec *T) bool { return p.packedTime(at(rec)) }
	return f
}

// listField is a list of records that is left out if it is empty.
func listField[T, E any](name string, at func(*T) *[]E, elements []field[E]) field[T] {
	f := keyed[T](name)
	f.put = func(b []byte, rec *T) ([]byte, bool, error) {
		list := *at(rec)
		b = append(b, '[')
		for i := range list {
			if i > 0 {
				b = append(b, ',')
			}
			var err error
			if b, err = appendFields(b, elements, &list[i]); err != nil {
				return nil, false, err
			}
		}
		return append(b, ']'), len(list) > 0, nil
	}
	f.get = func(p *recordParser, rec *T) bool {
		if !p.literal("[") {
			return false
		}
		var list []E
		for {
			var e E
			if !parseFields(p, elements, &e) {
				return false
			}
			list = append(list, e)
			if !p.literal(",") {
				*at(rec) = list
				return p.literal("]")
			}
		}
	}
	return f
}

// structField is a record in the record; zero says when it is left out.
func structField[T, E any](name string, at func(*T) *E, inner []field[E], zero func(*E) bool) field[T] {
	f := keyed[T](name)
	f.put = func(b []byte, rec *T) ([]byte, bool, error) {
		e := at(rec)
		if zero(e) {
			return b, false, nil
		}
		b, err := appendFields(b, inner, e)
		return b, true, err
	}
	f.get = func(p *recordParser, rec *T) bool { return parseFields(p, inner, at(rec)) }
	return f
}

// countsField is a map of numbers.
func countsField[T any, K ~string](name string, at func(*T) *map[K]int, when fieldRule) field[T] {
	f := keyed[T](name)
	f.put = func(b []byte, rec *T) ([]byte, bool, error) {
		m := *at(rec)
		if m == nil {
			return append(b, "null"...), bool(when), nil
		}
		b = append(b, '{')
		for i, k := range slices.Sorted(maps.Keys(m)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(append(appendText(b, string(k)), ':'), int64(m[k]), 10)
		}
		return append(b, '}'), bool(when) || len(m) > 0, nil
	}
	f.get = func(p *recordParser, rec *T) bool {
		m := map[K]int{}
		*at(rec) = m
		return p.object(func(key string) bool {
			var n int
			ok := p.int(&n)
			m[K(key)] = n
			return ok
		})
	}
	return f
}

// textsField is a map of texts.
func textsField[T any](name string, at func(*T) *map[string]string, when fieldRule) field[T] {
	f := keyed[T](name)
	f.put = func(b []byte, rec *T) ([]byte, bool, error) {
		m := *at(rec)
		if m == nil {
			return append(b, "null"...), bool(when), nil
		}
		var few [8]string
		names := few[:0]
		for k := range m {
			names = append(names, k)
		}
		slices.Sort(names)
		b = append(b, '{')
		for i, k := range names {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(append(appendText(b, k), ':'), m[k])
		}
		return append(b, '}'), bool(when) || len(m) > 0, nil
	}
	f.get = func(p *recordParser, rec *T) bool { return p.texts(at(rec), nil) }
	return f
}

// namesField is a list of texts that is left out if it is empty.
func namesField[T any](name string, at func(*T) *[]string) field[T] {
	f := keyed[T](name)
	f.put = func(b []byte, rec *T) ([]byte, bool, error) {
		list := *at(rec)
		b = append(b, '[')
		for i, s := range list {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(b, s)
		}
		return append(b, ']'), len(list) > 0, nil
	}
	f.get = func(p *recordParser, rec *T) bool { return p.list(at(rec)) }
	return f
}

// appendText writes a text as json.Marshal does. It leaves to it what has to be
// escaped, and what may not be UTF-8.
func appendText(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < 0x20, c >= 0x80, c == '"', c == '\\', c == '<', c == '>', c == '&':
			quoted, err := json.Marshal(s)
			if err != nil {
				panic(err) // a string always has a JSON form
			}
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// skip passes over a value of any kind, to what follows it.
func (p *recordParser) skip() bool {
	depth := 0
	for i := 0; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '"':
			for i++; i < len(p.rest) && p.rest[i] != '"'; i++ {
				if p.rest[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				p.rest = p.rest[i:]
				return i > 0
			}
			if p.rest[i] != ',' {
				depth--
			}
		}
	}
	return false
}

// escaped is text for one that may have escapes in it, or other than ASCII.
func (p *recordParser) escaped() (string, bool) {
	whole := p.rest
	var s string
	if p.text(&s) {
		return s, true
	}
	for i := 1; i < len(whole); i++ {
		switch whole[i] {
		case '\\':
			i++
		case '"':
			p.rest = whole[i+1:]
			return unquoted(whole[:i+1])
		}
	}
	return "", false
}

func unquoted(text string) (s string, ok bool) {
	err := json.Unmarshal([]byte(text), &s)
	return s, err == nil
}
