package gateway

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"davit/gateway/people"
	"davit/schemas"
)

// Metrics counts what passes through the gateway. A nil *Metrics counts
// nothing. No label carries an id of a device or a person.
type Metrics struct {
	received   *prometheus.CounterVec // by kind
	refused    *prometheus.CounterVec // by kind and reason
	dropped    *prometheus.CounterVec // by kind: overload
	published  *prometheus.CounterVec // by kind
	unsent     *prometheus.CounterVec // by kind
	connected  *prometheus.GaugeVec   // by link
	requests   *prometheus.CounterVec // by method, route and status
	latency    *prometheus.HistogramVec
	authFailed prometheus.Counter
	noScope    prometheus.Counter
	signIns    *prometheus.CounterVec // by method and result
	uploaded   prometheus.Counter
	limits     *prometheus.CounterVec // by limit
	claims     *prometheus.CounterVec // by result
	rotations  *prometheus.CounterVec // by result
	queues     *queuesCollector
	fetches    prometheus.Counter // of received
}

// kindOther is the kind label of messages on topics outside the contract.
const kindOther = "other"

// NewMetrics registers the gateway's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		received:  counter("davit_gateway_mqtt_received_total", "Messages received from devices, by kind.", "kind"),
		refused:   counter("davit_gateway_mqtt_refused_total", "Messages from devices that were refused, by kind and reason.", "kind", "reason"),
		dropped:   counter("davit_gateway_mqtt_dropped_total", "Messages from devices dropped because the service was overloaded, by kind.", "kind"),
		published: counter("davit_gateway_mqtt_published_total", "Messages published to devices, by kind.", "kind"),
		unsent:    counter("davit_gateway_mqtt_publish_failures_total", "Messages that could not be published to devices, by kind.", "kind"),
		connected: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "davit_gateway_mqtt_connected", Help: "Whether the service's connection to the broker is up and subscribed, by link."}, []string{"link"}),
		requests: counter("davit_http_requests_total", "HTTP requests answered, by method, route and status.", "method", "route", "status"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "davit_http_request_duration_seconds", Help: "Time from a request's header to the end of its answer, by method and route.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9)}, []string{"method", "route"}),
		authFailed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "davit_http_auth_failures_total", Help: "API requests without a valid token or session, and requests that another site made a browser send."}),
		noScope: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "davit_http_forbidden_total", Help: "API requests by somebody who may not carry out the operation."}),
		signIns: counter("davit_sign_ins_total", "Tries to sign in, by method and result.", "method", "result"),
		uploaded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "davit_http_uploaded_bytes_total", Help: "Bytes of image files received."}),
		claims:    counter("davit_claims_total", "Logins of modules with the token of a claim that were refused, and answers to their claims, by result.", "result"),
		rotations: counter("davit_password_rotations_total", "Answers to devices and bridges that asked for another password, by result.", "result"),
	}
	m.queues = newQueuesCollector()
	m.limits = counter("davit_http_limited_total", "HTTP requests refused because of a limit, by limit.", "limit")
	for _, kind := range schemas.Kinds() {
		if !kind.FromDevice() {
			m.published.WithLabelValues(string(kind))
			m.unsent.WithLabelValues(string(kind))
			continue
		}
		m.received.WithLabelValues(string(kind))
		m.dropped.WithLabelValues(string(kind))
		for _, r := range reasons() {
			m.refused.WithLabelValues(string(kind), string(r))
		}
	}
	m.fetches = m.received.WithLabelValues(string(schemas.KindFetch))
	m.refused.WithLabelValues(kindOther, string(reasonTopic))
	for _, r := range people.SignInResults() {
		m.signIns.WithLabelValues(people.MethodPassword, string(r))
		m.signIns.WithLabelValues(people.MethodOIDC, string(r))
	}
	for _, r := range schemas.RequestErrors() {
		m.claims.WithLabelValues(string(r))
	}
	for _, r := range []string{claimMade, claimRepeated, claimToken} {
		m.claims.WithLabelValues(r)
	}
	for _, r := range []string{rotationGiven, string(schemas.ErrorMalformed), string(schemas.ErrorNotAllowed), string(schemas.ErrorBusy), string(schemas.ErrorInternal)} {
		m.rotations.WithLabelValues(r)
	}
	for _, limit := range []string{limitRate, limitAtOnce, limitAllAtOnce, limitForm} {
		m.limits.WithLabelValues(limit)
	}
	reg.MustRegister(m.queues, m.claims, m.rotations, m.received, m.refused, m.dropped, m.published, m.unsent, m.connected, m.requests, m.latency, m.authFailed, m.noScope, m.signIns, m.uploaded, m.limits)
	return m
}

func (m *Metrics) receivedMessage(kind schemas.Kind) {
	switch {
	case m == nil:
	case kind == schemas.KindFetch: // by far the most: its counter is not looked for
		m.fetches.Inc()
	default:
		m.received.WithLabelValues(string(kind)).Inc()
	}
}

func (m *Metrics) refusedMessage(kind schemas.Kind, r reason) {
	if m != nil {
		k := string(kind)
		if k == "" {
			k = kindOther
		}
		m.refused.WithLabelValues(k, string(r)).Inc()
	}
}

func (m *Metrics) droppedMessage(kind schemas.Kind) {
	if m != nil {
		m.dropped.WithLabelValues(string(kind)).Inc()
	}
}

func (m *Metrics) publishedMessage(kind schemas.Kind, err error) {
	if m == nil {
		return
	}
	if err != nil {
		m.unsent.WithLabelValues(string(kind)).Inc()
		return
	}
	m.published.WithLabelValues(string(kind)).Inc()
}

func (m *Metrics) linkConnected(link string, up bool) {
	if m == nil {
		return
	}
	v := 0.0
	if up {
		v = 1
	}
	m.connected.WithLabelValues(link).Set(v)
}

func (m *Metrics) answered(method, route string, status int, took time.Duration) {
	if m != nil {
		m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
		m.latency.WithLabelValues(method, route).Observe(took.Seconds())
	}
}

func (m *Metrics) signInFailed() {
	if m != nil {
		m.authFailed.Inc()
	}
}

func (m *Metrics) limited(limit string) {
	if m != nil {
		m.limits.WithLabelValues(limit).Inc()
	}
}

func (m *Metrics) forbidden() {
	if m != nil {
		m.noScope.Inc()
	}
}

// SignIn counts a try to sign in; it is people.Options.OnSignIn.
func (m *Metrics) SignIn(method string, result people.SignInResult) {
	if m != nil {
		m.signIns.WithLabelValues(method, string(result)).Inc()
	}
}

func (m *Metrics) claim(result string) {
	if m != nil {
		m.claims.WithLabelValues(result).Inc()
	}
}

func (m *Metrics) rotation(result string) {
	if m != nil {
		m.rotations.WithLabelValues(result).Inc()
	}
}

func (m *Metrics) uploadedBytes(n int) {
	if m != nil {
		m.uploaded.Add(float64(n))
	}
}
