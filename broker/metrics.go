package broker

import (
	"time"

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
	chunks       chunkMetrics
	dropped      prometheus.Counter
	slow         prometheus.Counter
	limits       *prometheus.CounterVec
	takeOvers    prometheus.Counter
	acceptErrs   prometheus.Counter
	panics       prometheus.Counter
	waiting      prometheus.Gauge
	pending      prometheus.Gauge
	handshakes   prometheus.Gauge
	certRefusals *prometheus.CounterVec
	certEnds     *prometheus.CounterVec
	crlNext      prometheus.Gauge
	crowded      prometheus.Gauge
}

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
		chunks:       newChunkMetrics(f),
		dropped:      counter("dropped_messages_total", "Messages dropped for a connected client."),
		slow:         counter("slow_readers_dropped_total", "Connections ended because the client read too slowly."),
		limits:       vec("limited_total", "Packets, connections and subscriptions of devices and bridges over a limit, by limit: slowed down, refused or ended.", "limit"),
		takeOvers:    counter("takeovers_total", "Connections ended because their client connected again."),
		acceptErrs:   counter("accept_errors_total", "Errors of accept on the listeners; each was tried again."),
		panics:       counter("packet_panics_total", "Connections ended because a packet made the MQTT library panic."),
		waiting: f.NewGauge(prometheus.GaugeOpts{
			Namespace: "davit", Subsystem: "broker", Name: "connects_waiting", Help: "CONNECTs that wait to be served.",
		}),
		pending: f.NewGauge(prometheus.GaugeOpts{
			Namespace: "davit", Subsystem: "broker", Name: "sockets_pending", Help: "Open sockets that have not said CONNECT.",
		}),
		handshakes: f.NewGauge(prometheus.GaugeOpts{
			Namespace: "davit", Subsystem: "broker", Name: "tls_handshakes_waiting", Help: "TLS handshakes that wait for a processor.",
		}),
		certRefusals: vec("certificate_refusals_total", "TLS handshakes refused because of the client's certificate, by reason.", "reason"),
		certEnds:     vec("certificate_sessions_ended_total", "Sessions ended because their certificate was not good any more, by reason.", "reason"),
		crlNext: f.NewGauge(prometheus.GaugeOpts{
			Namespace: "davit", Subsystem: "broker", Name: "crl_next_update_timestamp_seconds", Help: "When the first of the revocation lists ends, in Unix time; 0 without a list. After that, certificates are refused.",
		}),
		crowded: f.NewGauge(prometheus.GaugeOpts{
			Namespace: "davit", Subsystem: "broker", Name: "crowded_addresses", Help: "Remote addresses with too many wrong passwords, most of whose attempts to connect are dropped.",
		}),
	}
	m.begin()
	return m
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

func (m *Metrics) sieved(addresses int) {
	if m != nil {
		m.crowded.Set(float64(addresses))
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

func (m *Metrics) handshakesWaiting(delta int) {
	if m != nil {
		m.handshakes.Add(float64(delta))
	}
}

func (m *Metrics) certificateRefused(reason string) {
	if m != nil {
		m.certRefusals.WithLabelValues(reason).Inc()
	}
}

func (m *Metrics) certificateEnded(reason string) {
	if m != nil {
		m.certEnds.WithLabelValues(reason).Inc()
	}
}

func (m *Metrics) crlNextUpdate(at time.Time) {
	if m == nil {
		return
	}
	if at.IsZero() {
		m.crlNext.Set(0)
		return
	}
	m.crlNext.Set(float64(at.Unix()))
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

func (m *Metrics) limited(limit string) {
	if m != nil {
		m.limits.WithLabelValues(limit).Inc()
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
