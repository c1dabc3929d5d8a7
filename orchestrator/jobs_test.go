package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

func TestJobFromOfferToSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.checkClean()
		ids := e.fleet(2)
		e.start()
		defer func() { e.stop() }()
		m := e.image("2.0", content(5000, 1))
		e.ok(e.Hello(ctx, "d000", schemas.Hello{V: 1, MaxChunk: 8192, HostVersions: map[string]string{"oem_host_version": "1.0", "other": "x"}}))
		j := e.job("j", m.ID, ids...)
		if j.State != orchestrator.JobRunning || j.Counts[schemas.StateOffered] != 2 {
			t.Errorf("started job is %+v", j)
		}
		synctest.Wait()
		o, ok := e.broker.offer("d000")
		if !ok || o.Image != m.ID || o.SHA256 != m.SHA256 || o.Size != 5000 || o.Version != "2.0" || o.VersionID != 1 || o.Force ||
			o.Chunk != (schemas.ChunkHint{Preferred: 8192, Max: 8192}) ||
			o.Host != (schemas.HostHint{Dialect: "ayla", VersionProperty: "oem_host_version", BootTimeoutMS: 90_000}) {
			t.Errorf("offer %+v", o)
		}
		x := e.execution("j", "d000")
		seq := uint64(0)
		for _, s := range []schemas.State{schemas.StateAccepted, schemas.StateDownloading, schemas.StateDownloaded,
			schemas.StateInstalling, schemas.StateBooting, schemas.StateSucceeded} {
			seq++
			e.ok(e.Status(ctx, "d000", status(x, seq, s)))
			if a, n := e.broker.lastAck("d000"); n != int(seq) || a.State != s || a.Seq != seq || a.Superseded {
				t.Errorf("ack %d: %+v", n, a)
			}
		}
		e.ok(e.Status(ctx, "d001", status(e.execution("j", "d001"), 1, schemas.StateFailed)))
		synctest.Wait()
		if left := e.broker.retained(); len(left) != 0 {
			t.Errorf("offers left: %v", left)
		}
		j = must[orchestrator.Job](t)(e.Job(ctx, "j"))
		if j.State != orchestrator.JobCompleted || j.Counts[schemas.StateSucceeded] != 1 || j.Counts[schemas.StateFailed] != 1 || j.CompletedAt.IsZero() {
			t.Errorf("job ended as %+v", j)
		}
		d := must[orchestrator.Device](t)(e.Device(ctx, "d000"))
		if d.Versions["app"] != "2.0" || len(d.Versions) != 1 {
			t.Errorf("versions %v", d.Versions)
		}
		_, err := e.CancelJob(ctx, "j", orchestrator.CancelRequest{})
		e.wants(err, orchestrator.ErrConflict, "completed")
		_, err = e.StartJob(ctx, "j")
		e.wants(err, orchestrator.ErrConflict, "completed")
	})
}

func TestJobIsRefused(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(2)
	must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "valve", Dialect: "ayla"}))
	for i := range 12 {
		must[orchestrator.Device](t)(e.CreateDevice(ctx, orchestrator.NewDevice{ID: fmt.Sprintf("v%02d", i), Type: "valve"}))
	}
	must[orchestrator.Group](t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "empty"}))
	m := e.image("2.0", content(10, 1))
	valves := []string{"d000"}
	for i := range 12 {
		valves = append(valves, fmt.Sprintf("v%02d", i))
	}
	e.job("taken", m.ID, "d000")
	for _, c := range []struct {
		name string
		n    orchestrator.NewJob
		kind error
		says []string
	}{
		{"wrong types", orchestrator.NewJob{Name: "j", Image: m.ID, Devices: valves}, orchestrator.ErrInvalid, []string{"v00 (valve)", "v09", "and 2 more", "pump"}},
		{"no devices", orchestrator.NewJob{Name: "j", Image: m.ID, Groups: []string{"empty"}}, orchestrator.ErrInvalid, []string{"no device"}},
		{"unknown device", orchestrator.NewJob{Name: "j", Image: m.ID, Devices: []string{"x"}}, orchestrator.ErrNotFound, []string{`device "x"`}},
		{"unknown group", orchestrator.NewJob{Name: "j", Image: m.ID, Groups: []string{"x"}}, orchestrator.ErrNotFound, []string{`group "x"`}},
		{"unknown image", orchestrator.NewJob{Name: "j", Image: "x", Devices: []string{"d000"}}, orchestrator.ErrNotFound, []string{`image "x"`}},
		{"taken", orchestrator.NewJob{Name: "taken", Image: m.ID, Devices: []string{"d000"}}, orchestrator.ErrExists, []string{`job "taken"`}},
		{"bad name", orchestrator.NewJob{Name: "a b", Image: m.ID, Devices: []string{"d000"}}, orchestrator.ErrInvalid, []string{"name"}},
	} {
		_, err := e.CreateJob(ctx, c.n)
		t.Run(c.name, func(t *testing.T) { (&env{t: t}).wants(err, c.kind, c.says...) })
	}
	_, err := e.Job(ctx, "j")
	e.wants(err, orchestrator.ErrNotFound)
	_, err = e.StartJob(ctx, "j")
	e.wants(err, orchestrator.ErrNotFound)
}

func TestJobsWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.checkClean()
		e.fleet(1)
		e.start()
		defer func() { e.stop() }()
		first, second := e.image("2", content(10, 1)), e.image("3", content(10, 2), func(n *orchestrator.NewImage) { n.MinVersion = "2" })
		e.job("b-first", first.ID, "d000")
		e.job("a-second", second.ID, "d000")
		synctest.Wait()
		if o, _ := e.broker.offer("d000"); o.Image != first.ID {
			t.Errorf("offered %+v, want the job that was started first", o)
		}
		e.ok(e.Status(ctx, "d000", status(e.execution("b-first", "d000"), 1, schemas.StateSucceeded)))
		synctest.Wait()
		if o, _ := e.broker.offer("d000"); o.Image != second.ID {
			t.Errorf("offered %+v, want the second", o)
		}
		list, _, err := e.DeviceExecutions(ctx, "d000", orchestrator.Page{Limit: 1})
		if err != nil || len(list) != 1 || list[0].Job != "a-second" {
			t.Errorf("the newest execution is %+v, %v", list, err)
		}
		_, next, _ := e.DeviceExecutions(ctx, "d000", orchestrator.Page{Limit: 1})
		list, next, err = e.DeviceExecutions(ctx, "d000", orchestrator.Page{Limit: 1, After: next})
		if err != nil || next != "" || len(list) != 1 || list[0].Job != "b-first" {
			t.Errorf("the second page is %+v, %q, %v", list, next, err)
		}
		e.ok(e.Hello(ctx, "d000", schemas.Hello{V: 1, HostVersions: map[string]string{"oem_host_version": "3"}}))
		synctest.Wait()
		if x := e.execution("a-second", "d000"); x.State != schemas.StateSucceeded || x.HostVersion != "3" {
			t.Errorf("a hello with the version left the execution %+v", x)
		}
		if len(e.broker.retained()) != 0 {
			t.Error("an offer is left")
		}
	})
}

// TestLargeJobs starts and cancels a job of several parts.
func TestLargeJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.checkClean()
		ids := e.fleet(600)
		e.start()
		defer func() { e.stop() }()
		m := e.image("2", content(10, 1))
		j := e.job("j", m.ID, ids...)
		if j.Counts[schemas.StateOffered] != 600 {
			t.Errorf("started %v", j.Counts)
		}
		synctest.Wait()
		if n := len(e.broker.retained()); n != 600 {
			t.Errorf("%d offers", n)
		}
		e.checkClean()
		j = must[orchestrator.Job](t)(e.CancelJob(ctx, "j", orchestrator.CancelRequest{}))
		if j.State != orchestrator.JobCanceled || j.Counts[schemas.StateCanceled] != 600 {
			t.Errorf("canceled %v", j.Counts)
		}
		synctest.Wait()
		if n := len(e.broker.retained()); n != 0 {
			t.Errorf("%d offers are left", n)
		}
		again := must[orchestrator.Job](t)(e.CancelJob(ctx, "j", orchestrator.CancelRequest{}))
		if again.State != orchestrator.JobCanceled {
			t.Errorf("canceled twice: %s", again.State)
		}
		draft := must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "draft", Image: m.ID, Devices: ids}))
		if draft.State != orchestrator.JobDraft {
			t.Errorf("created %s", draft.State)
		}
		draft = must[orchestrator.Job](t)(e.CancelJob(ctx, "draft", orchestrator.CancelRequest{}))
		if draft.State != orchestrator.JobCanceled || draft.Counts[schemas.StateCanceled] != 0 {
			t.Errorf("canceled draft: %+v", draft)
		}
		_, err := e.StartJob(ctx, "draft")
		e.wants(err, orchestrator.ErrConflict, "canceled")
	})
}

func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.checkClean()
		ids := e.fleet(3)
		m := e.image("2", content(10, 1))
		must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: m.ID, Devices: ids}))
		c, err := e.Changes(ctx, "j", 0, 0)
		if err != nil || c.Rev == 0 || len(c.Executions) != 0 || c.Job.State != orchestrator.JobDraft {
			t.Fatalf("changes of a draft: %+v, %v", c, err)
		}
		began := time.Now()
		quiet, err := e.Changes(ctx, "j", c.Rev, 30*time.Second)
		if err != nil || quiet.Rev != c.Rev || time.Since(began) != 30*time.Second {
			t.Errorf("nothing changed: %+v after %v, %v", quiet, time.Since(began), err)
		}
		must[orchestrator.Job](t)(e.StartJob(ctx, "j"))
		c, err = e.Changes(ctx, "j", c.Rev, time.Minute)
		if err != nil || len(c.Executions) != 3 || c.Job.State != orchestrator.JobRunning {
			t.Fatalf("changes of a start: %+v, %v", c, err)
		}
		x := e.execution("j", "d001")
		go func() {
			time.Sleep(time.Second)
			if err := e.Status(ctx, "d001", status(x, 1, schemas.StateDownloading)); err != nil {
				t.Error(err)
			}
		}()
		began = time.Now()
		c, err = e.Changes(ctx, "j", c.Rev, time.Minute)
		if err != nil || len(c.Executions) != 1 || c.Executions[0].State != schemas.StateDownloading || time.Since(began) != time.Second {
			t.Errorf("after a report: %+v, %v", c, err)
		}
		synctest.Wait()
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := e.Changes(ended, "j", c.Rev, time.Minute); !errors.Is(err, context.Canceled) {
			t.Errorf("changes with an ended context: %v", err)
		}
		_, err = e.Changes(ctx, "none", 0, time.Minute)
		e.wants(err, orchestrator.ErrNotFound)
		for _, id := range ids {
			e.ok(e.Status(ctx, id, status(e.execution("j", id), 9, schemas.StateSucceeded)))
		}
		c, err = e.Changes(ctx, "j", c.Rev, time.Minute)
		if err != nil || len(c.Executions) != 3 || c.Job.State != orchestrator.JobCompleted {
			t.Errorf("at the end: %+v, %v", c, err)
		}
	})
}

// TestChangesInPages follows a job of more executions than one answer holds.
func TestChangesInPages(t *testing.T) {
	e := newEnv(t)
	ids := e.fleet(1010)
	m := e.image("2", content(10, 1))
	e.job("j", m.ID, ids...)
	seen := map[string]bool{}
	rev := uint64(0)
	for range 3 {
		c, err := e.Changes(ctx, "j", rev, 0)
		e.ok(err)
		for _, x := range c.Executions {
			seen[x.Device] = true
		}
		rev = c.Rev
	}
	if len(seen) != 1010 {
		t.Errorf("%d executions seen", len(seen))
	}
}

func TestMinVersionThroughHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.checkClean()
		ids := e.fleet(3)
		e.start()
		defer func() { e.stop() }()
		m := e.image("2", content(10, 1), func(n *orchestrator.NewImage) { n.MinVersion = "1" })
		hello := func(device, version string) {
			e.ok(e.Hello(ctx, device, schemas.Hello{V: 1, HostVersions: map[string]string{"oem_host_version": version}}))
		}
		hello("d001", "0.9")
		e.job("j", m.ID, ids...)
		if x := e.execution("j", "d000"); x.State != schemas.StateQueued {
			t.Errorf("version unknown: %s", x.State)
		}
		if x := e.execution("j", "d001"); x.State != schemas.StateRejected || x.Cause != schemas.CauseMinVersion || !strings.Contains(x.Detail, `"0.9"`) {
			t.Errorf("version too old: %+v", x)
		}
		hello("d000", "1")
		hello("d002", "2")
		synctest.Wait()
		if _, ok := e.broker.offer("d000"); !ok {
			t.Error("the exact version was not offered")
		}
		if x := e.execution("j", "d002"); x.State != schemas.StateSucceeded {
			t.Errorf("running already: %+v", x)
		}
		j := must[orchestrator.Job](t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "forced", Image: m.ID, Devices: []string{"d001"}, IgnoreValidation: true, Start: true}))
		if j.Counts[schemas.StateOffered] != 1 {
			t.Errorf("forced: %v", j.Counts)
		}
		synctest.Wait()
		if o, _ := e.broker.offer("d001"); !o.Force {
			t.Errorf("forced offer %+v", o)
		}
	})
}
