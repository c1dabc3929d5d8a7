package orchestrator

import (
	"context"
	"errors"
)

var errUnbuilt = errors.New("orchestrator: not built")

// ApproveWave lets a job's next wave begin that waits for somebody to approve, or
// with Force, whatever it waits for.
func (s *Service) ApproveWave(ctx context.Context, name string, r ApproveRequest) (Job, error) {
	return Job{}, errUnbuilt
}

// InstallJob has devices install what a download-only job had them fetch.
func (s *Service) InstallJob(ctx context.Context, name string, r DevicesRequest) (Job, error) {
	return Job{}, errUnbuilt
}

// ConfirmJob agrees to the update of devices that wait for it.
func (s *Service) ConfirmJob(ctx context.Context, name string, r DevicesRequest) (Job, error) {
	return Job{}, errUnbuilt
}

// WaveMembers lists the devices of a job's wave: of a draft in the order in which
// they are released, of a started job by device.
func (s *Service) WaveMembers(ctx context.Context, name string, wave int, p Page) ([]WaveMember, string, error) {
	return nil, "", errUnbuilt
}
