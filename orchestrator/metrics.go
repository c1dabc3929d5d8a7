package orchestrator

import (
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
	MetricChunkBytes      = "davit_chunk_sent_bytes_total"
	MetricChunkErrors     = "davit_chunk_errors_total"
	MetricFetches         = "davit_fetches_total"
	MetricFetchesRefused  = "davit_fetches_refused_total"
	MetricOutstanding     = "davit_chunk_outstanding_bytes"
	MetricWithdrawnBytes  = "davit_chunk_withdrawn_bytes_total"
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
	MetricDevices         = "davit_devices"
	MetricOnline          = "davit_devices_online"
	MetricJobs            = "davit_jobs"
	MetricJobExecutions   = "davit_job_executions"
	MetricJobWave         = "davit_job_wave"
	MetricOffersWaiting   = "davit_offers_waiting"
	MetricReportsWaiting  = "davit_reports_waiting"
	MetricFlows           = "davit_chunk_flows"
	MetricHelloToOffer    = "davit_hello_to_offer_seconds"
	MetricFetchFirst      = "davit_fetch_first_chunk_seconds"
	MetricFetchLast       = "davit_fetch_last_chunk_seconds"
	MetricCommitSeconds   = "davit_store_commit_seconds"
	MetricCommitUpdates   = "davit_store_commit_updates"
	MetricCommitFailures  = "davit_store_commit_failures_total"
	MetricExpired         = "davit_retention_deleted_total"
	MetricRetentionHeld   = "davit_retention_held"
)

// Metrics are what the orchestrator and its store count. A nil *Metrics counts
// nothing.
type Metrics struct {
	records         *recordsCollector
	queues          *queuesCollector
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
	helloToOffer    prometheus.Histogram
	fetchFirst      prometheus.Histogram
	fetchLast       prometheus.Histogram
	expiredRecords  map[string]prometheus.Counter // by what they were
	retentionHeld   prometheus.Gauge
}

// NewMetrics registers the orchestrator's metrics. Every series whose labels are of a
// fixed set is there from the beginning, so that a rate over it sees the first event.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	seconds := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	m := &Metrics{
		records:         newRecordsCollector(),
		queues:          newQueuesCollector(),
		transitions:     vec(MetricTransitions, "Executions that entered a state, by state and cause.", "state", "cause"),
		offers:          counter(MetricOffers, "Offers published, repetitions included."),
		withdrawals:     counter(MetricWithdrawals, "Offers withdrawn, repetitions included."),
		publishFailures: counter(MetricPublishFailures, "Offers or withdrawals that could not be published and are tried again."),
		stops:           vec(MetricStops, "Jobs that were paused or canceled by a stop rule, by action.", "action"),
		retries:         vec(MetricRetries, "Executions that the retry policy queued once more, by the cause of the attempt before.", "cause"),
		waves:           counter(MetricWaves, "Waves of jobs that were released."),
		takenBack:       counter(MetricTakenBack, "Attempts that were taken back before they ended: paused, out of the window, put off, superseded, or downloaded to be installed later."),
		fallBacks:       counter(MetricFallBacks, "Devices that reported another version again after they had succeeded."),
		reoffers:        counter(MetricReoffers, "Offers that stood before and were published again, to devices that came back or a broker that may have lost them."),
		chunkErrors:     counter(MetricChunkErrors, "Chunks that could not be read or sent."),
		fetches:         counter(MetricFetches, "Fetches honoured."),
		fetchesRefused:  vec(MetricFetchesRefused, "Fetches refused, by reason.", "reason"),
		outstanding: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: MetricOutstanding, Help: "Bytes of image data under way: sent, and not acknowledged by the connection or, over another broker, still awaited as far as the devices have said. Connections on which nothing moves are not in it."}),
		followers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: MetricFollowers, Help: "Devices that follow the shared stream of an image at the moment."}),
		retentionHeld: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: MetricRetentionHeld, Help: "1 while nothing is deleted for its age because the clock has leapt ahead, 0 otherwise."}),
		lapses:        counter(MetricCreditLapses, "How often nothing of what was under way to a device had arrived for five seconds."),
		commitSeconds: seconds(MetricCommitSeconds, "Time of a commit of the store.", prometheus.ExponentialBuckets(50e-6, 2, 16)),
		commitUpdates: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: MetricCommitUpdates, Help: "Updates committed together.", Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
		commitFailures: counter(MetricCommitFailures, "Commits of the store that failed."),
		helloToOffer:   seconds(MetricHelloToOffer, "Time from a device's hello to the offer that was published because of it, new or repeated.", prometheus.ExponentialBuckets(0.001, 2, 16)),
		fetchFirst:     seconds(MetricFetchFirst, "Time from a fetch to the first of its chunks being handed to the connection or the broker; shared streams are not in it.", prometheus.ExponentialBuckets(20e-6, 4, 11)),
		fetchLast:      seconds(MetricFetchLast, "Time from a fetch to the last of its chunks being handed to the connection or the broker; shared streams are not in it.", prometheus.ExponentialBuckets(20e-6, 4, 11)),
	}
	m.chunks = resolved(reg, MetricChunks, "Chunks of images sent to devices, by way.", "way", ways)
	m.chunkBytes = resolved(reg, MetricChunkBytes, "Bytes of image data sent to devices, by way.", "way", ways)
	m.withheld = resolved(reg, MetricWithdrawnBytes, "Bytes of image data that were asked for and not sent, by reason.", "reason", withdrawnReasons)
	m.waits = resolved(reg, MetricChunkWaits, "How often something to be sent had to wait, by what for.", "for", waitsFor)
	m.expiredRecords = resolved(reg, MetricExpired, "Records that were deleted because they are kept no longer, by what they were; executions count as job.", "what", []string{"audit", "job", "image"})
	m.begin()
	reg.MustRegister(m.records, m.queues, m.transitions, m.offers, m.withdrawals, m.publishFailures, m.stops, m.retries, m.waves, m.takenBack, m.fallBacks, m.reoffers, m.chunkErrors, m.lapses,
		m.fetches, m.fetchesRefused, m.outstanding, m.followers, m.retentionHeld, m.commitSeconds, m.commitUpdates, m.commitFailures, m.helloToOffer, m.fetchFirst, m.fetchLast)
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

func (m *Metrics) holdRetention(held bool) {
	if m == nil {
		return
	}
	m.retentionHeld.Set(0)
	if held {
		m.retentionHeld.Set(1)
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

// offeredAfterHello counts how long a device that said hello at the time since waited for
// its offer; the zero time says that it did not.
func (m *Metrics) offeredAfterHello(since time.Time) {
	if m != nil && !since.IsZero() {
		m.helloToOffer.Observe(time.Since(since).Seconds())
	}
}

// fetchBegan and fetchEnded count how long the first and the last chunk of a fetch took.
func (m *Metrics) fetchBegan(took time.Duration) {
	if m != nil {
		m.fetchFirst.Observe(took.Seconds())
	}
}

func (m *Metrics) fetchEnded(took time.Duration) {
	if m != nil {
		m.fetchLast.Observe(took.Seconds())
	}
}

// source says where a scrape reads what the records and the queues are.
func (m *Metrics) source(records func() (figures, error), queues func() depths) {
	if m != nil {
		m.records.read.Store(&records)
		m.queues.read.Store(&queues)
	}
}
