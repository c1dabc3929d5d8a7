package app

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"davit/orchestrator"
)

// BenchmarkModules holds modules at a service in a process of its own, and lets them
// come back all at once when that is killed and started anew. DAVIT_MODULES says how
// many there are; 19,000 is what one machine with 20,000 files to a process can do.
// With DAVIT_MODULES_PROFILE=DIR the service writes its heap profile there.
func BenchmarkModules(b *testing.B) {
	n := 1000
	if s := os.Getenv("DAVIT_MODULES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		benchModules(b, n)
	}
}

func benchModules(b *testing.B, n int) {
	dir := b.TempDir()
	a, process := serveAlone(b, dir)
	fleet := enrol(b, dir, a.HTTP, n)
	defer fleet.end()
	process.kill()

	a, process = serveAlone(b, dir)
	empty := process.memory(b)
	process.profile(b)
	fleet.open(a.MQTT)
	first := fleet.settle(b, process)
	b.ReportMetric(first.wall.Seconds(), "s-connect")
	b.ReportMetric(first.cpu.Seconds()/float64(n)*1e6, "µs-cpu/connect")
	b.ReportMetric((process.peak(b)-empty)/float64(n), "B-peak/module")
	time.Sleep(idleTime(b))
	b.ReportMetric((process.memory(b)-empty)/float64(n), "B/module")
	process.profile(b)

	fleet.close()
	process.kill()
	a, process = serveAlone(b, dir)
	fleet.open(a.MQTT)
	again := fleet.settle(b, process)
	b.ReportMetric(again.wall.Seconds(), "s-storm")
	b.ReportMetric(again.cpu.Seconds(), "s-cpu-storm")
	b.ReportMetric(float64(again.busy), "told-to-wait")
	b.ReportMetric(float64(again.failed), "failed")
	b.ReportMetric((process.peak(b)-empty)/float64(n), "B-peak-storm/module")
	time.Sleep(idleTime(b))
	b.ReportMetric((process.memory(b)-empty)/float64(n), "B-after-storm/module")
	process.profile(b)
	b.ReportMetric(0, "ns/op")
}

// idleTime is how long the modules are left idle before their memory is read: long
// enough for the service to see that it is calm.
func idleTime(b *testing.B) time.Duration {
	b.Helper()
	s := os.Getenv("DAVIT_MODULES_IDLE")
	if s == "" {
		return 3 * calmLook
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// served is what it took until all modules were served.
type served struct {
	wall, cpu    time.Duration
	busy, failed int64
}

// settle waits until all modules are served.
func (f *modules) settle(b *testing.B, p *serviceProcess) served {
	b.Helper()
	failed, busy, used, began := f.failed.Load(), f.busy.Load(), p.cpu(b), time.Now()
	for end := time.Now().Add(10 * time.Minute); f.greeted.Load() < int64(len(f.all)); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("%d of %d modules are served; %d attempts, %d told to wait, %d failed: %v",
				f.greeted.Load(), len(f.all), f.connects.Load(), f.busy.Load(), f.failed.Load(), f.reasons)
		}
	}
	s := served{time.Since(began), p.cpu(b) - used, f.busy.Load() - busy, f.failed.Load() - failed}
	b.Logf("%d modules: %s, CPU %s, told to wait %d, failed %d %v", len(f.all), s.wall, s.cpu, s.busy, s.failed, f.reasons)
	return s
}

// open tells the modules where the service is.
func (f *modules) open(addr string) {
	p := f.at.Load()
	p.addr = addr
	close(p.open)
}

// close has the modules wait for the service once they have lost it.
func (f *modules) close() { f.at.Store(&place{open: make(chan struct{})}) }

// end takes all modules away.
func (f *modules) end() {
	close(f.stop)
	for _, m := range f.all {
		m.mu.Lock()
		if m.conn != nil {
			_ = m.conn.Close()
		}
		m.mu.Unlock()
	}
	f.runs.Wait()
}

// enrol makes n devices known.
func enrol(b *testing.B, dir, http string, n int) *modules {
	b.Helper()
	c := clientFor(b, dir, http)
	ctx := b.Context()
	if _, err := c.CreateImageType(ctx, orchestrator.NewImageType{ID: testImageType}); err != nil {
		b.Fatal(err)
	}
	_, err := c.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: testDeviceType, Dialect: orchestrator.DialectAyla, ImageTypes: []orchestrator.EnabledImageType{{ID: testImageType}},
	})
	if err != nil {
		b.Fatal(err)
	}
	f := &modules{stop: make(chan struct{}), dialing: make(chan struct{}, 256)}
	f.close()
	const most = 5000 // in one import
	for from := 0; from < n; from += most {
		var csv strings.Builder
		csv.WriteString("id,type\n")
		for i := from; i < min(from+most, n); i++ {
			fmt.Fprintf(&csv, "module-%05d,%s\n", i, testDeviceType)
		}
		report, err := c.ImportDevices(ctx, strings.NewReader(csv.String()), true, false)
		if err != nil || report.Wrong > 0 {
			b.Fatalf("import: %v, %d wrong", err, report.Wrong)
		}
		for _, l := range report.Lines {
			f.all = append(f.all, &lightModule{id: l.ID, password: l.Password, fleet: f})
		}
	}
	for _, m := range f.all {
		f.runs.Go(m.run)
	}
	return f
}

// serviceProcess is a service in a process of its own.
type serviceProcess struct {
	pid      int
	profiles int // that it has written
	dir      string
	kill     func()
}

func serveAlone(b *testing.B, dir string) (Addresses, *serviceProcess) {
	b.Helper()
	a, pid, kill := serveProcess(b, dir)
	return a, &serviceProcess{pid: pid, dir: dir, kill: kill}
}

// envProfile names the folder for the profiles of a service that is sent SIGUSR1:
// heap, goroutines, and the processor time since the one before.
const envProfile = "DAVIT_MODULES_PROFILE"

// profileOnSignal is called in the service's process.
func profileOnSignal() {
	dir := os.Getenv(envProfile)
	if dir == "" {
		return
	}
	file := func(name string, n int) *os.File {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-%d-%d", name, os.Getpid(), n)))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return f
	}
	cpu := file("cpu", 0)
	if err := pprof.StartCPUProfile(cpu); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() {
		for n := 0; ; n++ {
			<-asked
			pprof.StopCPUProfile()
			_ = cpu.Close()
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			fmt.Fprintf(os.Stderr, "heap in use %d, objects %d, stacks %d, idle %d, released %d, GC metadata %d, other %d, goroutines %d\n",
				m.HeapInuse, m.HeapAlloc, m.StackInuse, m.HeapIdle, m.HeapReleased, m.GCSys, m.OtherSys+m.MSpanInuse+m.MCacheInuse+m.BuckHashSys, runtime.NumGoroutine())
			for _, name := range []string{"heap", "goroutine"} {
				f := file(name, n)
				if err := errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close()); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
			cpu = file("cpu", n+1)
			if err := pprof.StartCPUProfile(cpu); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
}

// profile has the service write its profiles, if that is asked for.
func (p *serviceProcess) profile(b *testing.B) {
	b.Helper()
	dir := os.Getenv(envProfile)
	if dir == "" {
		return
	}
	if err := syscall.Kill(p.pid, syscall.SIGUSR1); err != nil {
		b.Fatal(err)
	}
	p.profiles++
	next := filepath.Join(dir, fmt.Sprintf("cpu-%d-%d", p.pid, p.profiles)) // begun when the others are written
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(next); err == nil {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("the service does not write %s", next)
		}
	}
}

// memory is the resident memory of the process in bytes, without mapped files.
func (p *serviceProcess) memory(b *testing.B) float64 { return p.status(b, "RssAnon:") }

// peak is the most that memory, mapped files included, has been.
func (p *serviceProcess) peak(b *testing.B) float64 { return p.status(b, "VmHWM:") }

func (p *serviceProcess) status(b *testing.B, field string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), field)
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib * 1024
}

// cpu is the processor time that the process has used.
func (p *serviceProcess) cpu(b *testing.B) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int64
	for _, s := range f[11:13] { // utime and stime, in ticks of 10 ms
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
