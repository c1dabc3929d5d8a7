package orchestrator_test

import (
	"strings"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

func TestStopRules(t *testing.T) {
	for _, c := range []struct {
		name  string
		rule  orchestrator.StopRule
		fails []schemas.Cause // one device after the other
		holds int             // how many of them do not stop the job
		job   orchestrator.JobState
		says  string
	}{
		{"count", orchestrator.StopRule{Count: 2}, []schemas.Cause{schemas.CauseFlash, schemas.CauseSerial}, 1, orchestrator.JobPaused, "2"},
		{"of one cause", orchestrator.StopRule{Count: 2, Causes: []schemas.Cause{schemas.CauseBoot}},
			[]schemas.Cause{schemas.CauseFlash, schemas.CauseBoot, schemas.CauseFlash, schemas.CauseBoot}, 3, orchestrator.JobPaused, "boot"},
		{"percent", orchestrator.StopRule{Percent: 50, MinSample: 3}, []schemas.Cause{schemas.CauseFlash, schemas.CauseFlash, schemas.CauseFlash}, 2, orchestrator.JobPaused, "50 %"},
		{"abort", orchestrator.StopRule{Count: 1, Action: orchestrator.StopAbort}, []schemas.Cause{schemas.CauseFlash}, 0, orchestrator.JobCanceled, "1"},
		{"recall", orchestrator.StopRule{Count: 1, Action: orchestrator.StopRecall}, []schemas.Cause{schemas.CauseFlash}, 0, orchestrator.JobCanceled, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, 12)
			r.rollOut("j", orchestrator.Rollout{Pace: &orchestrator.Pace{MaxInProgress: 6}, Stop: []orchestrator.StopRule{c.rule}})
			offered := r.in("j", schemas.StateOffered)
			r.reports("j", schemas.StateInstalling, offered[5])
			for i, cause := range c.fails {
				before := must[orchestrator.Job](t)(r.Job(ctx, "j"))
				if before.State != orchestrator.JobRunning {
					t.Fatalf("stopped after %d: %s", i, before.Reason)
				}
				r.says("j", offered[i], schemas.StateFailed, cause)
				if i < c.holds {
					r.turn()
				}
			}
			// In the same event, before anything else is done:
			j := must[orchestrator.Job](t)(r.Job(ctx, "j"))
			if j.State != c.job || !strings.Contains(j.Reason, c.says) {
				t.Fatalf("the job is %s: %q", j.State, j.Reason)
			}
			queued := j.Counts[schemas.StateQueued]
			r.pass(time.Hour)
			j = must[orchestrator.Job](t)(r.Job(ctx, "j"))
			switch {
			case c.job == orchestrator.JobPaused && (j.Counts[schemas.StateOffered] != 0 || j.Counts[schemas.StateInstalling] != 1):
				t.Errorf("paused with %v", j.Counts)
			case c.rule.Action == orchestrator.StopAbort && (j.Counts[schemas.StateInstalling] != 1 || !j.CompletedAt.IsZero() || j.Counts[schemas.StateQueued] != 0):
				t.Errorf("aborted with %v", j.Counts)
			case c.rule.Action == orchestrator.StopRecall && (j.Counts[schemas.StateInstalling] != 0 || j.CompletedAt.IsZero()):
				t.Errorf("recalled with %v", j.Counts)
			}
			if a := r.actions("j"); !strings.HasPrefix(a, "pause ") && !strings.HasPrefix(a, "cancel ") {
				t.Errorf("audited %q", a)
			}
			_ = queued
			if c.rule.Action == orchestrator.StopAbort {
				r.reports("j", schemas.StateSucceeded, offered[5])
				if j := must[orchestrator.Job](t)(r.Job(ctx, "j")); j.Counts[schemas.StateSucceeded] != 1 || j.CompletedAt.IsZero() {
					t.Errorf("what was in progress ended as %v, completed %v", j.Counts, j.CompletedAt)
				}
			}
		})
	}
}

// TestStopRuleOfAWave counts each wave by itself, and anew after a person has let
// the job go on.
func TestStopRuleOfAWave(t *testing.T) {
	r := newRig(t, 20)
	r.rollOut("j", orchestrator.Rollout{
		Waves: []orchestrator.Wave{{Count: 10, Success: 50}, {Percent: 100}},
		Stop:  []orchestrator.StopRule{{Count: 3, Over: orchestrator.OverWave}},
	})
	first := r.in("j", schemas.StateOffered)
	r.reports("j", schemas.StateFailed, first[0], first[1])
	r.reports("j", schemas.StateSucceeded, first[2:8]...)
	second := r.in("j", schemas.StateOffered)[2:]
	r.reports("j", schemas.StateFailed, second[0], second[1])
	if j := r.stands("j", "10 offered, 6 succeeded, 4 failed"); j.State != orchestrator.JobRunning {
		t.Fatalf("two of each wave stopped it: %s", j.Reason)
	}
	r.reports("j", schemas.StateFailed, first[8])
	j := must[orchestrator.Job](t)(r.Job(ctx, "j"))
	if j.State != orchestrator.JobPaused || !strings.Contains(j.Reason, "wave") {
		t.Fatalf("the job is %s: %q", j.State, j.Reason)
	}
	must[orchestrator.Job](t)(r.ResumeJob(ctx, "j"))
	r.turn()
	r.reports("j", schemas.StateFailed, first[9], second[2])
	if j = must[orchestrator.Job](t)(r.Job(ctx, "j")); j.State != orchestrator.JobRunning || j.Reason != "" {
		t.Errorf("what was forgiven stopped it again: %s %q", j.State, j.Reason)
	}
}

func TestRollBack(t *testing.T) {
	r := newRig(t, 8)
	old := r.image("1", content(12, 1))
	r.rollOut("j", orchestrator.Rollout{Stop: []orchestrator.StopRule{{Count: 2, Action: orchestrator.StopAbort, RollBack: old.ID}}})
	r.reports("j", schemas.StateSucceeded, "d000", "d001", "d002")
	r.reports("j", schemas.StateAccepted, "d003")
	r.reports("j", schemas.StateFailed, "d004", "d005")
	if j := r.stands("j", "1 accepted, 3 succeeded, 2 failed, 2 canceled"); j.RollBackJob != "" {
		t.Errorf("rolled back by %q while one is in progress", j.RollBackJob)
	}
	r.reports("j", schemas.StateSucceeded, "d003")
	j := r.stands("j", "4 succeeded, 2 failed, 2 canceled")
	if j.RollBackJob != "j-roll-back" || j.CompletedAt.IsZero() {
		t.Fatalf("rolled back by %q", j.RollBackJob)
	}
	if got := strings.Join(r.in("j-roll-back", schemas.StateOffered), " "); got != "d000 d001 d002 d003" {
		t.Errorf("brought back: %s", got)
	}
	for _, id := range r.in("j-roll-back", schemas.StateOffered) {
		r.runs(id, "1") // the MCU says so before the report of success comes
		r.says("j-roll-back", id, schemas.StateSucceeded, "")
	}
	r.turn()
	r.stands("j-roll-back", "4 succeeded")
	r.stands("j", "4 succeeded, 2 failed, 2 canceled") // that they were brought back is no fall back
}
