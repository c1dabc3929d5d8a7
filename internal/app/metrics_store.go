package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"davit/broker"
	"davit/orchestrator/boltstore"
	"davit/orchestrator/fileblobs"
)

// storeCollector tells how large records and images are.
type storeCollector struct {
	store *boltstore.Store
	blobs *fileblobs.Blobs

	size, free, waiting, images *prometheus.Desc
}

func newStoreCollector(store *boltstore.Store, blobs *fileblobs.Blobs) *storeCollector {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	return &storeCollector{
		store: store, blobs: blobs,
		size:    desc("davit_store_size_bytes", "Size of the records' file up to its last used page."),
		free:    desc("davit_store_free_bytes", "Bytes of the records' file in pages that the next commits use before the file grows."),
		waiting: desc("davit_store_updates_waiting", "Updates of the records that wait for the next commit."),
		images:  desc("davit_images_size_bytes", "Bytes of all image files on disk."),
	}
}

// Describe implements prometheus.Collector.
func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.size, c.free, c.waiting, c.images} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	z, err := c.store.Sizes()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.size, err)
		return
	}
	for d, n := range map[*prometheus.Desc]int64{c.size: z.File, c.free: z.Free, c.waiting: int64(z.Waiting), c.images: c.blobs.Bytes()} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n))
	}
}

// compactMetrics count compactions of the records.
type compactMetrics struct{ all *prometheus.CounterVec }

func newCompactMetrics(r prometheus.Registerer) *compactMetrics {
	m := &compactMetrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "davit_store_compactions_total", Help: "Compactions of the records' file, by what had it done and how it ended.",
	}, []string{"trigger", "result"})}
	for _, trigger := range []string{"automatic", "request"} {
		for _, result := range []string{"done", "failed"} {
			m.all.WithLabelValues(trigger, result)
		}
	}
	r.MustRegister(m.all)
	return m
}

func (m *compactMetrics) compacted(automatic bool, err error) {
	trigger, result := "request", "done"
	if automatic {
		trigger = "automatic"
	}
	if err != nil {
		result = "failed"
	}
	m.all.WithLabelValues(trigger, result).Inc()
}

// diskCollector tells how full the file system of a data folder is.
type diskCollector struct {
	dir        string
	size, free *prometheus.Desc
}

func newDiskCollector(dir string) *diskCollector {
	return &diskCollector{
		dir:  dir,
		size: prometheus.NewDesc("davit_data_filesystem_size_bytes", "Size of the file system that holds the data folder.", nil, nil),
		free: prometheus.NewDesc("davit_data_filesystem_avail_bytes", "Bytes of the data folder's file system that this program may still use.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *diskCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.size
	ch <- c.free
}

// Collect implements prometheus.Collector. Where the system does not say, there are no
// samples.
func (c *diskCollector) Collect(ch chan<- prometheus.Metric) {
	size, free, ok := fileSystem(c.dir)
	if !ok {
		return
	}
	ch <- prometheus.MustNewConstMetric(c.size, prometheus.GaugeValue, float64(size))
	ch <- prometheus.MustNewConstMetric(c.free, prometheus.GaugeValue, float64(free))
}

// newCertificateEnd is a gauge of when the certificate ends that is in force.
func newCertificateEnd(c *broker.Certificate) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "davit_tls_certificate_not_after_timestamp_seconds",
		Help: "When the service's own TLS certificate ends, in Unix time; only there with one.",
	}, func() float64 { return float64(c.NotAfter().Unix()) })
}
