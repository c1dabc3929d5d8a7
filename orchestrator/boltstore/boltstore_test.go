package boltstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"davit/orchestrator"
	"davit/orchestrator/boltstore"
	"davit/orchestrator/storetest"
)

func open(dir string) (orchestrator.Store, error) {
	return boltstore.Open(boltstore.Options{Path: filepath.Join(dir, "store.db")})
}

func TestMain(m *testing.M) {
	storetest.CrashChild(open)
	goleak.VerifyTestMain(m)
}

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Factory{
		Durable: true,
		Open: func(t testing.TB, dir string) orchestrator.Store {
			s, err := open(dir)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	})
}

func TestCrash(t *testing.T) { storetest.Crash(t, open) }

func TestSecondOpenerIsToldSo(t *testing.T) {
	dir := t.TempDir()
	s, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = open(dir)
	if err == nil || !strings.Contains(err.Error(), "in use by another process") || !strings.Contains(err.Error(), dir) {
		t.Errorf("second open: %v", err)
	}
}

func TestDamagedFileIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a store ", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := boltstore.Open(boltstore.Options{Path: path}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("open of a file that is no store: %v", err)
	}
}

// TestUpdatesAreCommittedInGroups holds the writer in one update until many
// others wait, and then expects them in few commits.
func TestUpdatesAreCommittedInGroups(t *testing.T) {
	var mu sync.Mutex
	var groups []int
	s, err := boltstore.Open(boltstore.Options{
		Path: filepath.Join(t.TempDir(), "store.db"),
		OnCommit: func(n int, took time.Duration, err error) {
			mu.Lock()
			defer mu.Unlock()
			groups = append(groups, n)
			if err != nil || took <= 0 {
				t.Errorf("commit of %d took %v: %v", n, took, err)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const n = 200
	var wg sync.WaitGroup
	entered := make(chan struct{})
	wg.Go(func() {
		if err := s.Update(context.Background(), func(w orchestrator.Writer) error {
			close(entered)
			for s.Waiting() < n {
				runtime.Gosched()
			}
			return w.Put("t", []byte("first"), nil)
		}); err != nil {
			t.Error(err)
		}
	})
	<-entered
	for i := range n {
		wg.Go(func() {
			if err := s.Update(context.Background(), func(w orchestrator.Writer) error {
				return w.Put("t", []byte{byte(i), 1}, nil)
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	sum := 0
	for _, g := range groups {
		sum += g
	}
	if sum != n+1 || len(groups) != 2 {
		t.Errorf("%d updates in %d commits: %v", sum, len(groups), groups)
	}
}

// TestGivingUpWhileQueued ends the context of an update that the writer has
// not taken yet: it returns at once and is never kept.
func TestGivingUpWhileQueued(t *testing.T) {
	s, err := open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	entered, leave := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.Update(context.Background(), func(orchestrator.Writer) error { close(entered); <-leave; return nil })
	})
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error)
	go func() {
		result <- s.Update(ctx, func(w orchestrator.Writer) error { return w.Put("t", []byte("k"), nil) })
	}()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("update: %v", err)
	}
	close(leave)
	wg.Wait()
	if err := s.Update(context.Background(), func(w orchestrator.Writer) error {
		if v, err := w.Get("t", []byte("k")); err != nil || v != nil {
			t.Errorf("the update that was given up is there: %q, %v", v, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk fills the disk: the update that does not fit fails and leaves
// nothing, what was there can be read, and updates work again once there is room.
func TestFullDisk(t *testing.T) {
	storetest.FullDisk(t, "1m", func(t *testing.T, dir string) {
		s, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		put := func(key string, size int) error {
			return s.Update(context.Background(), func(w orchestrator.Writer) error { return w.Put("t", []byte(key), make([]byte, size)) })
		}
		has := func(key string) bool {
			var v []byte
			if err := s.View(context.Background(), func(r orchestrator.Reader) (err error) {
				v, err = r.Get("t", []byte(key))
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return v != nil
		}
		if err := put("small", 1000); err != nil {
			t.Fatal(err)
		}
		ballast := filepath.Join(dir, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 700<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := put("large", 400<<10); !errors.Is(err, orchestrator.ErrNoSpace) {
			t.Errorf("update of a full disk: %v", err)
		}
		if !has("small") || has("large") {
			t.Errorf("after it: small %v, large %v", has("small"), has("large"))
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		if err := put("large", 400<<10); err != nil || !has("large") {
			t.Errorf("with room again: %v", err)
		}
	})
}

// TestSizes: the file's size is told, and that what was removed is room for what comes.
func TestSizes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := boltstore.Open(boltstore.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	const n, size = 200, 4000
	update := func(fn func(w orchestrator.Writer, key []byte) error) {
		t.Helper()
		err := s.Update(t.Context(), func(w orchestrator.Writer) error {
			for i := range n {
				if err := fn(w, fmt.Append(nil, i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	update(func(w orchestrator.Writer, key []byte) error { return w.Put("t", key, make([]byte, size)) })
	full, err := s.Sizes()
	if err != nil || full.File < n*size {
		t.Errorf("%+v, %v with %d bytes written", full, err, n*size)
	}
	if st, err := os.Stat(path); err != nil || st.Size() < full.File {
		t.Errorf("the file has %d bytes, %d are told (%v)", st.Size(), full.File, err)
	}
	update(func(w orchestrator.Writer, key []byte) error { return w.Delete("t", key) })
	empty, err := s.Sizes()
	if err != nil || empty.Free < n*size*9/10 || empty.File < full.File {
		t.Errorf("%+v, %v after all was removed", empty, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sizes(); !errors.Is(err, orchestrator.ErrClosed) {
		t.Errorf("%v after Close", err)
	}
}
