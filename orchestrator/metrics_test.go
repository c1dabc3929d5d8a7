package orchestrator_test

import (
	"errors"
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
# HELP davit_execution_transitions_total Executions that entered a state, by state and cause.
# TYPE davit_execution_transitions_total counter
davit_execution_transitions_total{cause="",state="offered"} 3
davit_execution_transitions_total{cause="",state="queued"} 3
davit_execution_transitions_total{cause="serial",state="failed"} 1
# HELP davit_chunks_sent_total Chunks of images sent to devices, by way.
# TYPE davit_chunks_sent_total counter
davit_chunks_sent_total{way="long"} 7
davit_chunks_sent_total{way="shared"} 0
davit_chunks_sent_total{way="short"} 0
# HELP davit_chunk_bytes_sent_total Bytes of image data sent to devices, by way.
# TYPE davit_chunk_bytes_sent_total counter
davit_chunk_bytes_sent_total{way="long"} 7000
davit_chunk_bytes_sent_total{way="shared"} 0
davit_chunk_bytes_sent_total{way="short"} 0
# HELP davit_fetches_refused_total Fetches refused, by reason.
# TYPE davit_fetches_refused_total counter
davit_fetches_refused_total{reason="beyond_image"} 1
davit_fetches_refused_total{reason="no_execution"} 1
# HELP davit_offers_withdrawn_total Offers withdrawn, repetitions included.
# TYPE davit_offers_withdrawn_total counter
davit_offers_withdrawn_total 1
# HELP davit_chunk_bytes_outstanding Bytes of image data under way: sent, and still awaited as far as the devices have said.
# TYPE davit_chunk_bytes_outstanding gauge
davit_chunk_bytes_outstanding 1000
`), orchestrator.MetricExecutions, orchestrator.MetricTransitions, orchestrator.MetricChunks, orchestrator.MetricChunkBytes,
			orchestrator.MetricFetchesRefused, orchestrator.MetricWithdrawals, orchestrator.MetricOutstanding); err != nil {
			t.Error(err)
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
