package app

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"davit/bridge"
	"davit/internal/client"
	"davit/internal/sim"
	"davit/orchestrator"
	"davit/schemas"
)

// The records that every system test uses.
const (
	testImageType  = "application"
	testDeviceType = "board"
)

// bench is a whole system on loopback: a service, a bridge and a simulated host
// MCU on a real pseudo-terminal, each of which can be stopped and started.
type bench struct {
	t       *testing.T
	dialect string // of the device type; the bridge learns it from that
	dir     string
	mqtt    string // address that the service keeps over restarts
	http    string
	client  *client.Client
	mcu     sim.Host
	path    string // of the terminal
	traces  TraceOptions
	trust   string // file with the broker's certificate, if it has one

	mu     sync.Mutex
	offers int // that the MCU was made
	loaded uint32
	moved  chan struct{} // closed and replaced whenever loaded grows
}

// benchBaud makes a small image take about as long as a restart.
const benchBaud = 230400

func newBench(t *testing.T) *bench {
	return &bench{t: t, dialect: orchestrator.DialectAyla, dir: t.TempDir(), moved: make(chan struct{})}
}

func (b *bench) log(name string) *slog.Logger {
	return slog.New(slog.NewTextHandler(b.t.Output(), &slog.HandlerOptions{Level: slog.LevelError})).With("program", name)
}

func (b *bench) serveData() string { return filepath.Join(b.dir, "serve") }

// serve starts the service, on the same addresses as before, and returns what
// stops it.
func (b *bench) serve(external ExternalBroker) (stop func()) {
	b.t.Helper()
	o := ServerOptions{Data: b.serveData(), MQTT: "127.0.0.1:0", HTTP: "127.0.0.1:0", External: external, Traces: b.traces, Log: b.log("serve")}
	if b.http != "" {
		o.HTTP = b.http
	}
	if b.mqtt != "" {
		o.MQTT = b.mqtt
	}
	s, stop := startServer(b.t, o)
	b.mqtt, b.http = s.Addresses().MQTT, s.Addresses().HTTP
	b.client = clientFor(b.t, b.serveData(), b.http)
	return stop
}

// serveKillable starts the service in a process of its own and returns what kills
// it. It is the first one.
func (b *bench) serveKillable() (kill func()) {
	b.t.Helper()
	a, kill := killable(b.t, b.serveData())
	b.mqtt, b.http = a.MQTT, a.HTTP
	b.client = clientFor(b.t, b.serveData(), b.http)
	return kill
}

// records creates an image type, a device type, a device and its bridge.
func (b *bench) records() (password string) {
	b.t.Helper()
	ctx := b.t.Context()
	if _, err := b.client.CreateImageType(ctx, orchestrator.NewImageType{ID: testImageType}); err != nil {
		b.t.Fatal(err)
	}
	enabled := orchestrator.EnabledImageType{ID: testImageType}
	if b.dialect == orchestrator.DialectAfero {
		enabled.NumericType = sim.DefaultFirmwareType
	}
	_, err := b.client.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: testDeviceType, Dialect: b.dialect, ImageTypes: []orchestrator.EnabledImageType{enabled},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if enabled.NumericType != 0 { // what it runs from the factory, by its number
		b.upload(sim.BuildDemoImage("1.0.0", sim.MinDemoImage, 1), "1.0.0", sim.DefaultVersionID)
	}
	if _, err := b.client.CreateDevice(ctx, orchestrator.NewDevice{ID: "pump", Type: testDeviceType}); err != nil {
		b.t.Fatal(err)
	}
	br, err := b.client.CreateBridge(ctx, "rack", []string{"pump"})
	if err != nil {
		b.t.Fatal(err)
	}
	return br.Password
}

// plug brings up the MCU at its terminal for the whole test.
func (b *bench) plug() {
	b.t.Helper()
	pty, err := sim.OpenPTY(sim.LineConfig{Baud: benchBaud})
	if err != nil {
		b.t.Fatal(err)
	}
	b.path = pty.Path()
	cfg := sim.MCUConfig{
		Version: "1.0.0", BootTime: 50 * time.Millisecond, ConfirmAfter: 20 * time.Millisecond, EraseTime: time.Millisecond, OnEvent: b.event,
	}
	b.mcu = sim.NewMCU(cfg)
	if b.dialect == orchestrator.DialectAfero {
		b.mcu = sim.NewAferoMCU(sim.AferoConfig{MCUConfig: cfg})
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.mcu.Run(ctx, pty.MCU()) }()
	b.t.Cleanup(func() {
		cancel()
		<-ended
		if err := pty.Close(); err != nil {
			b.t.Error(err)
		}
	})
}

func (b *bench) event(e sim.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e.Kind {
	case sim.EventOffer:
		b.offers++
	case sim.EventLoad:
		b.loaded = e.Done
		close(b.moved)
		b.moved = make(chan struct{})
	}
}

func (b *bench) offered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.offers
}

// awaitLoaded waits until the MCU has taken n bytes of the image.
func (b *bench) awaitLoaded(n uint32) {
	b.t.Helper()
	limit := time.After(patience)
	for {
		b.mu.Lock()
		done, moved := b.loaded, b.moved
		b.mu.Unlock()
		if done >= n {
			return
		}
		select {
		case <-moved:
		case <-limit:
			b.t.Fatalf("the MCU has %d bytes, want %d", done, n)
		}
	}
}

// bridge starts the bridge and returns what stops it.
func (b *bench) bridge(broker, username, password string) (stop func()) {
	b.t.Helper()
	file := filepath.Join(b.dir, "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		b.t.Fatal(err)
	}
	br, err := NewBridge(BridgeOptions{
		Broker: broker, Username: username, PasswordFile: file, CAFile: b.trust, Data: filepath.Join(b.dir, "bridge"),
		Ports: []bridge.PortConfig{{Device: "pump", Path: b.path, Baud: benchBaud}}, OfferInterval: 2 * time.Second, Traces: b.traces, Log: b.log("bridge"),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return runTask(b.t, br)
}

// upload sends an image to the service; id is the number of its version, 0 for the
// next one.
func (b *bench) upload(image []byte, version string, id uint64) orchestrator.Image {
	b.t.Helper()
	n := orchestrator.NewImage{ImageType: testImageType, DeviceTypes: []string{testDeviceType}, Version: version, VersionID: id}
	i, err := b.client.UploadImage(b.t.Context(), n, bytes.NewReader(image))
	if err != nil {
		b.t.Fatal(err)
	}
	return i
}

// roll uploads an image and starts a job for the device.
func (b *bench) roll(image []byte, version string) {
	b.t.Helper()
	ctx := b.t.Context()
	i := b.upload(image, version, 0)
	if _, err := b.client.CreateJob(ctx, orchestrator.NewJob{Name: "job", Image: i.ID, Devices: []string{"pump"}, Start: true}); err != nil {
		b.t.Fatal(err)
	}
}

// awaitUpdated waits for the job's end, which has to be success with the MCU
// running the image byte for byte, and checks the service's folder.
func (b *bench) awaitUpdated(image []byte, stopServe func()) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	var last orchestrator.Execution
	job, err := WatchJob(ctx, b.client, "job", WatchFuncs{
		Execution: func(e orchestrator.Execution) error { last = e; return nil },
		Job:       func(orchestrator.Job) error { return nil },
	})
	if err != nil || !AllSucceeded(job) {
		b.t.Fatalf("job %+v, execution %+v: %v", job, last, err)
	}
	if last.State != schemas.StateSucceeded || last.HostVersion != "2.0.0" || last.Attempt != 1 {
		b.t.Errorf("execution %+v", last)
	}
	if !bytes.Equal(b.mcu.RunningImage(), image) {
		b.t.Error("the MCU does not run the image that was uploaded")
	}
	d, err := b.client.Device(ctx, "pump")
	if err != nil || !d.Online || d.Versions[testImageType] != "2.0.0" {
		b.t.Errorf("device %+v, %v; want it online with its new version", d, err)
	}
	stopServe()
	report, err := Check(b.t.Context(), b.serveData())
	if err != nil || !report.OK() {
		b.t.Errorf("check: %+v, %v", report, err)
	}
}
