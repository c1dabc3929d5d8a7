package app

import (
	"errors"
	"fmt"
	"slices"
)

// closers collects clean-up, registered right after each acquisition, and runs
// it in reverse order.
type closers struct{ steps []closer }

type closer struct {
	name string
	run  func() error
}

// add registers one step; name says what it ends, for its error.
func (c *closers) add(name string, run func() error) {
	c.steps = append(c.steps, closer{name, run})
}

// close runs every step once, the newest first, whatever the others return.
func (c *closers) close() error {
	var failed error
	for _, step := range slices.Backward(c.steps) {
		if err := step.run(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("close %s: %w", step.name, err))
		}
	}
	c.steps = nil
	return failed
}
