package web

import (
	"fmt"
	"html/template"
	"slices"
	"time"

	"davit/gateway"
	"davit/orchestrator"
	"davit/schemas"
)

const jobsPath = "/jobs"

// timelineEntries is how many entries of the audit log a job's page shows.
const timelineEntries = 50

func (c *Console) jobRoutes() {
	c.handle("GET /jobs", "list-jobs", (*visit).jobList)
	c.handle("GET /jobs/{name}", "get-job", (*visit).jobPage, "list-job-executions", "get-job-history", "watch-job")
	c.handle("GET /jobs/{name}/edit", "change-job", (*visit).editJob)
	c.handle("POST /jobs/{name}", "change-job", (*visit).changeJob)
	c.jobAction("start", "start-job", "The job was started.", gateway.Service.StartJob)
	c.jobAction("pause", "pause-job", "The job was paused: nothing new is offered, and what a device has accepted goes on.", gateway.Service.PauseJob)
	c.jobAction("resume", "resume-job", "The job goes on.", gateway.Service.ResumeJob)
	c.handle("POST /jobs/{name}/retry", "retry-job", (*visit).retryJob)
	c.handle("GET /executions/{id}", "get-execution", (*visit).executionPage)
}

func (c *Console) jobAction(verb, operation, done string, act jobVerb) {
	c.handle("POST /jobs/{name}/"+verb, operation, func(v *visit) error {
		name := v.path("name")
		_, err := act(v.service, v.ctx(), name)
		return v.outcome(err, jobURL(name), done)
	})
}

func jobURL(name string) string { return jobsPath + "/" + name }

// jobRow is a job in a list.
type jobRow struct {
	orchestrator.Job
	Title string // of its image
	Tally Tally
	Bar   template.HTML
	// Where it is, or why it has stopped, with the tone of that.
	Where, Tone string
}

// jobRows joins jobs with the titles of their images.
func (v *visit) jobRows(jobs []orchestrator.Job) []jobRow {
	titles := map[string]string{}
	rows := make([]jobRow, 0, len(jobs))
	for _, j := range jobs {
		title, ok := titles[j.Image]
		if !ok {
			title = v.titleOf(j.Image)
			titles[j.Image] = title
		}
		where, tone := whereabouts(j)
		rows = append(rows, jobRow{j, title, tallyOf(j), chartJob(j), where, tone})
	}
	return rows
}

// titleOf is an image's title, its id if it cannot be read.
func (v *visit) titleOf(image string) string {
	m, err := v.service.Image(v.ctx(), image)
	if err != nil {
		return image
	}
	return imageTitle(m)
}

func jobStates() []orchestrator.JobState {
	return []orchestrator.JobState{
		orchestrator.JobRunning, orchestrator.JobPaused, orchestrator.JobDraft, orchestrator.JobCompleted, orchestrator.JobCanceled,
	}
}

// tab is one of several views of a list.
type tab struct {
	Text, URL string
	Count     int
	Current   bool
}

func (v *visit) jobList() error {
	f := &form{Values: v.r.URL.Query(), Errors: map[string]string{}}
	filter := orchestrator.JobFilter{State: orchestrator.JobState(f.Get("state")), Text: f.Get("text"), Image: f.Get("image")}
	jobs, next, err := v.service.Jobs(v.ctx(), filter, orchestrator.Page{After: v.after(), Limit: pageSize})
	if err != nil && !f.Take(err) {
		return err
	}
	fleet, err := v.service.Fleet(v.ctx())
	if err != nil {
		return err
	}
	tabs := []tab{{Text: "All", URL: jobsPath, Current: filter.State == ""}}
	for _, s := range jobStates() {
		tabs[0].Count += fleet.Jobs[s]
		tabs = append(tabs, tab{string(s), jobsPath + "?state=" + string(s), fleet.Jobs[s], s == filter.State})
	}
	return v.render("jobs", page{
		Title: "Jobs", Nav: jobsPath, Form: f, Live: live{Kinds: []string{orchestrator.KindJob}},
		Data: struct {
			Rows     []jobRow
			Tabs     []tab
			Pager    pager
			Filtered bool
		}{v.jobRows(jobs), tabs, v.pager(next), filter != orchestrator.JobFilter{}},
	})
}

// stateGroup is a filter of a job's devices.
type stateGroup struct {
	Key, Text string
	States    []schemas.State
}

func stateGroups() []stateGroup {
	return []stateGroup{
		{"", "All", nil},
		{"active", "Under way", []schemas.State{schemas.StateAccepted, schemas.StateDownloading, schemas.StateDownloaded, schemas.StateInstalling, schemas.StateBooting}},
		{"waiting", "Waiting", []schemas.State{schemas.StateQueued, schemas.StateOffered}},
		{"succeeded", "Succeeded", []schemas.State{schemas.StateSucceeded}},
		{"failed", "Failed", []schemas.State{schemas.StateRejected, schemas.StateFailed, schemas.StateTimedOut}},
		{"canceled", "Canceled", []schemas.State{schemas.StateCanceled}},
	}
}

// jobView is what a job's page shows.
type jobView struct {
	Job        orchestrator.Job
	Title      string
	Tally      Tally
	Bar        template.HTML
	States     []stateCount
	Causes     []causeCount
	Chart      *HistoryChart
	Tabs       []tab
	Executions []executionRow
	Pager      pager
	Group      string
	Timeline   []timelineRow
	Waves      []waveRow
	Approval   int      // the wave that waits for approval, 0 if none does
	Plan       []string // how it reaches its devices, in sentences
}

// stateCount is the number of executions in a state.
type stateCount struct {
	State schemas.State
	N     int
}

type causeCount struct {
	Cause schemas.Cause
	Help  causeHelp
	N     int
}

func (v *visit) jobPage() error {
	job, err := v.service.Job(v.ctx(), v.path("name"))
	if err != nil {
		return err
	}
	view := jobView{Job: job, Title: v.titleOf(job.Image), Tally: tallyOf(job), Bar: chartJob(job), Group: v.query("show"),
		Waves: waveRows(job, v.now()), Approval: waveToApprove(job), Plan: v.planSentences(job.Rollout)}
	groups := stateGroups()
	i := max(0, slices.IndexFunc(groups, func(g stateGroup) bool { return g.Key == view.Group }))
	executions, next, err := v.service.JobExecutions(v.ctx(), job.Name, orchestrator.ExecutionFilter{States: groups[i].States},
		orchestrator.Page{After: v.after(), Limit: pageSize})
	if err != nil {
		return err
	}
	view.Executions, view.Pager = executionRows(executions, job.Rollout), v.pager(next)
	for _, g := range groups {
		url := jobURL(job.Name)
		if g.Key != "" {
			url += "?show=" + g.Key
		}
		view.Tabs = append(view.Tabs, tab{g.Text, url, g.count(job), g.Key == groups[i].Key})
	}
	view.States, view.Causes = statesOf(job), causesOf(job)
	if !job.StartedAt.IsZero() {
		history, err := v.service.JobHistory(v.ctx(), job.Name)
		if err != nil {
			return err
		}
		view.Chart = chartHistory(history, job.Targets)
	}
	if view.Timeline, err = v.timeline(job); err != nil {
		return err
	}
	return v.render("job", page{
		Title: job.Name, Lead: job.Description, Nav: jobsPath, Crumbs: []crumb{{"Jobs", jobsPath}},
		Live: live{Kinds: []string{orchestrator.KindJob, orchestrator.KindExecution}, Job: job.Name}, Data: view,
	})
}

// count is how many executions of a job are in a group.
func (g stateGroup) count(job orchestrator.Job) int {
	if g.States == nil {
		n := 0
		for _, c := range job.Counts {
			n += c
		}
		return n
	}
	n := 0
	for _, s := range g.States {
		n += job.Counts[s]
	}
	return n
}

func statesOf(job orchestrator.Job) []stateCount {
	var out []stateCount
	for _, s := range schemas.States() {
		if n := job.Counts[s]; n > 0 {
			out = append(out, stateCount{s, n})
		}
	}
	return out
}

func causesOf(job orchestrator.Job) []causeCount {
	var out []causeCount
	for c, n := range job.Causes {
		if n > 0 {
			out = append(out, causeCount{c, causeOf(c), n})
		}
	}
	slices.SortFunc(out, func(a, b causeCount) int {
		if a.N != b.N {
			return b.N - a.N
		}
		if a.Cause < b.Cause {
			return -1
		}
		return 1
	})
	return out
}

// Open says whether the job can still change.
func (w jobView) Open() bool {
	return slices.Contains([]orchestrator.JobState{orchestrator.JobDraft, orchestrator.JobRunning, orchestrator.JobPaused}, w.Job.State)
}

// Is says whether the job is in a state.
func (w jobView) Is(state string) bool { return string(w.Job.State) == state }

// Action is what devices are asked to do.
func (w jobView) Action() string {
	if w.Job.Rollout == nil {
		return ""
	}
	return string(w.Job.Rollout.Action)
}

// Started says whether the job was started and has not ended.
func (w jobView) Started() bool { return started(w.Job) }

// Agreement says whether a person has to agree before devices are updated.
func (w jobView) Agreement() bool {
	return w.Action() == string(orchestrator.ActionConfirm) && w.Job.Rollout.ConfirmBy != orchestrator.ByProduct
}

// timelineRow is one thing that happened to a job.
type timelineRow struct {
	At   time.Time
	Text string
	Who  string
}

// timeline is what was done to a job, the newest first: with names for those who
// may read the audit log, otherwise only the job's own times.
func (v *visit) timeline(job orchestrator.Job) ([]timelineRow, error) {
	var rows []timelineRow
	if v.can("list-audit-entries") {
		entries, _, err := v.service.AuditEntries(v.ctx(), orchestrator.AuditFilter{Kind: orchestrator.KindJob, ID: job.Name}, orchestrator.Page{Limit: timelineEntries})
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			rows = append(rows, timelineRowOf(e))
		}
	} else {
		rows = append(rows, timelineRow{job.CreatedAt, "Created", ""})
		if !job.StartedAt.IsZero() {
			rows = append(rows, timelineRow{job.StartedAt, "Started", ""})
		}
	}
	if !job.CompletedAt.IsZero() {
		text := "Completed: every device has ended"
		if job.State == orchestrator.JobCanceled {
			text = "Every device has ended"
		}
		rows = append(rows, timelineRow{job.CompletedAt, text, ""})
	}
	slices.SortStableFunc(rows, func(a, b timelineRow) int { return b.At.Compare(a.At) })
	return rows, nil
}

// timelineRowOf tells an entry of the audit log. What the service did by itself it did
// by a rule of the job.
func timelineRowOf(e orchestrator.AuditEntry) timelineRow {
	if e.Actor.Kind == orchestrator.ActorSystem {
		if text := map[string]string{"create": "Created to roll back", "pause": "Paused by a rule", "cancel": "Canceled by a rule"}[e.Action]; text != "" {
			return timelineRow{e.Time, text, ""}
		}
	}
	return timelineRow{e.Time, actionText(e.Action), e.Actor.Name}
}

func actionText(action string) string {
	texts := map[string]string{
		"create": "Created", "update": "Description changed", "start": "Started", "pause": "Paused", "resume": "Resumed",
		"retry": "Failed devices tried again", "cancel": "Canceled",
		"approve": "Wave approved", "install": "Devices told to install", "confirm": "Update of devices agreed to",
	}
	if t := texts[action]; t != "" {
		return t
	}
	return action
}

func (v *visit) editJob() error {
	job, err := v.service.Job(v.ctx(), v.path("name"))
	if err != nil {
		return err
	}
	return v.jobForm(job, newForm("description", job.Description, "revision", fmt.Sprint(job.Revision)))
}

func (v *visit) jobForm(job orchestrator.Job, f *form) error {
	return v.render("job-edit", page{
		Title: "Edit " + job.Name, Nav: jobsPath, Form: f, Crumbs: []crumb{{"Jobs", jobsPath}, {job.Name, jobURL(job.Name)}}, Data: job,
	})
}

func (v *visit) changeJob() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	name := v.path("name")
	_, err = v.service.UpdateJob(v.ctx(), name, orchestrator.JobPatch{Precondition: f.Precondition(), Description: f.Ptr("description")})
	if f.Take(err) {
		job, err := v.service.Job(v.ctx(), name)
		if err != nil {
			return err
		}
		if f.Stale {
			f.Refresh(job.Revision)
		}
		return v.jobForm(job, f)
	}
	if err != nil {
		return err
	}
	return v.redirect(jobURL(name), "The description was saved.")
}

// retryJob tries again what failed: all, or the devices that the form names.
func (v *visit) retryJob() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	name := v.path("name")
	devices := f.All("device")
	_, err = v.service.RetryJob(v.ctx(), name, orchestrator.RetryRequest{Devices: devices})
	done := "The devices that had failed are tried again."
	if len(devices) == 1 {
		done = "The device " + devices[0] + " is tried again."
	}
	return v.outcome(err, gateway.LocalPath(f.Get("next"), jobURL(name)), done)
}
