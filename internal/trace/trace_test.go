package trace

import (
	"context"
	"strconv"
	"testing"
	"time"

	"davit/schemas"
)

type kept []Span

func (k *kept) Record(s Span) { *k = append(*k, s) }

func TestIDsFollowFromWhatTheyAreAbout(t *testing.T) {
	at := time.Unix(1_800_000_000, 5)
	job := Job("j", at)
	if job != Job("j", at.UTC()) || job == Job("j", at.Add(1)) || job == Job("k", at) || !job.Valid() {
		t.Error("a job's trace is not that of its name and start")
	}
	tracer := New(&kept{}, 1)
	one := tracer.Attempt(job, "ex-1", 1)
	if one != tracer.Attempt(job, "ex-1", 1) || one == tracer.Attempt(job, "ex-1", 2) || one == tracer.Attempt(job, "ex-2", 1) || one.Trace != job.Trace {
		t.Error("an attempt's span is not that of execution and attempt")
	}
	if Child(one, "load") == Child(one, "boot") || Child(schemas.TraceContext{}, "load").Valid() {
		t.Error("a child's span is not that of parent and name")
	}
}

func TestRatioIsKept(t *testing.T) {
	for _, ratio := range []float64{0, 0.1, 0.5, 1} {
		tracer, executions, requests := New(&kept{}, ratio), 0, 0
		for i := range 10_000 {
			if tracer.Attempt(Job("j", time.Time{}), strconv.Itoa(i), 1).Sampled {
				executions++
			}
			if tracer.Request(strconv.Itoa(i)).Sampled {
				requests++
			}
		}
		for _, n := range []int{executions, requests} {
			if d := float64(n)/10_000 - ratio; d > 0.02 || d < -0.02 || (ratio == 0 || ratio == 1) && d != 0 {
				t.Errorf("of a ratio of %v %d in 10,000 are traced", ratio, n)
			}
		}
	}
}

func TestOffCostsNothing(t *testing.T) {
	var off *Tracer
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() {
		if off.On() || CarriedBy(ctx).Valid() || off.Attempt(schemas.TraceContext{}, "ex", 1).Sampled {
			t.Error("on")
		}
		_, r := off.Begin(ctx, "id", "", time.Time{})
		r.End("GET", "/", "200", false, time.Time{})
		off.Record(Span{})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRequestsAndJobs(t *testing.T) {
	const caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, traceparent := range []string{"", caller, "nonsense"} {
		var spans kept
		tracer, at := New(&spans, 1), time.Unix(1, 0)
		ctx, r := tracer.Begin(context.Background(), "id", traceparent, at)
		tracer.JobStarted(ctx, "j", at, at)
		r.End("POST", "/v1/jobs", "201", false, at)
		if len(spans) != 2 {
			t.Fatalf("%+v", spans)
		}
		start, request := spans[0], spans[1]
		switch {
		case start.ID != Job("j", at):
			t.Errorf("%+v", start)
		case traceparent == caller && (request.ID.TraceID() != caller[3:35] || start.Link != request.ID || start.Parent != [8]byte{}):
			t.Errorf("%+v %+v", start, request)
		case traceparent != caller && (request.ID.Trace != start.ID.Trace || start.Parent != request.ID.Span || request.Parent != [8]byte{}):
			t.Errorf("%+v %+v", start, request)
		}
	}
}
