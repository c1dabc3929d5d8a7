package orchestrator_test

import (
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
	must[orchestrator.ImageType](b)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: "app"}))
	must[orchestrator.DeviceType](b)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: "pump", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app", SizeLimit: 1 << 20}}}))
	fleet := make([]orchestrator.NewDevice, devices)
	ids := make([]string, devices)
	for i := range fleet {
		ids[i] = fmt.Sprintf("dev-%06d", i)
		fleet[i] = orchestrator.NewDevice{ID: ids[i], Type: "pump"}
	}
	must[[]orchestrator.Device](b)(e.CreateDevices(ctx, fleet))
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

// life is what a device reports of one update, in order.
var life = []schemas.State{
	schemas.StateAccepted, schemas.StateDownloading, schemas.StateDownloading, schemas.StateDownloaded, schemas.StateInstalling,
	schemas.StateInstalling, schemas.StateInstalling, schemas.StateBooting, schemas.StateSucceeded,
}

// BenchmarkReports has a fleet of 10,000 devices report whole updates on a store
// on disk: at 10,000 reports a second, evenly, and as fast as 512 at a time go,
// which is how many the gateway handles. Processor time is that of the whole
// process, system calls and the collection of garbage included.
func BenchmarkReports(b *testing.B) {
	const devices, atOnce = 10_000, 512
	for _, rate := range []int{10_000, 0} {
		b.Run(map[int]string{10_000: "10,000 a second", 0: "unlimited"}[rate], func(b *testing.B) {
			var took time.Duration
			commits, n := 0, 0
			for b.Loop() {
				e, all := reportsFleet(b, devices, func(o *boltstore.Options) {
					o.OnCommit = func(int, time.Duration, error) { commits++ }
				})
				runtime.GC()
				before := commits
				cpu, began := processCPU(), time.Now()
				reportLives(e, all, atOnce, rate)
				took += processCPU() - cpu
				n += len(all) * len(life)
				b.ReportMetric(float64(len(all)*len(life))/time.Since(began).Seconds(), "reports/s")
				b.ReportMetric(float64(len(all)*len(life))/float64(commits-before), "reports/commit")
			}
			b.ReportMetric(float64(took.Microseconds())/float64(n), "cpu-µs/report")
		})
	}
}

// reportLives reports a whole update of every execution, one report of each after
// the other, so many at a time and, if it is not 0, at a rate in reports a second.
func reportLives(e *env, all []orchestrator.Execution, atOnce, rate int) {
	work := make(chan func() error, atOnce)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for report := range work {
				if err := report(); err != nil {
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
				return e.Status(ctx, x.Device, s)
			}
		}
	}
	close(work)
	workers.Wait()
}
