package orchestrator

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"davit/schemas"
)

// recordsCollector tells what the records say in figures when it is asked for them.
type recordsCollector struct {
	executions, devices, online, quarantined, jobs, ofJob, wave *prometheus.Desc

	read atomic.Pointer[func() (figures, error)]
}

func newRecordsCollector() *recordsCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &recordsCollector{
		executions:  desc(MetricExecutions, "Executions by state, of all jobs.", "state"),
		devices:     desc(MetricDevices, "Devices that are known, by device type.", "type"),
		online:      desc(MetricOnline, "Devices that are online by their presence."),
		quarantined: desc(MetricQuarantined, "Devices that are in quarantine."),
		jobs:        desc(MetricJobs, "Jobs by state.", "state"),
		// Prometheus has a label job of its own: what scraped it.
		ofJob: desc(MetricJobExecutions, "Executions of the newest jobs that run or are paused, by job and state.", "job_name", "state"),
		wave:  desc(MetricJobWave, "Number of the last wave that was released, of the newest jobs that run or are paused.", "job_name"),
	}
}

// Describe implements prometheus.Collector.
func (c *recordsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.executions, c.devices, c.online, c.quarantined, c.jobs, c.ofJob, c.wave} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. A store that cannot be read yields
// no samples and an error in the scrape.
func (c *recordsCollector) Collect(ch chan<- prometheus.Metric) {
	read := c.read.Load()
	if read == nil {
		return
	}
	f, err := (*read)()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.executions, err)
		return
	}
	tell := func(d *prometheus.Desc, n float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	for _, s := range schemas.States() {
		tell(c.executions, float64(f.executions[s]), string(s))
		for i := range f.latest {
			tell(c.ofJob, float64(f.latest[i].counts[s]), f.latest[i].name, string(s))
		}
	}
	for i := range f.latest {
		tell(c.wave, float64(f.latest[i].wave), f.latest[i].name)
	}
	for deviceType, n := range f.devices {
		tell(c.devices, float64(n), deviceType)
	}
	for _, s := range jobStates {
		tell(c.jobs, float64(f.jobs[s]), string(s))
	}
	tell(c.online, float64(f.online))
	tell(c.quarantined, float64(f.quarantined))
}

// queuesCollector tells how much waits when it is asked.
type queuesCollector struct {
	offers, reports, flows *prometheus.Desc

	read atomic.Pointer[func() depths]
}

func newQueuesCollector() *queuesCollector {
	return &queuesCollector{
		offers:  prometheus.NewDesc(MetricOffersWaiting, "Devices whose offer is still to be published or withdrawn (new), or published again (repeat).", []string{"kind"}, nil),
		reports: prometheus.NewDesc(MetricReportsWaiting, "Hellos, presences and reports of devices that wait for the next transaction.", nil, nil),
		flows:   prometheus.NewDesc(MetricFlows, "Devices that something is to be sent to: ready (a worker may send now), starved (waits for credit).", []string{"state"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *queuesCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.offers
	ch <- c.reports
	ch <- c.flows
}

// Collect implements prometheus.Collector.
func (c *queuesCollector) Collect(ch chan<- prometheus.Metric) {
	read := c.read.Load()
	if read == nil {
		return
	}
	d := (*read)()
	tell := func(desc *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), labels...)
	}
	tell(c.offers, d.offers, "new")
	tell(c.offers, d.repeats, "repeat")
	tell(c.reports, d.reports)
	tell(c.flows, d.ready, "ready")
	tell(c.flows, d.starved, "starved")
}
