package broker

import (
	"errors"
	"fmt"
	"sync"
	"testing"
)

// Changes that come while another one is written are one writing; one that cannot be
// made fails alone, and a disk that takes nothing fails all of them.
func TestChangesOfCredentialsAreWrittenTogether(t *testing.T) {
	const many = 50
	dir := t.TempDir()
	c, err := OpenCredentials(dir)
	check(t, err)
	writings, full := 0, error(nil)
	c.save = func(m map[string]*entry) error {
		if writings++; full != nil {
			return full
		}
		return c.write(m)
	}
	if _, err := c.AddDevice("taken"); err != nil {
		t.Fatal(err)
	}
	// crowd adds devices that all wait for one another.
	crowd := func(prefix string) (errs []error) {
		names := []string{"taken"}
		for i := range many {
			names = append(names, fmt.Sprint(prefix, i))
		}
		errs = make([]error, len(names))
		writings = 0
		c.change.Lock()
		var all sync.WaitGroup
		for i, name := range names {
			all.Go(func() { _, errs[i] = c.AddDevice(name) })
		}
		eventually(t, "all wait", func() bool {
			c.queue.Lock()
			defer c.queue.Unlock()
			return len(c.edits) == len(names)
		})
		c.change.Unlock()
		all.Wait()
		if writings != 1 {
			t.Errorf("%d writings", writings)
		}
		return errs
	}
	for i, err := range crowd("a") {
		if i == 0 != errors.Is(err, ErrNameTaken) || i > 0 && err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	full = errors.New("the disk is full")
	for i, err := range crowd("b") {
		if want := full; i > 0 && !errors.Is(err, want) || i == 0 && !errors.Is(err, ErrNameTaken) {
			t.Errorf("%d: %v", i, err)
		}
	}
	again, err := OpenCredentials(dir)
	check(t, err)
	for _, store := range []*Credentials{c, again} {
		if n := len(store.List()); n != many+1 {
			t.Errorf("%d principals", n)
		}
	}
}
