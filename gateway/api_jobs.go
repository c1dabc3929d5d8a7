package gateway

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"davit/orchestrator"
)

// Limits of a long poll.
const (
	defaultWait = 30 * time.Second
	maxWait     = time.Minute
)

// JobDetail is a job with its first executions.
type JobDetail struct {
	orchestrator.Job
	Executions []orchestrator.Execution `json:"executions" nullable:"false" doc:"The first 1000."`
	Next       string                   `json:"next,omitempty" doc:"If there are more, pass it as after to /v1/jobs/{name}/executions."`
}

type jobName struct {
	Name string `path:"name" maxLength:"64" doc:"The job's name"`
}

type jobPage struct {
	Name string `path:"name" maxLength:"64" doc:"The job's name"`
	PageQuery
}

type changesInput struct {
	Name  string `path:"name" maxLength:"64" doc:"The job's name"`
	Since uint64 `query:"since" doc:"The rev of the answer before; 0 or absent for everything."`
	Wait  string `query:"wait" doc:"How long to wait for a change, for example 30s; at most 1m." default:"30s"`
}

func (a *API) jobRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "POST /v1/jobs", "create job",
		func(ctx context.Context, in *createOf[orchestrator.NewJob]) (*created[orchestrator.Job], error) {
			j, err := s.CreateJob(ctx, in.Body)
			return made("/v1/jobs/"+j.Name, j, err)
		}, describe("A job brings the named devices, and those that the named groups have now, to an image. With start it is started at once."))
	route(a, api, "GET /v1/jobs", "list jobs",
		func(ctx context.Context, in *PageQuery) (*bodyOf[Page[orchestrator.Job]], error) {
			return listing(s.Jobs(ctx, orchestrator.JobFilter{}, in.page()))
		})
	route(a, api, "GET /v1/jobs/{name}", "get job", a.jobDetail)
	route(a, api, "GET /v1/jobs/{name}/executions", "list job executions",
		func(ctx context.Context, in *jobPage) (*bodyOf[Page[orchestrator.Execution]], error) {
			return listing(s.JobExecutions(ctx, in.Name, orchestrator.ExecutionFilter{}, in.page()))
		})
	route(a, api, "POST /v1/jobs/{name}/start", "start job",
		func(ctx context.Context, in *jobName) (*bodyOf[orchestrator.Job], error) {
			return one(s.StartJob(ctx, in.Name))
		})
	route(a, api, "POST /v1/jobs/{name}/cancel", "cancel job",
		func(ctx context.Context, in *jobName) (*bodyOf[orchestrator.Job], error) {
			return one(s.CancelJob(ctx, in.Name))
		}, describe("Ends the job; executions that have not ended are canceled and their offers withdrawn."))
	route(a, api, "GET /v1/jobs/{name}/changes", "watch job", a.changes,
		describe("A long poll: answers as soon as something of the job is newer than since, or after wait with no executions. "+
			"Pass rev as since in the next call to miss nothing."))
	route(a, api, "GET /v1/executions/{id}", "get execution",
		func(ctx context.Context, in *ID) (*bodyOf[orchestrator.Execution], error) {
			return one(s.Execution(ctx, in.ID))
		})
}

func (a *API) jobDetail(ctx context.Context, in *jobName) (*bodyOf[JobDetail], error) {
	j, err := a.options.Service.Job(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	list, next, err := a.options.Service.JobExecutions(ctx, in.Name, orchestrator.ExecutionFilter{}, orchestrator.Page{Limit: orchestrator.MaxPageLimit})
	if list == nil {
		list = []orchestrator.Execution{}
	}
	return one(JobDetail{j, list, next}, err)
}

func (a *API) changes(ctx context.Context, in *changesInput) (*bodyOf[orchestrator.JobChanges], error) {
	wait, err := time.ParseDuration(in.Wait)
	if err != nil || wait < 0 || wait > maxWait {
		return nil, newProblem(http.StatusUnprocessableEntity, fmt.Sprintf("wait is %q; it is a duration such as %s, at most %s.", in.Wait, defaultWait, maxWait))
	}
	select {
	case a.polls <- struct{}{}:
		defer func() { <-a.polls }()
	default:
		return nil, busy(fmt.Sprintf("%d requests wait for changes already; try again in a moment.", maxLongPolls))
	}
	waiting, cancel := untilDrain(ctx)
	defer cancel()
	c, err := a.options.Service.Changes(waiting, in.Name, in.Since, wait)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		// The server shuts down: answer with what there is.
		c, err = a.options.Service.Changes(ctx, in.Name, in.Since, 0)
	}
	if c.Executions == nil {
		c.Executions = []orchestrator.Execution{}
	}
	return one(c, err)
}
