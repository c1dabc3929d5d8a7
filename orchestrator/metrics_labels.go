package orchestrator

import (
	"github.com/prometheus/client_golang/prometheus"

	"davit/schemas"
)

// Label values of the metrics of chunks.
const (
	wayShort = "short" // to the connection that asked
	wayLong  = "long"  // through the Publisher
	// wayShared is by the Multicaster, to each device that was sent a chunk; where the
	// broker is not ours, it is once for all.
	wayShared = "shared"

	withdrawnNewer      = "newer"      // a later fetch gave them up or asked for them again
	withdrawnEnded      = "session"    // the connection has ended, or is not subscribed
	withdrawnUnreadable = "unreadable" // the image cannot be opened

	waitModule  = "module"  // that what is under way to the device arrives
	waitTotal   = "total"   // that something arrives at any device
	waitSession = "session" // that the connection takes more
)

var (
	ways             = []string{wayShort, wayLong, wayShared}
	withdrawnReasons = []string{withdrawnNewer, withdrawnEnded, withdrawnUnreadable}
	waitsFor         = []string{waitModule, waitTotal, waitSession}
)

// resolved registers a counter with one label and makes all of its series, so that
// counting looks for none.
func resolved(reg prometheus.Registerer, name, help, label string, values []string) map[string]prometheus.Counter {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	reg.MustRegister(vec)
	series := make(map[string]prometheus.Counter, len(values))
	for _, v := range values {
		series[v] = vec.WithLabelValues(v)
	}
	return series
}

// begin makes the series whose labels are known beforehand.
func (m *Metrics) begin() {
	for _, s := range schemas.States() {
		if !s.Final() || s == schemas.StateSucceeded {
			m.transitions.WithLabelValues(string(s), string(schemas.CauseNone))
			continue
		}
		for _, c := range schemas.Causes() {
			m.transitions.WithLabelValues(string(s), string(c))
		}
	}
	for _, c := range schemas.Causes() {
		m.retries.WithLabelValues(string(c))
	}
	for _, action := range []string{stopActionPause, stopActionCancel} {
		m.stops.WithLabelValues(action)
	}
	for _, reason := range []string{refusedMalformed, refusedNoOffer, refusedBeyond, refusedStore} {
		m.fetchesRefused.WithLabelValues(reason)
	}
}
