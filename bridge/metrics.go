package bridge

import (
	"github.com/prometheus/client_golang/prometheus"

	"davit/bridge/dialect"
	"davit/bridge/spool"
	"davit/schemas"
)

// Metrics are the bridge's counters and gauges. The port label is the device's
// id: a bridge has at most MaxPorts of them. A nil *Metrics counts nothing.
type Metrics struct {
	frames    *prometheus.CounterVec
	resets    *prometheus.CounterVec
	loaded    *prometheus.CounterVec
	goodput   *prometheus.GaugeVec
	portUp    *prometheus.GaugeVec
	updates   *prometheus.CounterVec
	fetched   prometheus.Counter
	stray     prometheus.Counter
	refused   *prometheus.CounterVec
	connected prometheus.Gauge
	spool     prometheus.Gauge
	manifests *prometheus.CounterVec
	badBlocks prometheus.Counter
	blocks    prometheus.Counter // reused, as are the bytes
	bytes     prometheus.Counter
	alarms    *prometheus.CounterVec
}

// NewMetrics registers the bridge's metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		frames: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "davit_bridge_frames_total", Help: "Serial frames by port and event: sent, retried, lost, received, bad.",
		}, []string{"port", "event"}),
		resets: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "davit_bridge_mcu_resets_total", Help: "Sequence restarts of the host MCU by port.",
		}, []string{"port"}),
		loaded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "davit_bridge_loaded_bytes_total", Help: "Image bytes acknowledged by the host MCU by port.",
		}, []string{"port"}),
		goodput: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "davit_bridge_goodput_bytes_per_second", Help: "Image bytes per second of the last finished load by port.",
		}, []string{"port"}),
		portUp: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "davit_bridge_port_up", Help: "1 while the serial port is open.",
		}, []string{"port"}),
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
		spool: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "davit_bridge_spool_bytes", Help: "Bytes of images on the bridge's disk.",
		}),
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
			Name: "davit_bridge_block_bytes_reused_total", Help: "Bytes of those blocks.",
		}),
		alarms: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "davit_bridge_retrieval_alarms_total", Help: "Downloads that look like an attack, by kind: slow (far below any usable rate), endless (more data that nobody asked for than the image has).",
		}, []string{"kind"}),
	}
	reg.MustRegister(m.frames, m.resets, m.loaded, m.goodput, m.portUp, m.updates, m.fetched, m.stray, m.refused, m.connected, m.spool, m.manifests, m.badBlocks, m.blocks, m.bytes, m.alarms)
	return m
}

// lineCounter returns the function that a session counts with; it allocates
// nothing when it is called.
func (m *Metrics) lineCounter(port string) func(dialect.Counter, int) {
	if m == nil {
		return func(dialect.Counter, int) {}
	}
	counters := map[dialect.Counter]prometheus.Counter{
		dialect.MCUResets:   m.resets.WithLabelValues(port),
		dialect.BytesLoaded: m.loaded.WithLabelValues(port),
	}
	for _, c := range []dialect.Counter{
		dialect.FramesSent, dialect.FramesRetried, dialect.FramesLost, dialect.FramesReceived, dialect.FramesBad,
	} {
		counters[c] = m.frames.WithLabelValues(port, string(c))
	}
	return func(c dialect.Counter, n int) {
		if counter := counters[c]; counter != nil {
			counter.Add(float64(n))
		}
	}
}

func (m *Metrics) port(port string, up bool) {
	if m != nil {
		m.portUp.WithLabelValues(port).Set(flag(up))
	}
}

// forget ends the series of a port that is gone.
func (m *Metrics) forget(port string) {
	if m == nil {
		return
	}
	of := prometheus.Labels{"port": port}
	for _, v := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{m.frames, m.resets, m.loaded, m.goodput, m.portUp} {
		v.DeletePartialMatch(of)
	}
}

func (m *Metrics) load(port string, bytesPerSecond float64) {
	if m != nil {
		m.goodput.WithLabelValues(port).Set(bytesPerSecond)
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

func (m *Metrics) spooled(bytes int64) {
	if m != nil {
		m.spool.Set(float64(bytes))
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
