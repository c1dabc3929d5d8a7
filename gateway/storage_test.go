package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"davit/gateway"
	"davit/orchestrator"
)

// onDisk is a data folder with a small backup.
type onDisk struct{}

func (onDisk) Usage(context.Context) (orchestrator.StorageUsage, error) {
	return orchestrator.StorageUsage{Records: 10, RecordsFree: 2, Images: 3, ImageFiles: 1, DiskFree: 4, Disk: 5}, nil
}

func (onDisk) Compact(context.Context) (orchestrator.Compaction, error) {
	return orchestrator.Compaction{Before: 10, After: 8, Took: orchestrator.Duration(time.Second), Stop: orchestrator.Duration(time.Millisecond)}, nil
}

func (onDisk) Backup(context.Context) (gateway.Backup, error) {
	return &smallBackup{content: "archive"}, nil
}

type smallBackup struct {
	content string
	err     error // after the content
	closed  *bool
}

func (*smallBackup) Name() string { return "davit-test.tar" }

func (b *smallBackup) Send(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, b.content)
	return errors.Join(err, b.err)
}

func (b *smallBackup) Close() error {
	if b.closed != nil {
		*b.closed = true
	}
	return nil
}

// failingDisk has backups that break off, or none.
type failingDisk struct {
	onDisk
	refuse error
	closed *bool
}

func (f failingDisk) Backup(context.Context) (gateway.Backup, error) {
	if f.refuse != nil {
		return nil, f.refuse
	}
	return &smallBackup{strings.Repeat("half of it ", 10_000), errors.New("a bad block"), f.closed}, nil
}

func TestBackupIsStreamedAndAudited(t *testing.T) {
	r := newAPI(t, nil)
	a := r.must("POST /v1/storage/backup", "")
	if a.body != "archive" || a.header.Get("Content-Type") != "application/x-tar" || a.header.Get("Content-Disposition") != "attachment; filename=davit-test.tar" {
		t.Errorf("%q %v", a.body, a.header)
	}
	if log := r.must("GET /v1/audit?kind=storage&id=davit-test.tar", "").body; !strings.Contains(log, `"action":"backup"`) {
		t.Error(log)
	}
	if u := r.must("GET /v1/storage", "").body; !strings.Contains(u, `"records_bytes":10,"records_free_bytes":2`) {
		t.Error(u)
	}
}

func TestBackupThatIsRefusedIsAProblem(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("%w: a backup is under way", orchestrator.ErrConflict), http.StatusConflict},
		{fmt.Errorf("make a backup: %w", orchestrator.ErrNoSpace), http.StatusInsufficientStorage},
	} {
		r := newAPI(t, func(o *gateway.APIOptions) { o.Storage = failingDisk{refuse: c.err} })
		if a := r.do("POST /v1/storage/backup", ""); a.status != c.status {
			t.Errorf("%v: %d %s", c.err, a.status, a.body)
		}
	}
}

// A backup that cannot be read to its end breaks the answer off, so that nobody takes
// what came for a whole one.
func TestBackupThatBreaksOff(t *testing.T) {
	closed := false
	r := newAPI(t, func(o *gateway.APIOptions) { o.Storage = failingDisk{closed: &closed} })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/v1/storage/backup", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%d bytes came as if they were all", len(b))
	}
	r.stop()
	if !closed {
		t.Error("the backup was not closed")
	}
}
