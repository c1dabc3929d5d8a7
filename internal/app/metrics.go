package app

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// newRegistry makes a registry with what every davit process tells: the Go
// runtime, the process and the build.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	b := ReadBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "davit_build_info",
		Help:        "Always 1; the labels say what the program was built from.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "goversion": b.Go},
	})
	info.Set(1)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info)
	return r
}

func metricsHandler(r *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{Registry: r})
}

// Frames counts the data frames on a bridge's serial lines.
type Frames struct {
	Sent, Retried, Lost, Received, Bad int64
}

// framesMetric is the name under which a bridge counts frames, with the label
// "event".
const framesMetric = "davit_bridge_frames_total"

// Frames reads the counters of the bridge's lines, all ports together.
func (b *Bridge) Frames() (Frames, error) {
	var f Frames
	families, err := b.registry.Gather()
	if err != nil {
		return f, err
	}
	counts := map[string]*int64{"sent": &f.Sent, "retried": &f.Retried, "lost": &f.Lost, "received": &f.Received, "bad": &f.Bad}
	for _, family := range families {
		if family.GetName() != framesMetric {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if n := counts[label.GetValue()]; label.GetName() == "event" && n != nil {
					*n += int64(m.GetCounter().GetValue())
				}
			}
		}
	}
	return f, nil
}
