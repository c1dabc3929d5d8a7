package tlv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func readVectors[T any](t testing.TB, file string) []T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "vectors", file))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var v []T
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}

type frameVector struct {
	Name, About, Stream string
	Expect              []frameExpect
	Partial, Canonical  bool
}

type frameExpect struct {
	Type, Seq    byte
	Payload, Bad string
}

// badNames are the vectors' words for the errors.
var badNames = map[string]error{
	"crc": ErrCRC, "short": ErrShort, "too_long": ErrTooLong, "escape": ErrEscape, "type": ErrFrameType,
}

// say puts a frame or its error in one comparable line.
func say(f Frame, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %d % x", f.Type, f.Seq, f.Payload)
}

func (v frameVector) want(t testing.TB) []string {
	var out []string
	for _, e := range v.Expect {
		if e.Bad != "" {
			err, ok := badNames[e.Bad]
			if !ok {
				t.Fatalf("%s: unknown reason %q", v.Name, e.Bad)
			}
			out = append(out, say(Frame{}, err))
			continue
		}
		out = append(out, say(Frame{FrameType(e.Type), e.Seq, unhex(t, e.Payload)}, nil))
	}
	return out
}

// decodeAll decodes stream in pieces of n bytes.
func decodeAll(d *Decoder, stream []byte, n int) []string {
	var out []string
	for len(stream) > 0 {
		k := min(n, len(stream))
		d.Feed(stream[:k])
		stream = stream[k:]
		for d.Next() {
			out = append(out, say(d.Frame()))
		}
	}
	return out
}

func TestFrameVectors(t *testing.T) {
	vectors := readVectors[frameVector](t, "frames.json")
	names := map[string]bool{}
	for _, v := range vectors {
		if names[v.Name] {
			t.Errorf("two vectors are named %q", v.Name)
		}
		names[v.Name] = true
		t.Run(v.Name, func(t *testing.T) {
			stream, want := unhex(t, v.Stream), v.want(t)
			for _, piece := range []int{1, 2, 3, 7, 64, 4096} {
				var d Decoder
				got := decodeAll(&d, stream, piece)
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("in pieces of %d: got %q, want %q", piece, got, want)
				}
				if d.Partial() != v.Partial {
					t.Errorf("in pieces of %d: Partial = %v", piece, d.Partial())
				}
			}
			if v.Canonical {
				e := v.Expect[0]
				got, err := AppendFrame(nil, Frame{FrameType(e.Type), e.Seq, unhex(t, e.Payload)})
				if err != nil || !bytes.Equal(got, stream) {
					t.Errorf("AppendFrame = % x, %v; want % x", got, err, stream)
				}
			}
		})
	}
}

type packetVector struct {
	Name, About, Reading, Packet, Frame string
	Seq                                 byte
	Want                                *packetWant
	Error                               string
	Canonical                           bool
}

// packetWant has the fields of every reading.
type packetWant struct {
	Op       string
	Req      uint16
	Version  *string
	Size     uint64
	Offset   uint64
	Data     string
	Code     Code
	Features *Features
	Name     string
	Nodes    Nodes
	Type     Type
	Value    *string
	Int      *int64
	Bool     *bool
}

// check reads p as the vector says and compares. It returns the error of the
// reading; every other difference fails the test.
func (v packetVector) check(t *testing.T, p Packet) error {
	w := v.Want
	if w == nil {
		w = &packetWant{}
	}
	differs := func(got, want any) {
		t.Helper()
		if v.Want != nil && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	differs(p.Req, w.Req)
	if w.Op != "" {
		differs(fmt.Sprintf("%04x", uint16(p.Op)), w.Op)
	}
	switch v.Reading {
	case "offer":
		o, err := ParseOffer(p)
		if err == nil {
			differs(o, Offer{*w.Version, uint32(w.Size)})
		}
		return err
	case "empty", "ping":
		if v.Reading == "ping" {
			differs(p.Op.Protocol(), ProtocolPing)
			return nil
		}
		return ParseEmpty(p)
	case "load":
		l, err := ParseLoad(p)
		if err == nil {
			differs(l, Load{uint32(w.Offset), unhex(t, w.Data)})
		}
		return err
	case "boot":
		version, err := ParseBoot(p)
		if err == nil {
			differs(version, *w.Version)
		}
		return err
	case "stat", "confirm", "nak", "connect":
		return v.checkCode(p, w, differs)
	case "send_prop":
		name, err := ParseSendProp(p)
		differs(name, w.Name)
		return err
	case "prop":
		return v.checkProp(t, p, w, differs)
	}
	t.Fatalf("unknown reading %q", v.Reading)
	return nil
}

func (v packetVector) checkCode(p Packet, w *packetWant, differs func(got, want any)) error {
	switch v.Reading {
	case "stat":
		code, err := ParseStat(p)
		differs(code, w.Code)
		return err
	case "confirm":
		code, err := ParseConfirm(p)
		differs(code, w.Code)
		return err
	case "connect":
		nodes, err := ParseConnect(p)
		differs(nodes, w.Nodes)
		return err
	}
	n, err := ParseNAK(p)
	differs(n.Code, w.Code)
	differs(n.HasFeatures, w.Features != nil)
	if w.Features != nil {
		differs(n.Features, *w.Features)
	}
	return err
}

func (v packetVector) checkProp(t *testing.T, p Packet, w *packetWant, differs func(got, want any)) error {
	pr, err := ParseProp(p)
	if err != nil {
		return err
	}
	differs(pr.Name, w.Name)
	differs(pr.Type, w.Type)
	differs(pr.Whole(), true)
	if w.Value != nil {
		differs(pr.Value, unhex(t, *w.Value))
	}
	if w.Int != nil {
		i, err := pr.Int()
		differs(fmt.Sprint(i, err), fmt.Sprint(*w.Int, nil))
	}
	if w.Bool != nil {
		b, err := pr.Bool()
		differs(fmt.Sprint(b, err), fmt.Sprint(*w.Bool, nil))
	}
	return nil
}

// encode is the canonical encoding of what the vector wants.
func (v packetVector) encode(t *testing.T) ([]byte, error) {
	w := v.Want
	switch v.Reading {
	case "offer":
		return AppendOffer(nil, w.Req, *w.Version, w.Size)
	case "empty":
		op, err := strconv.ParseUint(w.Op, 16, 16)
		if err != nil {
			t.Fatal(err)
		}
		if Op(op) == OpListenEnable {
			return AppendListenEnable(nil, w.Req), nil
		}
		return AppendGo(nil, w.Req), nil
	case "load":
		return AppendLoad(nil, w.Req, w.Offset, unhex(t, w.Data))
	case "stat":
		return AppendStat(nil, w.Req, w.Code), nil
	case "boot":
		return AppendBoot(nil, w.Req, *w.Version)
	case "nak":
		if w.Features != nil {
			return AppendFeatures(nil, w.Req, *w.Features), nil
		}
		if w.Op == "0006" {
			return AppendNAK(nil, OpControlNAK, w.Req, w.Code), nil
		}
		return AppendNAK(nil, OpNAK, w.Req, w.Code), nil
	case "send_prop":
		return AppendSendProp(nil, w.Req, w.Name)
	case "connect":
		return AppendConnect(nil, w.Req, w.Nodes), nil
	case "confirm":
		return AppendConfirm(nil, w.Req), nil
	case "ping":
		return AppendPing(nil, w.Req), nil
	case "prop":
		return v.encodeProp(t)
	}
	t.Fatalf("unknown reading %q", v.Reading)
	return nil, nil
}

func (v packetVector) encodeProp(t *testing.T) ([]byte, error) {
	w := v.Want
	switch w.Type {
	case TypeInt:
		return AppendSendInt(nil, w.Req, w.Name, *w.Int)
	case TypeBool:
		return AppendSendBool(nil, w.Req, w.Name, *w.Bool)
	}
	text := string(unhex(t, *w.Value))
	b, next, err := AppendSendText(nil, w.Req, w.Name, text, 0)
	if err == nil && next != len(text) {
		t.Errorf("one packet holds %d of %d bytes", next, len(text))
	}
	return b, err
}

func TestPacketVectors(t *testing.T) {
	names := map[string]bool{}
	for _, v := range readVectors[packetVector](t, "packets.json") {
		if names[v.Name] {
			t.Errorf("two vectors are named %q", v.Name)
		}
		names[v.Name] = true
		t.Run(v.Name, func(t *testing.T) {
			raw := unhex(t, v.Packet)
			p, err := ParsePacket(raw)
			if err == nil {
				err = v.check(t, p)
			}
			if v.Error == "" && err != nil {
				t.Fatalf("refused: %v", err)
			}
			if v.Error != "" && (err == nil || CodeOf(err).String() != v.Error) {
				t.Fatalf("error is %v, want %s", err, v.Error)
			}
			if v.Canonical {
				got, err := v.encode(t)
				if err != nil || !bytes.Equal(got, raw) {
					t.Errorf("encoded to % x, %v; want % x", got, err, raw)
				}
			}
			if v.Frame != "" {
				want := unhex(t, v.Frame)
				got, err := AppendFrame(nil, Frame{FrameData, v.Seq, raw})
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("frame is % x, %v; want % x", got, err, want)
				}
				var d Decoder
				if got := decodeAll(&d, want, 5); len(got) != 1 || got[0] != say(Frame{FrameData, v.Seq, raw}, nil) {
					t.Errorf("the frame decodes to %q", got)
				}
			}
		})
	}
}

type partsVector struct {
	Name, About, Property, Error string
	Limit                        int
	Packets                      []string
	Value                        *string
	Canonical                    bool
}

func TestPartsVectors(t *testing.T) {
	for _, v := range readVectors[partsVector](t, "parts.json") {
		t.Run(v.Name, func(t *testing.T) {
			a := NewAssembler(v.Limit)
			for i, s := range v.Packets {
				last := i == len(v.Packets)-1
				p, err := ParsePacket(unhex(t, s))
				if err != nil {
					t.Fatal(err)
				}
				part, err := ParseProp(p)
				if err != nil {
					t.Fatal(err)
				}
				got, done, err := a.Add(p.Req, part)
				v.checkPart(t, last, got, done, err)
			}
			if v.Canonical {
				v.checkEncoding(t)
			}
		})
	}
}

func (v partsVector) checkPart(t *testing.T, last bool, got Prop, done bool, err error) {
	switch {
	case last && v.Error != "":
		if err == nil || CodeOf(err).String() != v.Error {
			t.Fatalf("error is %v, want %s", err, v.Error)
		}
	case err != nil:
		t.Fatalf("refused: %v", err)
	case last && v.Value != nil:
		if !done || got.Name != v.Property || !bytes.Equal(got.Value, unhex(t, *v.Value)) || !got.Whole() {
			t.Fatalf("got %+v, %v", got, done)
		}
	case done:
		t.Fatalf("complete too early: %+v", got)
	}
}

func (v partsVector) checkEncoding(t *testing.T) {
	text := string(unhex(t, *v.Value))
	off := 0
	for i, s := range v.Packets {
		want := unhex(t, s)
		got, next, err := AppendSendText(nil, 3, v.Property, text, off)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("part %d: % x, %v; want % x", i+1, got, err, want)
		}
		off = next
	}
	if off != len(text) {
		t.Errorf("ended at %d of %d", off, len(text))
	}
}

// TestVectorFilesAreRich keeps the promise that the table of docs/wire.md
// section 7 and at least 60 more vectors are there, good and bad.
func TestVectorFilesAreRich(t *testing.T) {
	frames, packets := readVectors[frameVector](t, "frames.json"), readVectors[packetVector](t, "packets.json")
	var table, refused int
	for _, v := range packets {
		if v.Frame != "" {
			table++
		}
		if v.Error != "" {
			refused++
		}
	}
	if n := len(frames) + len(packets); n < 69 || table < 7 || refused < 20 {
		t.Errorf("%d vectors, %d of the table's packets, %d refused", n, table, refused)
	}
}

func TestBadFramesAreFrameErrors(t *testing.T) {
	for name, err := range badNames {
		if !errors.Is(err, ErrFrame) {
			t.Errorf("%s does not wrap ErrFrame", name)
		}
	}
}
