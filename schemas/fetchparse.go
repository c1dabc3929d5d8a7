package schemas

import "bytes"

// parseFetch decodes a fetch as modules write it, which is a small part of what JSON
// allows: plain names and texts, whole numbers without sign or exponent, fields in any
// order. It is for speed, as a fetch comes for every few chunks. false leaves everything
// else, and everything that is wrong, to the general way, which says why.
func parseFetch(b []byte, out *Fetch) bool {
	var f Fetch
	p := fetchParser{rest: b}
	const required = seenV | seenImage | seenTag | seenChunk | seenRanges
	seen := 0
	ok := p.object(func(name []byte) bool {
		field, ok := 0, false
		var n uint64
		switch string(name) {
		case "v":
			field = seenV
			n, ok = p.number(1 << 31)
			f.V = int(n)
		case "image":
			field = seenImage
			f.Image, ok = p.text()
		case "tag":
			field = seenTag
			n, ok = p.number(1<<16 - 1)
			f.Tag = uint16(n)
		case "chunk":
			field = seenChunk
			n, ok = p.number(1 << 31)
			f.Chunk = int(n)
		case "ranges":
			field = seenRanges
			f.Ranges, ok = p.ranges()
		case "awaited":
			field = seenAwaited
			n, ok = p.number(1 << 31)
			f.Awaited = int(n)
		case "follow":
			field = seenFollow
			f.Follow, ok = p.truth()
		}
		again := seen&field != 0
		seen |= field
		return ok && !again
	})
	if p.space(); !ok || len(p.rest) > 0 || seen&required != required {
		return false
	}
	*out = f
	return true
}

// The fields of a fetch, as bits.
const (
	seenV = 1 << iota
	seenImage
	seenTag
	seenChunk
	seenRanges
	seenAwaited
	seenFollow
)

// fetchParser reads JSON. What its methods return false of may be JSON all the same.
type fetchParser struct{ rest []byte }

func (p *fetchParser) space() {
	for len(p.rest) > 0 {
		switch p.rest[0] {
		case ' ', '\t', '\n', '\r':
			p.rest = p.rest[1:]
		default:
			return
		}
	}
}

// next takes the character c, after any space.
func (p *fetchParser) next(c byte) bool {
	p.space()
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// object calls field with each name, to read its value.
func (p *fetchParser) object(field func(name []byte) bool) bool {
	if !p.next('{') {
		return false
	}
	for {
		name, ok := p.quoted()
		if !ok || !p.next(':') || !field(name) {
			return false
		}
		if !p.next(',') {
			return p.next('}')
		}
	}
}

// quoted reads a string of printable ASCII without escapes.
func (p *fetchParser) quoted() ([]byte, bool) {
	if !p.next('"') {
		return nil, false
	}
	for i, c := range p.rest {
		switch {
		case c == '"':
			s := p.rest[:i]
			p.rest = p.rest[i+1:]
			return s, true
		case c == '\\' || c < ' ' || c > '~':
			return nil, false
		}
	}
	return nil, false
}

func (p *fetchParser) text() (string, bool) {
	s, ok := p.quoted()
	return string(s), ok
}

// number reads a whole number up to most, which is below 2^60.
func (p *fetchParser) number(most uint64) (n uint64, ok bool) {
	p.space()
	i := 0
	for ; i < len(p.rest) && p.rest[i] >= '0' && p.rest[i] <= '9'; i++ {
		if n = 10*n + uint64(p.rest[i]-'0'); n > most {
			return 0, false
		}
	}
	if i == 0 || i > 1 && p.rest[0] == '0' {
		return 0, false
	}
	p.rest = p.rest[i:]
	return n, true
}

func (p *fetchParser) truth() (yes, ok bool) {
	p.space()
	for _, v := range []string{"true", "false"} {
		if rest, ok := bytes.CutPrefix(p.rest, []byte(v)); ok {
			p.rest = rest
			return v == "true", true
		}
	}
	return false, false
}

// ranges reads a list of one or more, as many as there may be.
func (p *fetchParser) ranges() ([]Range, bool) {
	end := bytes.IndexByte(p.rest, ']')
	if !p.next('[') || end < 0 {
		return nil, false
	}
	list := make([]Range, 0, min(MaxRanges, bytes.Count(p.rest[:end], []byte{'{'})))
	for len(list) < cap(list) {
		r, ok := p.rangeOf()
		if !ok {
			return nil, false
		}
		list = append(list, r)
		if !p.next(',') {
			return list, p.next(']')
		}
	}
	return nil, false
}

func (p *fetchParser) rangeOf() (r Range, ok bool) {
	var offset, length int
	ok = p.object(func(name []byte) bool {
		var ok bool
		switch string(name) {
		case "offset":
			offset++
			r.Offset, ok = p.number(1 << 40)
		case "length":
			length++
			r.Length, ok = p.number(1 << 40)
		}
		return ok
	})
	return r, ok && offset == 1 && length == 1
}
