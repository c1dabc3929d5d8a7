package tlv

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
)

// TestCursorMessages: what a person reads when a getter does not fit.
func TestCursorMessages(t *testing.T) {
	for _, tc := range []struct {
		name, tlvs string
		get        func(*Cursor)
		code       Code
		text       string
	}{
		{"int of 3", "02 03 01 02 03", func(c *Cursor) { c.Int() }, CodeInvalidTLV, "INT has 3 bytes, wanted 1, 2, 4 or 8"},
		{"off of 1", "11 01 00", func(c *Cursor) { c.Uint32() }, CodeInvalidTLV, "OFF has 1 bytes, wanted 4 (or 2)"},
		{"err of 0", "07 00", func(c *Cursor) { c.Code() }, CodeInvalidTLV, "ERR has 0 bytes, wanted 1"},
		{"bool of 2", "0f 02 00 01", func(c *Cursor) { c.Bool() }, CodeInvalidTLV, "BOOL has 2 bytes, wanted 1"},
		{"nodes of 2", "17 02 00 01", func(c *Cursor) { c.Nodes() }, CodeInvalidTLV, "NODES has 2 bytes, wanted 1"},
		{"features of 0", "19 00", func(c *Cursor) { c.Features() }, CodeInvalidTLV, "FEATURES has 0 bytes, wanted 1"},
		{"eof of 1", "14 01 00", func(c *Cursor) { c.Empty() }, CodeInvalidTLV, "EOF has 1 bytes, wanted none"},
		{"text", "05 01 ff", func(c *Cursor) { c.Text() }, CodeInvalidTLV, "UTF8 is not UTF-8"},
		{"past the end", "05 04 41", func(*Cursor) {}, CodeLength, "UTF8 of 4 bytes runs past the packet, which has 1 more"},
		{"no length", "05", func(*Cursor) {}, CodeLength, "packet ends inside the head of a UTF8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Packet{TLVs: unhex(t, tc.tlvs)}.Cursor()
			for c.Next() {
				tc.get(&c)
			}
			err := c.Err()
			var e *Error
			if !errors.As(err, &e) || e.Code != tc.code || !strings.Contains(e.Error(), tc.text) {
				t.Fatalf("got %v, want %v: %s", err, tc.code, tc.text)
			}
			if c.Next() {
				t.Error("Next goes on after an error")
			}
			c.Uint32()
			if c.Err() != err {
				t.Error("a later error took the place of the first")
			}
		})
	}
}

func TestCursorLongTypes(t *testing.T) {
	long := append([]byte{0x81, 0x05}, bytes.Repeat([]byte{7}, 0x105)...)
	c := Packet{TLVs: append(long, byte(TypeErr), 1, 3)}.Cursor()
	if !c.Next() || c.Type() != TypeLong || len(c.Bytes()) != 0x105 {
		t.Fatalf("type %v of %d bytes, %v", c.Type(), len(c.Bytes()), c.Err())
	}
	if !c.Next() || c.Type() != TypeErr || c.Code() != CodeUnknownType {
		t.Fatalf("type %v, %v", c.Type(), c.Err())
	}
	if c.Next() || c.Err() != nil {
		t.Fatalf("end: %v", c.Err())
	}
}

// TestEncoderLimits: nothing is written when a value does not fit.
func TestEncoderLimits(t *testing.T) {
	long := strings.Repeat("x", MaxValue+1)
	last := func(dst []byte, _ int, err error) ([]byte, error) { return dst, err }
	dst := []byte("kept")
	for _, tc := range []struct {
		name string
		call func() ([]byte, error)
		code Code
	}{
		{"offer, long version", func() ([]byte, error) { return AppendOffer(dst, 1, long, 1) }, CodeLength},
		{"offer, no version", func() ([]byte, error) { return AppendOffer(dst, 1, "", 1) }, CodeInvalidTLV},
		{"offer, not UTF-8", func() ([]byte, error) { return AppendOffer(dst, 1, "\xff", 1) }, CodeInvalidTLV},
		{"offer, 4 GiB", func() ([]byte, error) { return AppendOffer(dst, 1, "1", math.MaxUint32+1) }, CodeLength},
		{"load, no data", func() ([]byte, error) { return AppendLoad(dst, 1, 0, nil) }, CodeLength},
		{"load, 256 bytes", func() ([]byte, error) { return AppendLoad(dst, 1, 0, make([]byte, 256)) }, CodeLength},
		{"load, offset 4 GiB", func() ([]byte, error) { return AppendLoad(dst, 1, math.MaxUint32+1, []byte{1}) }, CodeInvalidOffset},
		{"load, ends past 4 GiB", func() ([]byte, error) { return AppendLoad(dst, 1, math.MaxUint32, []byte{1}) }, CodeInvalidOffset},
		{"load, offset near 2^64", func() ([]byte, error) { return AppendLoad(dst, 1, math.MaxUint64, []byte{1}) }, CodeInvalidOffset},
		{"boot, long version", func() ([]byte, error) { return AppendBoot(dst, 1, long) }, CodeLength},
		{"send prop, no name", func() ([]byte, error) { return AppendSendProp(dst, 1, "") }, CodeInvalidName},
		{"send prop, long name", func() ([]byte, error) { return AppendSendProp(dst, 1, long) }, CodeLength},
		{"send int, no name", func() ([]byte, error) { return AppendSendInt(dst, 1, "", 1) }, CodeInvalidName},
		{"send bool, not UTF-8", func() ([]byte, error) { return AppendSendBool(dst, 1, "\xff", true) }, CodeInvalidTLV},
		{"send text, no name", func() ([]byte, error) { return last(AppendSendText(dst, 1, "", "v", 0)) }, CodeInvalidName},
		{"send text, not UTF-8", func() ([]byte, error) { return last(AppendSendText(dst, 1, "n", "\xff", 0)) }, CodeInvalidTLV},
		{"send text, behind its end", func() ([]byte, error) { return last(AppendSendText(dst, 1, "n", long, 256)) }, CodeInvalidOffset},
		{"send text, before its start", func() ([]byte, error) { return last(AppendSendText(dst, 1, "n", long, -1)) }, CodeInvalidOffset},
		{"send text, part of a short one", func() ([]byte, error) { return last(AppendSendText(dst, 1, "n", "abc", 1)) }, CodeInvalidOffset},
		{"send text, inside a character", func() ([]byte, error) {
			return last(AppendSendText(dst, 1, "n", strings.Repeat("ü", 200), 1))
		}, CodeInvalidOffset},
		{"long type", func() ([]byte, error) { return AppendBytes(dst, 0x80, nil) }, CodeInvalidTLV},
		{"long value", func() ([]byte, error) { return AppendBytes(dst, TypeBin, make([]byte, 256)) }, CodeLength},
		{"long text", func() ([]byte, error) { return AppendText(dst, TypeText, long) }, CodeLength},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.call()
			if err == nil || CodeOf(err) != tc.code {
				t.Errorf("error is %v, want one with %v", err, tc.code)
			}
			if string(got) != "kept" {
				t.Errorf("wrote %q", got)
			}
		})
	}
}

// TestAssemblerBound: what is announced, not what comes, is held against the
// limit, and nothing is kept over it.
func TestAssemblerBound(t *testing.T) {
	a := NewAssembler(300)
	first := Prop{Name: "n", Type: TypeText, First: true, Total: 300, Value: bytes.Repeat([]byte("a"), 255)}
	if _, done, err := a.Add(1, first); done || err != nil {
		t.Fatal(done, err)
	}
	more := Prop{Name: "n", Type: TypeText, Later: true, Offset: 255, Value: bytes.Repeat([]byte("a"), 46), Last: true}
	if _, _, err := a.Add(1, more); CodeOf(err) != CodeLength {
		t.Fatalf("301 of 300 bytes: %v", err)
	}
	more.Value = more.Value[:45]
	if _, _, err := a.Add(1, more); CodeOf(err) != CodeInvalidReq {
		t.Fatalf("an error did not drop the value under way: %v", err)
	}
	if _, done, err := a.Add(1, first); done || err != nil {
		t.Fatal(done, err)
	}
	whole, done, err := a.Add(1, more)
	if err != nil || !done || len(whole.Value) != 300 {
		t.Fatalf("%d bytes, %v, %v", len(whole.Value), done, err)
	}
}

func TestPropOfAnotherType(t *testing.T) {
	p := Prop{Name: "n", Type: TypeBin, Value: []byte{1}}
	if _, err := p.Text(); err == nil {
		t.Error("a BIN was read as text")
	}
	if _, err := p.Int(); err == nil {
		t.Error("a BIN was read as an integer")
	}
	if _, err := p.Bool(); err == nil {
		t.Error("a BIN was read as a truth value")
	}
}
