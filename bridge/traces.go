package bridge

import (
	"time"

	"davit/internal/trace"
	"davit/schemas"
)

// A bridge's spans are phases of an update: accept, download, load and boot, below
// the span that came with the offer. What they need is in the device's record (the
// offer's trace context, and when the phase began), so that one which a restart falls
// into is told whole when it ends. A status names the span of the phase that it tells
// of, with or without a collector of the bridge's own; an offer that named none is
// answered without.

// traceHeader is a trace context as messages carry it (W3C Trace Context).
type traceHeader struct {
	Parent string `json:"traceparent"`
	State  string `json:"tracestate,omitempty"`
}

// readTraceHeader takes what came with an offer; nil if it is not well-formed.
func readTraceHeader(parent, state string) *traceHeader {
	if _, ok := schemas.ParseTraceparent(parent); !ok {
		return nil
	}
	if len(state) > schemas.MaxTracestate {
		state = ""
	}
	return &traceHeader{parent, state}
}

// phase is the span that a state belongs to, empty for those of an end.
func phase(s schemas.State) string {
	switch s {
	case schemas.StateOffered:
		return "accept"
	case schemas.StateAccepted, schemas.StateDownloading:
		return "download"
	case schemas.StateDownloaded, schemas.StateInstalling:
		return "load"
	case schemas.StateBooting:
		return "boot"
	}
	return ""
}

// span is the context of a phase's span; none if the offer has not named a trace.
func (h *traceHeader) span(phase string) schemas.TraceContext {
	if h == nil {
		return schemas.TraceContext{}
	}
	c, ok := schemas.ParseTraceparent(h.Parent)
	if !ok {
		return schemas.TraceContext{} // the record was changed by hand
	}
	return trace.Child(c, phase)
}

// of is what a message about a phase carries.
func (h *traceHeader) of(phase string) *traceHeader {
	c := h.span(phase)
	if !c.Valid() {
		return nil
	}
	return &traceHeader{c.Traceparent(), h.State}
}

// phaseEnded tells the span of the phase that ended in a state. failed is what went
// wrong.
func (d *device) phaseEnded(was openRecord, now time.Time, failed string) {
	name := phase(was.State)
	id := was.Trace.span(name)
	if !id.Sampled || was.PhaseAt.IsZero() {
		return
	}
	parent, _ := schemas.ParseTraceparent(was.Trace.Parent)
	d.b.cfg.Tracer.Record(trace.Span{
		Name: name, ID: id, Parent: parent.Span, State: was.Trace.State, Start: was.PhaseAt, End: now, Failed: failed,
		Attributes: []trace.Attribute{{Key: "davit.device", Value: d.id}, {Key: "davit.execution", Value: was.Offer.Execution}},
	})
}

// helloTrace is what a hello carries, which may be the first that the service hears
// of the version that an update has brought: the phase of the update under way, or
// the one in which the last one ended.
func (d *device) helloTrace() *traceHeader {
	if d.rec.Open != nil {
		return d.rec.Open.Trace.of(phase(d.rec.Open.State))
	}
	if n := len(d.rec.Ended); n > 0 && !d.rec.Ended[n-1].Acked {
		return d.rec.Ended[n-1].Trace
	}
	return nil
}

// fetchTrace is what the first fetch of a download carries: the service has a span
// for it, and one is enough.
func (d *device) fetchTrace() *traceHeader {
	h := d.rec.Open.Trace.of("download")
	if h == nil || !d.rec.Open.Trace.span("download").Sampled {
		return nil
	}
	return h
}
