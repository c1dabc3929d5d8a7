package bridge

import (
	"os"
	"strings"
	"testing"
)

// What is not a whole file of the device's own lets nothing in, and says what to do.
func TestCountersThatCannotBeUsed(t *testing.T) {
	for name, text := range map[string]string{
		"empty":             "",
		"cut off":           `{"v":1,"device":"p","counters":{"a":3`,
		"zeroes":            strings.Repeat("\x00", 60),
		"another version":   `{"v":2,"device":"p","counters":{}}`,
		"of another device": `{"v":1,"device":"q","counters":{}}`,
		"no counters":       `{"v":1,"device":"p"}`,
		"unknown field":     `{"v":1,"device":"p","counters":{},"x":1}`,
		"data behind it":    `{"v":1,"device":"p","counters":{}}{}`,
		"below zero":        `{"v":1,"device":"p","counters":{"a":-1}}`,
		"too high":          `{"v":1,"device":"p","counters":{"a":9007199254740992}}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := counters{t.TempDir()}
			if err := os.WriteFile(c.path("p"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := c.load("p")
			if err == nil || !strings.Contains(err.Error(), c.path("p")) || !strings.Contains(err.Error(), "backup") {
				t.Errorf("load: %v", err)
			}
			if c.raise("p", "a", 5) == nil {
				t.Error("it was written over")
			}
		})
	}
}

// Counters only grow, each image type has its own, and they are there for whoever
// reads the folder next.
func TestCountersOnlyGrow(t *testing.T) {
	c := counters{t.TempDir()}
	for _, s := range []struct {
		imageType string
		n, want   uint64
	}{{"a", 3, 3}, {"a", 2, 3}, {"b", 0, 0}, {"a", 9, 9}, {"b", 1, 1}} {
		if err := c.raise("p", s.imageType, s.n); err != nil {
			t.Fatal(err)
		}
		all, err := counters{c.dir}.load("p")
		if n, known := all[s.imageType]; err != nil || !known || n != s.want {
			t.Errorf("%s raised to %d: %v, %v", s.imageType, s.n, all, err)
		}
	}
	if all, err := c.load("other"); err != nil || len(all) != 0 {
		t.Errorf("a device without a file: %v, %v", all, err)
	}
}
