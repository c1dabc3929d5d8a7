// Package storetest is the suite that every orchestrator.Store has to pass,
// and a store that fails on request for tests of the orchestrator itself. It is
// imported by tests only, imports nothing of ours but the orchestrator's interfaces,
// and owns no state beyond the test that runs.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"davit/orchestrator"
)

// Factory makes the store under test.
type Factory struct {
	// Open opens the store of a folder, which is empty at first.
	Open func(t testing.TB, dir string) orchestrator.Store
	// Durable says that a store opened again in its folder has its records.
	Durable bool
}

const table, other orchestrator.Table = "one", "two"

// Run runs the conformance suite.
func Run(t *testing.T, f Factory) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, orchestrator.Store)
	}{
		{"empty", testEmpty},
		{"read your writes", testReadYourWrites},
		{"rollback on error", testRollback},
		{"a failure leaves the others of its group alone", testFailureInGroup},
		{"a panic takes back and reaches the caller", testPanic},
		{"snapshot isolation", testSnapshot},
		{"scan order, prefix, after", testScan},
		{"scan sees own writes", testScanOwnWrites},
		{"copies", testCopies},
		{"empty and large values", testValues},
		{"concurrent updates", testConcurrent},
		{"context", testContext},
		{"closed", testClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := f.Open(t, t.TempDir())
			defer func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}()
			test.run(t, s)
		})
	}
	if f.Durable {
		t.Run("reopen", func(t *testing.T) { testReopen(t, f) })
	}
}

func update(t testing.TB, s orchestrator.Store, fn func(orchestrator.Writer) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func put(t testing.TB, s orchestrator.Store, key, value string) {
	t.Helper()
	update(t, s, func(w orchestrator.Writer) error { return w.Put(table, []byte(key), []byte(value)) })
}

func get(t testing.TB, s orchestrator.Store, key string) []byte {
	t.Helper()
	var v []byte
	if err := s.View(context.Background(), func(r orchestrator.Reader) (err error) {
		v, err = r.Get(table, []byte(key))
		return err
	}); err != nil {
		t.Fatalf("view: %v", err)
	}
	return v
}

// keys returns what a scan yields, at most limit keys.
func keys(r orchestrator.Reader, prefix, after []byte, limit int) ([]string, error) {
	var out []string
	err := r.Scan(table, prefix, after, func(k, _ []byte) bool {
		out = append(out, string(k))
		return len(out) < limit
	})
	return out, err
}

func scan(t testing.TB, s orchestrator.Store, prefix, after []byte, limit int) []string {
	t.Helper()
	var out []string
	if err := s.View(context.Background(), func(r orchestrator.Reader) (err error) {
		out, err = keys(r, prefix, after, limit)
		return err
	}); err != nil {
		t.Fatalf("scan: %v", err)
	}
	return out
}

func testEmpty(t *testing.T, s orchestrator.Store) {
	if v := get(t, s, "a"); v != nil {
		t.Errorf("get in an empty store: %q, want nil", v)
	}
	if got := scan(t, s, nil, nil, 10); len(got) != 0 {
		t.Errorf("scan of an empty store: %q", got)
	}
	update(t, s, func(w orchestrator.Writer) error { return w.Delete(table, []byte("a")) })
	if err := s.Update(context.Background(), func(w orchestrator.Writer) error { return w.Put(table, nil, []byte("v")) }); err == nil {
		t.Error("an empty key was accepted")
	}
}

func testReadYourWrites(t *testing.T, s orchestrator.Store) {
	put(t, s, "old", "1")
	update(t, s, func(w orchestrator.Writer) error {
		if err := errors.Join(w.Put(table, []byte("new"), []byte("2")), w.Delete(table, []byte("old")),
			w.Put(other, []byte("new"), []byte("3"))); err != nil {
			return err
		}
		for key, want := range map[string][]byte{"new": []byte("2"), "old": nil} {
			if v, err := w.Get(table, []byte(key)); err != nil || !bytes.Equal(v, want) {
				t.Errorf("get %s in the update: %q, %v; want %q", key, v, err, want)
			}
		}
		return nil
	})
	if got := get(t, s, "new"); string(got) != "2" {
		t.Errorf("get after the update: %q", got)
	}
	if got := get(t, s, "old"); got != nil {
		t.Errorf("deleted key has %q", got)
	}
}

var errWanted = errors.New("wanted")

func testRollback(t *testing.T, s orchestrator.Store) {
	put(t, s, "changed", "before")
	put(t, s, "deleted", "before")
	err := s.Update(context.Background(), func(w orchestrator.Writer) error {
		return errors.Join(
			w.Put(table, []byte("changed"), []byte("after")), w.Put(table, []byte("changed"), []byte("again")),
			w.Put(table, []byte("new"), []byte("after")), w.Delete(table, []byte("deleted")),
			w.Put(table, []byte("deleted"), []byte("after")), w.Put(other, []byte("new"), nil), errWanted)
	})
	if !errors.Is(err, errWanted) {
		t.Fatalf("update returned %v, want the function's error", err)
	}
	if got := scan(t, s, nil, nil, 10); !slices.Equal(got, []string{"changed", "deleted"}) {
		t.Errorf("keys after a failed update: %q", got)
	}
	for _, key := range []string{"changed", "deleted"} {
		if v := get(t, s, key); string(v) != "before" {
			t.Errorf("%s is %q after a failed update", key, v)
		}
	}
}

// testFailureInGroup runs many updates at once, every third of which fails
// after it has written: all and only the others must be kept, and a counter that
// each of them raises must have counted exactly those.
func testFailureInGroup(t *testing.T, s orchestrator.Store) {
	const n = 300
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			errs[i] = s.Update(context.Background(), func(w orchestrator.Writer) error {
				if err := errors.Join(raise(w), w.Put(table, fmt.Appendf(nil, "k%03d", i), []byte("v"))); err != nil {
					return err
				}
				if i%3 == 0 {
					return errWanted
				}
				return nil
			})
		})
	}
	wg.Wait()
	var want []string
	for i, err := range errs {
		if failed := i%3 == 0; failed != errors.Is(err, errWanted) || !failed && err != nil {
			t.Fatalf("update %d returned %v", i, err)
		}
		if i%3 != 0 {
			want = append(want, fmt.Sprintf("k%03d", i))
		}
	}
	if got := scan(t, s, []byte("k"), nil, n); !slices.Equal(got, want) {
		t.Errorf("%d keys kept, want %d", len(got), len(want))
	}
	if got := len(get(t, s, "counter")); got != len(want) {
		t.Errorf("counter is %d, want %d", got, len(want))
	}
}

// raise makes the value of "counter" one byte longer.
func raise(w orchestrator.Writer) error {
	v, err := w.Get(table, []byte("counter"))
	if err != nil {
		return err
	}
	return w.Put(table, []byte("counter"), append(v, 'x'))
}

func testPanic(t *testing.T, s orchestrator.Store) {
	func() {
		defer func() {
			if got := recover(); got != "wanted" {
				t.Errorf("recovered %v, want the function's panic", got)
			}
		}()
		_ = s.Update(context.Background(), func(w orchestrator.Writer) error {
			_ = w.Put(table, []byte("a"), []byte("v"))
			panic("wanted")
		})
	}()
	if v := get(t, s, "a"); v != nil {
		t.Errorf("a panicking update left %q", v)
	}
	put(t, s, "b", "v") // the store still works
}

func testSnapshot(t *testing.T, s orchestrator.Store) {
	put(t, s, "a", "1")
	err := s.View(context.Background(), func(r orchestrator.Reader) error {
		done := make(chan struct{})
		go func() {
			defer close(done)
			put(t, s, "a", "2")
			put(t, s, "b", "2")
		}()
		<-done
		if v, err := r.Get(table, []byte("a")); err != nil || string(v) != "1" {
			t.Errorf("the snapshot's a is %q, %v; want 1", v, err)
		}
		got, err := keys(r, nil, nil, 10)
		if !slices.Equal(got, []string{"a"}) {
			t.Errorf("the snapshot has %q", got)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if v := get(t, s, "a"); string(v) != "2" {
		t.Errorf("after the view a is %q", v)
	}
	if err := s.View(context.Background(), func(orchestrator.Reader) error { return errWanted }); !errors.Is(err, errWanted) {
		t.Errorf("view returned %v, want the function's error", err)
	}
}

func testScan(t *testing.T, s orchestrator.Store) {
	all := []string{"a", "a\x00", "a\x00b", "a\x00c", "ab", "b", "b\xff", "b\xff\xff", "c"}
	shuffled := []int{4, 0, 8, 2, 6, 1, 7, 3, 5}
	for _, i := range shuffled {
		put(t, s, all[i], "v")
	}
	update(t, s, func(w orchestrator.Writer) error { return w.Put(other, []byte("a\x00bb"), []byte("v")) })
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          []string
	}{
		{"", "", 100, all},
		{"", "", 2, all[:2]},
		{"a", "", 100, all[:5]},
		{"a\x00", "", 100, all[1:4]},
		{"a\x00", "a\x00b", 100, all[3:4]},
		{"a\x00", "a\x00bb", 100, all[3:4]},
		{"a\x00", "a\x00c", 100, nil},
		{"b", "a", 100, all[5:8]},
		{"a", "c", 100, nil},
		{"b\xff", "", 100, all[6:8]},
		{"", "b", 100, all[6:]},
		{"x", "", 100, nil},
	} {
		var after []byte
		if c.after != "" {
			after = []byte(c.after)
		}
		if got := scan(t, s, []byte(c.prefix), after, c.limit); !slices.Equal(got, c.want) {
			t.Errorf("scan of prefix %q after %q: %q, want %q", c.prefix, c.after, got, c.want)
		}
	}
}

func testScanOwnWrites(t *testing.T, s orchestrator.Store) {
	for _, k := range []string{"a", "c", "e"} {
		put(t, s, k, "1")
	}
	update(t, s, func(w orchestrator.Writer) error {
		if err := errors.Join(w.Put(table, []byte("b"), []byte("2")), w.Delete(table, []byte("c")), w.Put(table, []byte("e"), []byte("2"))); err != nil {
			return err
		}
		got := map[string]string{}
		if err := w.Scan(table, nil, nil, func(k, v []byte) bool {
			// Reading while scanning is allowed.
			if again, err := w.Get(table, k); err != nil || !bytes.Equal(again, v) {
				t.Errorf("get %q while scanning: %q, %v", k, again, err)
			}
			got[string(k)] = string(v)
			return true
		}); err != nil {
			return err
		}
		if want := "map[a:1 b:2 e:2]"; fmt.Sprint(got) != want {
			t.Errorf("scan in the update: %v, want %s", got, want)
		}
		return nil
	})
}

func testCopies(t *testing.T, s orchestrator.Store) {
	key, value := []byte("key"), []byte("value")
	update(t, s, func(w orchestrator.Writer) error {
		err := w.Put(table, key, value)
		key[0], value[0] = 'X', 'X'
		return err
	})
	if v := get(t, s, "key"); string(v) != "value" {
		t.Fatalf("the store kept the caller's slices: %q", v)
	}
	v := get(t, s, "key")
	v[0] = 'X'
	_ = append(v, "overrun"...)
	update(t, s, func(w orchestrator.Writer) error {
		err := w.Scan(table, nil, nil, func(k, v []byte) bool {
			k[0], v[0] = 'Y', 'Y'
			return true
		})
		own, gerr := w.Get(table, []byte("key"))
		if len(own) > 0 {
			own[0] = 'Z'
		}
		return errors.Join(err, gerr)
	})
	if got := scan(t, s, nil, nil, 10); !slices.Equal(got, []string{"key"}) {
		t.Errorf("keys after writing to returned slices: %q", got)
	}
	if v := get(t, s, "key"); string(v) != "value" {
		t.Errorf("value after writing to returned slices: %q", v)
	}
}

func testValues(t *testing.T, s orchestrator.Store) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
	put(t, s, "empty", "")
	put(t, s, "large", string(large))
	if v := get(t, s, "empty"); v == nil || len(v) != 0 {
		t.Errorf("an empty value is read as %#v", v)
	}
	if v := get(t, s, "large"); !bytes.Equal(v, large) {
		t.Errorf("a large value comes back with %d bytes", len(v))
	}
	err := s.Update(context.Background(), func(w orchestrator.Writer) error {
		return errors.Join(w.Put(table, []byte("empty"), []byte("x")), errWanted)
	})
	if v := get(t, s, "empty"); !errors.Is(err, errWanted) || v == nil || len(v) != 0 {
		t.Errorf("an empty value is %#v after a failed update (%v)", v, err)
	}
}

func testConcurrent(t *testing.T, s orchestrator.Store) {
	const producers, each = 16, 20
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			for i := range each {
				key := fmt.Appendf(nil, "p%02d-%02d", p, i)
				if err := s.Update(context.Background(), func(w orchestrator.Writer) error {
					return errors.Join(raise(w), w.Put(table, key, key))
				}); err != nil {
					t.Errorf("update: %v", err)
				}
				// What was answered is seen by every view from now on.
				if v := get(t, s, string(key)); !bytes.Equal(v, key) {
					t.Errorf("%s reads %q after its update", key, v)
				}
			}
		})
	}
	wg.Wait()
	if n := len(get(t, s, "counter")); n != producers*each {
		t.Errorf("counter is %d, want %d", n, producers*each)
	}
}

func testContext(t *testing.T, s orchestrator.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := s.Update(ctx, func(w orchestrator.Writer) error { return w.Put(table, []byte("a"), []byte("v")) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("update with an ended context: %v", err)
	}
	if v := get(t, s, "a"); v != nil {
		t.Error("an update that returned its context's error was kept")
	}
	if err := s.View(ctx, func(orchestrator.Reader) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("view with an ended context: %v", err)
	}
}

func testClosed(t *testing.T, s orchestrator.Store) {
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(context.Background(), func(orchestrator.Writer) error { return nil }); !errors.Is(err, orchestrator.ErrClosed) {
		t.Errorf("update of a closed store: %v", err)
	}
	if err := s.View(context.Background(), func(orchestrator.Reader) error { return nil }); !errors.Is(err, orchestrator.ErrClosed) {
		t.Errorf("view of a closed store: %v", err)
	}
}

func testReopen(t *testing.T, f Factory) {
	dir := t.TempDir()
	s := f.Open(t, dir)
	put(t, s, "a", "1")
	put(t, s, "b", "2")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = f.Open(t, dir)
	defer s.Close()
	if got := scan(t, s, nil, nil, 10); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("keys after opening again: %q", got)
	}
	put(t, s, "c", "3")
}
