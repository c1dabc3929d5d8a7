package bridge

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"davit/bridge/spool"
)

// spoolCollector tells what images take of the disk when it is asked; the spool keeps the
// sums.
type spoolCollector struct {
	used, needed, limit *prometheus.Desc

	spool atomic.Pointer[spool.Spool]
}

func newSpoolCollector() *spoolCollector {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	return &spoolCollector{
		used:   desc("davit_bridge_spool_bytes", "Bytes of images on the bridge's disk, those that make room for others when it is needed included."),
		needed: desc("davit_bridge_spool_needed_bytes", "Bytes of images on the bridge's disk that are in use or wanted later, so that they make no room."),
		limit:  desc("davit_bridge_spool_limit_bytes", "How many bytes of images may be on the bridge's disk."),
	}
}

// Describe implements prometheus.Collector.
func (c *spoolCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.used
	ch <- c.needed
	ch <- c.limit
}

// Collect implements prometheus.Collector.
func (c *spoolCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.spool.Load()
	if s == nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(c.used, prometheus.GaugeValue, float64(s.Used()))
	ch <- prometheus.MustNewConstMetric(c.needed, prometheus.GaugeValue, float64(s.Needed()))
	ch <- prometheus.MustNewConstMetric(c.limit, prometheus.GaugeValue, float64(s.Limit()))
}
