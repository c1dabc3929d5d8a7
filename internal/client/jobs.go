package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"davit/orchestrator"
)

// CreateJob makes a job and, if it says so, starts it.
func (c *Client) CreateJob(ctx context.Context, n orchestrator.NewJob) (orchestrator.Job, error) {
	return post[orchestrator.Job](ctx, c, n, "jobs")
}

// StartJob starts a job.
func (c *Client) StartJob(ctx context.Context, name string) (orchestrator.Job, error) {
	return post[orchestrator.Job](ctx, c, nil, "jobs", name, "start")
}

// CancelJob ends a job and withdraws its open executions, or lets those finish
// that devices have accepted.
func (c *Client) CancelJob(ctx context.Context, name string, r orchestrator.CancelRequest) (orchestrator.Job, error) {
	return post[orchestrator.Job](ctx, c, r, "jobs", name, "cancel")
}

// ApproveWave lets a job's next wave begin.
func (c *Client) ApproveWave(ctx context.Context, name string, r orchestrator.ApproveRequest) (orchestrator.Job, error) {
	return post[orchestrator.Job](ctx, c, r, "jobs", name, "approve")
}

// InstallJob has devices install what a job had them download.
func (c *Client) InstallJob(ctx context.Context, name string, r orchestrator.DevicesRequest) (orchestrator.Job, error) {
	return post[orchestrator.Job](ctx, c, r, "jobs", name, "install")
}

// ConfirmJob agrees to the update of devices that wait for it.
func (c *Client) ConfirmJob(ctx context.Context, name string, r orchestrator.DevicesRequest) (orchestrator.Job, error) {
	return post[orchestrator.Job](ctx, c, r, "jobs", name, "confirm")
}

// WaveMembers lists the devices of a job's wave.
func (c *Client) WaveMembers(ctx context.Context, name string, wave int, p orchestrator.Page) ([]orchestrator.WaveMember, string, error) {
	return list[orchestrator.WaveMember](ctx, c, p, nil, "jobs", name, "waves", strconv.Itoa(wave), "devices")
}

// Job returns a job and its first executions, at most
// orchestrator.MaxPageLimit; JobExecutions lists all.
func (c *Client) Job(ctx context.Context, name string) (orchestrator.Job, []orchestrator.Execution, error) {
	type detail struct {
		orchestrator.Job
		Executions []orchestrator.Execution `json:"executions"`
	}
	d, err := get[detail](ctx, c, "jobs", name)
	return d.Job, d.Executions, err
}

// Jobs lists the jobs that pass the filter.
func (c *Client) Jobs(ctx context.Context, f orchestrator.JobFilter, p orchestrator.Page) ([]orchestrator.Job, string, error) {
	query := set(url.Values{}, "state", string(f.State), "image", f.Image, "text", f.Text)
	return list[orchestrator.Job](ctx, c, p, query, "jobs")
}

// JobExecutions lists the executions of a job that pass the filter.
func (c *Client) JobExecutions(ctx context.Context, name string, f orchestrator.ExecutionFilter, p orchestrator.Page) ([]orchestrator.Execution, string, error) {
	query := url.Values{}
	for _, s := range f.States {
		query.Add("state", string(s))
	}
	return list[orchestrator.Execution](ctx, c, p, query, "jobs", name, "executions")
}

// PreviewJob says what a job would do if it were created now.
func (c *Client) PreviewJob(ctx context.Context, n orchestrator.NewJob) (orchestrator.JobPreview, error) {
	return post[orchestrator.JobPreview](ctx, c, n, "jobs", "preview")
}

// UpdateJob changes what is not nil.
func (c *Client) UpdateJob(ctx context.Context, name string, p orchestrator.JobPatch) (orchestrator.Job, error) {
	return patch[orchestrator.Job](ctx, c, p, p.Precondition, "jobs", name)
}

// PauseJob keeps a job from offering anything new.
func (c *Client) PauseJob(ctx context.Context, name string) (orchestrator.Job, error) {
	return post[orchestrator.Job](ctx, c, nil, "jobs", name, "pause")
}

// ResumeJob lets a paused job go on.
func (c *Client) ResumeJob(ctx context.Context, name string) (orchestrator.Job, error) {
	return post[orchestrator.Job](ctx, c, nil, "jobs", name, "resume")
}

// RetryJob tries again what ended without success.
func (c *Client) RetryJob(ctx context.Context, name string, r orchestrator.RetryRequest) (orchestrator.Job, error) {
	return post[orchestrator.Job](ctx, c, r, "jobs", name, "retry")
}

// JobHistory returns how a job's executions ended over time.
func (c *Client) JobHistory(ctx context.Context, name string) (orchestrator.JobHistory, error) {
	return get[orchestrator.JobHistory](ctx, c, "jobs", name, "history")
}

// Execution returns an execution.
func (c *Client) Execution(ctx context.Context, id string) (orchestrator.Execution, error) {
	return get[orchestrator.Execution](ctx, c, "executions", id)
}

// Changes returns what changed in a job after revision since; if nothing did,
// it waits for a change, at most wait (which the service limits to a minute).
func (c *Client) Changes(ctx context.Context, job string, since uint64, wait time.Duration) (orchestrator.JobChanges, error) {
	query := url.Values{"since": {strconv.FormatUint(since, 10)}, "wait": {wait.String()}}
	return call[orchestrator.JobChanges](ctx, c, request{method: http.MethodGet, path: []string{"jobs", job, "changes"}, query: query})
}
