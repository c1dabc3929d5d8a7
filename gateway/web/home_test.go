package web

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"davit/gateway/people"
	"davit/orchestrator"
	"davit/schemas"
)

// counted is a store that counts what is read: records, and entries of indexes.
type counted struct {
	orchestrator.Store
	reads atomic.Int64
}

// View implements orchestrator.Store.
func (c *counted) View(ctx context.Context, fn func(orchestrator.Reader) error) error {
	return c.Store.View(ctx, func(r orchestrator.Reader) error { return fn(countedReader{r, &c.reads}) })
}

type countedReader struct {
	orchestrator.Reader
	reads *atomic.Int64
}

func (c countedReader) Get(t orchestrator.Table, key []byte) ([]byte, error) {
	c.reads.Add(1)
	return c.Reader.Get(t, key)
}

func (c countedReader) Scan(t orchestrator.Table, prefix, after []byte, fn func(key, value []byte) bool) error {
	return c.Reader.Scan(t, prefix, after, func(k, v []byte) bool {
		c.reads.Add(1)
		return fn(k, v)
	})
}

// failedJob makes a job with as many devices, on all of which it fails.
func (r *rig) failedJob(name, image string, devices int) {
	r.t.Helper()
	n := orchestrator.NewJob{Name: name, Image: image, Start: true}
	for i := range devices {
		id := fmt.Sprintf("%s-%03d", name, i)
		n.Devices = append(n.Devices, id)
		must[orchestrator.Device](r.t)(r.CreateDevice(background, orchestrator.NewDevice{ID: id, Type: "board"}))
		r.ok(r.Presence(background, id, true))
		r.ok(r.Hello(background, id, schemas.Hello{V: schemas.Version, Module: "davit-module 1.0", Dialect: "ayla", HostVersions: map[string]string{orchestrator.DefaultVersionProperty: "1.0"}}))
	}
	must[orchestrator.Job](r.t)(r.CreateJob(background, n))
	r.until(name, schemas.StateOffered, devices)
	for after := ""; ; {
		list, next, err := r.JobExecutions(background, name, orchestrator.ExecutionFilter{}, orchestrator.Page{After: after})
		r.ok(err)
		for _, x := range list {
			r.ok(r.Status(background, x.Device, schemas.Status{V: schemas.Version, Execution: x.ID, Attempt: x.Attempt, Seq: 1, State: schemas.StateFailed, Cause: schemas.CauseSerial}))
		}
		if after = next; after == "" {
			break
		}
	}
	r.until(name, schemas.StateFailed, devices)
}

// until waits until so many executions of a job are in a state.
func (r *rig) until(job string, state schemas.State, n int) {
	r.t.Helper()
	for since, deadline := uint64(0), time.Now().Add(20*time.Second); time.Now().Before(deadline); {
		j, err := r.Job(background, job)
		r.ok(err)
		if j.Counts[state] == n {
			return
		}
		changes, err := r.Changes(background, job, since, time.Second)
		r.ok(err)
		since = changes.Rev
	}
	r.t.Fatalf("job %s never has %d executions in state %s", job, n, state)
}

// TestOverviewCostsTheSameForLargeJobs: what the overview reads does not grow with
// the jobs whose failures it shows.
func TestOverviewCostsTheSameForLargeJobs(t *testing.T) {
	cost := func(devices int) int64 {
		r := newRig(t)
		r.start()
		must[orchestrator.ImageType](t)(r.CreateImageType(background, orchestrator.NewImageType{ID: "application"}))
		must[orchestrator.DeviceType](t)(r.CreateDeviceType(background, orchestrator.NewDeviceType{ID: "board", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "application"}}}))
		image := must[orchestrator.Image](t)(r.UploadImage(background, orchestrator.NewImage{
			ImageType: "application", DeviceTypes: []string{"board"}, Version: "2.0", Format: "binary", FileName: "app.bin"}, bytes.NewReader([]byte("firmware"))))
		r.failedJob("large", image.ID, devices)
		least := int64(-1)
		for range 5 { // the service may be reading too
			before := r.store.reads.Load()
			w := r.get(people.RoleViewer, "/")
			wants(t, w, http.StatusOK, "Recent failures", "large-000")
			if n := strings.Count(w.Body.String(), `href="/devices/large-`); n > homeFailures {
				t.Errorf("%d failures are shown", n)
			}
			if n := r.store.reads.Load() - before; least < 0 || n < least {
				least = n
			}
		}
		return least
	}
	small, large := cost(2*homeFailures), cost(20*homeFailures)
	if large > small || small > 500 {
		t.Errorf("the overview reads %d records and entries for a job of %d failures, %d for one of %d", small, 2*homeFailures, large, 20*homeFailures)
	}
	t.Logf("reads: %d and %d", small, large)
}
