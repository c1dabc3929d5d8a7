package gateway

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"davit/internal/logevent"
	"davit/orchestrator"
)

// Storage is the service's data folder as the API offers it.
type Storage interface {
	// Usage says how much there is of it.
	Usage(context.Context) (orchestrator.StorageUsage, error)
	// Compact gives back to the disk what is free in the records. ErrConflict as Backup.
	Compact(context.Context) (orchestrator.Compaction, error)
	// Backup makes a backup that is then sent and closed. orchestrator.ErrConflict while
	// something else is done with the folder as a whole.
	Backup(context.Context) (Backup, error)
}

// Backup is the service's data folder at one moment.
type Backup interface {
	// Name is a name for its file.
	Name() string
	// Send writes it to w.
	Send(ctx context.Context, w io.Writer) error
	// Close frees what it holds.
	Close() error
}

// NoStorage is the Storage of a service that keeps nothing on disk.
type NoStorage struct{}

var errNoStorage = fmt.Errorf("%w: this service has no data folder", orchestrator.ErrConflict)

// Usage implements Storage.
func (NoStorage) Usage(context.Context) (orchestrator.StorageUsage, error) {
	return orchestrator.StorageUsage{}, errNoStorage
}

// Compact implements Storage.
func (NoStorage) Compact(context.Context) (orchestrator.Compaction, error) {
	return orchestrator.Compaction{}, errNoStorage
}

// Backup implements Storage.
func (NoStorage) Backup(context.Context) (Backup, error) { return nil, errNoStorage }

const tarType = "application/x-tar"

func (a *API) storageRoutes(api huma.API) {
	route(a, api, "GET /v1/storage", "get storage", func(ctx context.Context, _ *nothing) (*bodyOf[orchestrator.StorageUsage], error) {
		return one(a.options.Storage.Usage(ctx))
	}, describe("What the service's data folder takes, and what the disk has left."))
	route(a, api, "POST /v1/storage/compact", "compact storage", func(ctx context.Context, _ *nothing) (*bodyOf[orchestrator.Compaction], error) {
		c, err := a.options.Storage.Compact(ctx)
		if err == nil {
			err = a.options.Service.Audit(ctx, "compact", orchestrator.KindStorage, "records", nil, c)
		}
		return one(c, err)
	}, describe("Writes the file of the records anew without what is free in it, while the service goes on: updates wait for some milliseconds when the files are exchanged. Needs room on the disk for the new file. "+
		"Answers 409 while a backup or another compaction is under way, 507 if there is no room."))
	route(a, api, "POST /v1/storage/backup", "take backup", a.takeBackup, func(op *huma.Operation) {
		op.Responses = map[string]*huma.Response{"200": {
			Description: "A tar archive",
			Content:     map[string]*huma.MediaType{tarType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
		}}
	}, describe("The whole data folder at one moment, while the service goes on: records, images, credentials, admin token and key list, as one archive for davit restore. "+
		"It is as secret as the folder. The answer is whole only if it ends in order; the archive says at its end what has to be in it. Needs room on the service's disk for a copy of the records. "+
		"Answers 409 while another backup or a compaction is under way, 507 if there is no room."))
}

// takeBackup makes a backup before it answers, so that what goes wrong with that is told,
// and then streams it.
func (a *API) takeBackup(ctx context.Context, _ *nothing) (*huma.StreamResponse, error) {
	b, err := a.options.Storage.Backup(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.options.Service.Audit(ctx, "backup", orchestrator.KindStorage, b.Name(), nil, nil); err != nil {
		a.closed(ctx, b)
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer a.closed(ctx, b)
		_, w := humago.Unwrap(hc)
		w.Header().Set("Content-Type", tarType)
		w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": b.Name()}))
		w.WriteHeader(http.StatusOK)
		if err := b.Send(ctx, w); err != nil {
			if ctx.Err() == nil {
				a.options.Log.Error("a backup broke off", "event", logevent.BackupBrokeOff, "request", requestID(ctx), "error", err)
			}
			panic(http.ErrAbortHandler) // only breaking the answer off tells the client
		}
	}}, nil
}

func (a *API) closed(ctx context.Context, b Backup) {
	if err := b.Close(); err != nil {
		a.options.Log.Warn("what a backup held is not freed", "event", logevent.BackupNotFreed, "request", requestID(ctx), "error", err)
	}
}
