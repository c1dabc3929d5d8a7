package memstore_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"davit/orchestrator"
	"davit/orchestrator/memstore"
	"davit/orchestrator/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Factory{
		Open: func(testing.TB, string) orchestrator.Store { return memstore.New() },
	})
}

// TestTreeIsAMap compares the store with a Go map under random writes, and an
// old snapshot with the map as it was then.
func TestTreeIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := memstore.New()
		model := map[string]string{}
		check := func(r orchestrator.Reader, want map[string]string) {
			var keys []string
			if err := r.Scan("t", nil, nil, func(k, v []byte) bool {
				keys = append(keys, string(k))
				if want[string(k)] != string(v) {
					t.Fatalf("%q is %q, want %q", k, v, want[string(k)])
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
			if len(keys) != len(want) || !slices.IsSorted(keys) {
				t.Fatalf("scan yields %q for %v", keys, want)
			}
		}
		for i := range rapid.IntRange(1, 80).Draw(t, "n") {
			key := fmt.Sprint(rapid.IntRange(0, 30).Draw(t, "key"))
			del := rapid.Bool().Draw(t, "delete")
			if err := s.Update(t.Context(), func(w orchestrator.Writer) error {
				if del {
					delete(model, key)
					return w.Delete("t", []byte(key))
				}
				model[key] = fmt.Sprint(i)
				return w.Put("t", []byte(key), []byte(model[key]))
			}); err != nil {
				t.Fatal(err)
			}
			if err := s.View(t.Context(), func(r orchestrator.Reader) error { check(r, model); return nil }); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestClonesAreIndependent(t *testing.T) {
	a := memstore.New()
	put := func(s *memstore.Store, key string) {
		if err := s.Update(t.Context(), func(w orchestrator.Writer) error { return w.Put("t", []byte(key), nil) }); err != nil {
			t.Fatal(err)
		}
	}
	keys := func(s *memstore.Store) (keys string) {
		if err := s.View(t.Context(), func(r orchestrator.Reader) error {
			return r.Scan("t", nil, nil, func(k, _ []byte) bool { keys += string(k); return true })
		}); err != nil {
			t.Fatal(err)
		}
		return keys
	}
	put(a, "a")
	b := a.Clone()
	put(a, "b")
	put(b, "c")
	if keys(a) != "ab" || keys(b) != "ac" {
		t.Errorf("the original has %q, the clone %q", keys(a), keys(b))
	}
}
