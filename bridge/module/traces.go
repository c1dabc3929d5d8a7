package module

import "davit/schemas"

// A module has no spans of its own. What it says of an update (the first fetch of its
// image, its statuses, hellos while it is under way) carries the trace context that
// came with the offer, as it came, so that the service's spans of them are parts of the
// offer's trace (W3C Trace Context, section 3.4: who takes no part forwards both
// fields). An offer without one, or with one that is not well-formed, is answered
// without; so is every offer over a Transport that knows no user properties.

// helloTrace is what a hello carries, which may be the first that the service hears of
// the version that an update has brought.
func (m *Module) helloTrace() *schemas.TraceHeader {
	if m.rec.Open != nil {
		return m.rec.Open.Trace
	}
	if n := len(m.rec.Results); n > 0 && !m.rec.Results[n-1].Acked {
		return m.rec.Results[n-1].Trace
	}
	return nil
}
