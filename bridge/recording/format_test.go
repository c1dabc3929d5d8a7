package recording

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// header is that of the tests' recordings.
func header() Header {
	return Header{
		Dialect: "ayla", Device: "lab-1", Baud: 115200, Parity: "odd", RTSCTS: true, Start: time.Date(2026, 11, 26, 2, 45, 12, 123e6, time.UTC),
	}
}

// head is the head of the tests' recordings.
func head(t testing.TB) []byte {
	t.Helper()
	b, err := appendHead(nil, header())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// small is a recording of three entries.
func small(t testing.TB) []byte {
	b := appendEntry(head(t), time.Millisecond, FromModule, []byte{0x7e, 1, 2})
	b = appendLost(b, 2*time.Millisecond, 70000)
	return appendEntry(b, 3*time.Millisecond, FromMCU, bytes.Repeat([]byte{5}, MaxPiece))
}

// all reads a recording to its end, and returns copies.
func all(b []byte) (entries []Entry, err error) {
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	for {
		e, err := r.Next()
		if err != nil {
			return entries, err
		}
		e.Bytes = bytes.Clone(e.Bytes)
		entries = append(entries, e)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var file []byte
		h := Header{
			Dialect: rapid.SampledFrom([]string{"ayla", "afero"}).Draw(t, "dialect"), Device: rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`).Draw(t, "device"),
			Baud: rapid.IntRange(0, 4e6).Draw(t, "baud"), Parity: "even", Start: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "start"), 5).UTC(),
		}
		file, err := appendHead(nil, h)
		if err != nil {
			t.Fatal(err)
		}
		var want []Entry
		for range rapid.IntRange(0, 20).Draw(t, "entries") {
			e := Entry{At: time.Duration(rapid.Int64Min(0).Draw(t, "at"))}
			if rapid.Bool().Draw(t, "lost") {
				e.Lost = rapid.Uint64Min(1).Draw(t, "count")
				file = appendLost(file, e.At, e.Lost)
			} else {
				e.From = rapid.SampledFrom([]Side{FromModule, FromMCU}).Draw(t, "side")
				e.Bytes = rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "bytes")
				file = appendEntry(file, e.At, e.From, e.Bytes)
			}
			want = append(want, e)
		}
		r, err := NewReader(bytes.NewReader(file))
		if err != nil || r.Header() != h {
			t.Fatalf("head %+v, %v; want %+v", r.Header(), err, h)
		}
		got, err := all(file)
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		same(t, got, want)

		cut := rapid.IntRange(0, len(file)).Draw(t, "cut")
		got, err = all(file[:cut])
		if !errors.Is(err, io.EOF) && !errors.Is(err, ErrCutOff) {
			t.Fatalf("cut off after %d bytes: %v", cut, err)
		}
		same(t, got, want[:len(got)])
	})
}

func same(t *rapid.T, got, want []Entry) {
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i, e := range got {
		w := want[i]
		if e.At != w.At || e.From != w.From || e.Lost != w.Lost || !bytes.Equal(e.Bytes, w.Bytes) {
			t.Fatalf("entry %d: %+v, want %+v", i, e, w)
		}
	}
}

// TestCutOffAtEveryByte: everything before the cut is delivered, and a cut between
// two entries is an end like any other.
func TestCutOffAtEveryByte(t *testing.T) {
	file, ends := small(t), map[int]int{}
	n := len(head(t))
	for i, size := range []int{0, 3, lostSize, MaxPiece} {
		if i > 0 {
			n += entryOverhead + size
		}
		ends[n] = i
	}
	whole := 0
	for cut := range len(file) + 1 {
		got, err := all(file[:cut])
		want := ErrCutOff
		if k, ok := ends[cut]; ok {
			whole, want = k, io.EOF
		}
		if !errors.Is(err, want) || len(got) != whole {
			t.Fatalf("cut off after %d bytes: %d entries, %v; want %d, %v", cut, len(got), err, whole, want)
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	change := func(at int, to ...byte) []byte {
		b := small(t)
		if at < 0 {
			at = len(head(t)) - 1 - at
		}
		copy(b[at:], to)
		return b
	}
	const entry = -1 // where the first entry begins
	for _, c := range []struct {
		name string
		file []byte
		err  error
		says string
	}{
		{"text", []byte("a log file"), ErrForeign, ""},
		{"nothing", nil, ErrCutOff, "in its head, after 0 bytes"},
		{"a newer version", change(len(magic), 2), ErrVersion, "2; this program reads version 1"},
		{"a long head", change(len(magic)+1, 0xff, 0xff), ErrDamaged, "claims 65535 bytes"},
		{"a changed head", change(headFixed+3, '!'), ErrDamaged, "checksum of its head"},
		{"a side", change(entry, 3), ErrDamaged, "there is no side 3"},
		{"a time", change(entry-1, 0xff), ErrDamaged, "out of bounds"},
		{"no length", change(entry-9, 0, 0), ErrDamaged, "a length of 0"},
		{"a long length", change(entry-9, 0xff, 0xff), ErrDamaged, "a length of 65535"},
		{"a byte", change(entry-11, 9), ErrDamaged, "checksum of an entry"},
		{"zeros behind the end", append(head(t), make([]byte, 100)...), ErrDamaged, "a length of 0"},
		{"nothing was lost", appendLost(head(t), 0, 0), ErrDamaged, "is 0"},
		{"a short count", appendEntry(head(t), 0, nobody, []byte{1}), ErrDamaged, "has 1 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := all(c.file); !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v with %q", err, c.err, c.says)
			}
		})
	}
}

// TestHeadNamesAreChecked: they go to a terminal.
func TestHeadNamesAreChecked(t *testing.T) {
	text := `{"dialect":"ayla","device":"a\u001b[2J","parity":"odd"}`
	b := append([]byte(magic), Version)
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	b = appendSum(append(b, text...), 0)
	if _, err := all(b); !errors.Is(err, ErrDamaged) || strings.ContainsRune(err.Error(), 0x1b) {
		t.Errorf("%q", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestReaderHandsOnTheSourcesError(t *testing.T) {
	broken := errors.New("broken disk")
	if _, err := NewReader(failing{broken}); !errors.Is(err, broken) {
		t.Errorf("head: %v", err)
	}
	r, err := NewReader(io.MultiReader(bytes.NewReader(head(t)), failing{broken}))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := r.Next(); !errors.Is(err, broken) {
			t.Errorf("entry: %v", err)
		}
	}
}

// FuzzReader: whatever the file holds, the reader ends with one of its errors, and
// what it delivers is what stands there.
func FuzzReader(f *testing.F) {
	f.Add(small(f))
	f.Add(head(f))
	f.Add(small(f)[:len(head(f))+9])
	f.Add([]byte("davitrec\x02"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := all(b)
		if !errors.Is(err, io.EOF) && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrCutOff) && !errors.Is(err, ErrDamaged) {
			t.Fatalf("error %v", err)
		}
		var again []byte
		for _, e := range entries {
			if e.Lost > 0 {
				again = appendLost(again, e.At, e.Lost)
				continue
			}
			if len(e.Bytes) == 0 || len(e.Bytes) > MaxPiece {
				t.Fatalf("an entry of %d bytes", len(e.Bytes))
			}
			again = appendEntry(again, e.At, e.From, e.Bytes)
		}
		if !bytes.Contains(b, again) {
			t.Fatal("the entries are not those of the file")
		}
	})
}
