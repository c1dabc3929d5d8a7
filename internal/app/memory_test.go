package app

import (
	"runtime"
	"testing"
)

// Memory is given back once after each storm, when it is over.
func TestCalm(t *testing.T) {
	const mib = 1 << 20
	var c calm
	for i, step := range []struct {
		grown uint64
		came  bool
	}{
		{20 * mib, false}, // a service that begins
		{2 * mib, true},
		{0, false},
		{100 * mib, false}, // a storm
		{50 * mib, false},
		{5 * mib, false}, // it fades
		{mib, true},
		{mib, false},
		{30 * mib, false}, // too little to be worth it
		{0, false},
		{40 * mib, false},
		{0, true},
		{0, false},
	} {
		if came := c.came(c.last + step.grown); came != step.came {
			t.Errorf("step %d: %t", i, came)
		}
	}
}

func TestAllocatedGrows(t *testing.T) {
	before := allocated()
	b := make([]byte, 8<<20)
	after := allocated()
	runtime.KeepAlive(b)
	if after-before < 8<<20 {
		t.Errorf("%d bytes more, %d were made", after-before, len(b))
	}
}
