package orchestrator_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// resident is what the process holds in memory, in MiB: of its own, and pages of
// files that are mapped, which the kernel can take back at any time. 0 where the
// system does not say.
type resident struct{ anon, file float64 }

func residentNow() (r resident) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return r
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "RssAnon":
			r.anon = kib / 1024
		case "RssFile":
			r.file = kib / 1024
		}
	}
	return r
}

// residentPeak watches the process's memory until stop, which returns the peaks
// above what there was.
func residentPeak() (stop func() resident) {
	debug.FreeOSMemory() // what was used before is not given back by itself
	before := residentNow()
	peak := before
	end := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			now := residentNow()
			peak.anon, peak.file = max(peak.anon, now.anon), max(peak.file, now.file)
			select {
			case <-end:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	return func() resident {
		close(end)
		done.Wait()
		return resident{peak.anon - before.anon, peak.file - before.file}
	}
}

// BenchmarkLargeJob creates and starts one job for DAVIT_SCALE devices (1000000)
// of a registry on disk, until each has its execution and its offer: the time, the
// peak of the heap, of the memory of the process and of the mapped file, all above
// what the open registry takes. Nothing is published, so that what there is to
// publish gathers as well.
func BenchmarkLargeJob(b *testing.B) {
	devices, err := strconv.Atoi(os.Getenv("DAVIT_SCALE"))
	if err != nil {
		b.Skip("set DAVIT_SCALE to a number of devices")
	}
	s := boltRegistry(b, devices, 0)
	b.ResetTimer()
	for range b.N {
		heap, memory := heapPeak(), residentPeak()
		began, cpu := time.Now(), processCPU()
		must[orchestrator.Job](b)(s.CreateJob(ctx, orchestrator.NewJob{Name: "large", Image: "img-001", Query: `id startsWith "dev-"`}))
		b.ReportMetric(time.Since(began).Seconds(), "create-s")
		must[orchestrator.Job](b)(s.StartJob(ctx, "large"))
		for more := true; more; {
			more = must[bool](b)(orchestrator.Work(ctx, s, "large"))
		}
		took := time.Since(began).Seconds()
		b.ReportMetric((processCPU() - cpu).Seconds(), "cpu-s")
		r := memory()
		b.ReportMetric(took, "all-s")
		b.ReportMetric(float64(devices)/took, "executions/s")
		b.ReportMetric(heap(), "heap-MiB")
		b.ReportMetric(r.anon, "rss-MiB")
		b.ReportMetric(r.file, "mapped-MiB")
	}
}

// BenchmarkHelloWithJobs has devices say hello that have 200 running jobs each, the
// first of which they are offered: the time until the answer is on disk.
func BenchmarkHelloWithJobs(b *testing.B) {
	const devices, jobs = 20, 200
	e := newEnv(b, boltAt(b, filepath.Join(b.TempDir(), "store.db")), func(o *orchestrator.Options) { o.Publisher = nullPublisher{} })
	ids := e.fleet(devices)
	for i := range jobs {
		e.job(fmt.Sprintf("job-%03d", i), e.image(fmt.Sprint("2.", i), content(1000, byte(i))).ID, ids...)
	}
	hello := schemas.Hello{V: schemas.Version, Dialect: "ayla", HostVersions: map[string]string{"oem_host_version": "1"}}
	var took []time.Duration
	cpu := processCPU()
	for b.Loop() {
		began := time.Now()
		e.ok(e.Hello(ctx, ids[len(took)%devices], hello))
		took = append(took, time.Since(began))
	}
	b.ReportMetric(float64((processCPU()-cpu).Microseconds())/float64(len(took)), "cpu-µs/hello")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// answering is a Publisher whose devices succeed as soon as they are offered
// something.
type answering struct {
	nullPublisher
	offers chan offered
}

type offered struct {
	device string
	schemas.Offer
}

func (a *answering) Offer(_ context.Context, device string, o schemas.Offer) error {
	a.offers <- offered{device, o}
	return nil
}

// BenchmarkReleases plays a job for 10,000 connected devices of which at most 500
// may be in progress, by an instant fleet: each success makes room for the next offer,
// so what is measured is one release, its offer, the report and their commits.
func BenchmarkReleases(b *testing.B) {
	const devices = 10_000
	for b.Loop() {
		a := &answering{offers: make(chan offered, 4*devices)}
		e := newEnv(b, boltAt(b, filepath.Join(b.TempDir(), "store.db")), func(o *orchestrator.Options) { o.Publisher = a })
		ids := manyDevices(e, devices)
		e.start()
		together(ids, func(id string) { e.ok(e.Presence(ctx, id, true)) })
		image := e.image("2", content(1000, 1))
		began := time.Now()
		must[orchestrator.Job](b)(e.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: image.ID, Devices: ids, Start: true,
			Rollout: &orchestrator.Rollout{Pace: &orchestrator.Pace{MaxInProgress: 500}}}))
		together(ids, func(string) {
			o := <-a.offers
			e.ok(e.Status(ctx, o.device, schemas.Status{V: schemas.Version, Execution: o.Execution, Attempt: o.Attempt, Seq: 1, State: schemas.StateSucceeded, HostVersion: o.Version}))
		})
		b.ReportMetric(devices/time.Since(began).Seconds(), "releases/s")
		if j := must[orchestrator.Job](b)(e.Job(ctx, "j")); j.Counts[schemas.StateSucceeded] != devices {
			b.Fatalf("counts %v", j.Counts)
		}
		e.stop()
	}
}

// together calls fn for each id, 256 at a time.
func together(ids []string, fn func(id string)) {
	work := make(chan string, len(ids))
	for _, id := range ids {
		work <- id
	}
	close(work)
	var all sync.WaitGroup
	for range 256 {
		all.Go(func() {
			for id := range work {
				fn(id)
			}
		})
	}
	all.Wait()
}
