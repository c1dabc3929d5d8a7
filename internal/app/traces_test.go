package app

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	library "davit/bridge/module"
	"davit/bridge/mqtt"
	"davit/internal/sim"
	"davit/orchestrator"
	"davit/schemas"
)

// collecting is an OTLP collector over HTTP that keeps what it is sent.
type collecting struct {
	t   *testing.T
	url string

	mu    sync.Mutex
	spans []*otlp.Span
}

func newCollector(t *testing.T) *collecting {
	c := &collecting{t: t}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

func (c *collecting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var m collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &m)
	}
	if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.t.Errorf("%s %s: %v", r.URL.Path, r.Header.Get("Content-Type"), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range m.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// trees are the traces that have a span called name, each as one line: names, those
// below a span in brackets in their order.
func (c *collecting) trees(name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	traces := map[string][]*otlp.Span{}
	for _, s := range c.spans {
		traces[hex.EncodeToString(s.TraceId)] = append(traces[hex.EncodeToString(s.TraceId)], s)
	}
	var out []string
	for _, spans := range traces {
		if slices.ContainsFunc(spans, func(s *otlp.Span) bool { return s.Name == name }) {
			out = append(out, below(spans, ""))
		}
	}
	return out
}

func below(spans []*otlp.Span, parent string) string {
	var here []*otlp.Span
	for _, s := range spans {
		known := slices.ContainsFunc(spans, func(p *otlp.Span) bool { return string(p.SpanId) == string(s.ParentSpanId) })
		if string(s.ParentSpanId) == parent || parent == "" && !known {
			here = append(here, s)
		}
	}
	slices.SortFunc(here, func(a, b *otlp.Span) int {
		return cmp.Or(cmp.Compare(a.StartTimeUnixNano, b.StartTimeUnixNano), cmp.Compare(a.Name, b.Name))
	})
	var names []string
	for _, s := range here {
		name := s.Name
		if children := below(spans, string(s.SpanId)); children != "" {
			name += "(" + children + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// sound complains of spans that end before they begin, or outside of a test's time.
func (c *collecting) sound(began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[string]bool{}
	for _, s := range c.spans {
		if s.EndTimeUnixNano < s.StartTimeUnixNano || s.StartTimeUnixNano < uint64(began.UnixNano()) || s.EndTimeUnixNano > uint64(time.Now().UnixNano()) {
			c.t.Errorf("%s lasts from %d to %d", s.Name, s.StartTimeUnixNano, s.EndTimeUnixNano)
		}
		if id := fmt.Sprintf("%x/%x", s.TraceId, s.SpanId); seen[id] {
			c.t.Errorf("%s is told twice", s.Name)
		} else {
			seen[id] = true
		}
		if s.Status.GetCode() == otlp.Status_STATUS_CODE_ERROR {
			c.t.Errorf("%s failed: %s", s.Name, s.Status.Message)
		}
	}
}

// wholeTrace is that of an update whose job a request to create it has started.
const wholeTrace = "POST /v1/jobs(job start(update(offer accept download(fetch) load boot(version report))))"

// TestOneTraceFromTheJobsStartToTheVersionReport: with whatever is restarted in
// between.
func TestOneTraceFromTheJobsStartToTheVersionReport(t *testing.T) {
	for _, restarted := range []string{"nothing", "service", "bridge"} {
		t.Run(restarted, func(t *testing.T) {
			if restarted != "nothing" && os.Getenv("DAVIT_TEST_FULL") == "" {
				t.Skip("restarts in the middle take seconds; DAVIT_TEST_FULL=1 has them")
			}
			t.Parallel()
			c, b, began := newCollector(t), newBench(t), time.Now()
			b.traces = TraceOptions{Endpoint: c.url, Ratio: 1}
			stop := b.serve(ExternalBroker{})
			password := b.records()
			b.plug()
			stopBridge := b.bridge("mqtt://"+b.mqtt, "rack", password)
			image := sim.BuildDemoImage("2.0.0", imageSize/2, 1)
			b.roll(image, "2.0.0")
			b.awaitLoaded(imageSize / 8)
			switch restarted {
			case "service":
				stop()
				stop = b.serve(ExternalBroker{})
			case "bridge":
				stopBridge()
				stopBridge = b.bridge("mqtt://"+b.mqtt, "rack", password)
			}
			b.awaitUpdated(image, func() { stopBridge(); stop() }) // which exports what is left
			if got := c.trees("update"); !slices.Equal(got, []string{wholeTrace}) {
				t.Errorf("the traces of updates are\n%s\nwant\n%s", strings.Join(got, "\n"), wholeTrace)
			}
			c.sound(began)
		})
	}
}

// TestForeignModulesLeaveTheServicesSpans: who takes no part in tracing is seen from
// the service alone.
func TestForeignModulesLeaveTheServicesSpans(t *testing.T) {
	t.Parallel()
	c, b := newCollector(t), newBench(t)
	b.traces = TraceOptions{Endpoint: c.url, Ratio: 1}
	stop := b.serve(ExternalBroker{})
	password := b.records()
	b.plug()
	b.traces = TraceOptions{} // the bridge has no collector, and sends on what it was sent
	stopBridge := b.bridge("mqtt://"+b.mqtt, "rack", password)
	image := sim.BuildDemoImage("2.0.0", imageSize/4, 1)
	b.roll(image, "2.0.0")
	b.awaitUpdated(image, func() { stopBridge(); stop() })
	got := c.trees("update")
	if len(got) != 1 || !strings.Contains(got[0], "POST /v1/jobs(job start(update(offer") || strings.Contains(got[0], "load") {
		t.Error(got)
	}
}

// TestOneTraceThroughAModuleOfTheLibrary: the module hands on what came with the offer,
// so that its fetch and its version report are parts of the job's trace. It has no spans
// of its own.
func TestOneTraceThroughAModuleOfTheLibrary(t *testing.T) {
	t.Parallel()
	c, b, began := newCollector(t), newBench(t), time.Now()
	b.traces = TraceOptions{Endpoint: c.url, Ratio: 1}
	stop := b.serve(ExternalBroker{})
	b.records()
	d, err := b.client.CreateDevice(t.Context(), orchestrator.NewDevice{ID: "kettle", Type: testDeviceType})
	if err != nil {
		t.Fatal(err)
	}
	connection, err := mqtt.New(mqtt.Config{URL: "mqtt://" + b.mqtt, ClientID: "kettle", Username: "kettle", Password: d.Password}, b.log("module"))
	if err != nil {
		t.Fatal(err)
	}
	host := &kettle{}
	m, err := library.New(library.Config{Device: "kettle", Transport: connection, Host: host, Versions: map[string]string{"oem_host_version": "1.0.0"}, Logger: b.log("module")})
	if err != nil {
		t.Fatal(err)
	}
	host.report = m.Report
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	i := b.upload(sim.BuildDemoImage("2.0.0", imageSize, 1), "2.0.0", 0) // some fetches
	if _, err := b.client.CreateJob(t.Context(), orchestrator.NewJob{Name: "job", Image: i.ID, Devices: []string{"kettle"}, Start: true}); err != nil {
		t.Fatal(err)
	}
	limit, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	job, err := WatchJob(limit, b.client, "job", WatchFuncs{Execution: func(orchestrator.Execution) error { return nil }, Job: func(orchestrator.Job) error { return nil }})
	if err != nil || !AllSucceeded(job) {
		t.Errorf("%+v: %v", job, err)
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	stop() // which exports what is left
	const want = "POST /v1/jobs(job start(update(offer fetch version report)))"
	if got := c.trees("update"); !slices.Equal(got, []string{want}) {
		t.Errorf("the traces of updates are\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	c.sound(began)
}

// kettle is a host that runs whatever it is given.
type kettle struct{ report func(map[string]string) error }

func (*kettle) Accept(context.Context, schemas.Offer) error { return nil }

func (*kettle) Slot(o schemas.Offer) (library.Slot, error) {
	return memorySlot(make([]byte, o.Size)), nil
}

func (k *kettle) Boot(_ context.Context, o schemas.Offer) error {
	return k.report(map[string]string{"oem_host_version": o.Version})
}

type memorySlot []byte

func (s memorySlot) ReadAt(b []byte, at int64) (int, error)  { return copy(b, s[at:]), nil }
func (s memorySlot) WriteAt(b []byte, at int64) (int, error) { return copy(s[at:], b), nil }
func (memorySlot) Sync() error                               { return nil }

// TestWithoutACollectorEverythingGoesOn: what cannot be exported is said once.
func TestWithoutACollectorEverythingGoesOn(t *testing.T) {
	t.Parallel()
	away := httptest.NewServer(http.NotFoundHandler())
	b := newBench(t)
	b.traces = TraceOptions{Endpoint: away.URL, Ratio: 1}
	away.Close()
	stop := b.serve(ExternalBroker{})
	password := b.records()
	b.plug()
	stopBridge := b.bridge("mqtt://"+b.mqtt, "rack", password)
	image := sim.BuildDemoImage("2.0.0", imageSize/4, 1)
	b.roll(image, "2.0.0")
	b.awaitUpdated(image, func() { stopBridge(); stop() })
}

func TestTraceOptions(t *testing.T) {
	for _, o := range []TraceOptions{{Endpoint: "127.0.0.1:4318", Ratio: 1}, {Endpoint: "grpc://x:4317", Ratio: 1}, {Endpoint: "http://", Ratio: 1}, {Endpoint: "http://x", Ratio: 1.1}, {Endpoint: "http://x", Ratio: -1}, {Ratio: 7}} {
		if o.Validate() == nil {
			t.Errorf("%+v is valid", o)
		}
	}
	for _, o := range []TraceOptions{{}, {Endpoint: "https://x:4318/v1/traces", Ratio: 0.1}} {
		if err := o.Validate(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
