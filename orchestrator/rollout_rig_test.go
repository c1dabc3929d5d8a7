package orchestrator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// rig is a Service with a clock of its own, whose loop the test turns by hand, and
// devices that are connected.
type rig struct {
	*env
	now time.Time
	ids []string
	img orchestrator.Image
}

// newRig makes n connected devices that run version 1, and an image of version 2.
func newRig(t *testing.T, n int, change ...func(*orchestrator.Options)) *rig {
	t.Helper()
	r := &rig{now: epoch}
	change = append(change, func(o *orchestrator.Options) { o.Now = func() time.Time { return r.now } })
	r.env = newEnv(t, change...)
	t.Cleanup(func() { r.checkClean() })
	r.ids = r.fleet(n)
	for _, id := range r.ids {
		r.ok(r.Presence(ctx, id, true))
		r.runs(id, "1")
	}
	r.img = r.image("2", content(10, 1))
	return r
}

// runs says that a device's host MCU runs a version.
func (r *rig) runs(device, version string) {
	r.t.Helper()
	r.ok(r.Hello(ctx, device, schemas.Hello{V: 1, HostVersions: map[string]string{orchestrator.DefaultVersionProperty: version}}))
}

// rollOut makes and starts a job for all devices.
func (r *rig) rollOut(name string, plan orchestrator.Rollout, change ...func(*orchestrator.NewJob)) {
	r.t.Helper()
	n := orchestrator.NewJob{Name: name, Image: r.img.ID, Devices: r.ids, Rollout: &plan, Start: true}
	for _, c := range change {
		c(&n)
	}
	must[orchestrator.Job](r.t)(r.CreateJob(ctx, n))
	r.turn()
}

// turn does what is due.
func (r *rig) turn() time.Time {
	r.t.Helper()
	next, err := r.Advance(ctx)
	r.ok(err)
	return next
}

// pass lets time pass, and does at its moment what is due on the way.
func (r *rig) pass(d time.Duration) {
	r.t.Helper()
	end := r.now.Add(d)
	for {
		next := r.turn()
		if next.IsZero() || next.After(end) {
			break
		}
		r.now = next
	}
	r.now = end
	r.turn()
}

// reports makes devices report a state of a job's execution, and does what follows.
func (r *rig) reports(job string, state schemas.State, devices ...string) {
	r.t.Helper()
	for _, id := range devices {
		r.says(job, id, state, "")
	}
	r.turn()
}

// says reports a state of a job's execution, with a cause if it is a failure.
func (r *rig) says(job, device string, state schemas.State, cause schemas.Cause) {
	r.t.Helper()
	x := r.execution(job, device)
	s := status(x, x.Seq+1, state)
	if cause != "" {
		s.Cause = cause
	}
	r.ok(r.Status(ctx, device, s))
}

// in returns a job's devices in a state.
func (r *rig) in(job string, state schemas.State) []string {
	r.t.Helper()
	list, _, err := r.JobExecutions(ctx, job, orchestrator.ExecutionFilter{States: []schemas.State{state}}, orchestrator.Page{Limit: 1000})
	r.ok(err)
	var out []string
	for _, x := range list {
		out = append(out, x.Device)
	}
	return out
}

// succeed has every device succeed that is offered the image.
func (r *rig) succeed(job string) int {
	r.t.Helper()
	ids := r.in(job, schemas.StateOffered)
	r.reports(job, schemas.StateSucceeded, ids...)
	return len(ids)
}

// stands fails the test unless the job's executions are so: "2 offered, 38 queued".
func (r *rig) stands(job, want string) orchestrator.Job {
	r.t.Helper()
	j := must[orchestrator.Job](r.t)(r.Job(ctx, job))
	var parts []string
	for _, s := range schemas.States() {
		if n := j.Counts[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if got := strings.Join(parts, ", "); got != want {
		r.t.Errorf("job %s (%s, wave %d) has %s; want %s", job, j.State, j.Wave, got, want)
	}
	return j
}
