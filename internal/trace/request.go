package trace

import (
	"context"
	"sync"
	"time"

	"davit/schemas"
)

// Request is the span of an HTTP request while it is answered.
type Request struct {
	tracer *Tracer
	start  time.Time
	remote schemas.TraceContext // its caller's, which may be none

	mu  sync.Mutex
	own schemas.TraceContext
}

type requestKey struct{}

// Begin begins the span of a request with this id: below its caller's if the caller
// has named one, else in a trace of its own. nil if nothing is traced; End of a nil
// Request does nothing.
func (t *Tracer) Begin(ctx context.Context, id, traceparent string, now time.Time) (context.Context, *Request) {
	if t == nil {
		return ctx, nil
	}
	r := &Request{tracer: t, start: now}
	if remote, ok := schemas.ParseTraceparent(traceparent); ok {
		r.remote, r.own = remote, Child(remote, "request\x00"+id)
	} else {
		r.own = t.Request(id)
	}
	return context.WithValue(ctx, requestKey{}, r), r
}

// starts is the span of the request of ctx if there is one, now that it starts a
// job. A request that is in no trace of its caller's goes to the job's: of several
// jobs, to the first.
func starts(ctx context.Context, job schemas.TraceContext) (schemas.TraceContext, bool) {
	r, ok := ctx.Value(requestKey{}).(*Request)
	if !ok {
		return schemas.TraceContext{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.remote.Valid() && r.own.Trace != job.Trace {
		r.own = Child(job, "request")
	}
	return r.own, true
}

// JobStarted tells the start of a job, which took until end.
func (t *Tracer) JobStarted(ctx context.Context, name string, started, end time.Time) {
	if t == nil {
		return
	}
	s := Span{Name: "job start", ID: Job(name, started), Start: started, End: end, Attributes: []Attribute{{"davit.job", name}}}
	if request, ok := starts(ctx, s.ID); ok {
		if request.Trace == s.ID.Trace {
			s.Parent = request.Span
		} else {
			s.Link = request
		}
	}
	t.Record(s)
}

// End tells the request's span. route is the pattern of the path, not the path, of
// which there are too many.
func (r *Request) End(method, route string, status string, failed bool, now time.Time) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Span{
		Name: method + " " + route, Kind: Server, ID: r.own, Start: r.start, End: now,
		Attributes: []Attribute{{"http.request.method", method}, {"http.route", route}, {"http.response.status_code", status}},
	}
	if r.remote.Valid() {
		s.Parent = r.remote.Span
	}
	if failed {
		s.Failed = "status " + status
	}
	r.tracer.Record(s)
}
