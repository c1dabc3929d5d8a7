package orchestrator_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/orchestrator"
	"davit/orchestrator/boltstore"
	"davit/schemas"
)

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	metrics := orchestrator.NewMetrics(reg)
	path := filepath.Join(t.TempDir(), "store.db")
	e := newEnv(t, func(o *orchestrator.Options) { o.Metrics = metrics },
		boltAt(t, path, func(o *boltstore.Options) { o.OnCommit = metrics.Commit }))
	synctest.Test(t, func(t *testing.T) { // chunks and offers in virtual time, on a memory store
		e := newEnv(t, func(o *orchestrator.Options) { o.Metrics = metrics })
		ids := e.fleet(3)
		e.start()
		m := e.image("2", content(5000, 1))
		e.job("j", m.ID, ids...)
		e.ok(e.Status(ctx, "d000", status(e.execution("j", "d000"), 1, schemas.StateFailed)))
		for _, length := range []uint64{5000, 1000, 1000} { // each says that what was sent before has arrived
			e.ok(e.ask("d001", fetch(m, 1000, schemas.Range{Length: length})))
			synctest.Wait()
		}
		e.wants(e.ask("d001", fetch(m, 1000, schemas.Range{Offset: 5000, Length: 1})), orchestrator.ErrInvalid)
		e.wants(e.ask("d000", fetch(m, 1000, schemas.Range{Length: 1})), orchestrator.ErrConflict)
		synctest.Wait()
		time.Sleep(time.Second)
		e.stop()
		if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP davit_executions Executions by state, of all jobs.
# TYPE davit_executions gauge
davit_executions{state="accepted"} 0
davit_executions{state="booting"} 0
davit_executions{state="canceled"} 0
davit_executions{state="downloaded"} 0
davit_executions{state="downloading"} 0
davit_executions{state="failed"} 1
davit_executions{state="installing"} 0
davit_executions{state="offered"} 2
davit_executions{state="queued"} 0
davit_executions{state="rejected"} 0
davit_executions{state="succeeded"} 0
davit_executions{state="timed_out"} 0
# HELP davit_job_executions Executions of the newest jobs that run or are paused, by job and state.
# TYPE davit_job_executions gauge
davit_job_executions{job_name="j",state="accepted"} 0
davit_job_executions{job_name="j",state="booting"} 0
davit_job_executions{job_name="j",state="canceled"} 0
davit_job_executions{job_name="j",state="downloaded"} 0
davit_job_executions{job_name="j",state="downloading"} 0
davit_job_executions{job_name="j",state="failed"} 1
davit_job_executions{job_name="j",state="installing"} 0
davit_job_executions{job_name="j",state="offered"} 2
davit_job_executions{job_name="j",state="queued"} 0
davit_job_executions{job_name="j",state="rejected"} 0
davit_job_executions{job_name="j",state="succeeded"} 0
davit_job_executions{job_name="j",state="timed_out"} 0
# HELP davit_jobs Jobs by state.
# TYPE davit_jobs gauge
davit_jobs{state="canceled"} 0
davit_jobs{state="completed"} 0
davit_jobs{state="draft"} 0
davit_jobs{state="paused"} 0
davit_jobs{state="running"} 1
# HELP davit_devices Devices that are known, by device type.
# TYPE davit_devices gauge
davit_devices{type="pump"} 3
# HELP davit_devices_online Devices that are online by their presence.
# TYPE davit_devices_online gauge
davit_devices_online 0
# HELP davit_offers_waiting Devices whose offer is still to be published or withdrawn (new), or published again (repeat).
# TYPE davit_offers_waiting gauge
davit_offers_waiting{kind="new"} 0
davit_offers_waiting{kind="repeat"} 0
# HELP davit_reports_waiting Hellos, presences and reports of devices that wait for the next transaction.
# TYPE davit_reports_waiting gauge
davit_reports_waiting 0
# HELP davit_chunk_flows Devices that something is to be sent to: ready (a worker may send now), starved (waits for credit).
# TYPE davit_chunk_flows gauge
davit_chunk_flows{state="ready"} 0
davit_chunk_flows{state="starved"} 0
# HELP davit_chunks_sent_total Chunks of images sent to devices, by way.
# TYPE davit_chunks_sent_total counter
davit_chunks_sent_total{way="long"} 7
davit_chunks_sent_total{way="shared"} 0
davit_chunks_sent_total{way="short"} 0
# HELP davit_chunk_sent_bytes_total Bytes of image data sent to devices, by way.
# TYPE davit_chunk_sent_bytes_total counter
davit_chunk_sent_bytes_total{way="long"} 7000
davit_chunk_sent_bytes_total{way="shared"} 0
davit_chunk_sent_bytes_total{way="short"} 0
# HELP davit_fetches_refused_total Fetches refused, by reason.
# TYPE davit_fetches_refused_total counter
davit_fetches_refused_total{reason="beyond_image"} 1
davit_fetches_refused_total{reason="malformed"} 0
davit_fetches_refused_total{reason="no_execution"} 1
davit_fetches_refused_total{reason="store"} 0
# HELP davit_offers_withdrawn_total Offers withdrawn, repetitions included.
# TYPE davit_offers_withdrawn_total counter
davit_offers_withdrawn_total 1
# HELP davit_chunk_outstanding_bytes Bytes of image data under way: sent, and not acknowledged by the connection or, over another broker, still awaited as far as the devices have said. Connections on which nothing moves are not in it.
# TYPE davit_chunk_outstanding_bytes gauge
davit_chunk_outstanding_bytes 1000
`), orchestrator.MetricExecutions, orchestrator.MetricJobExecutions, orchestrator.MetricJobs, orchestrator.MetricDevices, orchestrator.MetricOnline,
			orchestrator.MetricOffersWaiting, orchestrator.MetricReportsWaiting, orchestrator.MetricFlows, orchestrator.MetricChunks, orchestrator.MetricChunkBytes,
			orchestrator.MetricFetchesRefused, orchestrator.MetricWithdrawals, orchestrator.MetricOutstanding); err != nil {
			t.Error(err)
		}
		for labels, want := range map[[2]string]float64{{"offered", ""}: 3, {"queued", ""}: 3, {"failed", "serial"}: 1, {"failed", "size"}: 0} {
			if got := metrics.Transitions(labels[0], labels[1]); got != want {
				t.Errorf("%v transitions to %q, want %v", got, labels, want)
			}
		}
	})
	e.fleet(5)
	metrics.Commit(3, time.Millisecond, errors.New("disk"))
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		switch f.GetName() {
		case orchestrator.MetricCommitSeconds, orchestrator.MetricCommitUpdates:
			if n := f.GetMetric()[0].GetHistogram().GetSampleCount(); n != 8 { // two types, five devices, and one by hand
				t.Errorf("%s has %d samples", f.GetName(), n)
			}
		case orchestrator.MetricCommitFailures:
			if n := f.GetMetric()[0].GetCounter().GetValue(); n != 1 {
				t.Errorf("%v failures", n)
			}
		}
	}
}

// samples is how many values a histogram has, and their sum.
func samples(t *testing.T, reg prometheus.Gatherer, name string) (n uint64, sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			h := f.GetMetric()[0].GetHistogram()
			return h.GetSampleCount(), h.GetSampleSum()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0, 0
}

// TestLatencies: how long hellos wait for offers and fetches for chunks, and that nothing
// is remembered of those that no offer comes of.
func TestLatencies(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, func(o *orchestrator.Options) { o.Metrics, o.Reoffers = orchestrator.NewMetrics(reg), 1 })
		ids := e.fleet(3)
		e.start()
		m := e.image("2", content(5000, 1))
		e.job("j", m.ID, ids[0], ids[1])
		synctest.Wait()
		for _, id := range ids { // the third has nothing to be offered
			e.ok(e.Hello(ctx, id, schemas.Hello{V: schemas.Version, DeviceType: "pump", Module: "m", MaxChunk: 1024, Dialect: "ayla"}))
		}
		synctest.Wait()
		time.Sleep(10 * time.Second) // offers are repeated one a second
		synctest.Wait()
		if n, sum := samples(t, reg, orchestrator.MetricHelloToOffer); n != 2 || sum < 0.5 || sum > 3 {
			t.Errorf("%d offers %v s after hellos, want 2 about a second apart", n, sum)
		}
		if n := e.HellosHeard(); n != 0 {
			t.Errorf("%d hellos are remembered", n)
		}
		for range 2 {
			e.ok(e.ask("d001", fetch(m, 1000, schemas.Range{Length: 5000})))
			synctest.Wait()
		}
		for _, name := range []string{orchestrator.MetricFetchFirst, orchestrator.MetricFetchLast} {
			if n, _ := samples(t, reg, name); n != 2 {
				t.Errorf("%s has %d samples, want 2", name, n)
			}
		}
		e.stop()
	})
}

// TestFiguresAreBounded: what a scrape tells of device types and jobs does not grow with
// them.
func TestFiguresAreBounded(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	e := newEnv(t, func(o *orchestrator.Options) { o.Metrics = orchestrator.NewMetrics(reg) })
	ids := e.fleet(1)
	for i := range 110 {
		id := fmt.Sprintf("type-%03d", i)
		must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: id, Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app"}}}))
		must[orchestrator.Device](t)(e.CreateDevice(ctx, orchestrator.NewDevice{ID: "of-" + id, Type: id}))
	}
	e.start()
	m := e.image("2", content(5000, 1))
	for i := range 25 {
		e.job(fmt.Sprintf("j%02d", i), m.ID, ids...)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		switch total := 0.0; f.GetName() {
		case orchestrator.MetricDevices:
			for _, s := range f.GetMetric() {
				total += s.GetGauge().GetValue()
			}
			if n := len(f.GetMetric()); n != 101 || total != 111 {
				t.Errorf("%d series of %v devices, want 101 of 111", n, total)
			}
		case orchestrator.MetricJobWave:
			if n := len(f.GetMetric()); n != 20 {
				t.Errorf("%d jobs are told of, want 20", n)
			}
		}
	}
	e.stop()
}
