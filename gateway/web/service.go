package web

import (
	"context"
	"io"

	"davit/gateway"
	"davit/gateway/people"
	"davit/orchestrator"
)

// Service is the orchestrator as the console uses it: what the API uses, and
// what stands here.
type Service interface {
	gateway.Service
	fleetService
	uploadService
	jobService
	auditService
}

type fleetService interface {
	Fleet(context.Context) (orchestrator.FleetSummary, error)
	DeviceDetail(ctx context.Context, id string) (orchestrator.DeviceDetail, error)
	PreviewQuery(ctx context.Context, query string, sample int) (orchestrator.QueryPreview, error)
	GroupDevices(ctx context.Context, group string, p orchestrator.Page) ([]orchestrator.Device, string, error)
	CreateDevices(context.Context, []orchestrator.NewDevice) ([]orchestrator.Device, error)
}

type uploadService interface {
	StageUpload(context.Context, orchestrator.NewUpload, io.Reader) (orchestrator.Upload, error)
	Upload(ctx context.Context, id string) (orchestrator.Upload, error)
	DiscardUpload(ctx context.Context, id string) error
	CreateImage(ctx context.Context, upload string, n orchestrator.NewImage) (orchestrator.Image, error)
	UpdateImage(ctx context.Context, id string, p orchestrator.ImagePatch) (orchestrator.Image, error)
}

type jobService interface {
	PreviewJob(context.Context, orchestrator.NewJob) (orchestrator.JobPreview, error)
	UpdateJob(ctx context.Context, name string, p orchestrator.JobPatch) (orchestrator.Job, error)
	PauseJob(ctx context.Context, name string) (orchestrator.Job, error)
	ResumeJob(ctx context.Context, name string) (orchestrator.Job, error)
	RetryJob(ctx context.Context, name string, r orchestrator.RetryRequest) (orchestrator.Job, error)
	JobHistory(ctx context.Context, name string) (orchestrator.JobHistory, error)
}

type auditService interface {
	AuditEntries(context.Context, orchestrator.AuditFilter, orchestrator.Page) ([]orchestrator.AuditEntry, string, error)
}

// Directory is the people that the console knows; normally *people.Directory.
type Directory interface {
	signIn
	userDirectory
	tokenDirectory
}

type signIn interface {
	// Empty says whether there is no user yet.
	Empty(ctx context.Context) (bool, error)
}

type userDirectory interface {
	CreateUser(context.Context, people.NewUser) (people.User, error)
	User(ctx context.Context, name string) (people.User, error)
	Users(context.Context, orchestrator.Page) ([]people.User, string, error)
	UpdateUser(ctx context.Context, name string, p people.UserPatch) (people.User, error)
	DeleteUser(ctx context.Context, name string) error
	ChangePassword(ctx context.Context, user, old, password string) error
}

type tokenDirectory interface {
	CreateToken(ctx context.Context, user string, n people.NewToken) (people.NewSecret, error)
	// Tokens lists a user's tokens, everybody's for "".
	Tokens(ctx context.Context, user string, p orchestrator.Page) ([]people.Token, string, error)
	// DeleteToken ends a user's token, anybody's for "".
	DeleteToken(ctx context.Context, user, id string) error
}

// Provision registers devices and bridges together with their credentials;
// normally *gateway.Provisioner.
type Provision interface {
	provisionDevices
	provisionBridges
}

type provisionDevices interface {
	AddDevice(context.Context, orchestrator.NewDevice) (orchestrator.Device, string, error)
	RemoveDevice(ctx context.Context, id string) error
	RotateDevice(ctx context.Context, id string) (orchestrator.Device, string, error)
}

type provisionBridges interface {
	Bridges(context.Context, orchestrator.Page) ([]gateway.Bridge, string, error)
	Bridge(ctx context.Context, id string) (gateway.Bridge, error)
	RemoveBridge(ctx context.Context, id string) error
	RotateBridge(ctx context.Context, id string) (gateway.Bridge, string, error)
}
