package web

import (
	"context"
	"net/http"
	"testing"

	"davit/gateway"
	"davit/gateway/people"
	"davit/orchestrator"
)

// noted is a data folder of which only the size is known.
type noted struct{ gateway.NoStorage }

func (noted) Usage(context.Context) (orchestrator.StorageUsage, error) {
	return orchestrator.StorageUsage{Records: 64 << 20, RecordsFree: 16 << 20, Images: 3 << 10, ImageFiles: 2, DiskFree: 5 << 30, Disk: 20 << 30}, nil
}

func (noted) Compact(context.Context) (orchestrator.Compaction, error) {
	return orchestrator.Compaction{Before: 64 << 20, After: 40 << 20}, nil
}

func TestStoragePage(t *testing.T) {
	r := newRig(t)
	r.start()
	r.seed()
	wants(t, r.get(people.RoleAdmin, "/storage"), http.StatusOK, "64 MiB", "16 MiB are free", "in 2 files", "5 GiB of 20 GiB", `action="/v1/storage/backup"`, "as secret as")
	wants(t, r.get(people.RoleDeveloper, "/storage"), http.StatusForbidden)
}
