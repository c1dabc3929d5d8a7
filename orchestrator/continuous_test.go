package orchestrator_test

import (
	"strings"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// TestContinuous brings devices to a job that come to its target in every way
// there is, and no snapshot job.
func TestContinuous(t *testing.T) {
	r := newRig(t, 4)
	must[orchestrator.Group](t)(r.CreateGroup(ctx, orchestrator.NewGroup{ID: "listed", Devices: r.ids[:1]}))
	must[orchestrator.Group](t)(r.CreateGroup(ctx, orchestrator.NewGroup{ID: "found", Query: `label.site == "berlin"`}))
	target := func(n *orchestrator.NewJob) {
		n.Devices, n.Groups, n.Query = nil, []string{"listed", "found"}, `version.app == "1" and label.ring == "beta"`
	}
	r.rollOut("j", orchestrator.Rollout{Continuous: true}, target)
	r.rollOut("snapshot", orchestrator.Rollout{Priority: -1}, target)
	r.stands("j", "1 offered")
	label := func(id string, labels map[string]string) {
		must[orchestrator.Device](t)(r.UpdateDevice(ctx, id, orchestrator.DevicePatch{Labels: &labels}))
	}
	label("d001", map[string]string{"site": "berlin"})
	r.stands("j", "2 offered")
	label("d002", map[string]string{"ring": "beta"})
	r.stands("j", "3 offered")
	must[orchestrator.Group](t)(r.UpdateGroup(ctx, "listed", orchestrator.GroupPatch{Devices: &[]string{"d000", "d003"}}))
	r.stands("j", "4 offered")
	must[orchestrator.Device](t)(r.CreateDevice(ctx, orchestrator.NewDevice{ID: "new", Type: "pump", Labels: map[string]string{"site": "berlin"}}))
	r.stands("j", "5 offered")
	must[orchestrator.Device](t)(r.CreateDevice(ctx, orchestrator.NewDevice{ID: "later", Type: "pump", Labels: map[string]string{"site": "oslo", "ring": "beta"}}))
	r.stands("j", "5 offered")
	r.runs("later", "1") // the query asks for its version
	r.stands("j", "6 offered")
	_, err := r.CreateDevices(ctx, []orchestrator.NewDevice{{ID: "x1", Type: "pump", Labels: map[string]string{"site": "berlin"}}, {ID: "x2", Type: "pump"}})
	r.ok(err)
	r.stands("j", "7 offered")
	must[orchestrator.Group](t)(r.UpdateGroup(ctx, "found", orchestrator.GroupPatch{Query: new(`label.site in ["berlin", "oslo"] or id == "x2"`)}))
	r.turn()
	if j := r.stands("j", "8 offered"); j.Targets != 8 {
		t.Errorf("%d targets", j.Targets)
	}
	r.stands("snapshot", "1 queued")
	r.succeed("j")
	j := r.stands("j", "8 succeeded")
	if j.State != orchestrator.JobRunning {
		t.Fatalf("the job is %s", j.State)
	}
	r.succeed("snapshot")
	r.pass(30 * 24 * time.Hour)
	r.runs("new", "0.9") // somebody loaded an old version
	r.stands("j", "1 offered, 7 succeeded")
	r.reports("j", schemas.StateSucceeded, "new")
	must[orchestrator.Job](t)(r.CancelJob(ctx, "j", orchestrator.CancelRequest{}))
	label("x2", map[string]string{"ring": "beta"})
	r.stands("j", "8 succeeded")
}

// TestContinuousBeforeItsFirstDevice starts a job whose target nobody has come to yet;
// one that would never have a device is refused.
func TestContinuousBeforeItsFirstDevice(t *testing.T) {
	r := newRig(t, 2)
	must[orchestrator.Group](t)(r.CreateGroup(ctx, orchestrator.NewGroup{ID: "berlin", Query: `label.site == "berlin"`}))
	waves := []orchestrator.Wave{{Percent: 50}, {Percent: 100}}
	r.rollOut("j", orchestrator.Rollout{Continuous: true, Waves: waves}, func(n *orchestrator.NewJob) { n.Devices, n.Groups = nil, []string{"berlin"} })
	r.rollOut("q", orchestrator.Rollout{Continuous: true, Priority: -1}, func(n *orchestrator.NewJob) { n.Devices, n.Query = nil, `version.app == "0.9"` })
	r.pass(24 * time.Hour)
	for _, job := range []string{"j", "q"} {
		if j := r.stands(job, ""); j.State != orchestrator.JobRunning || j.Targets != 0 {
			t.Fatalf("job %s is %s with %d targets", job, j.State, j.Targets)
		}
	}
	r.runs("d000", "0.9")
	r.stands("q", "1 offered")
	must[orchestrator.Device](t)(r.UpdateDevice(ctx, "d001", orchestrator.DevicePatch{Labels: &map[string]string{"site": "berlin"}}))
	r.turn()
	r.stands("j", "1 offered")
	for _, n := range []orchestrator.NewJob{
		{Query: `id == "nobody"`}, // a snapshot
		{Rollout: &orchestrator.Rollout{Continuous: true}},
	} {
		n.Name, n.Image = "none", r.img.ID
		if _, err := r.CreateJob(ctx, n); err == nil || !strings.Contains(err.Error(), "devices") {
			t.Errorf("a job without devices: %v", err)
		}
	}
}

// TestContinuousTriesAgainForAVersion takes a device that was turned away for its
// version when it reports one that fits, and one that falls back soon no more often
// than the policy says.
func TestContinuousTriesAgainForAVersion(t *testing.T) {
	r := newRig(t, 1)
	m := r.image("3", content(9, 1), func(n *orchestrator.NewImage) { n.MinVersion = "2" })
	r.rollOut("j", orchestrator.Rollout{Continuous: true}, func(n *orchestrator.NewJob) { n.Image, n.Devices, n.Query = m.ID, nil, `type == "pump"` })
	if j := r.stands("j", "1 rejected"); j.State != orchestrator.JobRunning {
		t.Fatalf("the job is %s", j.State)
	}
	r.runs("d000", "1")
	r.stands("j", "1 rejected")
	r.runs("d000", "2")
	r.stands("j", "1 offered")
	for range 3 {
		r.succeed("j")
		r.pass(time.Minute)
		r.runs("d000", "2")
		r.pass(2 * time.Hour)
	}
	if x := r.execution("j", "d000"); x.State != schemas.StateFailed || x.Cause != schemas.CauseBoot {
		t.Errorf("it falls back each time and is %+v", x)
	}
}
