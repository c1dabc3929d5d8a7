package orchestrator

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"davit/schemas"
)

// Names of the metrics.
const (
	MetricExecutions      = "davit_executions"
	MetricTransitions     = "davit_execution_transitions_total"
	MetricOffers          = "davit_offers_published_total"
	MetricWithdrawals     = "davit_offers_withdrawn_total"
	MetricPublishFailures = "davit_offer_publish_failures_total"
	MetricChunks          = "davit_chunks_sent_total"
	MetricChunkBytes      = "davit_chunk_bytes_sent_total"
	MetricChunkErrors     = "davit_chunk_errors_total"
	MetricFetches         = "davit_fetches_total"
	MetricFetchesRefused  = "davit_fetches_refused_total"
	MetricOutstanding     = "davit_chunk_bytes_outstanding"
	MetricWithdrawnBytes  = "davit_chunk_bytes_withdrawn_total"
	MetricChunkWaits      = "davit_chunk_waits_total"
	MetricCreditLapses    = "davit_chunk_credit_lapses_total"
	MetricFollowers       = "davit_stream_followers"
	MetricStops           = "davit_job_stops_total"
	MetricRetries         = "davit_execution_retries_total"
	MetricWaves           = "davit_job_waves_released_total"
	MetricTakenBack       = "davit_offers_taken_back_total"
	MetricFallBacks       = "davit_execution_fall_backs_total"
	MetricReoffers        = "davit_offers_repeated_total"
	MetricQuarantined     = "davit_devices_quarantined"
	MetricCommitSeconds   = "davit_store_commit_seconds"
	MetricCommitUpdates   = "davit_store_commit_updates"
	MetricCommitFailures  = "davit_store_commit_failures_total"
	MetricExpired         = "davit_retention_deleted_total"
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

	waitModule  = "module"  // that the device asks again
	waitTotal   = "total"   // that any device asks again
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

// Metrics are what the orchestrator and its store count. A nil *Metrics counts
// nothing.
type Metrics struct {
	states          *stateCollector
	quarantined     *countCollector
	transitions     *prometheus.CounterVec
	offers          prometheus.Counter
	withdrawals     prometheus.Counter
	publishFailures prometheus.Counter
	stops           *prometheus.CounterVec
	retries         *prometheus.CounterVec
	waves           prometheus.Counter
	takenBack       prometheus.Counter
	fallBacks       prometheus.Counter
	reoffers        prometheus.Counter
	chunks          map[string]prometheus.Counter // by way, as are the bytes
	chunkBytes      map[string]prometheus.Counter
	chunkErrors     prometheus.Counter
	fetches         prometheus.Counter
	fetchesRefused  *prometheus.CounterVec
	outstanding     prometheus.Gauge
	withheld        map[string]prometheus.Counter // by reason
	waits           map[string]prometheus.Counter // by what for
	followers       prometheus.Gauge
	lapses          prometheus.Counter
	commitSeconds   prometheus.Histogram
	commitUpdates   prometheus.Histogram
	commitFailures  prometheus.Counter
	expiredRecords  map[string]prometheus.Counter // by what they were
}

// NewMetrics registers the orchestrator's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &Metrics{
		states:      &stateCollector{desc: prometheus.NewDesc(MetricExecutions, "Executions by state, of all jobs.", []string{"state"}, nil)},
		quarantined: &countCollector{desc: prometheus.NewDesc(MetricQuarantined, "Devices that are in quarantine.", nil, nil)},
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricTransitions, Help: "Executions that entered a state, by state and cause."}, []string{"state", "cause"}),
		offers:          counter(MetricOffers, "Offers published, repetitions included."),
		withdrawals:     counter(MetricWithdrawals, "Offers withdrawn, repetitions included."),
		publishFailures: counter(MetricPublishFailures, "Offers or withdrawals that could not be published and are tried again."),
		stops: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricStops, Help: "Jobs that were paused or canceled by a stop rule, by action."}, []string{"action"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricRetries, Help: "Executions that the retry policy queued once more, by the cause of the attempt before."}, []string{"cause"}),
		waves:       counter(MetricWaves, "Waves of jobs that were released."),
		takenBack:   counter(MetricTakenBack, "Attempts that were taken back before they ended: paused, out of the window, put off, superseded, or downloaded to be installed later."),
		fallBacks:   counter(MetricFallBacks, "Devices that reported another version again after they had succeeded."),
		reoffers:    counter(MetricReoffers, "Offers that stood before and were published again, to devices that came back or a broker that may have lost them."),
		chunkErrors: counter(MetricChunkErrors, "Chunks that could not be read or sent."),
		fetches:     counter(MetricFetches, "Fetches honoured."),
		fetchesRefused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricFetchesRefused, Help: "Fetches refused, by reason."}, []string{"reason"}),
		outstanding: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: MetricOutstanding, Help: "Bytes of image data under way: sent, and still awaited as far as the devices have said."}),
		followers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: MetricFollowers, Help: "Devices that follow the shared stream of an image at the moment."}),
		lapses: counter(MetricCreditLapses, "Devices that were sent something and did not ask again in time."),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: MetricCommitSeconds, Help: "Time of a commit of the store.", Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16)}),
		commitUpdates: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: MetricCommitUpdates, Help: "Updates committed together.", Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
		commitFailures: counter(MetricCommitFailures, "Commits of the store that failed."),
	}
	m.chunks = resolved(reg, MetricChunks, "Chunks of images sent to devices, by way.", "way", ways)
	m.chunkBytes = resolved(reg, MetricChunkBytes, "Bytes of image data sent to devices, by way.", "way", ways)
	m.withheld = resolved(reg, MetricWithdrawnBytes, "Bytes of image data that were asked for and not sent, by reason.", "reason", withdrawnReasons)
	m.waits = resolved(reg, MetricChunkWaits, "How often something to be sent had to wait, by what for.", "for", waitsFor)
	m.expiredRecords = resolved(reg, MetricExpired, "Records that were deleted because they are kept no longer, by what they were; executions count as job.", "what", []string{"audit", "job", "image"})
	reg.MustRegister(m.states, m.quarantined, m.transitions, m.offers, m.withdrawals, m.publishFailures, m.stops, m.retries, m.waves, m.takenBack, m.fallBacks, m.reoffers, m.chunkErrors, m.lapses,
		m.fetches, m.fetchesRefused, m.outstanding, m.followers, m.commitSeconds, m.commitUpdates, m.commitFailures)
	return m
}

// Commit counts one commit of the store: a hook for boltstore.Options.
func (m *Metrics) Commit(updates int, took time.Duration, err error) {
	if m == nil {
		return
	}
	m.commitSeconds.Observe(took.Seconds())
	m.commitUpdates.Observe(float64(updates))
	if err != nil {
		m.commitFailures.Inc()
	}
}

func (m *Metrics) expired(what string, n int) {
	if m != nil && n > 0 {
		m.expiredRecords[what].Add(float64(n))
	}
}

func (m *Metrics) transition(s schemas.State, c schemas.Cause) {
	if m != nil {
		m.transitions.WithLabelValues(string(s), string(c)).Inc()
	}
}

func (m *Metrics) offered() {
	if m != nil {
		m.offers.Inc()
	}
}

func (m *Metrics) stopped(action string) {
	if m != nil {
		m.stops.WithLabelValues(action).Inc()
	}
}

func (m *Metrics) released(waves int) {
	if m != nil {
		m.waves.Add(float64(waves))
	}
}

// again counts why an execution begins a new attempt: the one before ended so.
func (m *Metrics) again(before *Attempt, byPolicy bool) {
	switch {
	case m == nil:
	case before.State == schemas.StateQueued:
		m.takenBack.Inc()
	case before.State == schemas.StateSucceeded && before.Version == "":
		m.fallBacks.Inc()
	case byPolicy && retryable(before.State):
		m.retries.WithLabelValues(string(before.Cause)).Inc()
	}
}

func (m *Metrics) reoffered() {
	if m != nil {
		m.reoffers.Inc()
	}
}

func (m *Metrics) withdrawn() {
	if m != nil {
		m.withdrawals.Inc()
	}
}

func (m *Metrics) publishFailed() {
	if m != nil {
		m.publishFailures.Inc()
	}
}

func (m *Metrics) fetched() {
	if m != nil {
		m.fetches.Inc()
	}
}

func (m *Metrics) fetchRefused(reason string) {
	if m != nil {
		m.fetchesRefused.WithLabelValues(reason).Inc()
	}
}

func (m *Metrics) sent(way string, chunks int, bytes int64) {
	if m != nil {
		m.chunks[way].Add(float64(chunks))
		m.chunkBytes[way].Add(float64(bytes))
	}
}

func (m *Metrics) chunkFailed(chunks int) {
	if m != nil {
		m.chunkErrors.Add(float64(chunks))
	}
}

func (m *Metrics) withdrew(reason string, bytes uint64) {
	if m != nil && bytes > 0 {
		m.withheld[reason].Add(float64(bytes))
	}
}

func (m *Metrics) waited(what string) {
	if m != nil {
		m.waits[what].Inc()
	}
}

func (m *Metrics) lapsed() {
	if m != nil {
		m.lapses.Inc()
	}
}

func (m *Metrics) setOutstanding(bytes int64) {
	if m != nil {
		m.outstanding.Set(float64(bytes))
	}
}

func (m *Metrics) setFollowers(n int) {
	if m != nil {
		m.followers.Set(float64(n))
	}
}

// source says where the executions by state are read at a scrape: one small
// record.
func (m *Metrics) source(read func() (map[schemas.State]uint64, error)) {
	if m != nil {
		m.states.set(read)
	}
}

// quarantineSource says where the number of devices in quarantine is read at a scrape.
func (m *Metrics) quarantineSource(read func() (int, error)) {
	if m != nil {
		m.quarantined.read.Store(&read)
	}
}

// countCollector tells one number, which is read at each scrape.
type countCollector struct {
	desc *prometheus.Desc
	read atomic.Pointer[func() (int, error)]
}

// Describe implements prometheus.Collector.
func (c *countCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector, as stateCollector does.
func (c *countCollector) Collect(ch chan<- prometheus.Metric) {
	read := c.read.Load()
	if read == nil {
		return
	}
	n, err := (*read)()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.desc, err)
		return
	}
	ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n))
}

// stateCollector reads the executions by state when it is asked for them.
type stateCollector struct {
	desc *prometheus.Desc
	read atomic.Pointer[func() (map[schemas.State]uint64, error)]
}

func (c *stateCollector) set(read func() (map[schemas.State]uint64, error)) { c.read.Store(&read) }

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector. A store that cannot be read yields
// no samples and an error in the scrape.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	read := c.read.Load()
	if read == nil {
		return
	}
	counts, err := (*read)()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.desc, err)
		return
	}
	for _, s := range schemas.States() {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(counts[s]), string(s))
	}
}
