package boltstore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"davit/internal/durable"
	"davit/orchestrator"
	"davit/orchestrator/boltstore"
)

func storeIn(t *testing.T, dir string) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(boltstore.Options{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// content is all that the tables of these tests hold.
func content(t *testing.T, s orchestrator.Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	if err := s.View(t.Context(), func(r orchestrator.Reader) error {
		for _, table := range []orchestrator.Table{"a", "b", "busy"} {
			if err := r.Scan(table, nil, nil, func(k, v []byte) bool {
				all[string(table)+" "+string(k)] = string(v)
				return true
			}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// hollow fills a store and deletes most of it again.
func hollow(t *testing.T, s orchestrator.Store) {
	t.Helper()
	const keys = 3000
	for _, keep := range []bool{true, false} {
		if err := s.Update(t.Context(), func(w orchestrator.Writer) error {
			for i := range keys {
				table := orchestrator.Table([]string{"a", "b"}[i%2])
				key := fmt.Appendf(nil, "%05d", i)
				var err error
				if keep {
					err = w.Put(table, key, make([]byte, 1000+i%500))
				} else if i%10 != 0 {
					err = w.Delete(table, key)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCompactionGivesBackWhatIsFree(t *testing.T) {
	dir := t.TempDir()
	s := storeIn(t, dir)
	hollow(t, s)
	before := content(t, s)
	c, err := s.Compact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.After > c.Before/3 || c.Before < 3<<20 {
		t.Errorf("%+v", c)
	}
	if !maps.Equal(content(t, s), before) {
		t.Error("the content is another one")
	}
	if err := s.Update(t.Context(), func(w orchestrator.Writer) error { return w.Put("a", []byte("later"), []byte("x")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := open(dir); err == nil {
		t.Error("the new file is not locked")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before["a later"] = "x"
	if again := storeIn(t, dir); !maps.Equal(content(t, again), before) {
		t.Error("opened again, the content is another one")
	}
}

// While writers change keys, add and delete some, and readers look, compactions lose
// nothing: every update that was answered is there, and each view is of one moment.
func TestCompactionBesideUpdates(t *testing.T) {
	dir := t.TempDir()
	s := storeIn(t, dir)
	hollow(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var longest atomic.Int64
	var answered [8]atomic.Uint64
	for i := range answered {
		all.Go(func() {
			for n := uint64(1); ctx.Err() == nil; n++ {
				began := time.Now()
				err := s.Update(context.Background(), func(w orchestrator.Writer) error {
					// The number and its double, in two tables; and one key that comes and goes.
					v := binary.BigEndian.AppendUint64(nil, n)
					err := errors.Join(w.Put("busy", []byte{byte(i)}, v), w.Put("a", fmt.Appendf(nil, "busy-%d", i), v))
					if n%2 == 0 {
						return errors.Join(err, w.Delete("b", fmt.Appendf(nil, "odd-%d", i)))
					}
					return errors.Join(err, w.Put("b", fmt.Appendf(nil, "odd-%d", i), v))
				})
				if err != nil {
					t.Error(err)
					return
				}
				answered[i].Store(n)
				longest.Store(max(longest.Load(), int64(time.Since(began))))
			}
		})
	}
	all.Go(func() {
		for ctx.Err() == nil {
			if err := s.View(ctx, func(r orchestrator.Reader) error {
				for i := range answered {
					one, err := r.Get("busy", []byte{byte(i)})
					if err != nil {
						return err
					}
					two, err := r.Get("a", fmt.Appendf(nil, "busy-%d", i))
					odd, err2 := r.Get("b", fmt.Appendf(nil, "odd-%d", i))
					if string(one) != string(two) || one != nil && (binary.BigEndian.Uint64(one)%2 == 1) != (odd != nil) {
						t.Errorf("a view of two moments: %x %x %x", one, two, odd)
					}
					if err = errors.Join(err, err2); err != nil {
						return err
					}
				}
				return nil
			}); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	var stop time.Duration
	for range 3 {
		c, err := s.Compact(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		stop = max(stop, c.Stop)
		for i := range answered {
			n := answered[i].Load()
			if got := get(t, s, "busy", []byte{byte(i)}); got < n {
				t.Fatalf("writer %d: %d was answered, the store has %d", i, n, got)
			}
		}
	}
	cancel()
	all.Wait()
	t.Logf("updates waited %v for an exchange, an update took %v at most", stop, time.Duration(longest.Load()))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := storeIn(t, dir)
	for i := range answered {
		if got := get(t, again, "busy", []byte{byte(i)}); got != answered[i].Load() {
			t.Errorf("writer %d: %d was answered, the file has %d", i, answered[i].Load(), got)
		}
	}
}

func get(t *testing.T, s orchestrator.Store, table orchestrator.Table, key []byte) (n uint64) {
	t.Helper()
	if err := s.View(t.Context(), func(r orchestrator.Reader) error {
		v, err := r.Get(table, key)
		if len(v) == 8 {
			n = binary.BigEndian.Uint64(v)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// A kill, and an error, before any step leave a file with all that was answered.
func TestCompactionThatIsCutOff(t *testing.T) {
	for _, step := range []string{"copy", "round", "rest", "rename", "sync"} {
		for _, kill := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, kill %v", step, kill), func(t *testing.T) {
				dir, killed := t.TempDir(), filepath.Join(t.TempDir(), "killed")
				s := storeIn(t, dir)
				hollow(t, s)
				failed := errors.New("injected")
				reached, n := false, byte(0)
				var atKill map[string]string
				s.OnStep(func(name string) error {
					if name == "copy" || name == "round" { // not at the writer: something more comes
						n++
						if err := s.Update(context.Background(), func(w orchestrator.Writer) error {
							return errors.Join(w.Put("busy", []byte{n}, []byte("later")), w.Delete("a", fmt.Appendf(nil, "%05d", 100*int(n))))
						}); err != nil {
							t.Error(err)
						}
					}
					if name != step || reached {
						return nil
					}
					reached = true
					if kill {
						atKill = content(t, s)
						return os.CopyFS(killed, os.DirFS(dir))
					}
					return failed
				})
				_, err := s.Compact(t.Context())
				if !reached || kill != (err == nil) || !kill && !errors.Is(err, failed) {
					t.Fatalf("reached %v: %v", reached, err)
				}
				if kill {
					if err := durable.RemoveTemp(killed); err != nil {
						t.Fatal(err)
					}
					if got := content(t, storeIn(t, killed)); !maps.Equal(got, atKill) {
						t.Errorf("after the kill the store has %d keys, not the %d that it had", len(got), len(atKill))
					}
					return
				}
				// The store goes on, and the next compaction does it.
				if err := s.Update(t.Context(), func(w orchestrator.Writer) error { return w.Put("a", []byte("on"), []byte("and on")) }); err != nil {
					t.Fatal(err)
				}
				s.OnStep(nil)
				want := content(t, s)
				if _, err := s.Compact(t.Context()); err != nil {
					t.Fatal(err)
				}
				if !maps.Equal(content(t, s), want) {
					t.Error("the content is another one")
				}
				if left, _ := filepath.Glob(filepath.Join(dir, durable.TempPrefix+"*")); len(left) > 0 {
					t.Errorf("left over: %q", left)
				}
			})
		}
	}
}

func TestCompactionEndsWithTheStore(t *testing.T) {
	s := storeIn(t, t.TempDir())
	hollow(t, s)
	s.OnStep(func(step string) error {
		if step == "copy" {
			go func() { _ = s.Close() }()
		}
		return nil
	})
	if _, err := s.Compact(t.Context()); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, orchestrator.ErrClosed) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestOneCompactionAtATime(t *testing.T) {
	s := storeIn(t, t.TempDir())
	hollow(t, s)
	s.OnStep(func(step string) error {
		if step == "copy" {
			if _, err := s.Compact(context.Background()); !errors.Is(err, boltstore.ErrBusy) {
				t.Errorf("a second one: %v", err)
			}
		}
		return nil
	})
	if _, err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A file that is moved away or replaced is noticed, and one that a compaction exchanges is none.
func TestFileInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := boltstore.Open(boltstore.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := func(when string) {
		t.Helper()
		if err := s.InPlace(); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	in("when it is opened")
	s.OnStep(func(step string) error { in("before the step " + step); return nil })
	if _, err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	in("after a compaction")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := s.InPlace(); err == nil || !strings.Contains(err.Error(), "not in their place any more") {
		t.Errorf("when it is away: %v", err)
	}
	if err := os.WriteFile(path, []byte("a backup"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.InPlace(); err == nil || !strings.Contains(err.Error(), "another file is in the place") {
		t.Errorf("when another is there: %v", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	in("when it is back")
}
