package orchestrator

import (
	"context"
	"errors"
)

// This file exists only while the methods below are being built; whoever builds one
// moves it out of here. The file is gone before anything is released.

var errPending = errors.New("being built")

// fleet

// CreateDevices makes all devices or none; a *BatchError says what is wrong line by line.
func (s *Service) CreateDevices(ctx context.Context, n []NewDevice) ([]Device, error) {
	return nil, errPending
}
func (s *Service) DeviceDetail(ctx context.Context, id string) (DeviceDetail, error) {
	return DeviceDetail{}, errPending
}
func (s *Service) PreviewQuery(ctx context.Context, query string, sample int) (QueryPreview, error) {
	return QueryPreview{}, errPending
}
func (s *Service) GroupDevices(ctx context.Context, group string, p Page) ([]Device, string, error) {
	return nil, "", errPending
}
func (s *Service) Fleet(ctx context.Context) (FleetSummary, error) {
	return FleetSummary{}, errPending
}

// BatchError says which entries of a list are wrong; nothing was done.
type BatchError struct{ Lines []LineError }

// LineError is what is wrong with one entry, counted from 0.
type LineError struct {
	Index int
	Err   error
}

func (e *BatchError) Error() string { return "some entries are wrong" }
func (e *BatchError) Unwrap() error { return ErrInvalid }

// jobs

func (s *Service) PreviewJob(ctx context.Context, n NewJob) (JobPreview, error) {
	return JobPreview{}, errPending
}
func (s *Service) UpdateJob(ctx context.Context, name string, p JobPatch) (Job, error) {
	return Job{}, errPending
}
func (s *Service) PauseJob(ctx context.Context, name string) (Job, error)  { return Job{}, errPending }
func (s *Service) ResumeJob(ctx context.Context, name string) (Job, error) { return Job{}, errPending }
func (s *Service) RetryJob(ctx context.Context, name string, r RetryRequest) (Job, error) {
	return Job{}, errPending
}
func (s *Service) JobHistory(ctx context.Context, name string) (JobHistory, error) {
	return JobHistory{}, errPending
}
