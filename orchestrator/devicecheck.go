package orchestrator

import "context"

// CheckDevices says what CreateDevices would find wrong with a list, by a
// *BatchError, without doing anything.
func (s *Service) CheckDevices(ctx context.Context, n []NewDevice) error {
	var batch *BatchError
	err := s.store.View(ctx, func(r Reader) (err error) {
		batch, err = checkDevices(r, n)
		return err
	})
	if err == nil && batch != nil {
		return batch
	}
	return err
}

// checkDevices returns what is wrong with the devices of a list, or nil.
func checkDevices(r Reader, n []NewDevice) (*BatchError, error) {
	batch := &BatchError{}
	first, types := map[string]int{}, map[string]bool{}
	for i, d := range n {
		err := d.validate()
		if at, twice := first[d.ID]; err == nil && twice {
			err = invalidField("id", "%q is in the list twice, at %d and at %d", d.ID, at+1, i+1)
		}
		first[d.ID] = i
		if err == nil && !types[d.Type] {
			rec, broken := find[DeviceType](r, d.Type)
			if broken != nil {
				return nil, broken
			}
			types[d.Type] = rec != nil
			if rec == nil {
				err = invalidField("type", "there is no device type %q", d.Type)
			}
		}
		if err == nil {
			err = vacant[Device](r, "device", d.ID)
		}
		if err != nil {
			batch.Lines = append(batch.Lines, LineError{Index: i, Err: err})
		}
	}
	if len(batch.Lines) == 0 {
		return nil, nil
	}
	return batch, nil
}
