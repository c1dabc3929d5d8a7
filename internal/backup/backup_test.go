package backup_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"davit/internal/backup"
)

var header = backup.Header{Layout: 3, Program: "v1.2.3", CreatedAt: time.Date(2026, 11, 26, 20, 0, 0, 5, time.UTC)}

func archiveOf(t interface{ Fatal(...any) }, files map[string]string) []byte {
	var b bytes.Buffer
	w, err := backup.NewWriter(&b, header)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.Add(name, int64(len(files[name])), strings.NewReader(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// kept takes files in memory.
type kept map[string]string

func (kept) Begin(backup.Header) error { return nil }
func (k kept) File(path string, _ int64, content io.Reader) error {
	b, err := io.ReadAll(content)
	k[path] = string(b)
	return err
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := rapid.MapOfN(rapid.StringMatching(`[a-z0-9/.]{0,119}[a-z]`), rapid.StringN(0, 2000, -1), 0, 8).Draw(t, "files")
		delete(files, "manifest.json")
		got := kept{}
		m, err := backup.Read(bytes.NewReader(archiveOf(t, files)), got)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(map[string]string(got), files) || len(m.Files) != len(files) || m.Layout != 3 || !m.CreatedAt.Equal(header.CreatedAt) {
			t.Fatalf("%v %+v", got, m)
		}
	})
}

// No archive that was changed, cut or made longer anywhere is taken for a whole one.
func TestNoOtherBytesAreAnArchive(t *testing.T) {
	whole := archiveOf(t, map[string]string{"davit.db": strings.Repeat("records ", 200), "blobs/aa/aa": "image"})
	for n := range whole {
		if _, err := backup.Verify(bytes.NewReader(whole[:n])); !errors.Is(err, backup.ErrArchive) {
			t.Fatalf("cut after %d of %d bytes: %v", n, len(whole), err)
		}
	}
	for _, more := range []string{"x", "\x00", strings.Repeat("\x00", 512), strings.Repeat("\x00", 10240)} {
		if _, err := backup.Verify(strings.NewReader(string(whole) + more)); !errors.Is(err, backup.ErrArchive) {
			t.Errorf("with %d bytes more: %v", len(more), err)
		}
	}
	taken := 0
	for i := range whole {
		changed := bytes.Clone(whole)
		changed[i] ^= 0x01
		got := kept{}
		if _, err := backup.Read(bytes.NewReader(changed), got); err == nil {
			taken++ // padding, or what tar does not look at: the files are the same
			if got["davit.db"] != strings.Repeat("records ", 200) || got["blobs/aa/aa"] != "image" {
				t.Fatalf("byte %d changed what was read", i)
			}
		}
	}
	if taken > len(whole)/3 {
		t.Errorf("%d of %d changed bytes do not matter", taken, len(whole))
	}
}

// entry is one entry of an archive that is made by hand.
type entry struct {
	tar.Header
	content string
}

func plain(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content))}, content}
}

func first() entry {
	b, _ := json.Marshal(backup.Header{Format: 1, Layout: 3, Program: "x", CreatedAt: time.Unix(0, 0).UTC()})
	return plain("davit-backup.json", string(b))
}

func last(files ...backup.File) entry {
	b, _ := json.Marshal(backup.Manifest{Header: backup.Header{Format: 1, Layout: 3, Program: "x", CreatedAt: time.Unix(0, 0).UTC()}, Files: files})
	return plain("manifest.json", string(b))
}

func TestArchivesThatAreRefused(t *testing.T) {
	f := backup.File{Path: "f", Size: 1, SHA256: "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"} // of "x"
	link := func(kind byte, to string) entry {
		return entry{tar.Header{Typeflag: kind, Name: "f", Linkname: to}, ""}
	}
	sparse := entry{tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: 1, PAXRecords: map[string]string{"VENDOR.x": "1"}, Format: tar.FormatPAX}, "x"}
	for _, c := range []struct {
		name    string
		entries []entry
		want    string
	}{
		{"nothing", nil, "ends before its manifest"},
		{"another archive", []entry{plain("etc/passwd", "root")}, "begins with"},
		{"no manifest", []entry{first(), plain("f", "x")}, "ends before its manifest"},
		{"newer format", []entry{plain("davit-backup.json", `{"format":2,"layout":9,"program":"v3","created_at":"2030-01-01T00:00:00Z"}`)}, "format 2, written by davit v3"},
		{"header that is none", []entry{plain("davit-backup.json", `[]`)}, "davit-backup.json"},
		{"long header", []entry{plain("davit-backup.json", strings.Repeat(" ", 70_000))}, "begins with"},
		{"symbolic link", []entry{first(), link(tar.TypeSymlink, "/etc/passwd")}, "no plain file"},
		{"hard link", []entry{first(), link(tar.TypeLink, "davit-backup.json")}, "no plain file"},
		{"device", []entry{first(), link(tar.TypeChar, "")}, "no plain file"},
		{"folder", []entry{first(), link(tar.TypeDir, "")}, "no plain file"},
		{"extension", []entry{first(), sparse, last(f)}, "VENDOR.x"},
		{"twice", []entry{first(), plain("f", "x"), plain("f", "x"), last(f, f)}, "twice"},
		{"header twice", []entry{first(), first()}, "twice"},
		{"other content", []entry{first(), plain("f", "y"), last(f)}, "SHA-256"},
		{"missing", []entry{first(), last(f)}, "f is missing"},
		{"one more", []entry{first(), plain("f", "x"), plain("g", "x"), last(f)}, "g is not in its manifest"},
		{"other manifest", []entry{first(), plain("f", "x"), plain("manifest.json", `{"format":1,"layout":4,"program":"x","created_at":"1970-01-01T00:00:00Z","files":[]}`)}, "another backup"},
		{"behind the manifest", []entry{first(), plain("f", "x"), last(f), plain("g", "x")}, "behind its manifest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, e := range c.entries {
				if err := w.WriteHeader(&e.Header); err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(w, e.content); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := backup.Verify(&b); !errors.Is(err, backup.ErrArchive) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q: %v", c.want, err)
			}
		})
	}
}

// A target that fails, or that does not read what it is given, ends the reading.
func TestTargetsErrorIsTold(t *testing.T) {
	full := fmt.Errorf("disk is full")
	archive := archiveOf(t, map[string]string{"f": "x"})
	if _, err := backup.Read(bytes.NewReader(archive), stubborn{full}); !errors.Is(err, full) || errors.Is(err, backup.ErrArchive) {
		t.Error(err)
	}
	if _, err := backup.Read(bytes.NewReader(archive), stubborn{}); err == nil {
		t.Error("a file that was not read was believed")
	}
}

type stubborn struct{ err error }

func (stubborn) Begin(backup.Header) error             { return nil }
func (s stubborn) File(string, int64, io.Reader) error { return s.err }

func TestShortFileIsNoBackup(t *testing.T) {
	w, err := backup.NewWriter(io.Discard, header)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add("f", 5, strings.NewReader("1234")); err == nil || !strings.Contains(err.Error(), "4 bytes") {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(archiveOf(f, map[string]string{"davit.db": "records", "blobs/aa/aa": "image"}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got := kept{}
		m, err := backup.Read(bytes.NewReader(b), got)
		if err == nil && len(m.Files) != len(got) {
			t.Errorf("%d files, %d in the manifest", len(got), len(m.Files))
		}
	})
}
