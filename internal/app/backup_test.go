package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"davit/internal/backup"
	"davit/internal/durable"
	"davit/orchestrator"
	"davit/schemas"
)

// busyFleet is a service whose devices report on a job all the time.
type busyFleet struct {
	t       *testing.T
	server  *Server
	devices []string
	longest atomic.Int64 // report, in nanoseconds
	reports atomic.Int64
}

func newBusyFleet(t *testing.T, dir string, devices int) *busyFleet {
	t.Helper()
	f := &busyFleet{t: t}
	f.server, _ = startServer(t, testOptions(t, dir))
	s, ctx := f.server.service, t.Context()
	if _, err := s.CreateImageType(ctx, orchestrator.NewImageType{ID: testImageType}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: testDeviceType, Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: testImageType}}}); err != nil {
		t.Fatal(err)
	}
	for i := range devices {
		id := fmt.Sprint("dev-", i)
		f.devices = append(f.devices, id)
		if _, err := s.CreateDevice(ctx, orchestrator.NewDevice{ID: id, Type: testDeviceType}); err != nil {
			t.Fatal(err)
		}
	}
	image := f.image("2.0.0")
	if _, err := s.CreateJob(ctx, orchestrator.NewJob{Name: "load", Image: image, Devices: f.devices, Start: true}); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *busyFleet) image(version string) string {
	f.t.Helper()
	m, err := f.server.service.UploadImage(f.t.Context(), orchestrator.NewImage{ImageType: testImageType, DeviceTypes: []string{testDeviceType}, Version: version},
		strings.NewReader("image "+version))
	if err != nil {
		f.t.Fatal(err)
	}
	return m.ID
}

// report has each device report until the returned function ends it.
func (f *busyFleet) report() (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	var all sync.WaitGroup
	list, _, err := f.server.service.JobExecutions(ctx, "load", orchestrator.ExecutionFilter{}, orchestrator.Page{Limit: 1000})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, x := range list {
		all.Go(func() {
			for seq := uint64(1); ctx.Err() == nil; seq++ {
				began := time.Now()
				if err := f.server.service.Status(context.WithoutCancel(ctx), x.Device, schemas.Status{
					V: schemas.Version, Execution: x.ID, Attempt: x.Attempt, Seq: seq, State: schemas.StateInstalling, BytesDone: min(seq, x.BytesTotal),
				}); err != nil {
					f.t.Error(err)
					return
				}
				f.reports.Add(1)
				took := int64(time.Since(began))
				for old := f.longest.Load(); took > old && !f.longest.CompareAndSwap(old, took); old = f.longest.Load() {
				}
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

// backUp makes a backup of a server.
func backUp(t testing.TB, s *Server, w io.Writer) {
	t.Helper()
	b, err := s.storage.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Send(t.Context(), w), b.Close()); err != nil {
		t.Fatal(err)
	}
}

// A backup that is made while devices report, and images come and go, is restored into a
// folder in which check finds nothing wrong and from which the service starts.
func TestBackupUnderLoadIsRestored(t *testing.T) {
	f := newBusyFleet(t, t.TempDir(), 24)
	stop := f.report()
	churn, ended := make(chan struct{}), make(chan struct{})
	go func() { // images that are deleted while they are copied
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-churn:
				return
			default:
			}
			if err := f.server.service.DeleteImage(t.Context(), f.image(fmt.Sprint("3.", i))); err != nil {
				t.Error(err)
			}
		}
	}()
	for i := range 5 {
		var archive bytes.Buffer
		backUp(t, f.server, &archive)
		dir := filepath.Join(t.TempDir(), "restored")
		r, err := Restore(t.Context(), bytes.NewReader(archive.Bytes()), dir)
		if err != nil {
			t.Fatal(err)
		}
		if r.Layout != orchestrator.Layout || r.Files < 3 || r.Bytes < 10_000 {
			t.Errorf("%+v", r)
		}
		wellChecked(t, dir)
		if i > 0 {
			continue
		}
		s, end := startServer(t, testOptions(t, dir))
		job, err := s.service.Job(t.Context(), "load")
		if err != nil || job.Targets != 24 || job.State != orchestrator.JobRunning {
			t.Errorf("%+v %v", job, err)
		}
		end()
		wellChecked(t, dir)
	}
	close(churn)
	<-ended
	stop()
	if left, _ := filepath.Glob(filepath.Join(f.server.storage.dir, durable.TempPrefix+"*")); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
	report, err := f.server.service.Check(t.Context())
	if err != nil || !report.OK() {
		t.Errorf("%+v %v", report, err)
	}
	t.Logf("%d reports, the longest took %v", f.reports.Load(), time.Duration(f.longest.Load()))
}

// One backup at a time; and images that it holds go when it is closed.
func TestBackupHoldsImages(t *testing.T) {
	f := newBusyFleet(t, t.TempDir(), 1)
	id := f.image("9")
	b, err := f.server.storage.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.server.storage.Backup(t.Context()); !errors.Is(err, orchestrator.ErrConflict) || !strings.Contains(err.Error(), "a backup is under way") {
		t.Errorf("a second one: %v", err)
	}
	if err := f.server.service.DeleteImage(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := b.Send(t.Context(), &archive); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("image 9"))
	path := filepath.Join(f.server.storage.dir, filepath.FromSlash(blobPath(hex.EncodeToString(sum[:]))))
	if _, err := os.Stat(path); err != nil {
		t.Errorf("while it is held: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the backup: %v", err)
	}
	if m, err := backup.Verify(&archive); err != nil || len(m.Files) != 4 {
		t.Errorf("%+v %v", m, err)
	}
}

// A restore that is refused, or cut off, leaves nothing that starts.
func TestRestoreIsAllOrNothing(t *testing.T) {
	f := newBusyFleet(t, t.TempDir(), 2)
	var archive bytes.Buffer
	backUp(t, f.server, &archive)
	whole := archive.Bytes()
	dir := t.TempDir()
	for n := 0; n < len(whole); n += len(whole)/40 + 1 {
		if _, err := Restore(t.Context(), bytes.NewReader(whole[:n]), dir); !errors.Is(err, backup.ErrArchive) {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Fatalf("cut after %d bytes: left over %v %v", n, left, err)
		}
	}
	// As a kill in the middle leaves it.
	for _, name := range []string{restoringName, storeName} {
		if err := os.WriteFile(filepath.Join(dir, name), whole[:4096], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewServer(testOptions(t, dir)); err == nil || !strings.Contains(err.Error(), "half restored") {
		t.Errorf("a half restored folder: %v", err)
	}
	if _, err := Restore(t.Context(), bytes.NewReader(whole), dir); err != nil {
		t.Fatalf("the second try: %v", err)
	}
	wellChecked(t, dir)
	if _, err := Restore(t.Context(), bytes.NewReader(whole), dir); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("over a folder: %v", err)
	}
	wellChecked(t, dir)
	for _, path := range []string{storeName, tokenName} {
		if st, err := os.Stat(filepath.Join(dir, path)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", path, st.Mode(), err)
		}
	}
}

// What a restore finds wrong with the content, of archives that are whole.
func TestRestoreRefusesWhatIsNoFolder(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	for _, c := range []struct {
		name   string
		layout int
		files  map[string]string
		want   string
	}{
		{"newer", 99, nil, "layout 99"},
		{"no records", 3, map[string]string{tokenName: "x"}, "no records"},
		{"records that are none", 3, map[string]string{storeName: "x"}, "damaged"},
		{"above the folder", 3, map[string]string{"../evil": "x"}, "no file of a data folder"},
		{"absolute", 3, map[string]string{"/etc/evil": "x"}, "no file of a data folder"},
		{"unknown", 3, map[string]string{"evil": "x"}, "no file of a data folder"},
		{"blob elsewhere", 3, map[string]string{"blobs/cd/" + sum: "x"}, "no file of a data folder"},
		{"blob of other content", 3, map[string]string{"blobs/ab/" + sum: "x"}, "hashes to"},
		{"marker", 3, map[string]string{restoringName: "x"}, "no file of a data folder"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			w, err := backup.NewWriter(&b, backup.Header{Layout: c.layout, Program: "v9", CreatedAt: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			for name, content := range c.files {
				if err := w.Add(name, int64(len(content)), strings.NewReader(content)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.Close(); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "folder")
			if _, err := Restore(t.Context(), &b, dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q: %v", c.want, err)
			}
			if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the folder is left over: %v", err)
			}
		})
	}
}

// A folder of an older layout is restored as it is, and migrated by the service.
func TestOlderBackupIsRestored(t *testing.T) {
	old, _ := unpackLayout(t, "first")
	var b bytes.Buffer
	w, err := backup.NewWriter(&b, backup.Header{Layout: 1, Program: "v0", CreatedAt: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := filepath.Walk(old, func(p string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		content, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(old, p)
		if err != nil {
			return err
		}
		return w.Add(filepath.ToSlash(rel), info.Size(), bytes.NewReader(content))
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := Restore(t.Context(), &b, dir); err != nil {
		t.Fatal(err)
	}
	_, stop := startServer(t, testOptions(t, dir))
	stop()
	wellChecked(t, dir)
}
