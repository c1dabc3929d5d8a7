package logtest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

func TestBuffer(t *testing.T) {
	var b Buffer
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() { fmt.Fprintf(&b, "line %d of ten\n", i) })
	}
	all.Wait()
	if n := len(b.String()); n != 10*len("line 0 of ten\n") || len(b.Lines()) != 10 || len(b.Lines("of ten")) != 10 {
		t.Errorf("%d bytes: %q", n, b.String())
	}
	if got := b.Lines("ten", "line 7"); !slices.Equal(got, []string{"line 7 of ten\n"}) {
		t.Errorf("%q", got)
	}
	if got := b.Lines("line 7", "line 8"); got != nil {
		t.Errorf("%q", got)
	}
}
