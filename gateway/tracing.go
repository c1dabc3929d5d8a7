package gateway

import (
	"context"

	"github.com/eclipse/paho.golang/paho"

	"davit/internal/trace"
	"davit/schemas"
)

// carry puts what ctx carries of a trace into a message's user properties (W3C Trace
// Context for MQTT: the names and values of HTTP's header fields).
func carry(ctx context.Context, p *paho.Publish) {
	c := trace.CarriedBy(ctx)
	if !c.Valid() {
		return
	}
	p.Properties = &paho.PublishProperties{}
	p.Properties.User.Add(schemas.TraceparentProperty, c.Traceparent())
	if c.State != "" {
		p.Properties.User.Add(schemas.TracestateProperty, c.State)
	}
}

// carried is what a message carries of a trace, nil for nothing or what is not
// well-formed.
func carried(p *paho.PublishProperties) *trace.Carried {
	if p == nil || len(p.User) == 0 {
		return nil
	}
	return parsed(p.User.Get(schemas.TraceparentProperty), p.User.Get(schemas.TracestateProperty))
}

func parsed(traceparent, tracestate string) *trace.Carried {
	c, ok := schemas.ParseTraceparent(traceparent)
	if !ok {
		return nil
	}
	if len(tracestate) > schemas.MaxTracestate {
		tracestate = ""
	}
	return &trace.Carried{TraceContext: c, State: tracestate}
}
