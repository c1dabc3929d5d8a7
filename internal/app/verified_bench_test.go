package app

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"testing"
	"time"

	"davit/bridge"
	"davit/bridge/dialect/ayla"
	"davit/internal/client"
	"davit/internal/signtest"
	"davit/orchestrator"
	"davit/trust"
)

// verifiedBench is a whole service and a bridge with image keys in one process, over real
// sockets. The bridge's host MCU says nothing: images are fetched only.
type verifiedBench struct {
	b      *testing.B
	client *client.Client
	key    trust.PrivateKey
	random *rand.ChaCha8
	image  []byte
	jobs   int
	// began gets when the bridge begins to fetch an image, its manifest not included.
	began chan moment
}

// moment is a time, and how much processor time the process had used then.
type moment struct {
	wall time.Time
	cpu  time.Duration
}

// spent is what lies between two moments.
type spent struct{ wall, cpu time.Duration }

func (m moment) since(o moment) spent { return spent{m.wall.Sub(o.wall), m.cpu - o.cpu} }

// begunAt is a log handler that notes when the bridge says that it fetches an image.
type begunAt struct {
	slog.Handler
	b  *testing.B
	at chan<- moment
}

// Enabled implements slog.Handler.
func (begunAt) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler.
func (h begunAt) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler.
func (h begunAt) WithGroup(string) slog.Handler { return h }

// Handle implements slog.Handler.
func (h begunAt) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "fetching the image" {
		h.at <- moment{r.Time, processorTime(h.b)}
	}
	return nil
}

// fetched is what one image took.
type fetched struct {
	before   spent // from the job until the image is asked for
	download spent // until it is there and verified
}

func newVerifiedBench(b *testing.B, size int) *verifiedBench {
	v := &verifiedBench{b: b, key: signtest.Key(b), random: rand.NewChaCha8([32]byte{1}), image: make([]byte, size)}
	o := testOptions(b, b.TempDir())
	o.Log, o.Keys.Keys = slog.New(slog.DiscardHandler), []string{v.key.Public().String()}
	s, _ := startServer(b, o)
	v.client = clientFor(b, o.Data, s.Addresses().HTTP)
	ctx := b.Context()
	if _, err := v.client.CreateImageType(ctx, orchestrator.NewImageType{ID: testImageType}); err != nil {
		b.Fatal(err)
	}
	if _, err := v.client.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: testDeviceType, Dialect: ayla.Name, ImageTypes: []orchestrator.EnabledImageType{{ID: testImageType}},
	}); err != nil {
		b.Fatal(err)
	}
	if _, err := v.client.CreateDevice(ctx, orchestrator.NewDevice{ID: "pump", Type: testDeviceType}); err != nil {
		b.Fatal(err)
	}
	account, err := v.client.CreateBridge(ctx, "rack", []string{"pump"})
	if err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(b.TempDir(), "password")
	if err := os.WriteFile(file, []byte(account.Password+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	bo := BridgeOptions{
		Broker: s.Addresses().MQTT, Username: "rack", PasswordFile: file, Data: b.TempDir(), AllowUnsigned: true, Log: slog.New(slog.DiscardHandler),
		Ports: []bridge.PortConfig{{Device: "pump", Path: "/dev/null", Dialect: ayla.Name, DeviceType: testDeviceType}},
	}
	v.began = make(chan moment, 1)
	bo.Log = slog.New(begunAt{slog.DiscardHandler, b, v.began})
	bo.Keys.Keys = o.Keys.Keys
	rack, err := NewBridge(bo)
	if err != nil {
		b.Fatal(err)
	}
	runTask(b, rack)
	return v
}

// fetch uploads another image, signed or not, and has the bridge fetch it.
func (v *verifiedBench) fetch(signed bool) (f fetched) {
	v.b.Helper()
	v.b.StopTimer()
	_, _ = v.random.Read(v.image) // no block of one that is in the spool
	v.jobs++
	version, ctx := fmt.Sprintf("2.0.%d", v.jobs), v.b.Context()
	image, err := v.client.UploadImage(ctx, orchestrator.NewImage{ImageType: testImageType, DeviceTypes: []string{testDeviceType}, Version: version}, bytes.NewReader(v.image))
	if err != nil {
		v.b.Fatal(err)
	}
	if signed {
		terms := signtest.Terms(testImageType, testDeviceType, version, time.Now())
		terms.BlockSize = trust.DefaultBlockSize
		s := signtest.Sign(v.b, v.image, terms, v.key)
		if _, err := v.client.AttachManifest(ctx, image.ID, orchestrator.NewManifest{Manifest: string(s.Text), Signatures: string(s.Signatures)}); err != nil {
			v.b.Fatal(err)
		}
	}
	runtime.GC() // of what was made for it; what is collected meanwhile would be counted by chance
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	v.b.StartTimer()
	start := moment{time.Now(), processorTime(v.b)}
	job := fmt.Sprintf("job-%d", v.jobs)
	if _, err := v.client.CreateJob(ctx, orchestrator.NewJob{
		Name: job, Image: image.ID, Devices: []string{"pump"}, Start: true, Rollout: &orchestrator.Rollout{Action: orchestrator.ActionDownload},
	}); err != nil {
		v.b.Fatal(err)
	}
	for rev := uint64(0); ; {
		changes, err := v.client.Changes(ctx, job, rev, patience)
		if err != nil {
			v.b.Fatal(err)
		}
		rev = changes.Rev
		for _, e := range changes.Executions {
			switch {
			case e.Downloaded:
				began := <-v.began
				return fetched{
					before:   began.since(start),
					download: moment{e.UpdatedAt, processorTime(v.b)}.since(began),
				}
			case e.State.Final():
				v.b.Fatalf("%s, %s: %s", e.State, e.Cause, e.Detail)
			}
		}
	}
}

// processorTime is what the process has used.
func processorTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkVerifiedDownloadFromTheService: images of 16 MiB with blocks of 4 KiB from the real service
// over its embedded broker to a bridge's spool, by turns without and with a signature, compared by
// their medians.
func BenchmarkVerifiedDownloadFromTheService(b *testing.B) {
	const size = 16 << 20
	v := newVerifiedBench(b, size)
	v.fetch(false) // the path is known after it
	var all [2][]fetched
	b.SetBytes(2 * size)
	b.ResetTimer()
	for i := range b.N {
		for _, k := range []int{i % 2, 1 - i%2} {
			all[k] = append(all[k], v.fetch(k == 1))
		}
	}
	median := func(k int, of func(fetched) time.Duration) float64 {
		var d []time.Duration
		for _, f := range all[k] {
			d = append(d, of(f))
		}
		slices.Sort(d)
		return d[len(d)/2].Seconds()
	}
	download := func(f fetched) time.Duration { return f.download.wall }
	cpu := func(f fetched) time.Duration { return f.download.cpu }
	before := func(f fetched) time.Duration { return f.before.wall }
	beforeCPU := func(f fetched) time.Duration { return f.before.cpu }
	b.ReportMetric(size/median(0, download)/1e6, "plain-MB/s")
	b.ReportMetric(size/median(1, download)/1e6, "verified-MB/s")
	b.ReportMetric(median(1, download)/median(0, download), "time-ratio")
	b.ReportMetric(median(1, cpu)/median(0, cpu), "cpu-ratio")
	b.ReportMetric(1e3*median(0, cpu), "plain-cpu-ms")
	b.ReportMetric(1e3*(median(1, before)-median(0, before)), "manifest-ms")
	b.ReportMetric(1e3*(median(1, beforeCPU)-median(0, beforeCPU)), "manifest-cpu-ms")
}
