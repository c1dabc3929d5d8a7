package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"davit/schemas"
)

func TestManifestRoundTrip(t *testing.T) {
	const bs = MinBlockSize
	for _, size := range []int{1, 2, bs - 1, bs, bs + 1, 3 * bs, 10*bs + 17} {
		image := randomImage(size)
		m := build(t, image, terms())
		if got, want := m.Blocks(), (size+bs-1)/bs; got != want || m.Size != uint64(size) {
			t.Errorf("%d bytes: %d blocks, size %d; want %d blocks", size, got, m.Size, want)
		}
		text := encode(t, m)
		back, err := DecodeManifest(text)
		if err != nil {
			t.Fatalf("%d bytes: %v\n%s", size, err, text)
		}
		if !reflect.DeepEqual(back, m) {
			t.Errorf("%d bytes: decoded %+v, want %+v", size, back, m)
		}
		// However the bytes come, the manifest is the same.
		again, err := Build(iotest.OneByteReader(bytes.NewReader(image)), terms())
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%d bytes, one at a time: %v", size, err)
		}
	}
}

// TestManifestIsSmall: a figure of the requirements.
func TestManifestIsSmall(t *testing.T) {
	terms := terms()
	terms.BlockSize = 4 << 10
	text := encode(t, build(t, randomImage(1<<20), terms))
	t.Logf("a manifest of 1 MiB in blocks of 4 KiB has %d bytes", len(text))
	if len(text) >= 16<<10 {
		t.Errorf("it has %d bytes, want less than 16 KiB", len(text))
	}
	if !bytes.HasPrefix(text, []byte("{\n  \"v\": 1,\n  \"image\": \"sha256:")) || !bytes.Contains(text, []byte("\n  \"version\": \"2.1.0\",\n")) {
		t.Errorf("not to be read in an editor:\n%.300s", text)
	}
}

func TestLargestManifestFits(t *testing.T) {
	m := &Manifest{Terms: terms(), Size: MaxBlocks * MinBlockSize, SHA256: strings.Repeat("ab", 32), hashes: make([]byte, MaxBlocks*32)}
	m.Version = strings.Repeat("€", schemas.MaxVersionLength/3)
	m.ImageType, m.DeviceTypes = strings.Repeat("x", schemas.MaxIDLength), nil
	for i := range MaxDeviceTypes {
		m.DeviceTypes = append(m.DeviceTypes, fmt.Sprintf("%0*d", schemas.MaxIDLength, i))
	}
	if text := encode(t, m); len(text) > MaxManifestSize {
		t.Errorf("the largest manifest has %d bytes, over the limit of %d", len(text), MaxManifestSize)
	}
	m.Size++
	m.hashes = append(m.hashes, make([]byte, 32)...)
	_, err := m.Encode()
	refused(t, err, ErrMalformed)
}

func TestBuildRefuses(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		r    io.Reader
		want error
	}{
		"an empty image":          {strings.NewReader(""), ErrMalformed},
		"too many blocks":         {io.LimitReader(zeros{}, MaxBlocks*MinBlockSize+1), ErrMalformed},
		"a reader that fails":     {io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), broken},
		"a reader that is cut":    {io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
		"cut at a block boundary": {io.MultiReader(strings.NewReader(strings.Repeat("x", MinBlockSize)), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
	} {
		if m, err := Build(c.r, terms()); m != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, m, err, c.want)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestTermsAreBounded(t *testing.T) {
	if err := new(Terms).Validate(); err == nil {
		t.Error("empty terms are valid")
	}
	many := make([]string, MaxDeviceTypes+1)
	for i := range many {
		many[i] = fmt.Sprintf("t%03d", i)
	}
	for name, change := range map[string]func(*Terms){
		"no image type":           func(t *Terms) { t.ImageType = "" },
		"an image type's letters": func(t *Terms) { t.ImageType = "a/b" },
		"no device type":          func(t *Terms) { t.DeviceTypes = nil },
		"device types descend":    func(t *Terms) { slices.Reverse(t.DeviceTypes) },
		"a device type twice":     func(t *Terms) { t.DeviceTypes = []string{"pump", "pump"} },
		"a device type's letters": func(t *Terms) { t.DeviceTypes = []string{"../x"} },
		"many device types":       func(t *Terms) { t.DeviceTypes = many },
		"no version":              func(t *Terms) { t.Version = "" },
		"a version's letters":     func(t *Terms) { t.Version = "1\n2" },
		"a long version":          func(t *Terms) { t.Version = strings.Repeat("1", 256) },
		"the counter":             func(t *Terms) { t.Counter = MaxCounter + 1 },
		"a block size of 0":       func(t *Terms) { t.BlockSize = 0 },
		"a negative block size":   func(t *Terms) { t.BlockSize = -4096 },
		"a small block size":      func(t *Terms) { t.BlockSize = MinBlockSize / 2 },
		"a large block size":      func(t *Terms) { t.BlockSize = MaxBlockSize * 2 },
		"an odd block size":       func(t *Terms) { t.BlockSize = 4097 },
		"ends before it begins":   func(t *Terms) { t.Expires = t.Created },
		"parts of seconds":        func(t *Terms) { t.Created = t.Created.Add(1) },
		"another zone":            func(t *Terms) { t.Expires = t.Expires.In(time.FixedZone("x", 3600)) },
		"no time":                 func(t *Terms) { t.Created = time.Time{} },
		"a year of five digits":   func(t *Terms) { t.Expires = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		t.Run(name, func(t *testing.T) {
			terms := terms()
			change(&terms)
			_, err := Build(strings.NewReader("image"), terms)
			refused(t, err, ErrMalformed)
			_, err = (&Manifest{Terms: terms, Size: 1, SHA256: strings.Repeat("0", 64), hashes: make([]byte, 32)}).Encode()
			refused(t, err, ErrMalformed)
		})
	}
}

// TestOneTextForOneManifest: what means the same and is written otherwise is
// refused, so that no two readers see two manifests in one text.
func TestOneTextForOneManifest(t *testing.T) {
	text := string(encode(t, build(t, randomImage(2000), terms())))
	change := func(old, new string) string {
		if strings.Count(text, old) != 1 {
			t.Fatalf("%q stands %d times in\n%s", old, strings.Count(text, old), text)
		}
		return strings.Replace(text, old, new, 1)
	}
	for name, other := range map[string]string{
		"empty":                 "",
		"no newline at the end": strings.TrimSuffix(text, "\n"),
		"two newlines":          text + "\n",
		"data after it":         text + "{}\n",
		"twice":                 text + text,
		"a zero byte after it":  text + "\x00",
		"a byte order mark":     "\xef\xbb\xbf" + text,
		"line ends of Windows":  strings.ReplaceAll(text, "\n", "\r\n"),
		"on one line":           strings.ReplaceAll(text, "\n", " "),
		"tabs":                  strings.ReplaceAll(text, "  ", "\t"),
		"an unknown field":      change(`"v": 1,`, "\"v\": 1,\n  \"w\": 1,"),
		"an address":            change(`"v": 1,`, "\"v\": 1,\n  \"url\": \"https://images.example.com/fw.bin\","),
		"another image with it": change(`"v": 1,`, "\"v\": 1,\n  \"dependencies\": [],"),
		"a secret":              change(`"v": 1,`, "\"v\": 1,\n  \"key\": \"\","),
		"a field twice":         change(`"counter": 7,`, "\"counter\": 7,\n  \"counter\": 7,"),
		"two values":            change(`"counter": 7,`, "\"counter\": 9,\n  \"counter\": 7,"),
		"another order":         strings.Replace(change("  \"counter\": 7,\n", ""), "  \"version\"", "  \"counter\": 7,\n  \"version\"", 1),
		"other letters":         change(`"counter"`, `"Counter"`),
		"an escape":             change(`"version": "2.1.0"`, `"version": "2\u002e1.0"`),
		"a number as a float":   change(`"counter": 7`, `"counter": 7.0`),
		"with an exponent":      change(`"counter": 7`, `"counter": 7e0`),
		"with a leading zero":   change(`"counter": 7`, `"counter": 07`),
		"a number as a string":  change(`"counter": 7`, `"counter": "7"`),
		"a negative number":     change(`"counter": 7`, `"counter": -7`),
		"over uint64":           change(`"counter": 7`, `"counter": 18446744073709551616`),
		"null":                  change(`"counter": 7`, `"counter": null`),
		"a missing field":       change("  \"counter\": 7,\n", ""),
		"a zone":                change(`"created": "2026-11-01T12:00:00Z"`, `"created": "2026-11-01T12:00:00+00:00"`),
		"a fraction":            change(`"created": "2026-11-01T12:00:00Z"`, `"created": "2026-11-01T12:00:00.0Z"`),
		"base64 with a newline": change(`"blocks": "`, `"blocks": "\n`),
		"base64 with spare bit": change("=\"\n", "\"\n"),
		"no UTF-8":              change(`"2.1.0"`, "\"2.1.\xff\""),
		"a list":                "[" + text + "]",
		"null as a whole":       "null\n",
		"a comment":             "// x\n" + text,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeManifest([]byte(other))
			refused(t, err, ErrMalformed)
		})
	}
}

// TestLaterFormats: a person is told that the program is too old, not that a
// field is unknown.
func TestLaterFormats(t *testing.T) {
	for _, text := range []string{"{\n  \"v\": 2,\n  \"tree\": {}\n}\n", "{\n  \"v\": 2\n}\n"} {
		_, err := DecodeManifest([]byte(text))
		_, listErr := DecodeKeyList([]byte(text))
		for _, err := range []error{err, listErr} {
			refused(t, err, ErrMalformed)
			if !strings.Contains(err.Error(), "format version 2") {
				t.Error(err)
			}
		}
	}
}

// TestEveryByteOfTheTextCounts changes the text at each place: the old signature
// is never good for it, and what can be decoded at all has no second text.
func TestEveryByteOfTheTextCounts(t *testing.T) {
	m, key := build(t, randomImage(1500), terms()), newKey(t)
	text := encode(t, m)
	signed, policy := sign(t, text, key), policyFor(m, key)
	for i := range text {
		flipped, other := bytes.Clone(text), bytes.Clone(text)
		flipped[i] ^= 1
		other[i] = '0' + byte(i%10)
		for _, changed := range [][]byte{flipped, other, text[:i], slices.Delete(bytes.Clone(text), i, i+1), slices.Insert(bytes.Clone(text), i, text[i])} {
			if bytes.Equal(changed, text) {
				continue
			}
			_, err := policy.Check(Signed{changed, signed.Signatures})
			refused(t, err, ErrBadSignature)
			if m, err := DecodeManifest(changed); err == nil && !bytes.Equal(encode(t, m), changed) {
				t.Fatalf("two texts for one manifest:\n%s", changed)
			}
		}
	}
}

// TestHugeCountsCostNothing: what a text claims is compared with what it has
// before anything of that size is made.
func TestHugeCountsCostNothing(t *testing.T) {
	text := string(encode(t, build(t, randomImage(2000), terms())))
	for _, size := range []string{"4294967295", "4294967296", "18446744073709551615", "16777216", "16777217", "0", "2049", "1024"} {
		other := []byte(strings.Replace(text, `"size": 2000`, `"size": `+size, 1))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := DecodeManifest(other)
		runtime.ReadMemStats(&after)
		refused(t, err, ErrMalformed)
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<10 {
			t.Errorf("size %s: %d bytes were allocated for a text of %d", size, used, len(other))
		}
	}
	_, err := DecodeManifest(bytes.Repeat([]byte(" "), MaxManifestSize+1))
	refused(t, err, ErrMalformed)
	long := strings.Repeat("x", MaxManifestSize/2)
	_, err = DecodeManifest([]byte(`{"` + long + `": 1}`))
	refused(t, err, ErrMalformed)
	_, err = DecodeManifest([]byte(strings.Repeat("[", MaxManifestSize)))
	refused(t, err, ErrMalformed)
}
