package firmware

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

type inspectCase struct {
	name string
	file []byte
	want *Detected
}

const bootSum = "The SHA-256 in the file is right: %."

func mcubootCases() []inspectCase {
	plain := bootImage{version: v(1, 2, 3, 0), body: bootBody}
	with := func(change func(*bootImage)) []byte {
		b := plain
		change(&b)
		return b.build()
	}
	found := func(version string, size uint64, facts, problems []string) *Detected {
		return &Detected{Format: DetectedMCUboot, Version: version, Size: size, Facts: facts, Problems: problems}
	}
	const unsigned = "It has no signature."
	return []inspectCase{
		{"mcuboot: the least", plain.build(), found("1.2.3", 120, []string{bootSum, unsigned}, nil)},
		{"mcuboot: signed, with protected TLVs", with(func(b *bootImage) {
			b.version, b.load, b.flags = v(2, 10, 300, 7), 0x20000000, 0x20
			b.protected = slices.Concat(tlv(0x50, le(uint32(42))), tlv(0x40, le(byte(1), make([]byte, 3), []byte{3, 4, 5, 0, 0, 0, 0, 0})), tlv(0xa0, []byte("vendor")))
			b.tlvs = slices.Concat(tlv(0x01, bytes.Repeat([]byte{0xab}, 32)), tlv(0x22, bytes.Repeat([]byte{0x30}, 71)))
		}), found("2.10.300+7", 269, []string{
			"It is loaded at address 0x20000000.", "Its header has flags: it runs from RAM.", "Its security counter is 42.",
			"It needs image 1 at version 3.4.5 or later.", bootSum, "The key that it is signed with has the hash abababababababab....",
			"It has a signature (ECDSA, 71 bytes), which only the boot loader can verify, for it has the key.", "It has 1 further TLVs.",
		}, nil)},
		{"mcuboot: a hash of something else", with(func(b *bootImage) { b.badHash = true }), found("1.2.3", 120, []string{unsigned},
			[]string{"The SHA-256 in the file is %, its content has %: the file is damaged or was changed after it was made."})},
		{"mcuboot: no hash", with(func(b *bootImage) { b.noHash = true }), found("1.2.3", 84, []string{unsigned},
			[]string{"The file has no hash; MCUboot refuses such an image."})},
		{"mcuboot: encrypted", with(func(b *bootImage) { b.flags = 4; b.badHash = true; b.tlvs = tlv(0x30, make([]byte, 256)) }), found("1.2.3", 380, []string{
			"Its header has flags: it is encrypted.", "Its SHA-256 is %; it is that of the image before encryption and cannot be verified here.",
			unsigned, "It has 1 further TLVs.",
		}, nil)},
		{"mcuboot: filled up to a slot with a trailer", append(plain.build(), append(bytes.Repeat([]byte{0xff}, 200),
			"\x77\xc2\x95\xf3\x60\xd2\xef\x7f\x35\x52\x50\x0f\x2c\xb6\x79\x80"...)...), found("1.2.3", 120, []string{bootSum, unsigned,
			"216 bytes follow up to the end of a slot, with a trailer that asks for the image to be booted."}, nil)},
		{"mcuboot: filled up with 0xff", append(plain.build(), bytes.Repeat([]byte{0xff}, 80)...), found("1.2.3", 120, []string{bootSum, unsigned,
			"80 bytes of 0xff follow the image."}, nil)},
		{"mcuboot: something behind it", append(plain.build(), "junk"...), found("1.2.3", 120, []string{bootSum, unsigned},
			[]string{"The headers call for 120 bytes, the file has 124: it is not known what the last 4 are."})},
		{"mcuboot: an image size of 4 GiB", with(func(b *bootImage) { b.size = 0xffffffff }), found("1.2.3", 4294967327, nil,
			[]string{"The header says 4294967327 bytes, the file has 120: its end is missing."})},
		{"mcuboot: cut off in the image", plain.build()[:60], found("1.2.3", 80, nil,
			[]string{"The header says 80 bytes, the file has 60: its end is missing."})},
		{"mcuboot: cut off before the TLVs", plain.build()[:80], found("1.2.3", 80, nil,
			[]string{"There is no TLV area at byte 80, behind the image."})},
		{"mcuboot: a TLV area beyond the end", with(func(b *bootImage) { b.tlvTotal = 0xffff }), found("1.2.3", 65615, nil,
			[]string{"The TLV area at byte 80 says that it has 65535 bytes, the file has 40 from there on."})},
		{"mcuboot: a TLV area of no size", with(func(b *bootImage) { b.tlvTotal = 1 }), found("1.2.3", 81, nil,
			[]string{"The TLV area at byte 80 says that it has 1 bytes, the file has 40 from there on."})},
		{"mcuboot: a TLV beyond its area", with(func(b *bootImage) { b.tlvs = le(uint16(0x22), uint16(0xfff0), "x") }), found("1.2.3", 125,
			[]string{bootSum, unsigned}, []string{"A TLV 5 bytes before the end of the TLV area reaches beyond it."})},
		{"mcuboot: protected TLVs that are not there", with(func(b *bootImage) { b.protectSize = 12 }), found("1.2.3", 92, nil,
			[]string{"There is no protected TLV area at byte 80, behind the image."})},
		{"mcuboot: two sizes of the protected TLVs", with(func(b *bootImage) { b.protected = []byte{}; b.protectSize = 8 }), found("1.2.3", 88, nil,
			[]string{"The header says that the protected TLV area has 8 bytes, the area itself says 4."})},
		{"mcuboot: a header that is too short", with(func(b *bootImage) { b.header = 16 }), found("1.2.3", 0, nil,
			[]string{"The header says that it has 16 bytes itself, at least 32 are needed."})},
		{"mcuboot: a dependency of another length", with(func(b *bootImage) { b.tlvs = tlv(0x40, []byte{1}) }), found("1.2.3", 125,
			[]string{bootSum, unsigned}, []string{"A dependency in the file has 1 bytes, 12 are needed."})},
		{"mcuboot: a great many TLVs of no length", with(func(b *bootImage) { b.tlvs = bytes.Repeat(tlv(0xee, nil), 2000) }), found("1.2.3", 8120,
			[]string{bootSum, unsigned, "It has 2000 further TLVs."}, nil)},
		{"mcuboot: a great many dependencies", with(func(b *bootImage) {
			b.tlvs = bytes.Repeat(tlv(0x40, make([]byte, 12)), 100)
		}), found("1.2.3", 1720, append([]string{bootSum}, slices.Repeat([]string{"It needs image 0 at version 0.0.0 or later."}, 31)...), nil)},
		{"mcuboot: a hash of another length", with(func(b *bootImage) { b.noHash = true; b.tlvs = tlv(0x10, []byte("short")) }), found("1.2.3", 93,
			[]string{unsigned}, []string{"The SHA-256 in the file has 5 bytes, 32 are needed."})},
	}
}

func espCases() []inspectCase {
	app := espFile{version: "1.4.0", project: "thermostat", segments: [][]byte{bytes.Repeat([]byte("code"), 10), {1, 2, 3}}, hash: true}
	with := func(change func(*espFile)) []byte {
		e := app
		change(&e)
		return e.build()
	}
	const chip = "It was built for ESP32-C3; its entry address is 0x40080ea4."
	facts := func(more ...string) []string {
		return append([]string{"It was built on Jun  1 2026 at 10:11:12.", "It was built with ESP-IDF v5.4.1.", "Its secure version is 3.",
			"The SHA-256 of its ELF file is e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1.", chip}, more...)
	}
	found := func(size uint64, facts, problems []string) *Detected {
		return &Detected{Format: DetectedESPIDF, Name: "thermostat", Version: "1.4.0", Size: size, Facts: facts, Problems: problems}
	}
	const hashed = "The SHA-256 at its end is right: %."
	signature := append([]byte{0xe7, 2}, bytes.Repeat([]byte{0x11}, 4094)...)
	unnamed := found(352, facts(), []string{"The application descriptor has no version."})
	unnamed.Version, unnamed.Name = "", "two words"
	bootLoader := espFile{noDescriptor: true, segments: [][]byte{bytes.Repeat([]byte{0x55}, 100)}, hash: true}
	return []inspectCase{
		{"esp-idf: an application", app.build(), found(384, facts(hashed), nil)},
		{"esp-idf: without a hash", with(func(e *espFile) { e.hash = false }), found(352, facts(), nil)},
		{"esp-idf: another hash", with(func(e *espFile) { e.badHash = true }), found(384, facts(),
			[]string{"The SHA-256 at the end of the file is %, its content has %: the file is damaged or was changed after it was made."})},
		{"esp-idf: another checksum", with(func(e *espFile) { e.badSum = true }), found(384, facts(hashed),
			[]string{"The checksum of the segments is %, the file says %: the file is damaged."})},
		{"esp-idf: signed", slices.Concat(app.build(), bytes.Repeat([]byte{0xff}, 4096-384), signature), found(8192, facts(hashed,
			"It has a signature (Secure Boot v2), which only the chip can verify, for it has the key."), nil)},
		{"esp-idf: something behind it", append(app.build(), "junk"...), found(384, facts(hashed),
			[]string{"The headers call for 384 bytes, the file has 388: it is not known what the last 4 are."})},
		{"esp-idf: a segment of 4 GiB", edited(app.build(), func(b []byte) { copy(b[24+8+256+4:], le(uint32(0xffffffff))) }), found(4294967591, facts(),
			[]string{"The header says 4294967591 bytes, the file has 384: its end is missing."})},
		{"esp-idf: cut off in a segment", app.build()[:300], found(336, facts(),
			[]string{"The header says 336 bytes, the file has 300: its end is missing."})},
		{"esp-idf: cut off before the checksum", app.build()[:350], found(352, facts(),
			[]string{"The header says 352 bytes, the file has 350: its end is missing."})},
		{"esp-idf: cut off in the hash", app.build()[:370], found(384, facts(),
			[]string{"The header says 384 bytes, the file has 370: its end is missing."})},
		{"esp-idf: 200 segments", with(func(e *espFile) { e.count = 200 }), found(0, facts(),
			[]string{"The header says that there are 200 segments; 1 to 16 are possible."})},
		// The fourth header is then padding and checksum, which say 0xc0000000 bytes.
		{"esp-idf: 16 segments of which 3 are there", with(func(e *espFile) { e.count = 16; e.segments = [][]byte{app.segments[0], nil} }),
			found(352+0xc0000000, facts(), []string{"The header says 3221225824 bytes, the file has 384: its end is missing."})},
		{"esp-idf: a segment of no length", with(func(e *espFile) { e.segments = [][]byte{nil, app.segments[0]} }), found(384, facts(hashed), nil)},
		{"esp-idf: a version that is missing and a name with a line break", with(func(e *espFile) {
			e.version, e.project, e.hash = "", "two\x01 wo\nrds", false
		}), unnamed},
		{"esp-idf: a boot loader, without a descriptor", bootLoader.build(), &Detected{Format: DetectedESPIDF, Size: 176, Facts: []string{chip, hashed,
			"It has no application descriptor, and so no version: it may be a boot loader."}}},
		{"esp-idf: without a descriptor and damaged, so nothing known", edited(bootLoader.build(), func(b []byte) { b[60] ^= 1 }), nil},
		{"esp-idf: nothing but the magic", append([]byte{0xe9}, make([]byte, 500)...), nil},
	}
}

func demoCases() []inspectCase {
	found := func(version string, size uint64, fact, problem string) *Detected {
		d := &Detected{Format: DetectedDemo, Version: version, Size: size}
		if fact != "" {
			d.Facts = []string{fact}
		}
		if problem != "" {
			d.Problems = []string{problem}
		}
		return d
	}
	const small, large = "The CRC-16 is right.", "The CRC-32 is right."
	return []inspectCase{
		{"demo: the smallest", demoFile("1.0", 472), found("1.0", 472, small, "")},
		{"demo: just under 64 KiB", demoFile("2.1.0", 65535), found("2.1.0", 65535, small, "")},
		{"demo: 64 KiB", demoFile("2.2.0-rc1", 65536), found("2.2.0-rc1", 65536, large, "")},
		{"demo: damaged", edited(demoFile("1.0", 1000), func(b []byte) { b[900] ^= 4 }), found("1.0", 1000, "",
			"The CRC-16 of the file is %, its header says %: the file is damaged.")},
		{"demo: large and damaged", edited(demoFile("1.0", 70000), func(b []byte) { b[900] ^= 4 }), found("1.0", 70000, "",
			"The CRC-32 of the whole file is % and not 0: the file is damaged.")},
		{"demo: cut off", demoFile("1.0", 1000)[:800], found("1.0", 1000, "", "The header says 1000 bytes, the file has 800: its end is missing.")},
		{"demo: longer than it should be", append(demoFile("1.0", 1000), 0xff), found("1.0", 1000, "",
			"The header says 1000 bytes, the file has 1001: it is longer than it should be.")},
		{"demo: a size of 4 GiB", edited(demoFile("1.0", 70000), func(b []byte) { copy(b[0x18c:], le(uint32(0xffffffff))) }), found("1.0", 4294967295, "",
			"The header says 4294967295 bytes, the file has 70000: its end is missing.")},
		{"demo: no version", edited(demoFile("", 472), func([]byte) {}), found("", 472, small, "The header has no version.")},
		{"demo: cut off in the header, so nothing known", demoFile("1.0", 472)[:471], nil},
	}
}

func otherCases() []inspectCase {
	return []inspectCase{
		{"nothing", nil, nil},
		{"zeros", make([]byte, 2000), nil},
		{"erased", bytes.Repeat([]byte{0xff}, 2000), nil},
		{"the magic of MCUboot alone", le(uint32(0x96f3b83d)), nil},
	}
}

// like compares a statement with an expected one, in which % stands for hashes
// and checksums.
func like(got, want string) bool {
	words := strings.Split(want, "%")
	if len(words) == 1 {
		return got == want
	}
	got, begins := strings.CutPrefix(got, words[0])
	last := len(words) - 1
	for _, w := range words[1:last] {
		_, after, found := strings.Cut(got, w)
		if !found {
			return false
		}
		got = after
	}
	return begins && strings.HasSuffix(got, words[last])
}

// TestInspectVectors goes by the data file.
func TestInspectVectors(t *testing.T) {
	for _, c := range readInspected(t) {
		t.Run(c.Name, func(t *testing.T) {
			file := c.bytes(t)
			got, err := Inspect(bytes.NewReader(file), int64(len(file)))
			if err != nil {
				t.Fatal(err)
			}
			if got == nil || c.Want == nil {
				if (got == nil) != (c.Want == nil) {
					t.Fatalf("got %+v, want %+v", got, c.Want)
				}
				return
			}
			same := got.Format == c.Want.Format && got.Name == c.Want.Name && got.Version == c.Want.Version && got.Size == c.Want.Size
			if !same || !slices.EqualFunc(got.Facts, c.Want.Facts, like) || !slices.EqualFunc(got.Problems, c.Want.Problems, like) {
				t.Errorf("got  %+v\nwant %+v", got, c.Want)
			}
		})
	}
}

// TestInspectAfterIntelHEX: what comes out of a HEX file is recognised the same.
func TestInspectAfterIntelHEX(t *testing.T) {
	for _, c := range readInspected(t) {
		file := c.bytes(t)
		if len(file) == 0 || len(file) > 4096 {
			continue
		}
		var flat bytes.Buffer
		if _, err := Flatten(strings.NewReader(encodeIHex(file, 0x0800_4000, 16, false, inOrder)), &flat, Options{}); err != nil {
			t.Fatal(err)
		}
		want, err := Inspect(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Inspect(bytes.NewReader(flat.Bytes()), int64(flat.Len()))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; as a binary %+v", c.Name, got, err, want)
		}
	}
}

// counting counts what is read of an image.
type counting struct {
	io.ReaderAt
	n int64
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n += int64(n)
	return n, err
}

// checkInspect holds for every file whatever.
func checkInspect(t *testing.T, file []byte) {
	t.Helper()
	r := &counting{ReaderAt: bytes.NewReader(file)}
	d, err := Inspect(r, int64(len(file)))
	if err != nil {
		t.Fatalf("%d bytes: %v", len(file), err)
	}
	if most := 3*int64(len(file)) + 3*espSector; r.n > most {
		t.Fatalf("%d bytes were read of a file of %d", r.n, len(file))
	}
	if d == nil {
		return
	}
	if !slices.Contains([]string{DetectedMCUboot, DetectedESPIDF, DetectedDemo}, d.Format) {
		t.Fatalf("format %q", d.Format)
	}
	if d.Size > uint64(len(file)) && len(d.Problems) == 0 {
		t.Fatalf("the image calls for %d of %d bytes and nothing is said of it: %+v", d.Size, len(file), d)
	}
	if len(d.Facts) > maxStatements || len(d.Problems) > maxStatements || len(d.Version) > 128 || len(d.Name) > 128 {
		t.Fatalf("too much is said: %+v", d)
	}
	for _, s := range slices.Concat([]string{d.Name, d.Version}, d.Facts, d.Problems) {
		if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) || len(s) > maxStatement+3 {
			t.Fatalf("%q is not fit to be shown", s)
		}
	}
}

// TestInspectAnyBeginning cuts every vector off inside its headers and at some
// places behind them, and changes bytes of the headers.
func TestInspectAnyBeginning(t *testing.T) {
	for _, c := range readInspected(t) {
		file := c.bytes(t)
		for n := 0; n < min(len(file), 700); n++ {
			if n < 130 || n%9 == 0 {
				checkInspect(t, file[:n])
			}
		}
		for i := range min(len(file), 120) {
			for _, b := range []byte{0, 0xff} {
				changed := slices.Clone(file[:min(len(file), 1000)])
				changed[i] = b
				checkInspect(t, changed)
			}
		}
	}
}

func FuzzInspect(f *testing.F) {
	for _, c := range readInspected(f) {
		if file := c.bytes(f); len(file) <= 4096 {
			f.Add(file)
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) { checkInspect(t, file) })
}

// failingAt fails from an offset on.
type failingAt struct {
	io.ReaderAt
	from int64
	err  error
}

func (f failingAt) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

// TestInspectTellsOfReadErrors: a disk that fails is not taken for a bad image.
func TestInspectTellsOfReadErrors(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, c := range readInspected(t) {
		file := c.bytes(t)
		if c.Want == nil || len(file) < 100 {
			continue
		}
		offsets := []int64{0}
		if c.Want.Problems == nil {
			offsets = append(offsets, 60) // what follows is read for the sake of the checksums
		}
		for _, from := range offsets {
			d, err := Inspect(failingAt{bytes.NewReader(file), from, broken}, int64(len(file)))
			if !errors.Is(err, broken) || d != nil {
				t.Errorf("%s, from byte %d: %+v, %v", c.Name, from, d, err)
			}
		}
	}
	// A file that is shorter than it is said to be.
	file := demoFile("1.0", 1000)
	if _, err := Inspect(bytes.NewReader(file[:800]), 1000); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Errorf("a file that ends too soon: %v", err)
	}
}

func BenchmarkInspect(b *testing.B) {
	file := demoFile("1.0", 16<<20)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Inspect(bytes.NewReader(file), int64(len(file))); err != nil {
			b.Fatal(err)
		}
	}
}
