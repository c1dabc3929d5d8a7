package firmware

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"encoding/json"
)

// The files of testdata/inspect.json are built here; after a change,
// go test ./orchestrator/firmware -run TestInspectVectorsAreCurrent -update
// writes the data file anew. Expectations are written out below, not computed.
var update = flag.Bool("update", false, "write testdata/inspect.json anew")

// inspected is one case of testdata/inspect.json. A file is a list of parts,
// each in hex, or "HEX*COUNT" for a repeated one.
type inspected struct {
	Name string    `json:"name"`
	File []string  `json:"file"`
	Want *Detected `json:"want"`
}

func (v inspected) bytes(t testing.TB) []byte {
	t.Helper()
	var out []byte
	for _, part := range v.File {
		digits, count, repeated := strings.Cut(part, "*")
		b, err := hex.DecodeString(digits)
		n := 1
		if repeated {
			_, err = fmt.Sscan(count, &n)
		}
		if err != nil {
			t.Fatalf("%s: part %.40q: %v", v.Name, part, err)
		}
		out = append(out, bytes.Repeat(b, n)...)
	}
	return out
}

// parts writes long runs of one byte as such.
func parts(b []byte) []string {
	var out []string
	begin := 0
	flush := func(end int) {
		for ; begin < end; begin = min(begin+64, end) {
			out = append(out, hex.EncodeToString(b[begin:min(begin+64, end)]))
		}
	}
	for i := 0; i < len(b); {
		n := 1
		for i+n < len(b) && b[i+n] == b[i] {
			n++
		}
		if n > 64 {
			flush(i)
			out = append(out, fmt.Sprintf("%02x*%d", b[i], n))
			begin = i + n
		}
		i += n
	}
	flush(len(b))
	return out
}

func le(fields ...any) []byte {
	var b bytes.Buffer
	for _, f := range fields {
		switch f := f.(type) {
		case []byte:
			b.Write(f)
		case string:
			b.WriteString(f)
		default:
			if err := binary.Write(&b, binary.LittleEndian, f); err != nil {
				panic(err)
			}
		}
	}
	return b.Bytes()
}

func padded(s string, n int) []byte { return append([]byte(s), make([]byte, n-len(s))...) }

// bootImage describes an MCUboot image; sizes that are not 0 are lies.
type bootImage struct {
	version                       [8]byte
	flags, load, size             uint32
	header, protectSize, tlvTotal uint16
	body                          []byte
	protected, tlvs               []byte
	noHash, badHash               bool
}

func tlv(kind uint16, value []byte) []byte { return le(kind, uint16(len(value)), value) }

func or[T comparable](lie, truth T) T {
	var none T
	if lie != none {
		return lie
	}
	return truth
}

func (b bootImage) build() []byte {
	protected := []byte(nil)
	if b.protected != nil {
		protected = le(uint16(0x6908), uint16(4+len(b.protected)), b.protected)
	}
	out := le(uint32(0x96f3b83d), b.load, or(b.header, 32), or(b.protectSize, uint16(len(protected))),
		or(b.size, uint32(len(b.body))), b.flags, b.version[:], uint32(0), b.body, protected)
	tlvs := b.tlvs
	if !b.noHash {
		sum := sha256.Sum256(out)
		if b.badHash {
			sum[31] ^= 1
		}
		tlvs = append(tlv(0x10, sum[:]), tlvs...)
	}
	return append(out, le(uint16(0x6907), or(b.tlvTotal, uint16(4+len(tlvs))), tlvs)...)
}

var bootBody = []byte("the firmware itself, forty-eight bytes of it....")

func v(major, minor byte, revision uint16, build uint32) (out [8]byte) {
	copy(out[:], le(major, minor, revision, build))
	return out
}

// espFile describes an ESP-IDF image.
type espFile struct {
	version, project string
	noDescriptor     bool
	segments         [][]byte
	count            byte // a lie, if not 0
	badSum, badHash  bool
	hash             bool
}

func (e espFile) build() []byte {
	segments := slices.Clone(e.segments)
	if !e.noDescriptor {
		desc := le(uint32(0xabcd5432), uint32(3), make([]byte, 8), padded(e.version, 32), padded(e.project, 32),
			padded("10:11:12", 16), padded("Jun  1 2026", 16), padded("v5.4.1", 32), bytes.Repeat([]byte{0xe1}, 32), make([]byte, 80))
		segments = append([][]byte{desc}, segments...)
	}
	hashed := byte(0)
	if e.hash {
		hashed = 1
	}
	out := le(byte(0xe9), or(e.count, byte(len(segments))), byte(2), byte(0x20), uint32(0x40080ea4), make([]byte, 4), uint16(5),
		make([]byte, 9), hashed)
	sum := byte(0xef)
	for i, s := range segments {
		out = append(out, le(uint32(0x3f400020+i<<16), uint32(len(s)), s)...)
		for _, c := range s {
			sum ^= c
		}
	}
	if e.badSum {
		sum ^= 0x40
	}
	out = append(out, make([]byte, 15-len(out)%16)...)
	out = append(out, sum)
	if e.hash {
		h := sha256.Sum256(out)
		if e.badHash {
			h[0] ^= 1
		}
		out = append(out, h[:]...)
	}
	return out
}

// demoFile builds an image as docs/wire.md section 9 describes it.
func demoFile(version string, size int) []byte {
	out := bytes.Repeat([]byte{0xc5}, size)
	copy(out[0x190:], padded(version, 72))
	if size < 64<<10 {
		copy(out[0x188:], le(uint32(0xbfa43640), uint16(0), uint16(size)))
		c := &crcCCITT{sum: 0xffff}
		c.add(out...)
		copy(out[0x18c:], le(c.sum))
		return out
	}
	copy(out[0x188:], le(uint32(0xbfa43641), uint32(size)))
	copy(out[size-4:], le(^crc32.ChecksumIEEE(out[:size-4])))
	return out
}

func edited(b []byte, edit func([]byte)) []byte { edit(b); return b }

func readInspected(t testing.TB) []inspected {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "inspect.json"))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var vectors []inspected
	if err := d.Decode(&vectors); err != nil {
		t.Fatal(err)
	}
	return vectors
}

func TestInspectVectorsAreCurrent(t *testing.T) {
	var want []inspected
	for _, c := range slices.Concat(mcubootCases(), espCases(), demoCases(), otherCases()) {
		want = append(want, inspected{c.name, parts(c.file), c.want})
	}
	text, err := json.MarshalIndent(want, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	path := filepath.Join("testdata", "inspect.json")
	if *update {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(have, text) {
		t.Errorf("%s is not what the builders make (%v); see the comment at -update", path, err)
	}
}
