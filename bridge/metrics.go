package bridge

import (
	"github.com/prometheus/client_golang/prometheus"

	"davit/bridge/spool"
	"davit/schemas"
	"davit/trust"
)

// Metrics are the bridge's counters and gauges. A nil *Metrics counts nothing.
type Metrics struct {
	ports     *portsCollector
	updates   *prometheus.CounterVec
	fetched   prometheus.Counter
	stray     prometheus.Counter
	refused   *prometheus.CounterVec
	connected prometheus.Gauge
	spool     *spoolCollector
	manifests *prometheus.CounterVec
	badBlocks prometheus.Counter
	blocks    prometheus.Counter // reused, as are the bytes
	bytes     prometheus.Counter
	alarms    *prometheus.CounterVec
}

// NewMetrics registers the bridge's metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		ports: newPortsCollector(),
		updates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "davit_bridge_updates_total", Help: "Finished updates by state and cause.",
		}, []string{"state", "cause"}),
		fetched: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "davit_bridge_fetched_bytes_total", Help: "Image bytes received and wanted.",
		}),
		stray: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "davit_bridge_stray_chunks_total", Help: "Chunks received that nobody had asked for, or no longer.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "davit_bridge_refused_messages_total", Help: "Malformed messages from the service by kind.",
		}, []string{"kind"}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "davit_bridge_mqtt_connected", Help: "1 while the broker connection stands.",
		}),
		spool: newSpoolCollector(),
		manifests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "davit_bridge_manifests_total", Help: "Signed manifests looked at, by result: accepted, or the reason of the refusal.",
		}, []string{"result"}),
		badBlocks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "davit_bridge_bad_blocks_total", Help: "Blocks of signed images that were not what was signed, and were thrown away.",
		}),
		blocks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "davit_bridge_blocks_reused_total", Help: "Blocks of signed images that were taken from other images in the spool instead of being fetched.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "davit_bridge_reused_block_bytes_total", Help: "Bytes of signed images that were taken from other images in the spool instead of being fetched.",
		}),
		alarms: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "davit_bridge_retrieval_alarms_total", Help: "Downloads that look like an attack, by kind: slow (far below any usable rate), endless (more data that nobody asked for than the image has).",
		}, []string{"kind"}),
	}
	m.begin()
	reg.MustRegister(m.ports, m.updates, m.fetched, m.stray, m.refused, m.connected, m.spool, m.manifests, m.badBlocks, m.blocks, m.bytes, m.alarms)
	return m
}

// What a manifest's check results in beside a trust.Reason, and the kinds of alarms.
const (
	manifestAccepted = "accepted"
	manifestCounter  = "unreadable_counter"
	alarmSlow        = "slow"
	alarmEndless     = "endless"
)

// begin makes the series whose labels are known beforehand, so that a rate over them sees
// the first event.
func (m *Metrics) begin() {
	m.updates.WithLabelValues(string(schemas.StateSucceeded), string(schemas.CauseNone))
	for _, s := range []schemas.State{schemas.StateRejected, schemas.StateFailed, schemas.StateTimedOut, schemas.StateCanceled} {
		for _, c := range schemas.Causes() {
			m.updates.WithLabelValues(string(s), string(c))
		}
	}
	for _, k := range schemas.Kinds() {
		if !k.FromDevice() {
			m.refused.WithLabelValues(string(k))
		}
	}
	m.manifests.WithLabelValues(manifestAccepted)
	m.manifests.WithLabelValues(manifestCounter)
	for _, r := range trust.Reasons() {
		m.manifests.WithLabelValues(string(r))
	}
	m.alarms.WithLabelValues(alarmSlow)
	m.alarms.WithLabelValues(alarmEndless)
}

// source says where a scrape reads what the ports and the spool are.
func (m *Metrics) source(ports func() []portFigures, s *spool.Spool) {
	if m != nil {
		m.ports.read.Store(&ports)
		m.spool.spool.Store(s)
	}
}

func (m *Metrics) ended(s schemas.State, c schemas.Cause) {
	if m != nil {
		m.updates.WithLabelValues(string(s), string(c)).Inc()
	}
}

func (m *Metrics) chunk(bytes int) {
	if m != nil {
		m.fetched.Add(float64(bytes))
	}
}

func (m *Metrics) strayChunk() {
	if m != nil {
		m.stray.Inc()
	}
}

func (m *Metrics) refusedMessage(k schemas.Kind) {
	if m != nil {
		m.refused.WithLabelValues(string(k)).Inc()
	}
}

func (m *Metrics) broker(connected bool) {
	if m != nil {
		m.connected.Set(flag(connected))
	}
}

func (m *Metrics) manifest(result string) {
	if m != nil {
		m.manifests.WithLabelValues(result).Inc()
	}
}

func (m *Metrics) badBlock() {
	if m != nil {
		m.badBlocks.Inc()
	}
}

func (m *Metrics) reused(r spool.Reused) {
	if m != nil {
		m.blocks.Add(float64(r.Blocks))
		m.bytes.Add(float64(r.Bytes))
	}
}

func (m *Metrics) alarm(kind string) {
	if m != nil {
		m.alarms.WithLabelValues(kind).Inc()
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
