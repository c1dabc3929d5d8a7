package orchestrator_test

import (
	"strings"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

const (
	minute = orchestrator.Duration(time.Minute)
	hour   = orchestrator.Duration(time.Hour)
)

func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		name     string
		limits   orchestrator.Timeouts
		state    schemas.State // what the device reports last
		lasts    time.Duration
		says     string
		progress time.Duration // when it reports progress within the phase
	}{
		{"answer", orchestrator.Timeouts{Answer: minute}, "", time.Minute, "answer", 0},
		{"download", orchestrator.Timeouts{Download: 5 * minute}, schemas.StateDownloading, 5 * time.Minute, "download", time.Minute},
		{"load", orchestrator.Timeouts{Load: minute, LoadRate: 1}, schemas.StateInstalling, time.Minute + 10*time.Second, "load", 30 * time.Second},
		{"boot", orchestrator.Timeouts{Boot: minute, Version: minute}, schemas.StateBooting, 2 * time.Minute, "boot", 0},
		{"boot alone, with the usual time for the version", orchestrator.Timeouts{Boot: 2 * minute}, schemas.StateBooting, 3 * time.Minute, "boot", 0},
		{"version alone, with the device type's time to boot", orchestrator.Timeouts{Version: minute}, schemas.StateBooting, 150 * time.Second, "version", 0},
		{"total", orchestrator.Timeouts{Total: 3 * minute}, schemas.StateInstalling, 3 * time.Minute, "whole update", time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, 1)
			r.rollOut("j", orchestrator.Rollout{Timeouts: &c.limits})
			if c.state != "" {
				r.reports("j", c.state, "d000")
			}
			if due := r.execution("j", "d000").DueAt; !due.Equal(epoch.Add(c.lasts)) {
				t.Errorf("due after %v, want %v", due.Sub(epoch), c.lasts)
			}
			if c.progress > 0 {
				r.pass(c.progress)
				r.reports("j", c.state, "d000")
			}
			r.pass(c.lasts - c.progress - time.Second)
			if x := r.execution("j", "d000"); x.State.Final() {
				t.Fatalf("ended early as %+v", x)
			}
			r.restart() // a timer is in the store
			r.pass(time.Second)
			x := r.execution("j", "d000")
			if x.State != schemas.StateTimedOut || x.Cause != schemas.CauseTimeout || !strings.Contains(x.Detail, c.says) {
				t.Errorf("ended as %s %s: %q", x.State, x.Cause, x.Detail)
			}
		})
	}
}

// TestDevicesAreToldHostTimes: an offer has the limits of the host MCU that the service
// itself goes by.
func TestDevicesAreToldHostTimes(t *testing.T) {
	for name, c := range map[string]struct {
		limits        *orchestrator.Timeouts
		boot, version time.Duration
	}{
		"none":    {&orchestrator.Timeouts{Total: hour}, 90 * time.Second, 0},
		"boot":    {&orchestrator.Timeouts{Boot: minute}, time.Minute, time.Minute},
		"version": {&orchestrator.Timeouts{Version: 2 * minute}, 90 * time.Second, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1)
			r.rollOut("j", orchestrator.Rollout{Timeouts: c.limits})
			if _, _, err := orchestrator.PublishNext(ctx, r.Service); err != nil {
				t.Fatal(err)
			}
			o, _ := r.broker.offer("d000")
			if h := o.Host; h.BootTimeoutMS != c.boot.Milliseconds() || h.VersionTimeoutMS != c.version.Milliseconds() {
				t.Errorf("told %d ms to boot and %d ms to report, want %v and %v", h.BootTimeoutMS, h.VersionTimeoutMS, c.boot, c.version)
			}
		})
	}
}

// TestGoneDeviceIsNotTimedOut takes the offer back that a device does not answer
// because it is gone.
func TestGoneDeviceIsNotTimedOut(t *testing.T) {
	r := newRig(t, 1)
	r.rollOut("j", orchestrator.Rollout{Timeouts: &orchestrator.Timeouts{Answer: minute}})
	r.ok(r.Presence(ctx, "d000", false))
	r.pass(time.Hour)
	if x := r.execution("j", "d000"); x.State != schemas.StateQueued || !strings.Contains(x.History[0].Detail, "gone") {
		t.Errorf("%+v", x)
	}
	r.ok(r.Presence(ctx, "d000", true))
	r.stands("j", "1 offered")
}

func TestRetryPolicyOfAJob(t *testing.T) {
	policy := &orchestrator.RetryPolicy{Attempts: 3, Backoff: &orchestrator.Backoff{First: minute, Factor: 2, Jitter: 0.1},
		Causes: map[schemas.Cause]orchestrator.CauseRetry{schemas.CauseFlash: {Attempts: 1}}}
	r := newRig(t, 3)
	r.rollOut("j", orchestrator.Rollout{Retry: policy})
	r.says("j", "d000", schemas.StateFailed, schemas.CauseSerial)
	r.says("j", "d001", schemas.StateFailed, schemas.CauseFlash)
	r.says("j", "d002", schemas.StateRejected, schemas.CauseAlready)
	r.stands("j", "1 queued, 1 rejected, 1 failed")
	x := r.execution("j", "d000")
	if wait := x.NotBefore.Sub(epoch); wait < 54*time.Second || wait > 66*time.Second || x.Attempt != 2 || x.History[0].Cause != schemas.CauseSerial {
		t.Errorf("tried again after %v: %+v", wait, x)
	}
	r.pass(x.NotBefore.Sub(r.now) - time.Nanosecond)
	r.stands("j", "1 queued, 1 rejected, 1 failed")
	r.pass(time.Nanosecond)
	r.stands("j", "1 offered, 1 rejected, 1 failed")
	r.says("j", "d000", schemas.StateFailed, schemas.CauseSerial)
	if x = r.execution("j", "d000"); x.NotBefore.Sub(r.now) < 108*time.Second || x.NotBefore.Sub(r.now) > 132*time.Second {
		t.Errorf("the second wait is %v", x.NotBefore.Sub(r.now))
	}
	r.pass(time.Hour)
	r.says("j", "d000", schemas.StateFailed, schemas.CauseSerial)
	if j := r.stands("j", "1 rejected, 2 failed"); j.State != orchestrator.JobCompleted || j.Retries != 2 {
		t.Errorf("the job is %s after %d retries", j.State, j.Retries)
	}
	// By hand the tries begin anew, and the history stays.
	must[orchestrator.Job](t)(r.RetryJob(ctx, "j", orchestrator.RetryRequest{Devices: []string{"d000"}}))
	r.turn()
	r.says("j", "d000", schemas.StateFailed, schemas.CauseSerial)
	if x = r.execution("j", "d000"); x.State != schemas.StateQueued || x.Attempt != 5 || len(x.History) != 4 {
		t.Errorf("after a retry by hand: %+v", x)
	}
}

func TestRetryBudget(t *testing.T) {
	r := newRig(t, 4)
	r.rollOut("j", orchestrator.Rollout{Retry: &orchestrator.RetryPolicy{Attempts: 5, Budget: 3}})
	r.reports("j", schemas.StateFailed, r.ids...)
	if j := r.stands("j", "3 queued, 1 failed"); j.Retries != 3 {
		t.Errorf("%d retries", j.Retries)
	}
	r.pass(time.Hour)
	r.reports("j", schemas.StateFailed, r.in("j", schemas.StateOffered)...)
	r.stands("j", "4 failed")
}

func TestSoft(t *testing.T) {
	r := newRig(t, 1)
	r.rollOut("j", orchestrator.Rollout{Action: orchestrator.ActionSoft, DeferLimit: hour})
	putOff := func(seconds int) {
		x := r.execution("j", "d000")
		s := status(x, 1, schemas.StateRejected)
		s.Cause, s.DeferS, s.Detail = schemas.CauseDeferred, seconds, "in use"
		r.ok(r.Status(ctx, "d000", s))
	}
	putOff(1200)
	x := r.execution("j", "d000")
	if x.State != schemas.StateQueued || x.NotBefore.Sub(r.now) != 20*time.Minute || !strings.Contains(x.History[0].Detail, "in use") {
		t.Errorf("put off: %+v", x)
	}
	if a, _ := r.broker.lastAck("d000"); a.State != schemas.StateRejected || a.Superseded {
		t.Errorf("acknowledged as %+v", a)
	}
	r.pass(20 * time.Minute)
	putOff(86400)
	if x = r.execution("j", "d000"); x.NotBefore.Sub(epoch) != time.Hour {
		t.Errorf("put off beyond the limit: until %v", x.NotBefore.Sub(epoch))
	}
	r.pass(40 * time.Minute)
	r.stands("j", "1 offered")
	putOff(60)
	if x = r.execution("j", "d000"); x.State != schemas.StateRejected || x.Cause != schemas.CauseDeferred {
		t.Errorf("after the limit: %+v", x)
	}
}

// TestSilentSoft makes a soft offer a firm one when the time to put it off is over.
func TestSilentSoft(t *testing.T) {
	r := newRig(t, 1)
	r.rollOut("j", orchestrator.Rollout{Action: orchestrator.ActionSoft, DeferLimit: hour})
	r.pass(time.Hour)
	if x := r.execution("j", "d000"); x.State != schemas.StateOffered || x.Attempt != 2 {
		t.Errorf("%+v", x)
	}
}

func TestConfirm(t *testing.T) {
	r := newRig(t, 3)
	r.rollOut("j", orchestrator.Rollout{Action: orchestrator.ActionConfirm})
	r.stands("j", "3 queued")
	must[orchestrator.Job](t)(r.ConfirmJob(ctx, "j", orchestrator.DevicesRequest{Devices: []string{"d001"}}))
	r.turn()
	r.stands("j", "2 queued, 1 offered")
	_, err := r.ConfirmJob(ctx, "j", orchestrator.DevicesRequest{Devices: []string{"d001"}})
	r.wants(err, orchestrator.ErrConflict, "none of the devices")
	_, err = r.ConfirmJob(ctx, "j", orchestrator.DevicesRequest{Devices: []string{"d009"}})
	r.wants(err, orchestrator.ErrInvalid, "devices/0", "d009")
	_, err = r.InstallJob(ctx, "j", orchestrator.DevicesRequest{})
	r.wants(err, orchestrator.ErrConflict, "only downloads")
	must[orchestrator.Job](t)(r.ConfirmJob(ctx, "j", orchestrator.DevicesRequest{}))
	r.turn()
	r.stands("j", "3 offered")
}

func TestDownloadThenInstall(t *testing.T) {
	r := newRig(t, 2)
	r.rollOut("j", orchestrator.Rollout{Action: orchestrator.ActionDownload, Pace: &orchestrator.Pace{MaxInProgress: 1}})
	r.reports("j", schemas.StateDownloaded, r.in("j", schemas.StateOffered)...)
	r.stands("j", "1 queued, 1 offered") // what is downloaded takes no place
	r.reports("j", schemas.StateDownloaded, r.in("j", schemas.StateOffered)...)
	r.pass(time.Hour)
	r.stands("j", "2 queued")
	if x := r.execution("j", "d000"); !x.Downloaded || x.Attempt != 2 {
		t.Errorf("%+v", x)
	}
	must[orchestrator.Job](t)(r.InstallJob(ctx, "j", orchestrator.DevicesRequest{}))
	r.turn()
	r.stands("j", "1 queued, 1 offered")
	r.succeed("j")
	r.succeed("j")
	r.stands("j", "2 succeeded")
}

func TestChain(t *testing.T) {
	r := newRig(t, 4)
	step := r.image("1.5", content(20, 1), func(n *orchestrator.NewImage) { n.MinVersion = "1" })
	last := r.image("2.0", content(30, 1), func(n *orchestrator.NewImage) { n.MinVersion = "1.5" })
	r.runs("d001", "1.5")
	r.runs("d002", "2.0")
	r.runs("d003", "0.9")
	r.rollOut("j", orchestrator.Rollout{Via: []string{step.ID}}, func(n *orchestrator.NewJob) { n.Image = last.ID })
	r.stands("j", "2 offered, 1 succeeded, 1 rejected")
	x := r.execution("j", "d000")
	if x.Image != step.ID || x.Version != "1.5" || x.Goal != "2.0" || x.BytesTotal != 20 {
		t.Errorf("the first step is %+v", x)
	}
	if x := r.execution("j", "d003"); x.Cause != schemas.CauseMinVersion || !strings.Contains(x.Detail, "0.9") {
		t.Errorf("unreachable: %+v", x)
	}
	r.reports("j", schemas.StateSucceeded, "d000")
	if x = r.execution("j", "d000"); x.State != schemas.StateOffered || x.Image != last.ID || x.Attempt != 2 || x.History[0].Version != "1.5" || x.BytesTotal != 30 {
		t.Errorf("the second step is %+v", x)
	}
	r.reports("j", schemas.StateSucceeded, "d000", "d001")
	if j := r.stands("j", "3 succeeded, 1 rejected"); j.State != orchestrator.JobCompleted {
		t.Errorf("the job is %s", j.State)
	}
}

func TestStartAndEnd(t *testing.T) {
	r := newRig(t, 4)
	r.rollOut("j", orchestrator.Rollout{Pace: &orchestrator.Pace{MaxInProgress: 2},
		Schedule: &orchestrator.Schedule{Start: epoch.Add(time.Hour), End: epoch.Add(3 * time.Hour)}})
	if j := r.stands("j", "4 queued"); !strings.Contains(j.Waiting, "start") || !j.NextAt.Equal(epoch.Add(time.Hour)) {
		t.Errorf("waits: %q until %v", j.Waiting, j.NextAt)
	}
	r.pass(time.Hour)
	r.stands("j", "2 queued, 2 offered")
	r.reports("j", schemas.StateInstalling, r.in("j", schemas.StateOffered)[0])
	r.pass(2 * time.Hour)
	j := r.stands("j", "1 installing, 3 canceled")
	if j.State != orchestrator.JobRunning {
		t.Errorf("the job is %s while a device finishes", j.State)
	}
	r.reports("j", schemas.StateFailed, r.in("j", schemas.StateInstalling)...)
	if j = r.stands("j", "1 failed, 3 canceled"); j.State != orchestrator.JobCompleted {
		t.Errorf("the job is %s", j.State)
	}
}

// TestClockSetBack lets an hour come twice: what waited waits on, nothing is lost
// and nothing is offered beyond the limits.
func TestClockSetBack(t *testing.T) {
	r := newRig(t, 10)
	r.rollOut("j", orchestrator.Rollout{Pace: &orchestrator.Pace{PerMinute: 1}, Retry: &orchestrator.RetryPolicy{},
		Waves: []orchestrator.Wave{{Count: 1, Soak: hour}, {Percent: 100}}})
	r.succeed("j")
	r.pass(30 * time.Minute)
	r.now = r.now.Add(-time.Hour)
	r.pass(time.Hour - time.Second) // it soaks for an hour of the clock as it is now
	r.stands("j", "9 queued, 1 succeeded")
	r.pass(time.Second)
	r.stands("j", "8 queued, 1 offered, 1 succeeded")
	r.now = r.now.Add(-time.Hour)
	for range 12 {
		r.pass(time.Minute)
	}
	if n := len(r.in("j", schemas.StateOffered)); n < 8 {
		t.Errorf("offered to %d devices after twelve minutes", n)
	}
}
