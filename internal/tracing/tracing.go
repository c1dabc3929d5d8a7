// Package tracing exports spans by OTLP over HTTP. It is the only importer of the
// OpenTelemetry libraries: everybody else knows internal/trace. It keeps no more than
// a bounded queue of spans, drops and counts what does not fit or a collector does not
// take, and says so once until it works again. The SDK's global state (providers, error handler) is not
// touched; its goroutine belongs to the Exporter and ends with Close.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"

	"davit/internal/logevent"
	"davit/internal/trace"
	"davit/schemas"
)

// Options configure an Exporter.
type Options struct {
	// Endpoint is the collector's address: http://HOST:PORT or https://. Without a
	// path spans go to /v1/traces (OTLP, section 4.1.1).
	Endpoint string
	// Service and Version are how the process calls itself, Instance which one it is.
	Service, Version, Instance string
	Log                        *slog.Logger
	// Metrics count what became of spans.
	Metrics *Metrics
}

// Limits of what waits for the collector.
const (
	queueSize     = 4096 // spans, with those that are just being exported
	batchSize     = 512
	batchDelay    = time.Second
	exportTimeout = 5 * time.Second
)

// CheckEndpoint says what is wrong with a collector's address.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("the address of a collector of traces should look like http://HOST:4318")
	}
	return nil
}

// redacted is an address without its password.
func redacted(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return u.Redacted()
}

// Exporter implements trace.Recorder.
type Exporter struct {
	provider *sdk.TracerProvider
	tracer   api.Tracer
	counts   *telling
}

// New makes an Exporter. It connects to nobody before there are spans.
func New(o Options) (*Exporter, error) {
	if err := CheckEndpoint(o.Endpoint); err != nil {
		return nil, err
	}
	endpoint := o.Endpoint
	if u, err := url.Parse(endpoint); err == nil && strings.Trim(u.Path, "/") == "" {
		endpoint = u.JoinPath("v1", "traces").String()
	}
	client, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(endpoint), otlptracehttp.WithTimeout(exportTimeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false})) // who waits for a collector that is away fills the queue
	if err != nil {
		return nil, fmt.Errorf("traces to %s: %w", redacted(o.Endpoint), err)
	}
	return newExporter(o, client), nil
}

// newExporter makes an Exporter to what takes spans.
func newExporter(o Options, client sdk.SpanExporter) *Exporter {
	t := &telling{SpanExporter: client, log: o.Log, metrics: o.Metrics, endpoint: redacted(o.Endpoint)}
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(t, sdk.WithMaxQueueSize(queueSize), sdk.WithMaxExportBatchSize(batchSize),
			sdk.WithBatchTimeout(batchDelay), sdk.WithExportTimeout(exportTimeout)),
		sdk.WithSampler(sdk.AlwaysSample()), // what is sampled is internal/trace's to decide
		sdk.WithIDGenerator(given{}),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", o.Service), attribute.String("service.version", o.Version), attribute.String("service.instance.id", o.Instance))),
	)
	return &Exporter{provider, provider.Tracer("davit"), t}
}

// Close exports what waits, within exportTimeout, and ends the exporter.
func (e *Exporter) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), exportTimeout)
	defer cancel()
	if err := e.provider.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("end of the export of traces: %w", err)
	}
	return nil
}

// Record implements trace.Recorder. A span for which there is no room is counted and
// costs nothing else: whoever tells it is in the middle of an update.
func (e *Exporter) Record(s trace.Span) {
	if !e.counts.enter() {
		return
	}
	ctx := context.WithValue(context.Background(), givenKey{}, s.ID)
	if s.Parent != [8]byte{} {
		// A tracestate that cannot be read is ignored, as the specification has it.
		state, _ := api.ParseTraceState(s.State)
		ctx = api.ContextWithRemoteSpanContext(ctx, api.NewSpanContext(api.SpanContextConfig{
			TraceID: s.ID.Trace, SpanID: s.Parent, TraceFlags: api.FlagsSampled, TraceState: state, Remote: true,
		}))
	}
	options := []api.SpanStartOption{api.WithTimestamp(s.Start), api.WithSpanKind(kind(s.Kind)), api.WithAttributes(attributes(s.Attributes)...)}
	if s.Link.Valid() {
		options = append(options, api.WithLinks(api.Link{SpanContext: api.NewSpanContext(api.SpanContextConfig{TraceID: s.Link.Trace, SpanID: s.Link.Span, TraceFlags: flags(s.Link)})}))
	}
	_, span := e.tracer.Start(ctx, s.Name, options...)
	if s.Failed != "" {
		span.SetStatus(codes.Error, s.Failed)
	}
	end := s.End
	if end.Before(s.Start) {
		end = s.Start // a clock that was set back
	}
	span.End(api.WithTimestamp(end))
}

func flags(c schemas.TraceContext) api.TraceFlags {
	if c.Sampled {
		return api.FlagsSampled
	}
	return 0
}

func kind(k trace.Kind) api.SpanKind {
	switch k {
	case trace.Server:
		return api.SpanKindServer
	case trace.Producer:
		return api.SpanKindProducer
	case trace.Consumer:
		return api.SpanKindConsumer
	}
	return api.SpanKindInternal
}

func attributes(all []trace.Attribute) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, len(all))
	for _, a := range all {
		if a.Value != "" {
			out = append(out, attribute.String(a.Key, a.Value))
		}
	}
	return out
}

type givenKey struct{}

// given hands the SDK the ids that spans have already.
type given struct{}

// NewIDs implements sdk.IDGenerator.
func (given) NewIDs(ctx context.Context) (api.TraceID, api.SpanID) {
	c := ctx.Value(givenKey{}).(schemas.TraceContext) // Record alone starts spans
	return c.Trace, c.Span
}

// NewSpanID implements sdk.IDGenerator.
func (given) NewSpanID(ctx context.Context, _ api.TraceID) api.SpanID {
	return ctx.Value(givenKey{}).(schemas.TraceContext).Span
}

// telling is an exporter that tells of failures itself, once until it works again,
// instead of the SDK's global handler, and that knows how many spans wait: the SDK
// drops those for which its queue has no room without a word.
type telling struct {
	sdk.SpanExporter
	log      *slog.Logger
	metrics  *Metrics
	endpoint string
	waiting  atomic.Int64 // spans in the SDK's queue, and in the batch that is exported
	failing  atomic.Bool
	lost     atomic.Uint64 // spans since it failed first
}

// enter takes a place for a span; false if there is none.
func (t *telling) enter() bool {
	if t.waiting.Add(1) <= queueSize {
		return true
	}
	t.waiting.Add(-1)
	t.metrics.noRoom.Inc()
	if t.failing.Load() {
		t.lost.Add(1)
	}
	return false
}

// ExportSpans implements sdk.SpanExporter.
func (t *telling) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := t.SpanExporter.ExportSpans(ctx, spans)
	t.waiting.Add(-int64(len(spans)))
	if err != nil {
		t.metrics.notTaken.Add(float64(len(spans)))
		t.lost.Add(uint64(len(spans)))
		if !t.failing.Swap(true) {
			t.log.Warn("traces cannot be exported and are dropped; everything else goes on", "event", logevent.TraceExportFailed, "endpoint", t.endpoint, "error", err)
		}
		return nil
	}
	t.metrics.exported.Add(float64(len(spans)))
	if t.failing.Swap(false) {
		t.log.Info("traces are exported again", "event", logevent.TraceExportResumed, "endpoint", t.endpoint, "spans", t.lost.Swap(0))
	}
	return nil
}
