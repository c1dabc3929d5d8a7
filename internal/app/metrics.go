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

// newConnectedDevices counts the devices whose own connection, or whose
// bridge's, stands at the embedded broker.
func newConnectedDevices(r prometheus.Registerer) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "davit_connected_devices",
		Help: "Devices whose connection to the embedded broker stands, those of a connected bridge included.",
	})
	r.MustRegister(g)
	return g
}

// diskMetrics tell how the data folder's disk stands. A nil one tells nothing.
type diskMetrics struct{ full prometheus.Gauge }

// newDiskMetrics registers them; usage reads the disk and the store at a scrape.
func newDiskMetrics(r prometheus.Registerer, usage func() (store, storeFree, diskFree, disk int64)) *diskMetrics {
	m := &diskMetrics{full: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "davit_storage_full",
		Help: "1 while records cannot be written because the disk is full, else 0.",
	})}
	r.MustRegister(m.full)
	for name, g := range map[string]struct {
		help string
		of   func() int64
	}{
		"davit_store_size_bytes":   {"Size of the file of the records.", func() int64 { n, _, _, _ := usage(); return n }},
		"davit_store_free_bytes":   {"What of the file of the records is free; davit compact gives it back to the disk.", func() int64 { _, n, _, _ := usage(); return n }},
		"davit_storage_free_bytes": {"What the disk of the data folder has left for the service.", func() int64 { _, _, n, _ := usage(); return n }},
		"davit_storage_size_bytes": {"Size of the disk of the data folder.", func() int64 { _, _, _, n := usage(); return n }},
	} {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: g.help}, func() float64 { return float64(g.of()) }))
	}
	return m
}

func (m *diskMetrics) setFull(full bool) {
	switch {
	case m == nil:
	case full:
		m.full.Set(1)
	default:
		m.full.Set(0)
	}
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
