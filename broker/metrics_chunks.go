package broker

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// way is how a chunk leaves past mochi.
type way int

const (
	wayVectored  way = iota // from the image's memory in one system call
	wayCopied               // read into a buffer: TLS, WebSocket, no mapping
	wayMulticast            // on an image's stream topic
	ways
)

func (w way) String() string { return [ways]string{"vectored", "copied", "multicast"}[w] }

// Why a session was not sent chunks, as the metrics label it.
const (
	chunkImage         = "image" // it cannot be read
	chunkEnded         = "ended"
	chunkNotSubscribed = "not_subscribed"
	chunkTooLarge      = "too_large"
)

// chunkMetrics count what goes past mochi.
type chunkMetrics struct {
	sent    [ways]prometheus.Counter
	bytes   [ways]prometheus.Counter
	refused *prometheus.CounterVec
	cut     prometheus.Counter
	missed  prometheus.Counter
	slow    prometheus.Gauge
}

func newChunkMetrics(f promauto.Factory) (m chunkMetrics) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "davit", Subsystem: "broker", Name: name, Help: help}
	}
	m.refused = f.NewCounterVec(prometheus.CounterOpts(opts("chunk_refusals_total", "Times that a session was not sent chunks which it was to get, by reason.")), []string{"reason"})
	m.cut = f.NewCounter(prometheus.CounterOpts(opts("cut_packets_total", "Chunk packets of which a socket took only a part, or nothing, at once.")))
	m.missed = f.NewCounter(prometheus.CounterOpts(opts("multicast_missed_total", "Chunks on images' stream topics that sessions missed: they were busy, had ended, or did not subscribe.")))
	m.slow = f.NewGauge(prometheus.GaugeOpts(opts("slow_connections", "Connections that have to wait now until their socket takes what there is for them (over TLS and WebSocket: that are being written to).")))
	sent := f.NewCounterVec(prometheus.CounterOpts(opts("sent_chunks_total", "Chunks sent on the short way, past the fan-out of messages, by way; they are in sent_messages_total too.")), []string{"way"})
	bytes := f.NewCounterVec(prometheus.CounterOpts(opts("sent_chunk_bytes_total", "Bytes of the packets of chunks sent on the short way, by way.")), []string{"way"})
	for w := range ways {
		m.sent[w], m.bytes[w] = sent.WithLabelValues(w.String()), bytes.WithLabelValues(w.String())
	}
	return m
}

func (m *Metrics) chunksSent(w way, n, bytes int) {
	if m != nil {
		m.msgOut.Add(float64(n))
		m.chunks.sent[w].Add(float64(n))
		m.chunks.bytes[w].Add(float64(bytes))
	}
}

func (m *Metrics) chunkRefused(err error) {
	if m == nil {
		return
	}
	reason := chunkImage
	switch {
	case errors.Is(err, ErrSessionEnded):
		reason = chunkEnded
	case errors.Is(err, ErrNotSubscribed):
		reason = chunkNotSubscribed
	case errors.Is(err, errTooLarge):
		reason = chunkTooLarge
	}
	m.chunks.refused.WithLabelValues(reason).Inc()
}

func (m *Metrics) packetCut() {
	if m != nil {
		m.chunks.cut.Inc()
	}
}

func (m *Metrics) multicastMissed(n int) {
	if m != nil && n > 0 {
		m.chunks.missed.Add(float64(n))
	}
}

func (m *Metrics) slowConnections(delta float64) {
	if m != nil {
		m.chunks.slow.Add(delta)
	}
}
