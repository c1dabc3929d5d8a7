package boltstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"davit/orchestrator"
	"davit/orchestrator/boltstore"
)

// manyPages is a store with several tables, branches and values over several pages, as bytes, with what is in it.
func manyPages(t *testing.T) ([]byte, map[string][]byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := boltstore.Open(boltstore.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for part := range 8 {
		if err := s.Update(t.Context(), func(w orchestrator.Writer) error {
			for i := range 100 {
				table, key := orchestrator.Table(fmt.Sprintf("t%d", i%3)), fmt.Appendf(nil, "key-%02d-%d", i, part)
				value := bytes.Repeat([]byte{byte(i)}, 40+i*i*i/1000)
				all[string(table)+string(key)] = value
				if err := w.Put(table, key, value); err != nil {
					return err
				}
			}
			return w.Put("small", fmt.Appendf(nil, "k%d", part), []byte("v"))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, all
}

// readAll compares what a store has with what was written into it.
func readAll(ctx context.Context, s *boltstore.Store, all map[string][]byte) (seen int, err error) {
	err = s.View(ctx, func(r orchestrator.Reader) error {
		for _, table := range []orchestrator.Table{"t0", "t1", "t2"} {
			if err := r.Scan(table, nil, nil, func(k, v []byte) bool {
				if len(all[string(table)+string(k)]) == len(v) {
					seen++
				}
				return true
			}); err != nil {
				return err
			}
		}
		return nil
	})
	return seen, err
}

// A page that is damaged anywhere is told when the store is opened, or it is a place of no consequence: then all that was
// written is read, and the store can be written. There is no panic, and nothing is missing without a word.
func TestDamagedPages(t *testing.T) {
	whole, all := manyPages(t)
	size := os.Getpagesize()
	refused := 0
	if os.Getenv("DAVIT_TEST_FULL") != "1" { // each needs a file of its own
		checks := flag.Lookup("rapid.checks")
		was := checks.Value.String()
		t.Cleanup(func() { _ = checks.Value.Set(was) })
		if err := checks.Value.Set("25"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		b := bytes.Clone(whole)
		page := rapid.IntRange(2, len(b)/size-1).Draw(r, "page")
		at := page * size
		switch rapid.IntRange(0, 3).Draw(r, "kind") {
		case 0: // lost
			clear(b[at : at+size])
		case 1: // another page's content
			copy(b[at:at+size], whole[rapid.IntRange(2, len(b)/size-1).Draw(r, "other")*size:])
		case 2: // some of the header and of the elements; what is in keys and values has no checksum
			last := min(size, 16+16*int(binary.NativeEndian.Uint16(b[at+10:]))) - 1
			if last >= 16+8 && b[at+8] == 0x02 { // nor have the sizes of a leaf's last key and value, behind which nothing is
				last -= 8
			}
			for _, i := range rapid.SliceOfN(rapid.IntRange(0, last), 1, 8).Draw(r, "bytes") {
				b[at+i] ^= byte(rapid.IntRange(1, 255).Draw(r, "change"))
			}
		case 3: // noise
			noise := rand.NewChaCha8([32]byte{byte(rapid.IntRange(0, 255).Draw(r, "noise"))})
			_, _ = noise.Read(b[at : at+size]) // never fails
		}
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			r.Fatal(err)
		}
		path := filepath.Join(dir, "store.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			r.Fatal(err)
		}
		s, err := boltstore.Open(boltstore.Options{Path: path})
		if err != nil {
			refused++
			if !errors.Is(err, boltstore.ErrDamaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "at byte") || !strings.Contains(err.Error(), "davit restore") {
				r.Errorf("it says %v", err)
			}
			return
		}
		seen, err := readAll(context.Background(), s, all)
		if err == nil && rapid.IntRange(0, 9).Draw(r, "write") == 0 { // which waits for the disk
			err = s.Update(context.Background(), func(w orchestrator.Writer) error { return w.Put("t1", []byte("new"), []byte("v")) })
		}
		if err != nil && !errors.Is(err, boltstore.ErrDamaged) || err == nil && seen != len(all) {
			r.Errorf("page %d: %d values of %d are read: %v", page, seen, len(all), err)
		}
		if err := s.Close(); err != nil {
			r.Error(err)
		}
	})
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

// A page that is damaged while the store is in use ends its use: nothing of it is read or written any more.
func TestPagesDamagedInUse(t *testing.T) {
	whole, all := manyPages(t)
	size := os.Getpagesize()
	for _, way := range []string{"read", "write", "compact", "snapshot", "tables"} {
		path := filepath.Join(t.TempDir(), "store.db")
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := boltstore.Open(boltstore.Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for page := 2; page < len(whole)/size; page++ {
			if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, size), int64(page*size)); err != nil {
				t.Fatal(err)
			}
		}
		put := func() error {
			return s.Update(t.Context(), func(w orchestrator.Writer) error { return w.Put("t1", []byte("new"), []byte("v")) })
		}
		switch way {
		case "read":
			_, err = readAll(t.Context(), s, all)
		case "write":
			err = put()
		case "compact":
			_, err = s.Compact(t.Context())
		case "snapshot":
			err = s.Snapshot(t.Context(), func(r orchestrator.Reader) error { _, err := r.Get("t1", []byte("key-01-0")); return err }, io.Discard)
		case "tables":
			_, err = s.Tables()
		}
		if !errors.Is(err, boltstore.ErrDamaged) {
			t.Errorf("%s: %v", way, err)
		}
		select {
		case <-s.Damaged():
		default:
			t.Error("the store does not say that it is damaged")
		}
		if _, err := readAll(t.Context(), s, all); !errors.Is(err, boltstore.ErrDamaged) {
			t.Errorf("read after it: %v", err)
		}
		if err := put(); !errors.Is(err, boltstore.ErrDamaged) {
			t.Errorf("write after it: %v", err)
		}
		if err := errors.Join(s.Close(), f.Close()); err != nil {
			t.Error(err)
		}
	}
}

// A caller's own panic stays one.
func TestPanicsOfCallersAreNoDamage(t *testing.T) {
	s, err := boltstore.Open(boltstore.Options{Path: filepath.Join(t.TempDir(), "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		_ = s.View(t.Context(), func(orchestrator.Reader) error { var none []byte; _ = none[len(os.Args)+5]; return nil })
	}()
	if s.Damage() != nil {
		t.Error(s.Damage())
	}
}
