package tracing

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/goleak"

	"davit/internal/logevent"
	"davit/internal/logtest"
	"davit/internal/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal is a log of which the events are looked at.
type journal struct{ logtest.Buffer }

// want compares the events that were logged, in their order.
func (j *journal) want(t *testing.T, events ...logevent.Event) {
	t.Helper()
	var got []string
	for _, line := range j.Lines() {
		for field := range strings.FieldsSeq(line) {
			if e, ok := strings.CutPrefix(field, "event="); ok {
				got = append(got, e)
			}
		}
	}
	var names []string
	for _, e := range events {
		names = append(names, string(e))
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("logged %v, want %v:\n%s", got, names, j.String())
	}
}

func (j *journal) options(endpoint string) Options {
	return Options{
		Endpoint: endpoint, Service: "davit", Version: "1", Instance: "test",
		Log: slog.New(slog.NewTextHandler(j, nil)), Metrics: NewMetrics(prometheus.NewRegistry()),
	}
}

// record tells so many spans.
func record(e *Exporter, n int) {
	for range n {
		now := time.Now()
		e.Record(trace.Span{Name: "update", ID: trace.Job("j", now), Start: now, End: now})
	}
}

func (m *Metrics) want(t *testing.T, exported, noRoom, notTaken int) {
	t.Helper()
	for what, c := range map[string]struct {
		counter prometheus.Counter
		want    int
	}{"exported": {m.exported, exported}, "without room": {m.noRoom, noRoom}, "not taken": {m.notTaken, notTaken}} {
		if got := testutil.ToFloat64(c.counter); got != float64(c.want) {
			t.Errorf("%v spans %s, want %d", got, what, c.want)
		}
	}
}

// TestACollectorThatFailsIsToldOnce: over real connections, however many spans and
// batches there are, and anew when it has worked in between.
func TestACollectorThatFailsIsToldOnce(t *testing.T) {
	for name, fail := range map[string]func(*httptest.Server, http.ResponseWriter){
		"unavailable":    func(_ *httptest.Server, w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"refuses":        func(_ *httptest.Server, w http.ResponseWriter) { w.WriteHeader(http.StatusBadRequest) },
		"speaks nothing": func(s *httptest.Server, _ http.ResponseWriter) { s.CloseClientConnections() },
	} {
		t.Run(name, func(t *testing.T) {
			var s *httptest.Server
			var mu sync.Mutex
			failing := true
			s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if failing {
					fail(s, w)
				}
			}))
			defer s.Close()
			var j journal
			o := j.options(s.URL)
			e, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			send := func(fails bool, batches int) {
				t.Helper()
				mu.Lock()
				failing = fails
				mu.Unlock()
				for range batches {
					record(e, 100)
					if err := e.provider.ForceFlush(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			send(true, 5)
			j.want(t, logevent.TraceExportFailed)
			o.Metrics.want(t, 0, 0, 500)
			send(false, 2)
			j.want(t, logevent.TraceExportFailed, logevent.TraceExportResumed)
			o.Metrics.want(t, 200, 0, 500)
			send(true, 3)
			j.want(t, logevent.TraceExportFailed, logevent.TraceExportResumed, logevent.TraceExportFailed)
			o.Metrics.want(t, 200, 0, 800)
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNobodyAtTheCollectorsAddressIsToldOnce: not for each span or batch.
func TestNobodyAtTheCollectorsAddressIsToldOnce(t *testing.T) {
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	var j journal
	o := j.options(away.URL)
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		record(e, 50)
		if err := e.provider.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	record(e, 7)
	if err := e.Close(); err != nil { // what is left is tried, and not told again
		t.Error(err)
	}
	j.want(t, logevent.TraceExportFailed)
	o.Metrics.want(t, 0, 0, 507)
}

// stuck is a collector that answers when it is let, or when it was waited for too long.
type stuck struct{ answer chan error }

func (s stuck) ExportSpans(ctx context.Context, _ []sdk.ReadOnlySpan) error {
	select {
	case err := <-s.answer:
		return err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), context.Cause(ctx))
	}
}

func (stuck) Shutdown(context.Context) error { return nil }

// TestAFullQueueDelaysNobody: in virtual time, in which waiting would show. What has
// no room is counted, to the span, and what has is exported.
func TestAFullQueueDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		o := j.options("http://collector:4318")
		c := stuck{make(chan error)}
		e := newExporter(o, c)
		began := time.Now()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { record(e, queueSize) })
		}
		all.Wait()
		if took := time.Since(began); took != 0 {
			t.Errorf("telling spans took %v", took)
		}
		o.Metrics.want(t, 0, 3*queueSize, 0)
		j.want(t)
		for range queueSize / batchSize {
			c.answer <- nil
		}
		synctest.Wait()
		o.Metrics.want(t, queueSize, 3*queueSize, 0)
		record(e, queueSize) // there is room again
		o.Metrics.want(t, queueSize, 3*queueSize, 0)
		time.Sleep(time.Hour) // nobody answers, whatever the batches
		synctest.Wait()
		o.Metrics.want(t, queueSize, 3*queueSize, queueSize)
		j.want(t, logevent.TraceExportFailed)
		record(e, batchSize)
		c.answer <- nil
		synctest.Wait()
		j.want(t, logevent.TraceExportFailed, logevent.TraceExportResumed)
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestCloseWaitsForACollectorNoLongerThanItsLimit: nor does the service's end.
func TestCloseWaitsForACollectorNoLongerThanItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		e := newExporter(j.options("http://collector:4318"), stuck{make(chan error)})
		record(e, queueSize)
		began := time.Now()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != exportTimeout {
			t.Errorf("the end took %v, want %v", took, exportTimeout)
		}
		time.Sleep(time.Hour) // what was left gives up
	})
}
