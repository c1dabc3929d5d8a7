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

// spanOf is the context of a phase's span; none if the offer has not named a trace.
func spanOf(h *schemas.TraceHeader, phase string) schemas.TraceContext {
	if h == nil {
		return schemas.TraceContext{}
	}
	c, ok := schemas.ParseTraceparent(h.Parent)
	if !ok {
		return schemas.TraceContext{} // the record was changed by hand
	}
	return trace.Child(c, phase)
}

// carriedIn is what a message about a phase carries.
func carriedIn(h *schemas.TraceHeader, phase string) *schemas.TraceHeader {
	c := spanOf(h, phase)
	if !c.Valid() {
		return nil
	}
	return &schemas.TraceHeader{Parent: c.Traceparent(), State: h.State}
}

// phaseEnded tells the span of the phase that ended in a state. failed is what went
// wrong.
func (d *device) phaseEnded(was openRecord, now time.Time, failed string) {
	name := phase(was.State)
	id := spanOf(was.Trace, name)
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
func (d *device) helloTrace() *schemas.TraceHeader {
	if d.rec.Open != nil {
		return carriedIn(d.rec.Open.Trace, phase(d.rec.Open.State))
	}
	if n := len(d.rec.Ended); n > 0 && !d.rec.Ended[n-1].Acked {
		return d.rec.Ended[n-1].Trace
	}
	return nil
}

// fetchTrace is what the first fetch of a download carries: the service has a span
// for it, and one is enough.
func (d *device) fetchTrace() *schemas.TraceHeader {
	h := carriedIn(d.rec.Open.Trace, "download")
	if h == nil || !spanOf(d.rec.Open.Trace, "download").Sampled {
		return nil
	}
	return h
}
