package orchestrator

import (
	"context"
	"strconv"
	"time"

	"davit/internal/trace"
	"davit/schemas"
)

// The spans of the service are told when what they are about has ended, after the
// commit that ended it. Their ids follow from the records (internal/trace), so a
// restart in the middle of an update loses none of them, and the offer carries
// the id of a span that is told only later.

// traced gathers the spans that a change of an execution ends. old is its record
// before the transaction, nil if there was none.
func (t *txn) traced(p *progressRecord, old *executionRecord, c *Changed) {
	was := c.To
	if old != nil {
		was = &old.Tracked
	}
	attempt := t.tracer.Attempt(trace.Job(p.Name, p.StartedAt), was.ID, was.Attempt)
	if !attempt.Sampled {
		return
	}
	if c.From == schemas.StateOffered {
		t.out.spans = append(t.out.spans, trace.Span{
			Name: "offer", Kind: trace.Producer, ID: trace.Child(attempt, "offer"), Parent: attempt.Span, Start: was.OfferedAt, End: t.now,
			Attributes: []trace.Attribute{{Key: "davit.execution", Value: was.ID}, {Key: "davit.device", Value: was.Device}, {Key: "davit.answer", Value: string(c.To.State)}},
		})
	}
	if c.To.State == schemas.StateSucceeded {
		t.out.spans = append(t.out.spans, t.versionReport(attempt, c.To))
	}
	if c.To.State.Final() || c.From != "" && c.From != schemas.StateQueued && c.To.State == schemas.StateQueued {
		t.out.spans = append(t.out.spans, attemptSpan(p, attempt, was, c.To, t.now))
	}
}

// tell remembers what a device's message carries of a trace.
func (t *txn) tell(device string, c trace.Carried) {
	if !c.Valid() || !t.tracer.On() {
		return
	}
	if t.told == nil {
		t.told = map[string]trace.Carried{}
	}
	t.told[device] = c
}

// versionReport is the taking of the report that the new version runs, below the
// span that the device has named if that is one of the same update.
func (t *txn) versionReport(attempt schemas.TraceContext, to *Tracked) trace.Span {
	s := trace.Span{
		Name: "version report", Kind: trace.Consumer, ID: trace.Child(attempt, "version report"), Parent: attempt.Span, Start: t.now, // ends with the commit
		Attributes: []trace.Attribute{{Key: "davit.execution", Value: to.ID}, {Key: "davit.device", Value: to.Device}, {Key: "davit.version", Value: to.HostVersion}},
	}
	if told := t.told[to.Device]; told.Trace == attempt.Trace && told.Valid() {
		s.Parent, s.State = told.Span, told.State
	}
	return s
}

// attemptSpan is one attempt of an execution, from its offer to its end.
func attemptSpan(p *progressRecord, id schemas.TraceContext, was, to *Tracked, now time.Time) trace.Span {
	s := trace.Span{
		Name: "update", ID: id, Parent: trace.Job(p.Name, p.StartedAt).Span, Start: was.OfferedAt, End: now,
		Attributes: []trace.Attribute{
			{Key: "davit.job", Value: p.Name}, {Key: "davit.execution", Value: was.ID}, {Key: "davit.device", Value: was.Device}, {Key: "davit.image", Value: was.Image},
			{Key: "davit.version", Value: was.Version}, {Key: "davit.attempt", Value: strconv.Itoa(was.Attempt)}, {Key: "davit.state", Value: string(to.State)},
		},
	}
	if s.Start.IsZero() {
		s.Start = was.CreatedAt // it ended before it was offered
	}
	cause, detail := to.Cause, to.Detail
	if n := len(to.History); to.State == schemas.StateQueued && n > 0 {
		cause, detail = to.History[n-1].Cause, to.History[n-1].Detail
	}
	if to.State != schemas.StateSucceeded && cause != schemas.CauseNone {
		s.Failed = string(cause) + ": " + detail
	}
	return s
}

// startedJob is a job that a transaction has started.
type startedJob struct {
	name string
	at   time.Time
}

// offeredIn is what an offer carries of its trace, nothing if it is not sampled.
func (s *Service) offeredIn(e *Tracked, job *JobView) trace.Carried {
	if !s.tracer.On() || job == nil {
		return trace.Carried{}
	}
	if c := s.tracer.Attempt(trace.Job(e.Job, job.Started), e.ID, e.Attempt); c.Sampled {
		return trace.Carried{TraceContext: c}
	}
	return trace.Carried{}
}

// fetchedIn tells the span of a fetch that came with one of a device's: of a whole
// download that is one, at its beginning.
func (s *Service) fetchedIn(c trace.Carried, device, image string, began time.Time) {
	if !c.Sampled || !s.tracer.On() {
		return
	}
	s.tracer.Record(trace.Span{
		Name: "fetch", Kind: trace.Consumer, ID: trace.Child(c.TraceContext, "fetch"), Parent: c.Span, State: c.State, Start: began, End: s.now(),
		Attributes: []trace.Attribute{{Key: "davit.device", Value: device}, {Key: "davit.image", Value: image}},
	})
}

// tellTraces tells what a commit has ended.
func (s *Service) tellTraces(ctx context.Context, out *outcome) {
	if !s.tracer.On() {
		return
	}
	now := s.now()
	for _, j := range out.started {
		s.tracer.JobStarted(ctx, j.name, j.at, now)
	}
	for _, span := range out.spans {
		if span.End.IsZero() {
			span.End = now
		}
		s.tracer.Record(span)
	}
}
