package web

import (
	"context"
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"

	"davit/gateway"
	"davit/orchestrator"
)

func (c *Console) rolloutRoutes() {
	c.handle("GET /jobs/{name}/waves/{n}", "list-wave-devices", (*visit).wavePage)
	c.handle("POST /jobs/{name}/approve", "approve-wave", (*visit).approveWave)
	c.handle("POST /jobs/{name}/cancel", "cancel-job", (*visit).cancelJob)
	c.devicesAction("install", "install-job", "are told to install what they have downloaded", gateway.Service.InstallJob)
	c.devicesAction("confirm", "confirm-job", "may be updated now", gateway.Service.ConfirmJob)
}

// devicesVerb is one of the service's methods that act on some devices of a job.
type devicesVerb func(gateway.Service, context.Context, string, orchestrator.DevicesRequest) (orchestrator.Job, error)

// devicesAction acts on the devices that the form names, or on all that wait for it.
func (c *Console) devicesAction(verb, operation, done string, act devicesVerb) {
	c.handle("POST /jobs/{name}/"+verb, operation, func(v *visit) error {
		f, err := v.form()
		if err != nil {
			return err
		}
		name, devices := v.path("name"), f.All("device")
		_, err = act(v.service, v.ctx(), name, orchestrator.DevicesRequest{Devices: devices})
		whom := "All devices that waited"
		if len(devices) > 0 {
			whom = strings.Join(devices, ", ")
			done = strings.Replace(done, "are told", "is told", 1)
		}
		return v.outcome(err, gateway.LocalPath(f.Get("next"), jobURL(name)), whom+" "+done+".")
	})
}

func (v *visit) approveWave() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	name := v.path("name")
	wave := f.whole("wave")
	if f.Bad() {
		return orchestrator.InvalidField("wave", "%s", f.Error("wave"))
	}
	_, err = v.service.ApproveWave(v.ctx(), name, orchestrator.ApproveRequest{Wave: wave, Force: f.Has("force")})
	done := fmt.Sprintf("Wave %d was approved.", wave)
	if f.Has("force") {
		done = fmt.Sprintf("Wave %d begins now.", wave)
	}
	return v.outcome(err, jobURL(name), done)
}

func (v *visit) cancelJob() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	name, finish := v.path("name"), f.Get("in_progress") == "finish"
	_, err = v.service.CancelJob(v.ctx(), name, orchestrator.CancelRequest{Finish: finish})
	done := "The job was canceled."
	if finish {
		done = "The job was canceled; what devices have accepted finishes."
	}
	return v.outcome(err, jobURL(name), done)
}

// waveRow is a wave of a job in a list.
type waveRow struct {
	orchestrator.WaveStatus
	URL string
	Bar template.HTML
	// Approve says that it waits for somebody, Force that it could begin before its
	// time.
	Approve, Force bool
	// Soaks says that its soak time is not over.
	Soaks bool
}

func waveURL(job string, wave int) string { return jobURL(job) + "/waves/" + strconv.Itoa(wave) }

// waveRows are the waves of a job. Only the one after the last that was released can
// be approved or begun early.
func waveRows(job orchestrator.Job, now time.Time) []waveRow {
	rows := make([]waveRow, 0, len(job.Waves))
	for _, w := range job.Waves {
		row := waveRow{WaveStatus: w, URL: waveURL(job.Name, w.Number), Bar: chartWave(w), Soaks: w.NextAt.After(now)}
		row.Approve = w.Number == waveToApprove(job)
		row.Force = !row.Approve && started(job) && w.Number > 1 && w.Number == job.Wave+1
		rows = append(rows, row)
	}
	return rows
}

// started says whether a job was started and has not ended.
func started(job orchestrator.Job) bool {
	return job.State == orchestrator.JobRunning || job.State == orchestrator.JobPaused
}

// waveToApprove is the number of the wave that waits for somebody, 0 if none does.
func waveToApprove(job orchestrator.Job) int {
	if next := job.Wave + 1; started(job) && next > 1 && next <= len(job.Waves) && job.Waves[next-1].State == orchestrator.WaveApproval {
		return next
	}
	return 0
}

// chartWave is a wave's progress as one bar.
func chartWave(w orchestrator.WaveStatus) template.HTML {
	t := Tally{Targets: w.Devices, Succeeded: w.Succeeded, Failed: w.Failed, Canceled: w.Canceled, Active: w.InProgress, Waiting: w.Queued}
	return stackedBar("split-bar", t.Words(), w.Devices, []segment{{"good", w.Succeeded}, {"bad", w.Failed}, {"idle", w.Canceled}, {"busy", w.InProgress}})
}

// waveBadge is the badge of a wave's state.
func waveBadge(s orchestrator.WaveState) template.HTML {
	switch s {
	case orchestrator.WaveApproval:
		return badge("warn", "waits for approval")
	case orchestrator.WaveRunning:
		return badge("busy", "running")
	case orchestrator.WaveSoaking:
		return badge("busy", "soaking")
	case orchestrator.WaveDone:
		return badge("good", "done")
	case orchestrator.WaveWaiting:
	}
	return badge("idle", "waiting")
}

// waveView is what the page of a wave shows.
type waveView struct {
	waveRow
	Job     orchestrator.Job
	Members []memberRow
	Pager   pager
}

// memberRow is a device of a wave; Execution is nil before the job was started.
type memberRow struct {
	Device    string
	Execution *executionRow
}

func (v *visit) wavePage() error {
	name := v.path("name")
	job, err := v.service.Job(v.ctx(), name)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(v.path("n"))
	if err != nil || n < 1 || n > len(job.Waves) {
		return errNotFound
	}
	members, next, err := v.service.WaveMembers(v.ctx(), name, n, orchestrator.Page{After: v.after(), Limit: pageSize})
	if err != nil {
		return err
	}
	view := waveView{waveRow: waveRows(job, v.now())[n-1], Job: job, Pager: v.pager(next)}
	for _, m := range members {
		row := memberRow{Device: m.Device}
		if m.Execution != nil {
			row.Execution = new(executionRowOf(*m.Execution, job.Rollout))
		}
		view.Members = append(view.Members, row)
	}
	return v.render("wave", page{
		Title: fmt.Sprintf("Wave %d: %s", n, view.Name), Nav: jobsPath, Crumbs: []crumb{{"Jobs", jobsPath}, {name, jobURL(name)}},
		Live: live{Kinds: []string{orchestrator.KindJob, orchestrator.KindExecution}, Job: name}, Data: view,
	})
}

// whereabouts says in short what a job of a list waits for, or why it has stopped;
// empty if there is nothing to say. A wave that waits for somebody says so.
func whereabouts(job orchestrator.Job) (text, tone string) {
	wave := ""
	if job.Wave > 0 && len(job.Waves) > 1 {
		wave = fmt.Sprintf("wave %d of %d", job.Wave, len(job.Waves))
	}
	join := func(what string) string { return strings.Trim(wave+": "+what, ": ") }
	switch {
	case job.Reason != "":
		return join(job.Reason), "bad"
	case waveToApprove(job) > 0:
		return fmt.Sprintf("wave %d of %d waits for approval", waveToApprove(job), len(job.Waves)), "warn"
	case job.State == orchestrator.JobRunning && job.Waiting != "":
		return join(job.Waiting), ""
	case started(job):
		return wave, ""
	}
	return "", ""
}

// attentionFor is how long a job that a rule has canceled stands out.
const attentionFor = 7 * 24 * time.Hour

// needsAttention says whether somebody should look at a job: a wave waits for
// approval, or a rule has stopped it.
func needsAttention(job orchestrator.Job, now time.Time) bool {
	if started(job) {
		return waveToApprove(job) > 0 || job.State == orchestrator.JobPaused && job.Reason != ""
	}
	return job.State == orchestrator.JobCanceled && job.Reason != "" && (job.CompletedAt.IsZero() || now.Sub(job.CompletedAt) < attentionFor)
}
