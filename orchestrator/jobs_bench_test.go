package orchestrator_test

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"davit/orchestrator"
)

// heapPeak watches the heap until stop, which returns by how many MiB it grew.
func heapPeak() (stop func() float64) {
	runtime.GC()
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 { metrics.Read(samples); return samples[0].Value.Uint64() }
	before := read()
	peak := before
	end := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			peak = max(peak, read())
			select {
			case <-end:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	return func() float64 {
		close(end)
		done.Wait()
		return float64(peak-before) / (1 << 20)
	}
}

// BenchmarkCreateJob100k makes jobs for 100,000 devices of a registry on disk,
// with the garbage that is on the heap at its worst. Starting one is measured up
// to the answer.
func BenchmarkCreateJob100k(b *testing.B) {
	const devices = 100_000
	s := boltRegistry(b, devices, 1)
	named := make([]string, devices)
	for i := range named {
		named[i] = orchestrator.RegistryDevice(i, devices).ID
	}
	must[orchestrator.Group](b)(s.CreateGroup(ctx, orchestrator.NewGroup{ID: "static", Devices: named}))
	must[orchestrator.Group](b)(s.CreateGroup(ctx, orchestrator.NewGroup{ID: "dynamic", Query: `version.bootloader == "3.1"`}))
	jobs := 0
	for _, c := range []struct {
		name string
		n    orchestrator.NewJob
	}{
		{"devices", orchestrator.NewJob{Devices: named}},
		{"group", orchestrator.NewJob{Groups: []string{"static"}}},
		{"dynamic group", orchestrator.NewJob{Groups: []string{"dynamic"}}},
		{"query", orchestrator.NewJob{Query: `id startsWith "dev-"`}},
		{"all of them, started", orchestrator.NewJob{Devices: named, Groups: []string{"static", "dynamic"}, Query: `online or not online`, Start: true}},
	} {
		c.n.Image = "img-001"
		b.Run(c.name, func(b *testing.B) {
			peak := 0.0
			for b.Loop() {
				jobs++
				c.n.Name = fmt.Sprintf("bench-%d", jobs)
				stop := heapPeak()
				if j := must[orchestrator.Job](b)(s.CreateJob(ctx, c.n)); j.Targets != devices {
					b.Fatalf("%d targets", j.Targets)
				}
				peak = max(peak, stop())
			}
			b.ReportMetric(peak, "peak-MiB")
		})
	}
	waves := &orchestrator.Rollout{Waves: []orchestrator.Wave{{Devices: named[:10]}, {Percent: 5}, {Percent: 25}}, Pace: &orchestrator.Pace{PerMinute: 1000}}
	for name, rollout := range map[string]*orchestrator.Rollout{"preview": nil, "preview with waves": waves} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				p := must[orchestrator.JobPreview](b)(s.PreviewJob(ctx, orchestrator.NewJob{Name: "j", Image: "img-001", Devices: named, Rollout: rollout}))
				if p.Devices != devices || p.UnfitAll != 0 {
					b.Fatalf("%+v", p)
				}
			}
		})
	}
}

// BenchmarkJobPasses measures what Run does of a job for 20,000 devices: the
// start, a pause, the resumption and the cancellation, in executions per second.
func BenchmarkJobPasses(b *testing.B) {
	const devices = 20_000
	for b.Loop() {
		s := boltRegistry(b, devices, 0)
		must[orchestrator.Job](b)(s.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: "img-001", Query: `id startsWith "dev-"`}))
		for _, action := range []string{"start", "pause", "resume", "cancel"} {
			e := &env{Service: s}
			began := time.Now()
			must[orchestrator.Job](b)(e.control(action, "j"))
			b.ReportMetric(float64(time.Since(began).Milliseconds()), action+"-answer-ms")
			for more := true; more; {
				var err error
				if more, err = orchestrator.Work(ctx, s, "j"); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(devices/time.Since(began).Seconds(), action+"/s")
		}
	}
}
