package orchestrator

import (
	"context"
	"errors"
	"fmt"
)

// MaxBatch is how many devices one call of CreateDevices may make.
const MaxBatch = 10_000

// BatchError says which entries of a list are wrong; nothing was done.
type BatchError struct{ Lines []LineError }

// LineError is what is wrong with one entry, counted from 0.
type LineError struct {
	Index int
	Err   error
}

// Error implements error.
func (e *BatchError) Error() string {
	if len(e.Lines) == 0 {
		return "entries are wrong; nothing was done"
	}
	return fmt.Sprintf("%d entries are wrong, nothing was done; the first, entry %d: %v", len(e.Lines), e.Lines[0].Index+1, e.Lines[0].Err)
}

// Unwrap says that it is an ErrInvalid.
func (e *BatchError) Unwrap() error { return ErrInvalid }

// CreateDevices makes all devices or none: a *BatchError says what is wrong
// with each entry that cannot be made. At most MaxBatch at a time.
func (s *Service) CreateDevices(ctx context.Context, devices []NewDevice) ([]Device, error) {
	if len(devices) == 0 {
		return nil, invalid("there is no device in the list")
	}
	if len(devices) > MaxBatch {
		return nil, invalid("the list has %d devices, at most %d are allowed; divide it", len(devices), MaxBatch)
	}
	var out []Device
	_, err := s.commit(ctx, func(t *txn) error {
		if err := t.once(ctx); err != nil {
			return err
		}
		if err := t.admissibleAll(devices); err != nil {
			return err
		}
		out = make([]Device, 0, len(devices))
		for _, n := range devices {
			out = append(out, t.newDevice(n))
			if err := errors.Join(put(t, nil, &out[len(out)-1]), t.matchNow(n.ID)); err != nil {
				return err
			}
		}
		return t.audit("import", KindDevice, "", nil, importOf(devices))
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// admissibleAll finds everything that is wrong with a list.
func (t *txn) admissibleAll(devices []NewDevice) error {
	var wrong BatchError
	first := make(map[string]int, len(devices))
	for i, n := range devices {
		err := n.validate()
		if at, twice := first[n.ID]; twice && err == nil {
			err = invalidField("id", "%q stands in entry %d already", n.ID, at+1)
		} else if !twice {
			first[n.ID] = i
		}
		if err == nil {
			err = t.admissible(n)
		}
		var field *FieldError
		switch {
		case err == nil:
		case errors.As(err, &field), errors.Is(err, ErrInvalid):
			wrong.Lines = append(wrong.Lines, LineError{i, err})
		default:
			return err
		}
	}
	if len(wrong.Lines) > 0 {
		return &wrong
	}
	return nil
}

// imported is what the audit log keeps of an import.
type imported struct {
	Count int      `json:"count"`
	First []string `json:"first"`
}

func importOf(devices []NewDevice) imported {
	const named = 20
	i := imported{Count: len(devices)}
	for _, n := range devices[:min(named, len(devices))] {
		i.First = append(i.First, n.ID)
	}
	return i
}
