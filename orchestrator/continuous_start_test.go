package orchestrator_test

import (
	"testing"

	"davit/orchestrator"
)

// TestContinuousJoinsOnce lets devices say hello while the start of a continuous
// job is under way: they are in it once.
func TestContinuousJoinsOnce(t *testing.T) {
	r := newRig(t, 40, func(o *orchestrator.Options) { o.JobBatch = 4 })
	must[orchestrator.Job](t)(r.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: r.img.ID, Query: `type == "pump"`, Start: true,
		Rollout: &orchestrator.Rollout{Continuous: true}}))
	for _, id := range r.ids {
		r.runs(id, "1")
	}
	r.turn()
	if j := r.stands("j", "40 offered"); j.Targets != 40 {
		t.Errorf("%d targets", j.Targets)
	}
}
