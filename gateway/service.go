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
	catalog
	images
	devices
	groups
	jobs
	records
	claims
}

type catalog interface {
	imageTypes
	deviceTypes
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
	uploads
	manifests
	UploadImage(context.Context, orchestrator.NewImage, io.Reader) (orchestrator.Image, error)
	OpenImage(ctx context.Context, id string) (orchestrator.Image, orchestrator.Blob, error)
	UpdateImage(ctx context.Context, id string, p orchestrator.ImagePatch) (orchestrator.Image, error)
	DeleteImage(ctx context.Context, id string) error
	imageViews
}

type manifests interface {
	CheckManifest(ctx context.Context, upload string, in orchestrator.NewImage, n orchestrator.NewManifest) error
	AttachManifest(ctx context.Context, id string, n orchestrator.NewManifest) (orchestrator.Image, error)
}

type uploads interface {
	StageUpload(context.Context, orchestrator.NewUpload, io.Reader) (orchestrator.Upload, error)
	Upload(ctx context.Context, id string) (orchestrator.Upload, error)
	DiscardUpload(ctx context.Context, id string) error
	CreateImage(ctx context.Context, upload string, n orchestrator.NewImage) (orchestrator.Image, error)
}

type imageViews interface {
	Image(ctx context.Context, id string) (orchestrator.Image, error)
	Images(context.Context, orchestrator.ImageFilter, orchestrator.Page) ([]orchestrator.Image, string, error)
	VersionIDs(ctx context.Context, versions map[string]string) (map[string]uint64, error)
}

type devices interface {
	deviceViews
	deviceLists
	CreateDevice(context.Context, orchestrator.NewDevice) (orchestrator.Device, error)
	UpdateDevice(ctx context.Context, id string, p orchestrator.DevicePatch) (orchestrator.Device, error)
	DeleteDevice(ctx context.Context, id string) error
	quarantines
}

type quarantines interface {
	QuarantineDevice(ctx context.Context, id, reason string) (orchestrator.Device, error)
	ReleaseDevice(ctx context.Context, id string) (orchestrator.Device, error)
}

type deviceLists interface {
	CreateDevices(context.Context, []orchestrator.NewDevice) ([]orchestrator.Device, error)
	CheckDevices(context.Context, []orchestrator.NewDevice) error
}

type deviceViews interface {
	Device(ctx context.Context, id string) (orchestrator.Device, error)
	DeviceDetail(ctx context.Context, id string) (orchestrator.DeviceDetail, error)
	DeviceDetails(context.Context, orchestrator.DeviceFilter, orchestrator.Page) ([]orchestrator.DeviceDetail, string, error)
	Devices(context.Context, orchestrator.DeviceFilter, orchestrator.Page) ([]orchestrator.Device, string, error)
	DeviceExecutions(ctx context.Context, id string, p orchestrator.Page) ([]orchestrator.Execution, string, error)
}

type groups interface {
	groupViews
	CreateGroup(context.Context, orchestrator.NewGroup) (orchestrator.Group, error)
	UpdateGroup(ctx context.Context, id string, p orchestrator.GroupPatch) (orchestrator.Group, error)
	DeleteGroup(ctx context.Context, id string) error
}

type groupViews interface {
	Group(ctx context.Context, id string) (orchestrator.Group, error)
	Groups(context.Context, orchestrator.Page) ([]orchestrator.Group, string, error)
	GroupDevices(ctx context.Context, group string, p orchestrator.Page) ([]orchestrator.Device, string, error)
	PreviewQuery(ctx context.Context, query string, sample int) (orchestrator.QueryPreview, error)
}

type jobs interface {
	jobControl
	rollouts
	jobViews
	jobProgress
	CreateJob(context.Context, orchestrator.NewJob) (orchestrator.Job, error)
	UpdateJob(ctx context.Context, name string, p orchestrator.JobPatch) (orchestrator.Job, error)
}

type jobControl interface {
	StartJob(ctx context.Context, name string) (orchestrator.Job, error)
	PauseJob(ctx context.Context, name string) (orchestrator.Job, error)
	ResumeJob(ctx context.Context, name string) (orchestrator.Job, error)
	CancelJob(ctx context.Context, name string, r orchestrator.CancelRequest) (orchestrator.Job, error)
	RetryJob(ctx context.Context, name string, r orchestrator.RetryRequest) (orchestrator.Job, error)
}

type rollouts interface {
	ApproveWave(ctx context.Context, name string, r orchestrator.ApproveRequest) (orchestrator.Job, error)
	InstallJob(ctx context.Context, name string, r orchestrator.DevicesRequest) (orchestrator.Job, error)
	ConfirmJob(ctx context.Context, name string, r orchestrator.DevicesRequest) (orchestrator.Job, error)
	WaveMembers(ctx context.Context, name string, wave int, p orchestrator.Page) ([]orchestrator.WaveMember, string, error)
}

type jobViews interface {
	Job(ctx context.Context, name string) (orchestrator.Job, error)
	Jobs(context.Context, orchestrator.JobFilter, orchestrator.Page) ([]orchestrator.Job, string, error)
	PreviewJob(context.Context, orchestrator.NewJob) (orchestrator.JobPreview, error)
}

type jobProgress interface {
	JobExecutions(ctx context.Context, name string, f orchestrator.ExecutionFilter, p orchestrator.Page) ([]orchestrator.Execution, string, error)
	Execution(ctx context.Context, id string) (orchestrator.Execution, error)
	JobHistory(ctx context.Context, name string) (orchestrator.JobHistory, error)
	Changes(ctx context.Context, job string, since uint64, wait time.Duration) (orchestrator.JobChanges, error)
}

// records look at everything at once, and back.
type records interface {
	Fleet(context.Context) (orchestrator.FleetSummary, error)
	Activity(context.Context) (orchestrator.Activity, error)
	LastRev(context.Context) (uint64, error)
	Events(ctx context.Context, since uint64, f orchestrator.FeedFilter, limit int, wait time.Duration) (orchestrator.Feed, error)
	Audit(ctx context.Context, action, kind, id string, before, after any) error
	AuditEntries(context.Context, orchestrator.AuditFilter, orchestrator.Page) ([]orchestrator.AuditEntry, string, error)
}
