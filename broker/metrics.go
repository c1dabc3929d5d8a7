package broker

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts what the broker does. A nil *Metrics counts nothing.
type Metrics struct {
	connections  *prometheus.GaugeVec
	connects     *prometheus.CounterVec
	refusals     *prometheus.CounterVec
	authFailures *prometheus.CounterVec
	aclRefusals  *prometheus.CounterVec
	msgIn        prometheus.Counter
	msgOut       prometheus.Counter
	bytesIn      prometheus.Counter
	bytesOut     prometheus.Counter
	chunks       [ways]prometheus.Counter
	chunkBytes   [ways]prometheus.Counter
	chunkRefusal *prometheus.CounterVec
	cut          prometheus.Counter
	missed       prometheus.Counter
	blocked      prometheus.Gauge
	dropped      prometheus.Counter
	slow         prometheus.Counter
	takeOvers    prometheus.Counter
	acceptErrs   prometheus.Counter
	panics       prometheus.Counter
	waiting      prometheus.Gauge
	pending      prometheus.Gauge
}

// way is how a chunk leaves past mochi.
type way int

const (
	wayVectored  way = iota // from the image's memory in one system call
	wayCopied               // read into a buffer: TLS, WebSocket, no mapping
	wayMulticast            // on an image's stream topic
	ways
)

func (w way) String() string { return [ways]string{"vectored", "copied", "multicast"}[w] }

// NewMetrics registers the broker's metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "davit", Subsystem: "broker", Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Namespace: "davit", Subsystem: "broker", Name: name, Help: help}, labels)
	}
	m := &Metrics{
		connections: f.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "davit", Subsystem: "broker", Name: "connections", Help: "Authenticated MQTT connections by transport.",
		}, []string{"transport"}),
		connects:     vec("connects_total", "MQTT connections accepted, by transport.", "transport"),
		refusals:     vec("connect_refusals_total", "Connections refused, by reason.", "reason"),
		authFailures: vec("auth_failures_total", "Failed authentications, by reason.", "reason"),
		aclRefusals:  vec("acl_refusals_total", "Publishes, subscriptions and wills refused, by action and reason.", "action", "reason"),
		msgIn:        counter("received_messages_total", "PUBLISH packets received from clients."),
		msgOut:       counter("sent_messages_total", "PUBLISH packets sent to clients."),
		bytesIn:      counter("received_bytes_total", "Bytes received from clients."),
		bytesOut:     counter("sent_bytes_total", "Bytes sent to clients."),
		chunkRefusal: vec("chunk_refusals_total", "Times that a session was not sent chunks which it was to get, by reason.", "reason"),
		cut:          counter("cut_packets_total", "Chunk packets of which a socket took only a part, or nothing, at once."),
		missed:       counter("multicast_missed_total", "Times that a session missed a chunk on an image's stream topic: it was busy, had ended, or did not subscribe."),
		blocked: f.NewGauge(prometheus.GaugeOpts{
			Namespace: "davit", Subsystem: "broker", Name: "waiting_connections", Help: "Connections that have to wait now until their socket takes what there is for them (over TLS and WebSocket: that are being written to).",
		}),
		dropped:    counter("dropped_messages_total", "Messages dropped for a connected client."),
		slow:       counter("slow_readers_dropped_total", "Connections ended because the client read too slowly."),
		takeOvers:  counter("takeovers_total", "Connections ended because their client connected again."),
		acceptErrs: counter("accept_errors_total", "Errors of accept on the listeners; each was tried again."),
		panics:     counter("packet_panics_total", "Connections ended because a packet made the MQTT library panic."),
		waiting: f.NewGauge(prometheus.GaugeOpts{
			Namespace: "davit", Subsystem: "broker", Name: "connects_waiting", Help: "CONNECTs that wait to be served.",
		}),
		pending: f.NewGauge(prometheus.GaugeOpts{
			Namespace: "davit", Subsystem: "broker", Name: "sockets_pending", Help: "Open sockets that have not said CONNECT.",
		}),
	}
	chunks := vec("sent_chunks_total", "Chunks sent on the short way, past the fan-out of messages, by way (they count in sent_messages_total too).", "way")
	bytes := vec("sent_chunk_bytes_total", "Bytes of the packets of those chunks, by way.", "way")
	for w := range ways {
		m.chunks[w], m.chunkBytes[w] = chunks.WithLabelValues(w.String()), bytes.WithLabelValues(w.String())
	}
	return m
}

func (m *Metrics) chunksSent(w way, n, bytes int) {
	if m != nil {
		m.msgOut.Add(float64(n))
		m.chunks[w].Add(float64(n))
		m.chunkBytes[w].Add(float64(bytes))
	}
}

func (m *Metrics) chunkRefused(err error) {
	if m == nil {
		return
	}
	reason := "image" // it cannot be read
	switch {
	case errors.Is(err, ErrSessionEnded):
		reason = "ended"
	case errors.Is(err, ErrNotSubscribed):
		reason = "not_subscribed"
	case errors.Is(err, errTooLarge):
		reason = "too_large"
	}
	m.chunkRefusal.WithLabelValues(reason).Inc()
}

func (m *Metrics) packetCut() {
	if m != nil {
		m.cut.Inc()
	}
}

func (m *Metrics) multicastMissed(n int) {
	if m != nil && n > 0 {
		m.missed.Add(float64(n))
	}
}

func (m *Metrics) connectionsWaiting(delta float64) {
	if m != nil {
		m.blocked.Add(delta)
	}
}

func (m *Metrics) connected(t Transport, delta float64) {
	if m == nil {
		return
	}
	m.connections.WithLabelValues(string(t)).Add(delta)
	if delta > 0 {
		m.connects.WithLabelValues(string(t)).Inc()
	}
}

func (m *Metrics) connectsWaiting(n int) {
	if m != nil {
		m.waiting.Set(float64(n))
	}
}

func (m *Metrics) socketsPending(n int) {
	if m != nil {
		m.pending.Set(float64(n))
	}
}

func (m *Metrics) refused(reason string) {
	if m != nil {
		m.refusals.WithLabelValues(reason).Inc()
	}
}

func (m *Metrics) authFailed(reason string) {
	if m != nil {
		m.authFailures.WithLabelValues(reason).Inc()
	}
}

func (m *Metrics) aclRefused(action string, r refusal) {
	if m != nil {
		m.aclRefusals.WithLabelValues(action, string(r)).Inc()
	}
}

func (m *Metrics) messageIn() {
	if m != nil {
		m.msgIn.Inc()
	}
}

func (m *Metrics) messageOut() {
	if m != nil {
		m.msgOut.Inc()
	}
}

func (m *Metrics) bytesReceived(n int) {
	if m != nil && n > 0 {
		m.bytesIn.Add(float64(n))
	}
}

func (m *Metrics) bytesSent(n int) {
	if m != nil && n > 0 {
		m.bytesOut.Add(float64(n))
	}
}

func (m *Metrics) messageDropped() {
	if m != nil {
		m.dropped.Inc()
	}
}

func (m *Metrics) slowReader() {
	if m != nil {
		m.slow.Inc()
	}
}

func (m *Metrics) takenOver() {
	if m != nil {
		m.takeOvers.Inc()
	}
}

func (m *Metrics) acceptError() {
	if m != nil {
		m.acceptErrs.Inc()
	}
}

func (m *Metrics) panicked() {
	if m != nil {
		m.panics.Inc()
	}
}
