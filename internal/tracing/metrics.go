package tracing

import "github.com/prometheus/client_golang/prometheus"

// Metrics count what became of the spans of a process.
type Metrics struct {
	exported         prometheus.Counter
	noRoom, notTaken prometheus.Counter
}

// NewMetrics makes Metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "davit", Subsystem: "trace", Name: "spans_dropped_total",
		Help: "Spans that were lost: there was no room in the queue, or the collector did not take them.",
	}, []string{"reason"})
	m := &Metrics{
		exported: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "davit", Subsystem: "trace", Name: "spans_exported_total", Help: "Spans that the collector has taken.",
		}),
		noRoom: dropped.WithLabelValues("queue_full"), notTaken: dropped.WithLabelValues("export_failed"),
	}
	r.MustRegister(m.exported, dropped)
	return m
}
