package firmware

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// vector is one case of testdata/ihex.json.
type vector struct {
	Name   string `json:"name"`
	File   string `json:"file"`
	Limit  int64  `json:"limit"`
	Format string `json:"format"`
	Want   *struct {
		LeftOut []uint64 `json:"left_out"`
		Data    string   `json:"data"`
		Start   uint64   `json:"start"`
		Entry   *uint64  `json:"entry"`
	} `json:"want"`
	Error *struct {
		Line     int    `json:"line"`
		Column   int    `json:"column"`
		Contains string `json:"contains"`
		Kind     string `json:"kind"`
	} `json:"error"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "ihex.json"))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var v []vector
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			var out bytes.Buffer
			info, err := Flatten(strings.NewReader(v.File), &out, Options{Format: v.Format, Limit: v.Limit, FileName: "pump.hex"})
			if v.Error != nil {
				checkError(t, v, err)
				if out.Len() != 0 {
					t.Errorf("%d bytes were written of a bad file", out.Len())
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want, err := hex.DecodeString(v.Want.Data)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), want) || info.Size != int64(len(want)) || info.Format != FormatIHex {
				t.Errorf("got % x, %+v; want % x", out.Bytes(), info, want)
			}
			if info.StartAddress == nil || *info.StartAddress != v.Want.Start {
				t.Errorf("start address %s, want %#x", address(info.StartAddress), v.Want.Start)
			}
			var leftOut []uint64
			for _, r := range info.LeftOut {
				leftOut = append(leftOut, r.Start, r.End)
			}
			if !slices.Equal(leftOut, v.Want.LeftOut) {
				t.Errorf("left out %#x, want %#x", leftOut, v.Want.LeftOut)
			}
			if address(info.EntryAddress) != address(v.Want.Entry) {
				t.Errorf("entry address %s, want %s", address(info.EntryAddress), address(v.Want.Entry))
			}
		})
	}
}

func address(a *uint64) string {
	if a == nil {
		return "none"
	}
	return fmt.Sprintf("%#x", *a)
}

func checkError(t *testing.T, v vector, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want one about line %d", err, v.Error.Line)
	}
	kind := ErrFormat
	if v.Error.Kind == "too_large" {
		kind = ErrTooLarge
	}
	if e.Line != v.Error.Line || e.Column != v.Error.Column || !strings.Contains(err.Error(), v.Error.Contains) || !errors.Is(err, kind) {
		t.Errorf("error %q (line %d, column %d, %v)\nwant line %d, column %d, %v, with %q",
			err, e.Line, e.Column, e.Kind, v.Error.Line, v.Error.Column, kind, v.Error.Contains)
	}
	if !strings.HasPrefix(err.Error(), "pump.hex") {
		t.Errorf("the error does not name the file: %q", err)
	}
}

func TestBinaryPassesUnchanged(t *testing.T) {
	for name, data := range map[string][]byte{
		"one byte":                      {0},
		"begins with a colon":           []byte(":\x00\x01\x02"),
		"colon and stack pointer":       {':', '@', 0x00, 0x20, 0xff},
		"text that is no HEX":           []byte("hello\n"),
		"longer than any buffer inside": bytes.Repeat([]byte{0xde, 0xad, 0xbe, 0xef}, 50_000),
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			info, err := Flatten(iotest.OneByteReader(bytes.NewReader(data)), &out, Options{})
			if err != nil || !bytes.Equal(out.Bytes(), data) {
				t.Fatalf("%d bytes became %d, %v", len(data), out.Len(), err)
			}
			if info.Format != FormatBinary || info.Size != int64(len(data)) || info.StartAddress != nil || info.LeftOut != nil {
				t.Errorf("%+v", info)
			}
		})
	}
}

func TestFormatAskedForBeatsTheLook(t *testing.T) {
	text := ":0100000001FE\n:00000001FF\n"
	var out bytes.Buffer
	info, err := Flatten(strings.NewReader(text), &out, Options{Format: FormatBinary})
	if err != nil || out.String() != text || info.Format != FormatBinary {
		t.Errorf("as binary: %q, %+v, %v", out.String(), info, err)
	}
	if _, err := Flatten(strings.NewReader("\x00\x01"), io.Discard, Options{Format: FormatIHex}); !errors.Is(err, ErrFormat) {
		t.Errorf("binary as ihex: %v", err)
	}
	if _, err := Flatten(strings.NewReader(text), io.Discard, Options{Format: "srec"}); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "srec") {
		t.Errorf("unknown format: %v", err)
	}
}

func TestBinaryLimits(t *testing.T) {
	flatten := func(n int) error {
		_, err := Flatten(bytes.NewReader(make([]byte, n)), io.Discard, Options{Limit: 5000})
		return err
	}
	if err := flatten(5000); err != nil {
		t.Errorf("exactly the limit: %v", err)
	}
	if err := flatten(5001); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "5000") {
		t.Errorf("one over the limit: %v", err)
	}
	if err := flatten(0); !errors.Is(err, ErrFormat) {
		t.Errorf("empty: %v", err)
	}
}

// TestErrorsOfReaderAndWriterComeBack: they are not taken for faults of the file.
func TestErrorsOfReaderAndWriterComeBack(t *testing.T) {
	broken, full := errors.New("connection lost"), errors.New("disk full")
	for name, file := range map[string]string{"binary": "\x00\x01\x02", "ihex": ":0100000001FE\n:00000001FF\n"} {
		_, err := Flatten(io.MultiReader(strings.NewReader(file[:3]), iotest.ErrReader(broken)), io.Discard, Options{})
		if !errors.Is(err, broken) || errors.Is(err, ErrFormat) {
			t.Errorf("%s: reading: %v", name, err)
		}
		_, err = Flatten(strings.NewReader(file), failingWriter{full}, Options{})
		if !errors.Is(err, full) || errors.Is(err, ErrFormat) {
			t.Errorf("%s: writing: %v", name, err)
		}
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// encodeIHex is an encoder for tests: pieces of size bytes, in the order that
// order says, with extended addresses of the kind asked for.
func encodeIHex(data []byte, start uint64, size int, segments bool, order func(n int) []int) string {
	var b strings.Builder
	put := func(kind byte, offset uint16, data ...byte) {
		rec := append([]byte{byte(len(data)), byte(offset >> 8), byte(offset), kind}, data...)
		sum := byte(0)
		for _, c := range rec {
			sum += c
		}
		fmt.Fprintf(&b, ":%X%02X\n", rec, -sum)
	}
	type piece struct {
		addr uint64
		data []byte
	}
	var pieces []piece
	for off := 0; off < len(data); {
		addr := start + uint64(off)
		n := min(size, len(data)-off, int(1<<16-addr&0xffff))
		pieces = append(pieces, piece{addr, data[off : off+n]})
		off += n
	}
	base := uint64(1 << 60)
	for _, i := range order(len(pieces)) {
		p := pieces[i]
		if high := p.addr &^ 0xffff; high != base {
			base = high
			if segments {
				put(recordSegment, 0, byte(high>>12), byte(high>>4))
			} else {
				put(recordLinear, 0, byte(high>>24), byte(high>>16))
			}
		}
		put(recordData, uint16(p.addr), p.data...)
	}
	put(recordEOF, 0)
	return b.String()
}

func inOrder(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return order
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 1, 2000).Draw(t, "data")
		size := rapid.IntRange(1, 255).Draw(t, "size")
		segments := rapid.Bool().Draw(t, "segments")
		top := uint64(1<<32) - uint64(len(data))
		if segments {
			top = 1<<20 - uint64(len(data))
		}
		start := rapid.Uint64Range(0, top).Draw(t, "start")
		file := encodeIHex(data, start, size, segments, func(n int) []int { return rapid.Permutation(inOrder(n)).Draw(t, "order") })
		var out bytes.Buffer
		info, err := Flatten(strings.NewReader(file), &out, Options{Limit: int64(len(data))})
		if err != nil {
			t.Fatalf("%v in\n%s", err, file)
		}
		if !bytes.Equal(out.Bytes(), data) || *info.StartAddress != start || info.Size != int64(len(data)) {
			t.Fatalf("another image came out of\n%s", file)
		}
	})
}

// TestEveryFlippedDigitIsNoticed: no single changed character of a file passes
// unless it means the same (case) or leaves an equal image.
func TestEveryFlippedDigitIsNoticed(t *testing.T) {
	data := []byte("the quick brown fox jumps over the lazy dog")
	file := []byte(encodeIHex(data, 0x0800_0000, 16, false, inOrder))
	for i, c := range file {
		for _, swap := range []byte("0123456789ABCDEF:\n Zz") {
			if swap == c {
				continue
			}
			bad := slices.Clone(file)
			bad[i] = swap
			var out bytes.Buffer
			if _, err := Flatten(bytes.NewReader(bad), &out, Options{Format: FormatIHex}); err == nil && !bytes.Equal(out.Bytes(), data) {
				t.Errorf("%q for %q at %d gave another image without an error", swap, c, i)
			}
		}
	}
}

func TestPiecesAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range MaxIHexPieces + 1 {
		off := i * 2 % (1 << 16)
		if off == 0 {
			high := i * 2 >> 16
			fmt.Fprintf(&b, ":02000004%04X%02X\n", high, byte(-(6 + high>>8 + high&0xff)))
		}
		fmt.Fprintf(&b, ":01%04X0000%02X\n", off, byte(-(1 + off>>8 + off&0xff)))
	}
	if _, err := Flatten(strings.NewReader(b.String()), io.Discard, Options{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%d pieces: %v", MaxIHexPieces+1, err)
	}
}

// needFile skips the test if a file of another package is missing, but fails
// when everything is meant to be there.
func needFile(t *testing.T, path, from string) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		return
	}
	if os.Getenv("DAVIT_TEST_FULL") == "1" {
		t.Fatalf("%s is missing: install %s", path, from)
	}
	t.Skipf("%s is missing: install %s to run this test", path, from)
}

// TestRealFirmware flattens a firmware that runs on real boards and compares
// it with what GNU objcopy makes of the same file.
func TestRealFirmware(t *testing.T) {
	const path = "/usr/share/firmware-microbit-micropython/firmware.hex"
	needFile(t, path, "firmware-microbit-micropython")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var out bytes.Buffer
	info, err := Flatten(f, &out, Options{FileName: filepath.Base(path)})
	if err != nil {
		t.Fatal(err)
	}
	// Beside its flash image the file holds 28 bytes for the user information registers of the nRF51.
	if info.Format != FormatIHex || info.Size != 243_852 || *info.StartAddress != 0 || address(info.EntryAddress) != "0x1ccd9" {
		t.Errorf("size %d, start %s, entry %s", info.Size, address(info.StartAddress), address(info.EntryAddress))
	}
	if want := []Region{{Start: 0x1000_10c0, End: 0x1000_10dc, Bytes: 28, Line: 15247}}; !slices.Equal(info.LeftOut, want) {
		t.Errorf("left out %+v, want %+v", info.LeftOut, want)
	}
	if want := objcopied(t, path); !bytes.Equal(want, out.Bytes()) {
		t.Errorf("objcopy makes %d bytes of it, other than these %d", len(want), out.Len())
	}
}

// objcopied is what GNU objcopy makes of the flash image in path, or skips the test if there is no objcopy.
func objcopied(t *testing.T, path string) []byte {
	t.Helper()
	objcopy, err := exec.LookPath("objcopy")
	if err != nil {
		if os.Getenv("DAVIT_TEST_FULL") == "1" {
			t.Fatal("objcopy is missing: install binutils")
		}
		t.Skip("objcopy is missing: install binutils to compare with it")
	}
	// Without the registers: the file would be filled up to them with 256 MiB.
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cut, flat := filepath.Join(dir, "cut.hex"), filepath.Join(dir, "flat.bin")
	main, _, found := bytes.Cut(text, []byte(":020000041000EA"))
	if !found {
		t.Fatal("the firmware is another version than this test knows: it has no registers")
	}
	if err := os.WriteFile(cut, append(main, ":00000001FF\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.Command(objcopy, "-I", "ihex", "-O", "binary", "--gap-fill", "0xff", cut, flat).CombinedOutput(); err != nil {
		t.Fatalf("objcopy: %v: %s", err, msg)
	}
	want, err := os.ReadFile(flat)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

func FuzzFlatten(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add([]byte(v.File))
	}
	f.Add([]byte{0x00, 0x40, 0x00, 0x20})
	f.Fuzz(func(t *testing.T, file []byte) {
		const limit = 1 << 16
		var out bytes.Buffer
		info, err := Flatten(bytes.NewReader(file), &out, Options{Limit: limit})
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("an error that is neither about format nor size: %v", err)
			}
			return
		}
		if info.Size != int64(out.Len()) || info.Size < 1 || info.Size > limit {
			t.Fatalf("%d bytes written, size %d, limit %d", out.Len(), info.Size, limit)
		}
		if info.Format == FormatBinary {
			if !bytes.Equal(out.Bytes(), file) {
				t.Fatal("a binary was changed")
			}
			return
		}
		var again bytes.Buffer
		text := encodeIHex(out.Bytes(), *info.StartAddress, 32, false, inOrder)
		if _, err := Flatten(strings.NewReader(text), &again, Options{Limit: limit}); err != nil || !bytes.Equal(again.Bytes(), out.Bytes()) {
			t.Fatalf("the flat image does not survive a round trip: %v", err)
		}
	})
}

func BenchmarkFlattenIHex(b *testing.B) {
	file := encodeIHex(make([]byte, 256<<10), 0, 16, false, inOrder)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		if _, err := Flatten(strings.NewReader(file), io.Discard, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
