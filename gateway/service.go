package gateway

import (
	"context"
	"io"
	"time"

	"davit/orchestrator"
)

// Service is the orchestrator as the API uses it, one interface for each kind
// of record. Errors are of the orchestrator's kinds (orchestrator.ErrNotFound
// and the others); any other is the service's own fault.
type Service interface {
	imageTypes
	deviceTypes
	images
	devices
	groups
	jobs
}

type imageTypes interface {
	CreateImageType(context.Context, orchestrator.NewImageType) (orchestrator.ImageType, error)
	UpdateImageType(ctx context.Context, id string, p orchestrator.ImageTypePatch) (orchestrator.ImageType, error)
	DeleteImageType(ctx context.Context, id string) error
	ImageType(ctx context.Context, id string) (orchestrator.ImageType, error)
	ImageTypes(context.Context, orchestrator.Page) ([]orchestrator.ImageType, string, error)
}

type deviceTypes interface {
	CreateDeviceType(context.Context, orchestrator.NewDeviceType) (orchestrator.DeviceType, error)
	UpdateDeviceType(ctx context.Context, id string, p orchestrator.DeviceTypePatch) (orchestrator.DeviceType, error)
	DeleteDeviceType(ctx context.Context, id string) error
	DeviceType(ctx context.Context, id string) (orchestrator.DeviceType, error)
	DeviceTypes(context.Context, orchestrator.Page) ([]orchestrator.DeviceType, string, error)
}

type images interface {
	UploadImage(context.Context, orchestrator.NewImage, io.Reader) (orchestrator.Image, error)
	Image(ctx context.Context, id string) (orchestrator.Image, error)
	Images(context.Context, orchestrator.ImageFilter, orchestrator.Page) ([]orchestrator.Image, string, error)
	DeleteImage(ctx context.Context, id string) error
	OpenImage(ctx context.Context, id string) (orchestrator.Image, orchestrator.Blob, error)
}

type devices interface {
	CreateDevice(context.Context, orchestrator.NewDevice) (orchestrator.Device, error)
	UpdateDevice(ctx context.Context, id string, p orchestrator.DevicePatch) (orchestrator.Device, error)
	DeleteDevice(ctx context.Context, id string) error
	Device(ctx context.Context, id string) (orchestrator.Device, error)
	Devices(context.Context, orchestrator.DeviceFilter, orchestrator.Page) ([]orchestrator.Device, string, error)
	DeviceExecutions(ctx context.Context, id string, p orchestrator.Page) ([]orchestrator.Execution, string, error)
}

type groups interface {
	CreateGroup(context.Context, orchestrator.NewGroup) (orchestrator.Group, error)
	UpdateGroup(ctx context.Context, id string, p orchestrator.GroupPatch) (orchestrator.Group, error)
	DeleteGroup(ctx context.Context, id string) error
	Group(ctx context.Context, id string) (orchestrator.Group, error)
	Groups(context.Context, orchestrator.Page) ([]orchestrator.Group, string, error)
}

type jobs interface {
	jobControl
	Job(ctx context.Context, name string) (orchestrator.Job, error)
	Jobs(context.Context, orchestrator.JobFilter, orchestrator.Page) ([]orchestrator.Job, string, error)
	JobExecutions(ctx context.Context, name string, f orchestrator.ExecutionFilter, p orchestrator.Page) ([]orchestrator.Execution, string, error)
	Execution(ctx context.Context, id string) (orchestrator.Execution, error)
	Changes(ctx context.Context, job string, since uint64, wait time.Duration) (orchestrator.JobChanges, error)
}

type jobControl interface {
	CreateJob(context.Context, orchestrator.NewJob) (orchestrator.Job, error)
	StartJob(ctx context.Context, name string) (orchestrator.Job, error)
	CancelJob(ctx context.Context, name string) (orchestrator.Job, error)
}
