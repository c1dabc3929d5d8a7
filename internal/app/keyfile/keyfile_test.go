package keyfile

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"davit/internal/signtest"
)

// write puts a file into dir and returns its name.
func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A word is a key, or the name of a file with one, and nothing else.
func TestPublicKey(t *testing.T) {
	dir, key := t.TempDir(), signtest.Key(t).Public()
	for name, c := range map[string]struct {
		word string
		no   string // part of the error
	}{
		"the key":           {word: key.String()},
		"a file":            {word: write(t, dir, "a.pub", key.File())},
		"a file of the key": {word: write(t, dir, "b.pub", []byte(key.String()+"\n"))},
		"nothing":           {no: "neither a minisign public key nor a file with one"},
		"no file":           {word: filepath.Join(dir, "none"), no: "neither a minisign public key nor a file with one"},
		"a file of no key":  {word: write(t, dir, "c.pub", []byte("hello")), no: "c.pub: "},
		"a long file":       {word: write(t, dir, "d.pub", make([]byte, MaxKeyFile+1)), no: "more than 4096 bytes"},
		"half a key":        {word: key.String()[:30], no: "neither"},
	} {
		got, err := PublicKey(c.word)
		if (err != nil) != (c.no != "") || err != nil && !strings.Contains(err.Error(), c.no) || err == nil && got != key {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// What a source reads, and what it is read from.
func TestSource(t *testing.T) {
	dir, root, a, b := t.TempDir(), signtest.Key(t), signtest.Key(t), signtest.Key(t)
	first, second := signtest.SignList(t, signtest.List(1, root, a), root), signtest.SignList(t, signtest.List(2, root, b), root)
	list := func(name string, s struct{ Text, Signatures []byte }) string {
		if s.Signatures != nil {
			write(t, dir, name+SignatureSuffix, s.Signatures)
		}
		return write(t, dir, name, s.Text)
	}
	one, two, bare := list("one", first), list("two", second), list("bare", struct{ Text, Signatures []byte }{first.Text, nil})
	file := write(t, dir, "a.pub", a.Public().File())
	words, roots := []string{file, b.Public().String()}, []string{root.Public().String()}
	for name, c := range map[string]struct {
		s       Source
		keys    int
		need    int
		version uint64
		no      string
	}{
		"nothing":            {},
		"keys":               {s: Source{Keys: words}, keys: 2, need: 2},
		"one of two":         {s: Source{Keys: words, Threshold: 1}, keys: 2, need: 1},
		"three of two":       {s: Source{Keys: words, Threshold: 3}, no: "threshold is 3 with 2 keys"},
		"a key twice":        {s: Source{Keys: []string{file, a.Public().String()}}, no: "name each once"},
		"lists":              {s: Source{Lists: []string{one, two}, Roots: roots}, version: 2},
		"lists turned round": {s: Source{Lists: []string{two, one}, Roots: roots}, no: one + ": "},
		"another root":       {s: Source{Lists: []string{one}, Roots: words[:1]}, no: one + ": "},
		"no signatures":      {s: Source{Lists: []string{bare}, Roots: roots}, no: bare + SignatureSuffix},
		"too many lists":     {s: Source{Lists: slices.Repeat([]string{one}, 257), Roots: roots}, no: "at most 256"},
	} {
		if err := c.s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		keys, ring, err := c.s.Read()
		switch {
		case err != nil || c.no != "":
			if err == nil || c.no == "" || !strings.Contains(err.Error(), c.no) {
				t.Errorf("%s: %v, want %q", name, err, c.no)
			}
		case len(keys.Keys) != c.keys || keys.Threshold != c.need || (ring != nil) != (c.version > 0) || ring != nil && ring.Version() != c.version:
			t.Errorf("%s: %v, %v", name, keys, ring)
		}
	}
	s := Source{Lists: []string{one}, Roots: []string{file}}
	if got := s.Files(); !slices.Equal(got, []string{file, one, one + SignatureSuffix}) {
		t.Errorf("files %q", got)
	}
}

func TestSourcesThatMeanNothing(t *testing.T) {
	for no, s := range map[string]Source{
		"not both":                        {Keys: []string{"a"}, Lists: []string{"b"}},
		"stands with --image-keys":        {Threshold: 1},
		"stand with --key-list":           {Roots: []string{"a"}},
		"--root-keys-threshold stand":     {RootThreshold: 1},
		"a key list alone proves nothing": {Lists: []string{"a"}},
		"below 0":                         {Keys: []string{"a"}, Threshold: -1},
	} {
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), no) {
			t.Errorf("%+v: %v, want %q", s, err, no)
		}
	}
}
