// Package trace owns what an update's trace is made of: spans as plain data, and
// ids that follow from what they are about. Nobody has to keep or hand on an id: a
// job's trace follows from the job's name and start, a span's id from its parent's
// and its name. So whoever sees something end can say so, after any restart, and the
// spans of service and bridge fit together. It exports nothing (internal/tracing
// does), reads no clock and knows no library; a nil *Tracer is the one that is off.
package trace

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"time"

	"davit/schemas"
)

// Kind is what a span is to the one that it is under (OpenTelemetry, Trace API,
// SpanKind).
type Kind int

// The kinds of span.
const (
	Internal Kind = iota
	Server        // answers a request
	Producer      // sends a message
	Consumer      // takes a message
)

// Attribute says something of a span.
type Attribute struct{ Key, Value string }

// Span is something that took from Start to End. It is told once, when it has ended.
type Span struct {
	Name string
	Kind Kind
	// ID is the span itself, Parent the one that it is under: none if it is zero.
	ID     schemas.TraceContext
	Parent [8]byte
	// State is the vendors' part of the context, as it was received.
	State string
	// Link is a span of another trace that led to this one; none if it is zero.
	Link       schemas.TraceContext
	Start, End time.Time
	Attributes []Attribute
	// Failed says what went wrong; empty if nothing did.
	Failed string
}

// Recorder takes spans. Record neither blocks nor fails: what cannot be exported is
// dropped.
type Recorder interface{ Record(Span) }

// Tracer decides what is traced and hands it to its Recorder.
type Tracer struct {
	recorder Recorder
	ratio    float64
}

// New makes a Tracer that traces this share of executions and requests, 0 to 1.
func New(r Recorder, ratio float64) *Tracer { return &Tracer{r, ratio} }

// On says whether anything is traced.
func (t *Tracer) On() bool { return t != nil }

// Record tells a span, if anything is traced and its context is sampled.
func (t *Tracer) Record(s Span) {
	if t != nil && s.ID.Valid() && s.ID.Sampled {
		t.recorder.Record(s)
	}
}

// Job is the span of a job's start, which is the root of the job's trace. The time
// is part of the id, because a name may be used again.
func Job(name string, started time.Time) schemas.TraceContext {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("davit job\x00"+name+"\x00"), uint64(started.UnixNano())))
	c := schemas.TraceContext{Trace: [16]byte(sum[:16]), Span: [8]byte(sum[16:24]), Sampled: true}
	if c.Valid() {
		return c
	}
	c.Trace[15], c.Span[7] = 1, 1 // one in 2^64
	return c
}

// Attempt is the span of one attempt of an execution, below its job's. It is sampled
// for the tracer's share of executions. Whoever asks, and however often, the answer is
// the same.
func (t *Tracer) Attempt(job schemas.TraceContext, execution string, attempt int) schemas.TraceContext {
	if t == nil {
		return schemas.TraceContext{}
	}
	c := Child(job, execution+"\x00"+string(binary.BigEndian.AppendUint32(nil, uint32(attempt))))
	c.Sampled = share(execution) < t.ratio
	return c
}

// share is a number from 0 to below 1 that follows from an id.
func share(id string) float64 {
	sum := sha256.Sum256([]byte(id))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
}

// Child is the context of a span below parent. There is one of each name.
func Child(parent schemas.TraceContext, name string) schemas.TraceContext {
	if !parent.Valid() {
		return schemas.TraceContext{}
	}
	sum := sha256.Sum256(append(append(parent.Trace[:len(parent.Trace):len(parent.Trace)], parent.Span[:]...), name...))
	c := parent
	c.Span = [8]byte(sum[:8])
	if c.Span == [8]byte{} {
		c.Span[7] = 1
	}
	return c
}

// Request is the context of the span of a request that belongs to no trace yet; id
// is what names it.
func (t *Tracer) Request(id string) schemas.TraceContext {
	if t == nil {
		return schemas.TraceContext{}
	}
	sum := sha256.Sum256([]byte("davit request\x00" + id))
	c := schemas.TraceContext{Trace: [16]byte(sum[:16]), Span: [8]byte(sum[16:24])}
	c.Sampled = float64(binary.BigEndian.Uint64(sum[24:])) < t.ratio*math.MaxUint64
	return c
}

type contextKey struct{}

// Carried is the context of a message, as it came or is to be sent with it.
type Carried struct {
	schemas.TraceContext
	State string // tracestate
}

// Carry gives ctx a message's trace context.
func Carry(ctx context.Context, c Carried) context.Context {
	return context.WithValue(ctx, contextKey{}, c)
}

// CarriedBy is what Carry gave; the zero value if nothing was given.
func CarriedBy(ctx context.Context) Carried {
	c, _ := ctx.Value(contextKey{}).(Carried)
	return c
}
