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

// CancelJob ends a job and withdraws its open executions.
func (c *Client) CancelJob(ctx context.Context, name string) (orchestrator.Job, error) {
	return post[orchestrator.Job](ctx, c, nil, "jobs", name, "cancel")
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

// Jobs lists the jobs.
func (c *Client) Jobs(ctx context.Context, p orchestrator.Page) ([]orchestrator.Job, string, error) {
	return list[orchestrator.Job](ctx, c, p, nil, "jobs")
}

// JobExecutions lists the executions of a job.
func (c *Client) JobExecutions(ctx context.Context, name string, p orchestrator.Page) ([]orchestrator.Execution, string, error) {
	return list[orchestrator.Execution](ctx, c, p, nil, "jobs", name, "executions")
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
