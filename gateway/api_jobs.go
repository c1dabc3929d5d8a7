package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"davit/orchestrator"
	"davit/schemas"
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

// JobName is the name in a path.
type JobName struct {
	Name string `path:"name" maxLength:"64" doc:"The job's name"`
}

type jobsInput struct {
	PageQuery
	State string `query:"state" enum:"draft,running,paused,completed,canceled" doc:"Only jobs in this state."`
	Image string `query:"image" maxLength:"64" doc:"Only jobs that deploy this image."`
	Text  string `query:"text" maxLength:"256" doc:"Only jobs with this in the name or description, whatever the case."`
}

type jobPage struct {
	JobName
	PageQuery
	State []string `query:"state,explode" maxItems:"16" enum:"queued,offered,accepted,downloading,downloaded,installing,booting,succeeded,rejected,failed,timed_out,canceled" doc:"Only executions in this state; repeatable."`
}

func (in *jobPage) filter() orchestrator.ExecutionFilter {
	var f orchestrator.ExecutionFilter
	for _, s := range in.State {
		f.States = append(f.States, schemas.State(s))
	}
	return f
}

type jobPatch struct {
	JobName
	Conditional
	Body orchestrator.JobPatch
}

type retryInput struct {
	JobName
	Body *orchestrator.RetryRequest
}

type approveInput struct {
	JobName
	Body orchestrator.ApproveRequest
}

type cancelInput struct {
	JobName
	Body *orchestrator.CancelRequest
}

type someDevices struct {
	JobName
	Body *orchestrator.DevicesRequest
}

type waveInput struct {
	JobName
	PageQuery
	Wave int `path:"wave" minimum:"1" doc:"The wave's number, from 1"`
}

type changesInput struct {
	JobName
	Since uint64 `query:"since" doc:"The rev of the answer before; 0 or absent for everything."`
	Wait  string `query:"wait" doc:"How long to wait for a change, for example 30s; at most 1m." default:"30s"`
}

func (a *API) jobRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "POST /v1/jobs", "create job",
		func(ctx context.Context, in *createOf[orchestrator.NewJob]) (*created[orchestrator.Job], error) {
			return maker[orchestrator.NewJob, orchestrator.Job]{
				"create-job", s.CreateJob, s.Job,
				func(j orchestrator.Job) place { return place{"/v1/jobs/" + j.Name, j.Revision} },
			}.answer(ctx, in)
		}, describe("A job brings the named devices, and those that the named groups and the query have now, to an image. With start it is started at once."))
	route(a, api, "GET /v1/jobs", "list jobs",
		func(ctx context.Context, in *jobsInput) (*bodyOf[Page[orchestrator.Job]], error) {
			filter := orchestrator.JobFilter{State: orchestrator.JobState(in.State), Image: in.Image, Text: in.Text}
			return listing(s.Jobs(ctx, filter, in.page()))
		}, describe("The newest first. "+partial))
	route(a, api, "GET /v1/jobs/{name}", "get job", a.jobDetail,
		describe("The ETag is for edits only: a job's progress changes without it, so If-None-Match is not honoured."))
	route(a, api, "PATCH /v1/jobs/{name}", "change job",
		func(ctx context.Context, in *jobPatch) (*taggedOf[orchestrator.Job], error) {
			var err error
			if in.Body.Precondition, err = in.precondition(); err != nil {
				return nil, err
			}
			j, err := s.UpdateJob(ctx, in.Name, in.Body)
			return tagged(j, j.Revision, err)
		}, describe("Fields that are left out stay as they are."))
	route(a, api, "POST /v1/jobs/preview", "preview job",
		func(ctx context.Context, in *bodyOf[orchestrator.NewJob]) (*bodyOf[orchestrator.JobPreview], error) {
			return one(s.PreviewJob(ctx, in.Body))
		}, describe("What the job would do if it were created now; nothing is created."))
	a.jobControlRoutes(api)
	a.rolloutRoutes(api)
	a.jobProgressRoutes(api)
}

func (a *API) jobControlRoutes(api huma.API) {
	s := a.options.Service
	act := func(path, words, what string, do func(context.Context, string) (orchestrator.Job, error)) {
		route(a, api, "POST /v1/jobs/{name}/"+path, words,
			func(ctx context.Context, in *JobName) (*bodyOf[orchestrator.Job], error) {
				return one(do(ctx, in.Name))
			}, describe(what))
	}
	act("start", "start job", "Offers the image to the job's devices.",
		func(ctx context.Context, name string) (orchestrator.Job, error) { return s.StartJob(ctx, name) })
	act("pause", "pause job", "Nothing new is offered, and offers that no device has accepted yet are withdrawn; what was accepted goes on.",
		func(ctx context.Context, name string) (orchestrator.Job, error) { return s.PauseJob(ctx, name) })
	act("resume", "resume job", "Goes on offering.",
		func(ctx context.Context, name string) (orchestrator.Job, error) { return s.ResumeJob(ctx, name) })
	route(a, api, "POST /v1/jobs/{name}/cancel", "cancel job",
		func(ctx context.Context, in *cancelInput) (*bodyOf[orchestrator.Job], error) {
			return one(s.CancelJob(ctx, in.Name, orZero(in.Body)))
		}, describe("Ends the job; executions that have not ended are canceled and their offers withdrawn. With finish, what devices have accepted goes on to its end."))
	route(a, api, "POST /v1/jobs/{name}/retry", "retry job",
		func(ctx context.Context, in *retryInput) (*bodyOf[orchestrator.Job], error) {
			return one(s.RetryJob(ctx, in.Name, orZero(in.Body)))
		}, describe("Tries the executions again that ended without success and were not canceled, all of them or those of the named devices. Earlier attempts stay in their history."))
}

// rolloutRoutes are those that lead a job through its waves and its devices
// through what they wait for.
func (a *API) rolloutRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "POST /v1/jobs/{name}/approve", "approve wave",
		func(ctx context.Context, in *approveInput) (*bodyOf[orchestrator.Job], error) {
			return one(s.ApproveWave(ctx, in.Name, in.Body))
		}, describe("Lets the job's next wave begin that waits for somebody to approve. With force it begins now, whatever it waits for."))
	route(a, api, "POST /v1/jobs/{name}/install", "install job",
		func(ctx context.Context, in *someDevices) (*bodyOf[orchestrator.Job], error) {
			return one(s.InstallJob(ctx, in.Name, orZero(in.Body)))
		}, describe("Has devices install what the job had them download, all that hold it or those that are named. Only for jobs whose action is download."))
	route(a, api, "POST /v1/jobs/{name}/confirm", "confirm job",
		func(ctx context.Context, in *someDevices) (*bodyOf[orchestrator.Job], error) {
			return one(s.ConfirmJob(ctx, in.Name, orZero(in.Body)))
		}, describe("Agrees to the update of all devices that wait for it, or of those that are named. Only for jobs whose action is confirm, by a person."))
	route(a, api, "GET /v1/jobs/{name}/waves/{wave}/devices", "list wave devices",
		func(ctx context.Context, in *waveInput) (*bodyOf[Page[orchestrator.WaveMember]], error) {
			return listing(s.WaveMembers(ctx, in.Name, in.Wave, in.page()))
		}, describe("Of a draft in the order in which they are released, of a started job by device. "+partial))
}

// orZero is an optional body: what is absent says nothing.
func orZero[T any](body *T) T {
	if body == nil {
		return *new(T)
	}
	return *body
}

func (a *API) jobProgressRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "GET /v1/jobs/{name}/executions", "list job executions",
		func(ctx context.Context, in *jobPage) (*bodyOf[Page[orchestrator.Execution]], error) {
			return listing(s.JobExecutions(ctx, in.Name, in.filter(), in.page()))
		})
	route(a, api, "GET /v1/jobs/{name}/history", "get job history",
		func(ctx context.Context, in *JobName) (*bodyOf[orchestrator.JobHistory], error) {
			return one(s.JobHistory(ctx, in.Name))
		}, describe("How the job's executions ended over time, for a chart."))
	route(a, api, "GET /v1/jobs/{name}/changes", "watch job", a.changes,
		describe("A long poll: answers as soon as something of the job is newer than since, or after wait with no executions. "+
			"Pass rev as since in the next call to miss nothing."))
	route(a, api, "GET /v1/executions/{id}", "get execution",
		func(ctx context.Context, in *ID) (*bodyOf[orchestrator.Execution], error) {
			return one(s.Execution(ctx, in.ID))
		})
}

func (a *API) jobDetail(ctx context.Context, in *JobName) (*taggedOf[JobDetail], error) {
	j, err := a.options.Service.Job(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	list, next, err := a.options.Service.JobExecutions(ctx, in.Name, orchestrator.ExecutionFilter{}, orchestrator.Page{Limit: orchestrator.MaxPageLimit})
	if list == nil {
		list = []orchestrator.Execution{}
	}
	return tagged(JobDetail{j, list, next}, j.Revision, err)
}

func (a *API) changes(ctx context.Context, in *changesInput) (*bodyOf[orchestrator.JobChanges], error) {
	wait, err := time.ParseDuration(in.Wait)
	if err != nil || wait < 0 || wait > maxWait {
		return nil, wrongParameter("query.wait", in.Wait, fmt.Sprintf("wait is %q; it is a duration such as %s, at most %s.", in.Wait, defaultWait, maxWait))
	}
	give, ok := a.polls.Take(ctx)
	if !ok {
		return nil, busy("Too many requests wait for changes already, yours or all together; try again in a moment.")
	}
	defer give()
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
