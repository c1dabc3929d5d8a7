package keystate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"davit/internal/durable"
	"davit/internal/signtest"
	"davit/trust"
)

func TestOnlyNewerListsAreAccepted(t *testing.T) {
	f := File(filepath.Join(t.TempDir(), "keylist.json"))
	root, other, a, b := signtest.Key(t), signtest.Key(t), signtest.Key(t), signtest.Key(t)
	if err := f.Accept(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(string(f)); err == nil {
		t.Error("without a list there is a file")
	}
	same := signtest.List(3, root, a)
	for _, s := range []struct {
		what string
		ring *trust.KeyRing
		no   string // part of the refusal
	}{
		{"the first", signtest.Ring(t, same, root), ""},
		{"the same", signtest.Ring(t, same, root), ""},
		{"an older one", signtest.Ring(t, signtest.List(2, root, a), root), "version 2, and version 3 was accepted"},
		{"another of the same version", signtest.Ring(t, signtest.List(3, root, b), root), "there are two"},
		{"a newer one", signtest.Ring(t, signtest.List(7, root, b), root), ""},
		{"the one before", signtest.Ring(t, same, root), "version 3, and version 7"},
		{"one of other roots", signtest.Ring(t, signtest.List(1, other, a), other), ""},
		{"the first roots' again", signtest.Ring(t, same, root), "version 3, and version 7"},
	} {
		err := File(f).Accept(s.ring) // nothing is remembered but by the file
		if (err != nil) != (s.no != "") || err != nil && (!errors.Is(err, trust.ErrKeyListRollback) || !strings.Contains(err.Error(), s.no)) {
			t.Errorf("%s: %v, want %q", s.what, err, s.no)
		}
	}
}

// What is no whole file lets no list in, and is not written over.
func TestFileThatCannotBeUsed(t *testing.T) {
	sum := strings.Repeat("a", 64)
	root := signtest.Key(t)
	ring := signtest.Ring(t, signtest.List(3, root, signtest.Key(t)), root)
	for name, text := range map[string]string{
		"empty":           "",
		"zeroes":          strings.Repeat("\x00", 100),
		"cut off":         `{"v":1,"lists":{"` + sum + `":{"version":3,`,
		"another version": `{"v":2,"lists":{}}`,
		"no lists":        `{"v":1}`,
		"unknown field":   `{"v":1,"lists":{},"x":1}`,
		"data behind it":  `{"v":1,"lists":{}}{}`,
		"version 0":       `{"v":1,"lists":{"` + sum + `":{"version":0,"sha256":"` + sum + `"}}}`,
		"too high":        `{"v":1,"lists":{"` + sum + `":{"version":9007199254740992,"sha256":"` + sum + `"}}}`,
		"no digest":       `{"v":1,"lists":{"` + sum + `":{"version":1,"sha256":"aa"}}}`,
		"capitals":        `{"v":1,"lists":{"` + strings.ToUpper(sum) + `":{"version":1,"sha256":"` + sum + `"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := File(filepath.Join(t.TempDir(), "keylist.json"))
			if err := os.WriteFile(string(f), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := f.Accept(ring)
			if err == nil || !strings.Contains(err.Error(), string(f)) || !strings.Contains(err.Error(), "backup") {
				t.Errorf("%v", err)
			}
			if b, err := os.ReadFile(string(f)); err != nil || string(b) != text {
				t.Errorf("it was written over: %q, %v", b, err)
			}
		})
	}
}

// A list whose acceptance cannot be written is not accepted, and a crash before or after the
// rename leaves the old file or the new one: in either case nothing older comes in.
func TestCrashesWhileItIsRemembered(t *testing.T) {
	root, key := signtest.Key(t), signtest.Key(t)
	rings := map[uint64]*trust.KeyRing{}
	for v := uint64(1); v <= 6; v++ {
		rings[v] = signtest.Ring(t, signtest.List(v, root, key), root)
	}
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp("", "keystate")
		if err != nil {
			r.Fatal(err)
		}
		defer os.RemoveAll(dir)
		f := File(filepath.Join(dir, "keylist.json"))
		highest := uint64(0)
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			v := rapid.Uint64Range(1, 6).Draw(r, "version")
			before, _ := os.ReadFile(string(f))
			err := f.Accept(rings[v])
			switch {
			case v < highest && !errors.Is(err, trust.ErrKeyListRollback):
				r.Fatalf("version %d after %d: %v", v, highest, err)
			case v >= highest && err != nil:
				r.Fatal(err)
			case v < highest:
				continue
			}
			highest = v
			switch rapid.IntRange(0, 2).Draw(r, "crash") {
			case 1: // before the rename: whoever accepted it has not been told so
				if before == nil {
					err = os.Remove(string(f))
				} else {
					err = os.WriteFile(string(f), before, 0o600)
				}
				if err != nil {
					r.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, durable.TempPrefix+"x"), []byte(`{"v":1,"li`), 0o600); err != nil {
					r.Fatal(err)
				}
				if err := durable.RemoveTemp(dir); err != nil {
					r.Fatal(err)
				}
				known, err := f.load()
				if err != nil {
					r.Fatal(err)
				}
				highest = known[rings[1].Anchor()].Version
			case 2: // after it: the next start knows
				known, err := f.load()
				if err != nil || known[rings[1].Anchor()].Version != v {
					r.Fatalf("%v, %v", known, err)
				}
			}
		}
	})
	gone := File(filepath.Join(t.TempDir(), "nowhere", "keylist.json"))
	if err := gone.Accept(rings[1]); err == nil || !strings.Contains(err.Error(), "not accepted") {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// FuzzFile: whatever the file holds, a list is accepted only if the file can be read as one
// that names nothing newer, and then the file names that list.
func FuzzFile(f *testing.F) {
	root := signtest.Key(f)
	ring := signtest.Ring(f, signtest.List(3, root, signtest.Key(f)), root)
	sum := strings.Repeat("0", 64)
	for _, text := range []string{
		"", `{"v":1,"lists":{}}`, `{"v":1,"lists":{"` + sum + `":{"version":4,"sha256":"` + sum + `"}}}`,
		`{"v":1,"lists":{"` + ring.Anchor() + `":{"version":4,"sha256":"` + sum + `"}}}`, `{"v":1,"lists":{}}x`,
	} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		file := File(filepath.Join(dir, "keylist.json"))
		if err := os.WriteFile(string(file), text, 0o600); err != nil {
			t.Fatal(err)
		}
		lists, bad := decode(text)
		err := file.Accept(ring)
		last := lists[ring.Anchor()]
		if want := bad == nil && (last.Version < 3 || last == list{3, ring.Digest()}); (err == nil) != want {
			t.Fatalf("accepted with %v, %v: %v", lists, bad, err)
		}
		if err != nil {
			return
		}
		now, err := file.load()
		if err != nil || now[ring.Anchor()] != (list{3, ring.Digest()}) {
			t.Fatalf("it remembers %v, %v", now, err)
		}
		for anchor, l := range lists {
			if anchor != ring.Anchor() && now[anchor] != l {
				t.Fatalf("%s was %v and is %v", anchor, l, now[anchor])
			}
		}
	})
}

// Anchors do not depend on the order of the keys, and on nothing else than keys and threshold.
func TestAnchors(t *testing.T) {
	a, b := signtest.Key(t), signtest.Key(t)
	l := trust.KeyList{
		Version: 1, Created: trust.Moment(time.Now()), Expires: trust.Moment(time.Now().Add(time.Hour)), RootThreshold: 1, ImagesThreshold: 1,
		Keys: []trust.ListedKey{{Key: a.Public(), Role: trust.RoleRoot}, {Key: b.Public(), Role: trust.RoleImages}},
	}
	anchor := func(set trust.KeySet) string {
		t.Helper()
		ring, err := trust.Follow(set, signtest.SignList(t, l, a))
		if err != nil {
			t.Fatal(err)
		}
		return ring.Anchor()
	}
	both := trust.KeySet{Keys: []trust.PublicKey{a.Public(), b.Public()}, Threshold: 1}
	turned := trust.KeySet{Keys: []trust.PublicKey{b.Public(), a.Public()}, Threshold: 1}
	if anchor(both) != anchor(turned) || anchor(both) == anchor(signtest.Keys(1, a)) {
		t.Error("anchors differ by order, or do not differ by keys")
	}
}
