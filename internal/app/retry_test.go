package app

import (
	"bytes"
	"context"
	"testing"
	"time"

	"davit/internal/sim"
	"davit/orchestrator"
	"davit/schemas"
)

// plugFaulty is plug with an MCU that something is wrong with. mend puts a
// healthy one in its place; the port stays.
func (b *bench) plugFaulty(fault sim.Fault) (mend func()) {
	b.t.Helper()
	pty, err := sim.OpenPTY(sim.LineConfig{Baud: benchBaud})
	if err != nil {
		b.t.Fatal(err)
	}
	b.path = pty.Path()
	var off func()
	power := func(fault sim.Fault) {
		b.mcu = sim.NewMCU(sim.MCUConfig{
			Version: "1.0.0", BootTime: 50 * time.Millisecond, ConfirmAfter: 20 * time.Millisecond, EraseTime: time.Millisecond, Fault: fault,
		})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- b.mcu.Run(ctx, pty.MCU()) }()
		off = func() { cancel(); <-ended }
	}
	power(fault)
	b.t.Cleanup(func() {
		off()
		if err := pty.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return func() {
		off()
		power(sim.Fault{})
	}
}

// ended waits for the job's end and returns it with its execution.
func (b *bench) ended() (orchestrator.Job, orchestrator.Execution) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	var last orchestrator.Execution
	job, err := WatchJob(ctx, b.client, "job", WatchFuncs{
		Execution: func(e orchestrator.Execution) error { last = e; return nil },
		Job:       func(orchestrator.Job) error { return nil },
	})
	if err != nil {
		b.t.Fatalf("job %+v, execution %+v: %v", job, last, err)
	}
	return job, last
}

// TestRetryAfterAFailure fails once, on an MCU whose check of the image does
// not pass, and succeeds when it is tried again on another; the bridge is
// restarted in between.
func TestRetryAfterAFailure(t *testing.T) {
	b := newBench(t)
	stop := b.serve(ExternalBroker{})
	password := b.records()
	mend := b.plugFaulty(sim.Fault{BadChecksum: true})
	stopBridge := b.bridge("mqtt://"+b.mqtt, "rack", password)
	image := sim.BuildDemoImage("2.0.0", imageSize/4, 1)
	b.roll(image, "2.0.0")
	job, e := b.ended()
	if job.State != orchestrator.JobCompleted || e.State != schemas.StateFailed || e.Attempt != 1 || job.Causes[e.Cause] != 1 {
		t.Fatalf("with a faulty MCU: job %+v, execution %+v", job, e)
	}
	first := e
	stopBridge()
	mend()
	b.bridge("mqtt://"+b.mqtt, "rack", password)

	job, err := b.client.RetryJob(t.Context(), "job", orchestrator.RetryRequest{})
	if err != nil || job.State != orchestrator.JobRunning || len(job.Causes) != 0 {
		t.Fatalf("retried: %+v, %v", job, err)
	}
	job, e = b.ended()
	if !AllSucceeded(job) || e.State != schemas.StateSucceeded || e.HostVersion != "2.0.0" || e.Attempt != 2 || e.ID != first.ID {
		t.Fatalf("on a healthy MCU: job %+v, execution %+v", job, e)
	}
	if len(e.History) != 1 || e.History[0].Attempt != 1 || e.History[0].State != first.State || e.History[0].Cause != first.Cause || e.History[0].Detail != first.Detail {
		t.Errorf("history %+v, want %+v", e.History, first)
	}
	if !bytes.Equal(b.mcu.RunningImage(), image) {
		t.Error("the MCU does not run the image that was uploaded")
	}
	h, err := b.client.JobHistory(t.Context(), "job")
	sum := orchestrator.HistoryPoint{}
	for _, p := range h.Points {
		sum.Succeeded, sum.Failed = sum.Succeeded+p.Succeeded, sum.Failed+p.Failed
	}
	if err != nil || sum != (orchestrator.HistoryPoint{Succeeded: 1, Failed: 1}) {
		t.Errorf("history of the job %+v, %v", h, err)
	}
	stop()
	report, err := Check(t.Context(), b.serveData())
	if err != nil || !report.OK() {
		t.Errorf("check: %+v, %v", report, err)
	}
}
