package storetest

import (
	"context"
	"errors"

	"davit/orchestrator"
)

// Fault is how one update goes wrong.
type Fault int

// The faults. The caller cannot tell the last two apart, as with a real disk.
const (
	FaultNone  Fault = iota
	FaultLost        // the update fails and is not kept
	FaultAfter       // the update fails but is kept
)

// ErrInjected is what a failing update returns.
var ErrInjected = errors.New("injected failure of the store")

// Faulty is a store whose updates fail when Next says so.
type Faulty struct {
	orchestrator.Store
	// Next is asked once for each update; it must be safe for concurrent use.
	Next func() Fault
}

// Update implements orchestrator.Store.
func (f *Faulty) Update(ctx context.Context, fn func(orchestrator.Writer) error) error {
	fault := f.Next()
	err := f.Store.Update(ctx, func(w orchestrator.Writer) error {
		if err := fn(w); err != nil {
			return err
		}
		if fault == FaultLost {
			return ErrInjected
		}
		return nil
	})
	if err == nil && fault == FaultAfter {
		return ErrInjected
	}
	return err
}
