package orchestrator

import "context"

// CheckDevices says what CreateDevices would find wrong with a list, by a
// *BatchError, without doing anything.
func (s *Service) CheckDevices(ctx context.Context, devices []NewDevice) error {
	return s.store.View(ctx, func(r Reader) error {
		return newTxn(ctx, readOnly{r}, s.now()).admissibleAll(devices)
	})
}
