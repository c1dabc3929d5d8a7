package orchestrator_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"davit/orchestrator"
	"davit/schemas"
)

func percents(ps ...float64) []orchestrator.Wave {
	var out []orchestrator.Wave
	for _, p := range ps {
		out = append(out, orchestrator.Wave{Percent: p})
	}
	return out
}

func TestWaves(t *testing.T) {
	r := newRig(t, 40)
	r.rollOut("j", orchestrator.Rollout{Waves: percents(5, 25, 100)})
	j := r.stands("j", "38 queued, 2 offered")
	if j.Wave != 1 || len(j.Waves) != 3 || j.Waves[0].State != orchestrator.WaveRunning || j.Waves[1].State != orchestrator.WaveWaiting || j.Waves[1].Devices != 8 {
		t.Errorf("waves %+v", j.Waves)
	}
	first := r.in("j", schemas.StateOffered)
	members, _, err := r.WaveMembers(ctx, "j", 1, orchestrator.Page{})
	r.ok(err)
	for _, m := range members {
		if !slices.Contains(first, m.Device) || m.Execution == nil {
			t.Errorf("%s is in the first wave and not offered", m.Device)
		}
	}
	r.reports("j", schemas.StateSucceeded, first[0])
	r.stands("j", "38 queued, 1 offered, 1 succeeded")
	r.reports("j", schemas.StateSucceeded, first[1])
	r.stands("j", "30 queued, 8 offered, 2 succeeded")
	r.succeed("j")
	r.stands("j", "30 offered, 10 succeeded")
	r.succeed("j")
	if j := r.stands("j", "40 succeeded"); j.State != orchestrator.JobCompleted || j.Waves[2].State != orchestrator.WaveDone {
		t.Errorf("ended as %s, %+v", j.State, j.Waves)
	}
}

// TestWavesAreShownBefore compares what a draft shows with what the start offers,
// and with another job of the same seed.
func TestWavesAreShownBefore(t *testing.T) {
	r := newRig(t, 30)
	show := func(name string) (all []string) {
		must[orchestrator.Job](t)(r.CreateJob(ctx, orchestrator.NewJob{Name: name, Image: r.img.ID, Devices: r.ids,
			Rollout: &orchestrator.Rollout{Seed: "s", Waves: percents(20, 100)}}))
		page := orchestrator.Page{Limit: 4}
		for {
			members, next, err := r.WaveMembers(ctx, name, 1, page)
			r.ok(err)
			for _, m := range members {
				all = append(all, m.Device)
			}
			if next == "" {
				return all
			}
			page.After = next
		}
	}
	a, b := show("a"), show("b")
	if len(a) != 6 || !slices.Equal(a, b) {
		t.Fatalf("waves of one seed: %v and %v", a, b)
	}
	must[orchestrator.Job](t)(r.StartJob(ctx, "a"))
	slices.Sort(a)
	if got := r.in("a", schemas.StateOffered); !slices.Equal(got, a) {
		t.Errorf("offered to %v, shown were %v", got, a)
	}
	_, _, err := r.WaveMembers(ctx, "a", 3, orchestrator.Page{})
	r.wants(err, orchestrator.ErrNotFound, "2 waves")
}

// TestMetricsOfRollouts counts what waves, retries, offers that were taken back and
// falls back come to.
func TestMetricsOfRollouts(t *testing.T) {
	reg := prometheus.NewRegistry()
	r := newRig(t, 8, func(o *orchestrator.Options) { o.Metrics = orchestrator.NewMetrics(reg) })
	r.rollOut("j", orchestrator.Rollout{Waves: percents(25, 100), Retry: &orchestrator.RetryPolicy{}, Stop: []orchestrator.StopRule{{Count: 2}}})
	first := r.in("j", schemas.StateOffered)
	r.succeed("j")
	r.runs(first[0], "1") // falls back, and is tried again
	second := r.in("j", schemas.StateOffered)
	r.says("j", second[0], schemas.StateFailed, schemas.CauseSerial) // which the rule takes for the second
	r.turn()
	for name, want := range map[string]float64{
		orchestrator.MetricWaves: 2, orchestrator.MetricFallBacks: 1, orchestrator.MetricStops: 1,
		orchestrator.MetricRetries: 2, orchestrator.MetricTakenBack: 5,
	} {
		families, err := reg.Gather()
		r.ok(err)
		got := 0.0
		for _, f := range families {
			if f.GetName() == name {
				for _, m := range f.GetMetric() {
					got += m.GetCounter().GetValue()
				}
			}
		}
		if got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func TestCanariesSoakAndApproval(t *testing.T) {
	r := newRig(t, 10)
	r.rollOut("j", orchestrator.Rollout{Waves: []orchestrator.Wave{
		{Name: "canaries", Devices: []string{"d007", "d003"}, Soak: orchestrator.Duration(time.Hour)}, {Count: 3}, {Percent: 100, Approve: true},
	}})
	if got := r.in("j", schemas.StateOffered); !slices.Equal(got, []string{"d003", "d007"}) {
		t.Fatalf("canaries are %v", got)
	}
	r.succeed("j")
	j := r.stands("j", "8 queued, 2 succeeded")
	if j.Waves[0].State != orchestrator.WaveSoaking || !j.NextAt.Equal(epoch.Add(time.Hour)) || !strings.Contains(j.Waiting, "canaries") {
		t.Errorf("soaks as %+v, %q until %v", j.Waves[0], j.Waiting, j.NextAt)
	}
	r.pass(time.Hour - time.Second)
	r.stands("j", "8 queued, 2 succeeded")
	r.pass(time.Second)
	r.stands("j", "5 queued, 3 offered, 2 succeeded")
	_, err := r.ApproveWave(ctx, "j", orchestrator.ApproveRequest{Wave: 2})
	r.wants(err, orchestrator.ErrConflict, "wave 3 is the one to approve")
	r.succeed("j")
	if j = r.stands("j", "5 queued, 5 succeeded"); j.Waves[2].State != orchestrator.WaveApproval || !strings.Contains(j.Waiting, "approve") {
		t.Errorf("waits as %+v: %q", j.Waves[2], j.Waiting)
	}
	must[orchestrator.Job](t)(r.ApproveWave(ctx, "j", orchestrator.ApproveRequest{Wave: 3}))
	r.turn()
	r.stands("j", "5 offered, 5 succeeded")
	_, err = r.ApproveWave(ctx, "j", orchestrator.ApproveRequest{Wave: 4})
	r.wants(err, orchestrator.ErrConflict, "last wave")
}

// TestFallBackDuringSoak takes a success back that did not last.
func TestFallBackDuringSoak(t *testing.T) {
	r := newRig(t, 4)
	r.rollOut("j", orchestrator.Rollout{Waves: []orchestrator.Wave{{Count: 2, Success: 50, Soak: orchestrator.Duration(time.Hour)}, {Percent: 100}}})
	first := r.in("j", schemas.StateOffered)
	r.succeed("j")
	r.pass(30 * time.Minute)
	r.runs(first[0], "1")
	r.runs(first[1], "1")
	j := r.stands("j", "2 queued, 2 failed")
	if x := r.execution("j", first[0]); x.Cause != schemas.CauseBoot || x.Attempt != 2 || x.History[0].State != schemas.StateSucceeded {
		t.Errorf("fell back as %+v", x)
	}
	if j.State != orchestrator.JobPaused || !strings.Contains(j.Reason, "cannot come to 1 successes") {
		t.Errorf("the job is %s: %q", j.State, j.Reason)
	}
	r.pass(2 * time.Hour)
	r.stands("j", "2 queued, 2 failed")
	must[orchestrator.Job](t)(r.ApproveWave(ctx, "j", orchestrator.ApproveRequest{Wave: 2, Force: true}))
	must[orchestrator.Job](t)(r.ResumeJob(ctx, "j"))
	r.turn()
	r.stands("j", "2 offered, 2 failed")
}

// TestOnlineMembers releases the next wave when those have succeeded that were
// there, and brings the others to it when they come.
func TestOnlineMembers(t *testing.T) {
	r := newRig(t, 10)
	r.rollOut("j", orchestrator.Rollout{Pace: &orchestrator.Pace{MaxInProgress: 10},
		Waves: []orchestrator.Wave{{Devices: []string{"d000", "d001", "d002"}, Of: orchestrator.OfOnline}, {Percent: 100, Of: orchestrator.OfOnline}}},
		func(n *orchestrator.NewJob) { n.Start = false })
	for _, id := range []string{"d000", "d001", "d002"} {
		r.ok(r.Presence(ctx, id, false))
	}
	must[orchestrator.Job](t)(r.StartJob(ctx, "j"))
	r.turn()
	r.stands("j", "10 queued") // nobody of the wave is there
	r.ok(r.Presence(ctx, "d001", true))
	r.stands("j", "9 queued, 1 offered")
	r.succeed("j")
	r.stands("j", "2 queued, 7 offered, 1 succeeded")
	r.ok(r.Presence(ctx, "d000", true))
	r.stands("j", "1 queued, 8 offered, 1 succeeded")
	r.succeed("j")
	r.ok(r.Presence(ctx, "d002", true))
	r.succeed("j")
	if j := r.stands("j", "10 succeeded"); j.State != orchestrator.JobCompleted {
		t.Errorf("the job is %s", j.State)
	}
}
