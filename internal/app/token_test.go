package app

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestAdminTokenIsMadeOnceAndForTheOwner(t *testing.T) {
	dir := t.TempDir()
	first, err := adminToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) < 20 {
		t.Errorf("token %q is short", first)
	}
	if st, err := os.Stat(TokenFile(dir)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", st.Mode(), err)
	}
	if again, err := adminToken(dir); err != nil || again != first {
		t.Errorf("second start: %q, %v; want the same token", again, err)
	}
	if err := os.WriteFile(TokenFile(dir), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := adminToken(dir); err == nil || !strings.Contains(err.Error(), "holds no token") {
		t.Errorf("empty file: %v; a token must not be made up over it", err)
	}
}

func TestClosersRunBackwardsAndAll(t *testing.T) {
	var order []string
	var c closers
	boom := errors.New("boom")
	c.add("first", func() error { order = append(order, "first"); return nil })
	c.add("second", func() error { order = append(order, "second"); return boom })
	c.add("third", func() error { order = append(order, "third"); return nil })
	if err := c.close(); !errors.Is(err, boom) || !strings.Contains(err.Error(), "close second") {
		t.Errorf("error %v", err)
	}
	if got := strings.Join(order, " "); got != "third second first" {
		t.Errorf("order %q", got)
	}
	if err := c.close(); err != nil || len(order) != 3 {
		t.Errorf("a second close did something: %v, %v", err, order)
	}
}
