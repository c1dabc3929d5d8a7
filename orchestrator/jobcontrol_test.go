package orchestrator_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// control asks something of a job by the name of the action.
func (e *env) control(action, job string) (orchestrator.Job, error) {
	switch action {
	case "start":
		return e.StartJob(ctx, job)
	case "pause":
		return e.PauseJob(ctx, job)
	case "resume":
		return e.ResumeJob(ctx, job)
	case "retry":
		return e.RetryJob(ctx, job, orchestrator.RetryRequest{})
	case "cancel":
		return e.CancelJob(ctx, job, orchestrator.CancelRequest{})
	}
	panic(action)
}

// TestJobStates asks everything of a job in every state. What is refused, and
// what is true already, leaves no trace in the audit log.
func TestJobStates(t *testing.T) {
	const draft, running, paused, completed, canceled = orchestrator.JobDraft, orchestrator.JobRunning, orchestrator.JobPaused, orchestrator.JobCompleted, orchestrator.JobCanceled
	for _, c := range []struct {
		in     orchestrator.JobState
		action string
		out    orchestrator.JobState // "" is refused
		says   string
	}{
		{draft, "start", running, ""}, {draft, "pause", "", "not started"}, {draft, "resume", "", "start it"},
		{draft, "retry", "", "start it"}, {draft, "cancel", canceled, ""},
		{running, "start", running, ""}, {running, "pause", paused, ""}, {running, "resume", running, ""},
		{running, "retry", running, ""}, {running, "cancel", canceled, ""},
		{paused, "start", "", "resume it"}, {paused, "pause", paused, ""}, {paused, "resume", running, ""},
		{paused, "retry", paused, ""}, {paused, "cancel", canceled, ""},
		{completed, "start", "", "create a new job"}, {completed, "pause", "", "nothing to pause"}, {completed, "resume", "", "nothing to resume"},
		{completed, "retry", running, ""}, {completed, "cancel", "", "nothing to cancel"},
		{canceled, "start", "", "create a new job"}, {canceled, "pause", "", "nothing to pause"}, {canceled, "resume", "", "nothing to resume"},
		{canceled, "retry", "", "create a new job"}, {canceled, "cancel", canceled, ""},
	} {
		t.Run(fmt.Sprintf("%s %s", c.action, c.in), func(t *testing.T) {
			e := newEnv(t)
			defer e.checkClean()
			e.fleet(2)
			e.jobIn(c.in)
			before := e.actions("j")
			j, err := e.control(c.action, "j")
			want := before
			switch {
			case c.out == "":
				e.wants(err, orchestrator.ErrConflict, `job "j"`, c.says)
				j = must[orchestrator.Job](t)(e.Job(ctx, "j"))
				c.out = c.in
			case c.out != c.in || c.action == "retry":
				want = c.action + " " + before
				fallthrough
			default:
				e.ok(err)
			}
			if j.State != c.out {
				t.Errorf("the job is %s, want %s", j.State, c.out)
			}
			if got := e.actions("j"); got != want {
				t.Errorf("audited %q, want %q", got, want)
			}
			if ended := j.State == completed || j.State == canceled; ended == j.CompletedAt.IsZero() {
				t.Errorf("%s, ended at %v", j.State, j.CompletedAt)
			}
		})
	}
}

// jobIn makes job "j" on two devices, one of which has failed, in a state.
func (e *env) jobIn(state orchestrator.JobState) {
	e.t.Helper()
	m := e.image("2", content(10, 1))
	must[orchestrator.Job](e.t)(e.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: m.ID, Devices: []string{"d000", "d001"}, Start: state != orchestrator.JobDraft}))
	if state == orchestrator.JobDraft {
		return
	}
	e.ok(e.Status(ctx, "d000", status(e.execution("j", "d000"), 1, schemas.StateFailed)))
	switch state {
	case orchestrator.JobPaused:
		must[orchestrator.Job](e.t)(e.PauseJob(ctx, "j"))
	case orchestrator.JobCompleted:
		e.ok(e.Status(ctx, "d001", status(e.execution("j", "d001"), 1, schemas.StateSucceeded)))
	case orchestrator.JobCanceled:
		must[orchestrator.Job](e.t)(e.CancelJob(ctx, "j", orchestrator.CancelRequest{}))
	}
	if j := must[orchestrator.Job](e.t)(e.Job(ctx, "j")); j.State != state {
		e.t.Fatalf("the job is %s, want %s", j.State, state)
	}
}

// actions are what the audit log has of a job, the newest first.
func (e *env) actions(job string) string {
	e.t.Helper()
	list, _, err := e.AuditEntries(ctx, orchestrator.AuditFilter{Kind: orchestrator.KindJob, ID: job}, orchestrator.Page{})
	e.ok(err)
	var out []string
	for _, a := range list {
		out = append(out, a.Action)
	}
	return strings.Join(out, " ")
}

func TestPauseAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.checkClean()
		ids := e.fleet(3)
		e.start()
		defer func() { e.stop() }()
		m, other := e.image("2", content(10, 1)), e.image("3", content(10, 2))
		e.job("j", m.ID, ids...)
		e.job("later", other.ID, "d002")
		synctest.Wait()
		late := status(e.execution("j", "d001"), 1, schemas.StateAccepted)
		e.ok(e.Status(ctx, "d000", status(e.execution("j", "d000"), 1, schemas.StateAccepted)))
		j := must[orchestrator.Job](t)(e.PauseJob(ctx, "j"))
		if j.Counts[schemas.StateQueued] != 2 || j.Counts[schemas.StateAccepted] != 1 {
			t.Errorf("paused: %v", j.Counts)
		}
		synctest.Wait()
		if left := e.broker.retained(); len(left) != 2 || left["d000"].Image != m.ID || left["d002"].Image != other.ID {
			t.Errorf("offers of a paused job: %v", left)
		}
		x := e.execution("j", "d001")
		if x.State != schemas.StateQueued || x.Attempt != 2 || len(x.History) != 1 || x.History[0].State != schemas.StateQueued || !x.OfferedAt.IsZero() {
			t.Errorf("taken back: %+v", x)
		}
		e.ok(e.Status(ctx, "d001", late)) // the device had accepted, but the service did not hear of it in time
		if a, _ := e.broker.lastAck("d001"); !a.Superseded || a.State != schemas.StateQueued {
			t.Errorf("the report of what was taken back was answered %+v", a)
		}
		e.ok(e.Hello(ctx, "d001", schemas.Hello{V: 1, Execution: late.Execution, Attempt: 1}))
		e.ok(e.Status(ctx, "d000", status(e.execution("j", "d000"), 2, schemas.StateSucceeded)))
		e.ok(e.Status(ctx, "d002", status(e.execution("later", "d002"), 1, schemas.StateSucceeded)))
		synctest.Wait()
		if left := e.broker.retained(); len(left) != 0 {
			t.Errorf("offers of a paused job: %v", left)
		}
		j = must[orchestrator.Job](t)(e.ResumeJob(ctx, "j"))
		if j.State != orchestrator.JobRunning || j.Counts[schemas.StateOffered] != 2 {
			t.Errorf("resumed: %s %v", j.State, j.Counts)
		}
		synctest.Wait()
		if o, _ := e.broker.offer("d001"); o.Execution != x.ID || o.Attempt != 2 {
			t.Errorf("offered again: %+v", o)
		}
		for _, id := range []string{"d001", "d002"} {
			e.ok(e.Status(ctx, id, status(e.execution("j", id), 1, schemas.StateSucceeded)))
		}
		if j = must[orchestrator.Job](t)(e.Job(ctx, "j")); j.State != orchestrator.JobCompleted {
			t.Errorf("ended as %+v", j)
		}
	})
}

// TestPausedJobCompletes lets everything end that a paused job has accepted.
func TestPausedJobCompletes(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(1)
	e.job("j", e.image("2", content(10, 1)).ID, "d000")
	e.ok(e.Status(ctx, "d000", status(e.execution("j", "d000"), 1, schemas.StateAccepted)))
	must[orchestrator.Job](t)(e.PauseJob(ctx, "j"))
	e.ok(e.Status(ctx, "d000", status(e.execution("j", "d000"), 2, schemas.StateSucceeded)))
	if j := must[orchestrator.Job](t)(e.Job(ctx, "j")); j.State != orchestrator.JobCompleted || j.CompletedAt.IsZero() {
		t.Errorf("ended as %+v", j)
	}
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.checkClean()
		ids := e.fleet(5)
		e.start()
		defer func() { e.stop() }()
		m := e.image("2", content(10, 1))
		e.job("j", m.ID, ids...)
		end := func(device string, s schemas.State) {
			e.ok(e.Status(ctx, device, status(e.execution("j", device), 9, s)))
		}
		for i, s := range []schemas.State{schemas.StateFailed, schemas.StateRejected, schemas.StateTimedOut, schemas.StateSucceeded} {
			end(ids[i], s)
		}
		time.Sleep(time.Minute)
		end(ids[4], schemas.StateFailed)
		j := must[orchestrator.Job](t)(e.Job(ctx, "j"))
		if j.State != orchestrator.JobCompleted || j.Causes[schemas.CauseSerial] != 4 || len(j.Causes) != 1 {
			t.Fatalf("ended as %+v", j)
		}
		e.history("j", 60, "1/3", "0/1")

		j = must[orchestrator.Job](t)(e.RetryJob(ctx, "j", orchestrator.RetryRequest{Devices: []string{"d000", "d003"}}))
		if j.State != orchestrator.JobRunning || !j.CompletedAt.IsZero() || j.Counts[schemas.StateOffered] != 1 || j.Causes[schemas.CauseSerial] != 3 {
			t.Errorf("retried on one device: %+v", j)
		}
		synctest.Wait()
		if o, _ := e.broker.offer("d000"); o.Attempt != 2 || o.Execution != e.execution("j", "d000").ID {
			t.Errorf("offered %+v", o)
		}
		j = must[orchestrator.Job](t)(e.RetryJob(ctx, "j", orchestrator.RetryRequest{}))
		if j.Counts[schemas.StateOffered] != 4 || j.Counts[schemas.StateSucceeded] != 1 || len(j.Causes) != 0 {
			t.Errorf("retried: %+v", j)
		}
		_, err := e.RetryJob(ctx, "j", orchestrator.RetryRequest{})
		e.wants(err, orchestrator.ErrConflict, "nothing to retry")
		_, err = e.RetryJob(ctx, "j", orchestrator.RetryRequest{Devices: []string{"d003"}})
		e.wants(err, orchestrator.ErrConflict, "nothing to retry")
		_, err = e.RetryJob(ctx, "j", orchestrator.RetryRequest{Devices: []string{"d003", "x"}})
		e.wants(err, orchestrator.ErrInvalid, "devices/1", `no execution on device "x"`)
		_, err = e.RetryJob(ctx, "j", orchestrator.RetryRequest{Devices: []string{"d003", "d003"}})
		e.wants(err, orchestrator.ErrInvalid, "devices/1", "twice")
		for _, id := range []string{"d000", "d001", "d002", "d004"} {
			if x := e.execution("j", id); x.Attempt != 2 {
				t.Errorf("%s is at attempt %d", id, x.Attempt)
			}
			end(id, schemas.StateSucceeded)
		}
		j = must[orchestrator.Job](t)(e.Job(ctx, "j"))
		if j.State != orchestrator.JobCompleted || j.Counts[schemas.StateSucceeded] != 5 || j.CompletedAt.IsZero() {
			t.Errorf("ended as %+v", j)
		}
		e.history("j", 60, "1/3", "4/1")
		_, err = e.RetryJob(ctx, "j", orchestrator.RetryRequest{})
		e.wants(err, orchestrator.ErrConflict, "nothing to retry")
	})
}

// history compares the steps in which something ended, as successes/others.
func (e *env) history(job string, last int, want ...string) {
	e.t.Helper()
	h, err := e.JobHistory(ctx, job)
	e.ok(err)
	var got []string
	for _, p := range h.Points {
		if p.Succeeded+p.Failed > 0 {
			got = append(got, fmt.Sprintf("%d/%d", p.Succeeded, p.Failed))
		}
	}
	if !slices.Equal(got, want) || len(h.Points) != last+1 || h.Step != orchestrator.Duration(time.Second) {
		e.t.Errorf("history of %d steps of %v: %v, want %v", len(h.Points), time.Duration(h.Step), got, want)
	}
}

// TestHistoryNeverGrows lets executions end over a month.
func TestHistoryNeverGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.checkClean()
		ids := e.fleet(30)
		e.job("j", e.image("2", content(10, 1)).ID, ids...)
		began := time.Now()
		for i, id := range ids {
			time.Sleep(24 * time.Hour)
			e.ok(e.Status(ctx, id, status(e.execution("j", id), 1, []schemas.State{schemas.StateSucceeded, schemas.StateFailed}[i%2])))
			h, err := e.JobHistory(ctx, "j")
			e.ok(err)
			sum := 0
			for _, p := range h.Points {
				sum += p.Succeeded + p.Failed
			}
			end := h.Start.Add(time.Duration(h.Step) * time.Duration(len(h.Points)))
			if len(h.Points) > 120 || len(h.Points) < 60 || sum != i+1 || !h.Start.Equal(began) || end.Before(time.Now()) {
				t.Fatalf("after %d days: %d steps of %v, which count %d ends from %v to %v", i+1, len(h.Points), time.Duration(h.Step), sum, h.Start, end)
			}
		}
	})
}

func TestRetryLeavesOut(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	ids := e.fleet(3)
	must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "valve", Dialect: "ayla"}))
	m := e.image("2", content(10, 1))
	e.job("j", m.ID, ids...)
	for _, id := range ids {
		e.ok(e.Status(ctx, id, status(e.execution("j", id), 1, schemas.StateFailed)))
	}
	e.ok(e.DeleteDevice(ctx, "d000"))
	e.ok(e.DeleteDevice(ctx, "d001"))
	must[orchestrator.Device](t)(e.CreateDevice(ctx, orchestrator.NewDevice{ID: "d001", Type: "valve"}))
	j := must[orchestrator.Job](t)(e.RetryJob(ctx, "j", orchestrator.RetryRequest{}))
	if j.State != orchestrator.JobRunning || j.Counts[schemas.StateFailed] != 2 || j.Counts[schemas.StateOffered] != 1 {
		t.Errorf("retried: %s %v", j.State, j.Counts)
	}
	e.ok(e.Status(ctx, "d002", status(e.execution("j", "d002"), 1, schemas.StateSucceeded)))
	archived := true
	must[orchestrator.Image](t)(e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{Archived: &archived}))
	_, err := e.RetryJob(ctx, "j", orchestrator.RetryRequest{})
	e.wants(err, orchestrator.ErrConflict, "archived")
	_, err = e.CreateJob(ctx, orchestrator.NewJob{Name: "k", Image: m.ID, Devices: []string{"d002"}})
	e.wants(err, orchestrator.ErrInvalid, "archived")
	_, err = e.PreviewJob(ctx, orchestrator.NewJob{Image: m.ID, Devices: []string{"d002"}})
	e.wants(err, orchestrator.ErrInvalid, "archived")
}

// TestStartReturnsSoon starts a job of many parts: the call does a few, and Run
// the rest; a pause and a cancellation in the middle hold.
func TestStartReturnsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, func(o *orchestrator.Options) { o.JobBatch = 4 })
		defer e.checkClean()
		ids := e.fleet(100)
		m := e.image("2", content(10, 1))
		j := e.job("j", m.ID, ids...)
		if n := j.Counts[schemas.StateOffered]; n != 16 || j.Targets != 100 {
			t.Errorf("started %d of %d executions before it returned", n, j.Targets)
		}
		j = must[orchestrator.Job](t)(e.PauseJob(ctx, "j"))
		if j.Counts[schemas.StateOffered] != 16 || j.Counts[schemas.StateQueued] != 16 {
			t.Errorf("paused: %v", j.Counts)
		}
		e.checkClean()
		e.start()
		defer func() { e.stop() }()
		synctest.Wait()
		if j = must[orchestrator.Job](t)(e.Job(ctx, "j")); j.Counts[schemas.StateQueued] != 100 || len(e.broker.retained()) != 0 {
			t.Errorf("paused: %v", j.Counts)
		}
		must[orchestrator.Job](t)(e.ResumeJob(ctx, "j"))
		j = must[orchestrator.Job](t)(e.PauseJob(ctx, "j"))
		must[orchestrator.Job](t)(e.ResumeJob(ctx, "j"))
		synctest.Wait()
		if j = must[orchestrator.Job](t)(e.Job(ctx, "j")); j.Counts[schemas.StateOffered] != 100 || len(e.broker.retained()) != 100 {
			t.Errorf("resumed: %v", j.Counts)
		}
		for _, id := range ids {
			e.ok(e.Status(ctx, id, status(e.execution("j", id), 1, schemas.StateFailed)))
		}
		must[orchestrator.Job](t)(e.RetryJob(ctx, "j", orchestrator.RetryRequest{}))
		must[orchestrator.Job](t)(e.CancelJob(ctx, "j", orchestrator.CancelRequest{}))
		synctest.Wait()
		j = must[orchestrator.Job](t)(e.Job(ctx, "j"))
		if ended := j.Counts[schemas.StateFailed] + j.Counts[schemas.StateCanceled]; j.State != orchestrator.JobCanceled || ended != 100 || len(e.broker.retained()) != 0 {
			t.Errorf("canceled: %s %v", j.State, j.Counts)
		}
	})
}

// TestNothingChanges asks for what is true already: nobody is told of a change.
func TestNothingChanges(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(2)
	e.jobIn(orchestrator.JobPaused)
	before, err := e.LastRev(ctx)
	e.ok(err)
	must[orchestrator.Job](t)(e.PauseJob(ctx, "j"))
	if after, err := e.LastRev(ctx); err != nil || after != before {
		t.Errorf("pausing a paused job went from revision %d to %d, %v", before, after, err)
	}
}
