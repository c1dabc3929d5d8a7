package tlv

import "unicode/utf8"

// Prop is the content of an OpSendTLV: a property's value, or a part of a
// string that comes in several packets.
type Prop struct {
	Name string
	// Type is TypeText, TypeInt, TypeBool or TypeBin.
	Type Type
	// Value is the raw value, not copied.
	Value []byte
	// First is set in the first of several packets; Total is then the length
	// of the whole value in bytes.
	First bool
	Total uint32
	// Later is set in every packet but the first; Offset is then where Value
	// begins in the whole.
	Later  bool
	Offset uint32
	// Last is set in the last of several packets.
	Last bool
}

// Whole says whether the packet carries the whole value.
func (p Prop) Whole() bool { return !p.First && !p.Later && !p.Last }

// Text returns the value of a TypeText.
func (p Prop) Text() (string, error) {
	if p.Type != TypeText {
		return "", wrong(CodeInvalidTLV, "property %q is a %v, wanted a %v", p.Name, p.Type, TypeText)
	}
	if !utf8.Valid(p.Value) {
		return "", wrong(CodeInvalidTLV, "property %q is not UTF-8", p.Name)
	}
	return string(p.Value), nil
}

// Int returns the value of a TypeInt.
func (p Prop) Int() (int64, error) {
	if p.Type != TypeInt {
		return 0, wrong(CodeInvalidTLV, "property %q is a %v, wanted an %v", p.Name, p.Type, TypeInt)
	}
	c := Cursor{typ: TypeInt, value: p.Value}
	v := c.Int()
	return v, c.Err()
}

// Bool returns the value of a TypeBool.
func (p Prop) Bool() (bool, error) {
	if p.Type != TypeBool {
		return false, wrong(CodeInvalidTLV, "property %q is a %v, wanted a %v", p.Name, p.Type, TypeBool)
	}
	c := Cursor{typ: TypeBool, value: p.Value}
	v := c.Bool()
	return v, c.Err()
}

// ParseProp reads an OpSendTLV. It checks the length of integers and truth
// values, and UTF-8 of a text that is whole: a part may end inside a character.
func ParseProp(p Packet) (Prop, error) {
	var v Prop
	c := p.Cursor()
	for c.Next() {
		switch c.Type() {
		case TypeName:
			if c.once() {
				v.Name = c.Text()
			}
		case TypeText, TypeInt, TypeBool, TypeBin:
			if v.Type != 0 {
				c.fail(wrong(CodeInvalidTLV, "%v with two values", OpSendTLV))
			}
			v.Type, v.Value = c.Type(), c.Bytes()
		case TypeLen:
			if c.once() {
				v.Total, v.First = c.Uint32(), true
			}
		case TypeOff:
			if c.once() {
				v.Offset, v.Later = c.Uint32(), true
			}
		case TypeEOF:
			if c.once() {
				c.Empty()
				v.Last = true
			}
		}
	}
	if err := c.Err(); err != nil {
		return Prop{}, err
	}
	if err := v.check(); err != nil {
		return Prop{}, err
	}
	return v, nil
}

func (p Prop) check() error {
	switch {
	case p.Name == "":
		return wrong(CodeInvalidName, "%v without a property name", OpSendTLV)
	case p.Type == 0:
		return wrong(CodeInvalidTLV, "%v of property %q without a value", OpSendTLV, p.Name)
	case p.First && p.Later:
		return wrong(CodeInvalidTLV, "%v with both %v and %v", OpSendTLV, TypeLen, TypeOff)
	case !p.Whole() && p.Type != TypeText && p.Type != TypeBin:
		return wrong(CodeInvalidTLV, "%v in several packets", p.Type)
	}
	var err error
	switch {
	case p.Type == TypeInt:
		_, err = p.Int()
	case p.Type == TypeBool:
		_, err = p.Bool()
	case p.Type == TypeText && p.Whole():
		_, err = p.Text()
	}
	return err
}

// Assembler puts together the values of properties that come in several
// packets, one at a time. Its memory is bounded by the limit.
type Assembler struct {
	limit int
	buf   []byte
	name  string
	typ   Type
	total uint32
	req   uint16
	open  bool
}

// NewAssembler returns an Assembler for values of at most limit bytes.
func NewAssembler(limit int) *Assembler { return &Assembler{limit: limit} }

// Reset drops the value under way.
func (a *Assembler) Reset() { a.open, a.buf = false, a.buf[:0] }

// Add takes what ParseProp made of a packet with request id req. It returns
// true with the whole property when there is one: p itself, or one put together
// from p and its forerunners, whose Value is valid until the next Add. A part
// that does not fit is an *Error and drops what was under way.
func (a *Assembler) Add(req uint16, p Prop) (Prop, bool, error) {
	if p.Whole() {
		return p, true, nil
	}
	if err := a.add(req, p); err != nil {
		a.Reset()
		return Prop{}, false, err
	}
	if !p.Last {
		return Prop{}, false, nil
	}
	whole := Prop{Name: a.name, Type: a.typ, Value: a.buf}
	complete := uint64(len(a.buf)) == uint64(a.total)
	want, got := a.total, len(a.buf)
	a.Reset()
	if !complete {
		return Prop{}, false, wrong(CodeLength, "property %q ended after %d bytes, %d were announced", p.Name, got, want)
	}
	if whole.Type == TypeText {
		if _, err := whole.Text(); err != nil {
			return Prop{}, false, err
		}
	}
	return whole, true, nil
}

func (a *Assembler) add(req uint16, p Prop) error {
	switch {
	case p.First:
		if uint64(p.Total) > uint64(a.limit) {
			return wrong(CodeOverflow, "property %q of %d bytes, at most %d are taken", p.Name, p.Total, a.limit)
		}
		a.Reset()
		a.open, a.req, a.name, a.typ, a.total = true, req, p.Name, p.Type, p.Total
	case !a.open:
		return wrong(CodeInvalidReq, "a later part of property %q without its first", p.Name)
	case req != a.req || p.Name != a.name || p.Type != a.typ:
		return wrong(CodeInvalidReq, "a part of property %q (request %d) among those of %q (request %d)", p.Name, req, a.name, a.req)
	case !p.Later || uint64(p.Offset) != uint64(len(a.buf)):
		return wrong(CodeInvalidOffset, "a part of property %q at %d, wanted %d", p.Name, p.Offset, len(a.buf))
	}
	if uint64(len(a.buf))+uint64(len(p.Value)) > uint64(a.total) {
		return wrong(CodeLength, "property %q is longer than the %d bytes announced", p.Name, a.total)
	}
	a.buf = append(a.buf, p.Value...)
	return nil
}
