package filestamp

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSame(t *testing.T) {
	dir := t.TempDir()
	file, other := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	last := Of(file)
	if !last.Same(Of(file)) {
		t.Error("a file that is not there has changed")
	}
	changed := func(how string) {
		t.Helper()
		now := All([]string{file})[0]
		if now.Same(last) || last.Same(now) || !now.Same(Of(file)) {
			t.Errorf("%s: not seen, or seen twice", how)
		}
		last = now
	}
	write(file, "1")
	changed("it came to be")
	write(file, "12")
	changed("it has become longer")
	at := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
	changed("it has another time")
	write(other, "21")
	if err := os.Chtimes(other, at, at); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, file); err != nil {
		t.Fatal(err)
	}
	changed("another file of the same length and time took its place")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	changed("it is gone")
}
