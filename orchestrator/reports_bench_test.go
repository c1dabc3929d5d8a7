package orchestrator_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/orchestrator/boltstore"
	"davit/schemas"
)

// reportsFleet is a service with executions that devices report on.
func reportsFleet(b *testing.B, devices int, change func(*boltstore.Options)) (*env, []orchestrator.Execution) {
	e := newEnv(b, boltAt(b, filepath.Join(b.TempDir(), "store.db"), change), func(o *orchestrator.Options) { o.Publisher = nullPublisher{} })
	ids := manyDevices(e, devices)
	e.job("j", e.image("2", content(1000, 1)).ID, ids...)
	for more := true; more; {
		more = must[bool](b)(orchestrator.Work(ctx, e.Service, "j"))
	}
	var all []orchestrator.Execution
	for page := (orchestrator.Page{Limit: orchestrator.MaxPageLimit}); ; {
		list, next, err := e.JobExecutions(ctx, "j", orchestrator.ExecutionFilter{}, page)
		e.ok(err)
		if all = append(all, list...); next == "" {
			return e, all
		}
		page.After = next
	}
}

// manyDevices is env.fleet in one transaction.
func manyDevices(e *env, devices int) []string {
	must[orchestrator.ImageType](e.t)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: "app"}))
	must[orchestrator.DeviceType](e.t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: "pump", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app", SizeLimit: 1 << 20}}}))
	fleet := make([]orchestrator.NewDevice, devices)
	ids := make([]string, devices)
	for i := range fleet {
		ids[i] = fmt.Sprintf("dev-%06d", i)
		fleet[i] = orchestrator.NewDevice{ID: ids[i], Type: "pump"}
	}
	must[[]orchestrator.Device](e.t)(e.CreateDevices(ctx, fleet))
	return ids
}

// life is what a device reports of one update, in order.
var life = []schemas.State{
	schemas.StateAccepted, schemas.StateDownloading, schemas.StateDownloading, schemas.StateDownloaded, schemas.StateInstalling,
	schemas.StateInstalling, schemas.StateInstalling, schemas.StateBooting, schemas.StateSucceeded,
}

// BenchmarkReports has a fleet of 10,000 devices report whole updates on a store
// on disk: at 10,000 reports a second, evenly, and as fast as 512 at a time go,
// which is how many the gateway handles. Processor time is that of the whole
// process, system calls and the collection of garbage included, less what those who
// report need for it in the same run: a process that wakes a thousand times a second
// for ten goroutines each time spends more on that than on a commit.
func BenchmarkReports(b *testing.B) {
	const devices, atOnce = 10_000, 512
	for _, rate := range []int{10_000, 0} {
		b.Run(map[int]string{10_000: "10,000 a second", 0: "unlimited"}[rate], func(b *testing.B) {
			var took, alone time.Duration
			commits, n := 0, 0
			for b.Loop() {
				e, all := reportsFleet(b, devices, func(o *boltstore.Options) {
					o.OnCommit = func(int, time.Duration, error) { commits++ }
				})
				runtime.GC()
				cpu := processCPU()
				reportLives(e, all, atOnce, rate, func(orchestrator.Execution, schemas.Status) error { return nil })
				alone += processCPU() - cpu
				before := commits
				cpu, began := processCPU(), time.Now()
				reportLives(e, all, atOnce, rate, func(x orchestrator.Execution, s schemas.Status) error { return e.Status(ctx, x.Device, s) })
				took += processCPU() - cpu
				n += len(all) * len(life)
				b.ReportMetric(float64(len(all)*len(life))/time.Since(began).Seconds(), "reports/s")
				b.ReportMetric(float64(len(all)*len(life))/float64(commits-before), "reports/commit")
			}
			each := float64((took - alone).Microseconds()) / float64(n)
			b.ReportMetric(each, "cpu-µs/report")
			b.ReportMetric(float64(alone.Microseconds())/float64(n), "reporters-µs/report")
			b.ReportMetric(each/yardstick(b), "cpu/yardstick")
		})
	}
}

// yardstick is the processor time in µs of writing and reading an execution with
// encoding/json once: what tells of a report's cost on a machine that others use,
// too, is how many of these it is worth.
func yardstick(b *testing.B) float64 {
	const times = 20_000
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	x := orchestrator.Execution{
		ID: "ex-6tbnlxq2afyd3wmc", Job: "spring-2026", Device: "dev-000077", Image: "img-6tbnlxq2afyd3wmc", ImageType: "application", Version: "2.1.0",
		Attempt: 1, State: schemas.StateInstalling, BytesDone: 4096, BytesTotal: 1 << 16, Seq: 9, CreatedAt: at, OfferedAt: at, UpdatedAt: at,
	}
	before := processCPU()
	for range times {
		if err := json.Unmarshal(must[[]byte](b)(json.Marshal(&x)), new(orchestrator.Execution)); err != nil {
			b.Fatal(err)
		}
	}
	return float64((processCPU() - before).Microseconds()) / times
}

// reportLives reports a whole update of every execution, one report of each after
// the other, so many at a time and, if it is not 0, at a rate in reports a second.
func reportLives(e *env, all []orchestrator.Execution, atOnce, rate int, report func(orchestrator.Execution, schemas.Status) error) {
	work := make(chan func() error, atOnce)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for one := range work {
				if err := one(); err != nil {
					e.t.Error(err)
				}
			}
		})
	}
	began, sent := time.Now(), 0
	for at, state := range life {
		for _, x := range all {
			if sent++; rate > 0 && sent%(rate/1000) == 0 {
				time.Sleep(time.Until(began.Add(time.Duration(sent) * time.Second / time.Duration(rate))))
			}
			work <- func() error {
				s := status(x, uint64(at+1), state)
				s.BytesDone = uint64(100 * at)
				return report(x, s)
			}
		}
	}
	close(work)
	workers.Wait()
}
