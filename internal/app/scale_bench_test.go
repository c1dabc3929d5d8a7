package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"davit/broker"
	"davit/internal/durable"
	"davit/orchestrator"
	"davit/schemas"
)

// The fleet of the benchmarks: so many devices, all of them connected when the service
// was killed, and a job for all of them so many times, the first one offered.
const (
	scaleDevices = 100_000
	scaleJobs    = 10
)

// largeFolder is a data folder with 100,000 devices and 1,000,000 executions. It is made
// in the folder that DAVIT_SCALE_DIR names, which takes two minutes, and found there the
// next time.
func largeFolder(b *testing.B) string {
	b.Helper()
	root := os.Getenv("DAVIT_SCALE_DIR")
	if root == "" {
		b.Skip("set DAVIT_SCALE_DIR to a folder for a store of a gigabyte")
	}
	dir := filepath.Join(root, "serve")
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	making := filepath.Join(root, "making")
	if err := errors.Join(os.RemoveAll(making), os.MkdirAll(making, 0o700), fillLargeFolder(b.Context(), making)); err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(os.Rename(making, dir), durable.SyncDir(root)); err != nil {
		b.Fatal(err)
	}
	return dir
}

func fillLargeFolder(ctx context.Context, dir string) (err error) {
	store, blobs, err := openData(dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if _, err := orchestrator.Migrate(ctx, store, "bench", time.Now()); err != nil {
		return err
	}
	s, err := orchestrator.New(orchestrator.Options{Store: store, Blobs: blobs, Publisher: silent{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if _, err := s.CreateImageType(ctx, orchestrator.NewImageType{ID: testImageType}); err != nil {
		return err
	}
	if _, err := s.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: testDeviceType, Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: testImageType}}}); err != nil {
		return err
	}
	var devices []orchestrator.NewDevice
	var ids []string
	for i := range scaleDevices {
		ids = append(ids, fmt.Sprintf("dev-%06d", i))
		devices = append(devices, orchestrator.NewDevice{ID: ids[i], Type: testDeviceType, Labels: map[string]string{"site": fmt.Sprint("site-", i%50)}})
	}
	for part := range slices.Chunk(devices, 5000) {
		if _, err := s.CreateDevices(ctx, part); err != nil {
			return err
		}
	}
	creds, err := broker.OpenCredentials(dir)
	if err != nil {
		return err
	}
	if _, err := creds.PutDevices(ctx, ids); err != nil {
		return err
	}
	if err := sayHello(ctx, s, ids); err != nil {
		return err
	}
	for i := range scaleJobs {
		image, err := s.UploadImage(ctx, orchestrator.NewImage{ImageType: testImageType, DeviceTypes: []string{testDeviceType}, Version: fmt.Sprint("2.", i)},
			bytes.NewReader(bytes.Repeat([]byte{byte(i)}, 1<<20)))
		if err != nil {
			return err
		}
		if _, err := s.CreateJob(ctx, orchestrator.NewJob{Name: fmt.Sprint("job-", i), Image: image.ID, Query: `id startsWith "dev-"`, Start: true}); err != nil {
			return err
		}
		if _, err := s.Advance(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sayHello has all devices connected and known, 256 at a time.
func sayHello(ctx context.Context, s *orchestrator.Service, ids []string) error {
	work, failed := make(chan string), make(chan error, 256)
	for range 256 {
		go func() {
			var err error
			for id := range work {
				err = errors.Join(err, s.Presence(ctx, id, true), s.Hello(ctx, id, schemas.Hello{
					V: schemas.Version, Dialect: "ayla", HostVersions: map[string]string{"oem_host_version": "1.0"}}))
			}
			failed <- err
		}()
	}
	for _, id := range ids {
		work <- id
	}
	close(work)
	var err error
	for range 256 {
		err = errors.Join(err, <-failed)
	}
	return err
}

// copyFolder copies a large folder.
func copyFolder(b *testing.B, from string) string {
	b.Helper()
	to := filepath.Join(filepath.Dir(from), "copy")
	if err := os.RemoveAll(to); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(to) })
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(filepath.Join(to, storeName))
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil { // or the first commit does it
		b.Fatal(err)
	}
	return to
}

// BenchmarkColdStart starts the service on 100,000 devices and 1,000,000 executions,
// as it was left by a kill with all devices connected, until it is ready.
func BenchmarkColdStart(b *testing.B) {
	from := largeFolder(b)
	for b.Loop() {
		b.StopTimer()
		dir := copyFolder(b, from)
		b.StartTimer()
		began := time.Now()
		s, err := NewServer(testOptions(b, dir))
		if err != nil {
			b.Fatal(err)
		}
		opened := time.Since(began)
		stop := runTask(b, s)
		select {
		case <-s.Ready():
		case <-time.After(time.Minute):
			b.Fatal("it does not get ready")
		}
		b.ReportMetric(opened.Seconds(), "open-s")
		b.ReportMetric(time.Since(began).Seconds(), "ready-s")
		b.StopTimer()
		stop()
		b.StartTimer()
	}
}

// BenchmarkBackup backs up the same fleet's service while something is committed all the
// time: how long the backup takes, the longest and the 99th percentile of the commits
// beside it, the longest when there is no backup, and by how much the file has grown.
func BenchmarkBackup(b *testing.B) {
	from := largeFolder(b)
	for b.Loop() {
		b.StopTimer()
		dir := copyFolder(b, from)
		store, blobs, err := openData(dir, nil)
		if err != nil {
			b.Fatal(err)
		}
		service, err := orchestrator.New(orchestrator.Options{Store: store, Blobs: blobs, Publisher: silent{}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		s := &storage{dir: dir, store: store, blobs: blobs, service: service}
		alone := committing(b, service, func() { time.Sleep(8 * time.Second) })
		before, _, _ := store.Size()
		b.StartTimer()
		began := time.Now()
		beside := committing(b, service, func() {
			p, err := s.Backup(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(time.Since(began).Seconds(), "copy-s")
			f, err := os.Create(filepath.Join(filepath.Dir(dir), "backup.tar"))
			if err != nil {
				b.Fatal(err)
			}
			if err := errors.Join(p.Send(b.Context(), durable.Paced(f)), p.Close(), f.Close()); err != nil {
				b.Fatal(err)
			}
		})
		b.ReportMetric(time.Since(began).Seconds(), "backup-s")
		b.StopTimer()
		if err := os.Remove(filepath.Join(filepath.Dir(dir), "backup.tar")); err != nil {
			b.Fatal(err)
		}
		after, _, _ := store.Size()
		b.ReportMetric(float64(after-before)/(1<<20), "grown-MiB")
		b.ReportMetric(float64(len(beside)), "commits")
		b.ReportMetric(alone[len(alone)-1].Seconds()*1000, "alone-max-ms")
		b.ReportMetric(beside[len(beside)-1].Seconds()*1000, "max-ms")
		b.ReportMetric(beside[len(beside)*99/100].Seconds()*1000, "p99-ms")
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// committing commits one thing after the other while fn runs, and returns how long each
// commit took, in ascending order.
func committing(b *testing.B, s *orchestrator.Service, fn func()) []time.Duration {
	b.Helper()
	var took []time.Duration
	end, ended := make(chan struct{}), make(chan error)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-end:
				ended <- nil
				return
			default:
			}
			began := time.Now()
			if err := s.Presence(context.Background(), fmt.Sprintf("dev-%06d", i/2%scaleDevices), i%2 == 1); err != nil {
				ended <- err
				return
			}
			took = append(took, time.Since(began))
		}
	}()
	fn()
	close(end)
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	slices.Sort(took)
	return took
}

// BenchmarkCompact compacts the same fleet's records while something is committed all the
// time.
func BenchmarkCompact(b *testing.B) {
	from := largeFolder(b)
	for b.Loop() {
		b.StopTimer()
		store, blobs, err := openData(copyFolder(b, from), nil)
		if err != nil {
			b.Fatal(err)
		}
		service, err := orchestrator.New(orchestrator.Options{Store: store, Blobs: blobs, Publisher: silent{}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		beside := committing(b, service, func() {
			c, err := store.Compact(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(c.Took.Seconds(), "took-s")
			b.ReportMetric(c.Stop.Seconds()*1000, "stop-ms")
			b.ReportMetric(float64(c.Before-c.After)/(1<<20), "given-back-MiB")
		})
		b.ReportMetric(beside[len(beside)-1].Seconds()*1000, "max-ms")
		b.ReportMetric(beside[len(beside)*99/100].Seconds()*1000, "p99-ms")
		b.StopTimer()
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
