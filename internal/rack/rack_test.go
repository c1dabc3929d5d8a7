package rack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"davit/bridge"
	"davit/internal/app"
	"davit/internal/client"
	"davit/internal/sim"
	"davit/orchestrator"
)

const (
	imageType  = "application"
	newVersion = "2.0.0"
	// most is the memory that the bridge may take, in bytes.
	most = 64 << 20
	// wantedShare and wantedCPU are what every port is to get of its line's ceiling and what the bridge may take of one
	// core with 16 ports.
	wantedShare, wantedCPU = 0.97, 0.15
)

// TestRack updates every board of a rack at once: a few in a plain run, 16 and then 64 with DAVIT_RACK=1, where the
// bridge's memory is looked at as well. What a port gets and what the bridge takes of a core depends on what else the
// machine does; DAVIT_RACK=strict insists on them.
func TestRack(t *testing.T) {
	if os.Getenv("DAVIT_RACK") == "" {
		testRack(t, 4, 16<<10)
		return
	}
	for _, ports := range []int{16, 64} {
		t.Run(fmt.Sprint(ports), func(t *testing.T) { testRack(t, ports, 48<<10) })
	}
}

func testRack(t *testing.T, ports, size int) {
	image := sim.BuildDemoImage(newVersion, size, 1)
	s := newService(t, ports)
	benches := make([]*bench, ports)
	var configs []bridge.PortConfig
	for i := range benches {
		benches[i] = newBench(t, uint64(i))
		configs = append(configs, bridge.PortConfig{Device: device(i), Path: benches[i].pty.Path(), Dialect: "ayla"})
	}
	p := startBridge(t, settings{
		Broker: "mqtt://" + s.mqtt, Username: s.username, PasswordFile: s.password, Ports: configs, Data: filepath.Join(t.TempDir(), "bridge"),
	})
	began, cpu := time.Now(), p.cpu()
	executions := s.roll(image)
	took, spent := time.Since(began), p.cpu()-cpu
	for _, e := range executions {
		if e.State != "succeeded" || e.Attempt != 1 {
			t.Errorf("%s: %s in attempt %d, %s %s", e.Device, e.State, e.Attempt, e.Cause, e.Detail)
		}
	}
	if len(executions) != ports {
		t.Errorf("%d executions for %d devices", len(executions), ports)
	}
	loads, acks := sim.LoadBytes(image)
	least := time.Duration(loads+acks) * sim.DefaultBitsPerByte * time.Second / sim.DefaultBaud
	var shares []float64
	for i, b := range benches {
		if !bytes.Equal(b.mcu.RunningImage(), image) {
			t.Errorf("%s does not run the image byte for byte", device(i))
		}
		shares = append(shares, least.Seconds()/b.loading().Seconds())
	}
	slices.Sort(shares)
	core, memory := spent.Seconds()/took.Seconds(), p.peak()
	t.Logf("%d ports of %d bit/s, %d bytes each, in %.1f s: of the ceiling worst %.4f, median %.4f, best %.4f; the bridge took %.1f %% of a core and %.1f MiB",
		ports, sim.DefaultBaud, len(image), took.Seconds(), shares[0], shares[ports/2], shares[ports-1], 100*core, float64(memory)/(1<<20))
	if os.Getenv("DAVIT_RACK") != "" && memory > most { // not under the race detector, which takes more than the bridge
		t.Errorf("the bridge took %d bytes of memory, allowed are %d", memory, most)
	}
	if os.Getenv("DAVIT_RACK") == "strict" && ports <= 16 && (shares[0] < wantedShare || core > wantedCPU) {
		t.Errorf("wanted are %.2f of the ceiling at every port and %.0f %% of a core", wantedShare, 100*wantedCPU)
	}
}

func device(i int) string { return fmt.Sprintf("board-%02d", i) }

// bench is a board at its serial line.
type bench struct {
	pty *sim.PTY
	mcu *sim.MCU

	mu          sync.Mutex
	first, last time.Time // pieces of the image that were taken
	head        uint32    // bytes of the image at first
}

// newBench starts a board whose flash takes no time, so that what is measured is the bridge.
func newBench(t *testing.T, seed uint64) *bench {
	t.Helper()
	b := &bench{}
	var err error
	if b.pty, err = sim.OpenPTY(sim.LineConfig{Seed: seed, RxTrigger: 4 << 10}); err != nil {
		t.Fatal(err)
	}
	b.mcu = sim.NewMCU(sim.MCUConfig{EraseTime: sim.None, WriteTime: sim.None, VerifyTime: sim.None, Seed: seed, OnEvent: b.event})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.mcu.Run(ctx, b.pty.MCU()) }()
	t.Cleanup(func() {
		cancel()
		<-ended // an error is the end of its line
		if err := b.pty.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// event runs on the MCU's goroutine.
func (b *bench) event(e sim.Event) {
	if e.Kind != sim.EventLoad {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = time.Now()
	if b.first.IsZero() || e.Done <= b.head {
		b.first, b.head = b.last, e.Done
	}
}

// loading is how long the image took on the line. That of the first piece is not seen; it is taken to be like the others'.
func (b *bench) loading() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	size := float64(len(b.mcu.RunningImage()))
	return time.Duration(float64(b.last.Sub(b.first)) * size / (size - float64(b.head)))
}

// service is davit serve with the records of a rack.
type service struct {
	t                        *testing.T
	client                   *client.Client
	mqtt, username, password string
}

func newService(t *testing.T, ports int) *service {
	t.Helper()
	data := t.TempDir()
	log, err := app.NewLogger(os.Stderr, app.LogOptions{Level: "error"})
	if err != nil {
		t.Fatal(err)
	}
	server, err := app.NewServer(app.ServerOptions{Data: data, MQTT: "127.0.0.1:0", HTTP: "127.0.0.1:0", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-server.Ready():
	case <-server.Done():
		t.Fatal("the service ended before it was ready")
	}
	token, err := app.ReadToken(app.TokenFile(data))
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, mqtt: server.Addresses().MQTT, password: filepath.Join(data, "rack.password")}
	if s.client, err = client.New("http://"+server.Addresses().HTTP, token); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	s.fill(ports)
	return s
}

// fill makes the records.
func (s *service) fill(ports int) {
	s.t.Helper()
	ctx := s.t.Context()
	_, err := s.client.CreateImageType(ctx, orchestrator.NewImageType{ID: imageType})
	s.must(err)
	_, err = s.client.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: "rack-board", Dialect: orchestrator.DialectAyla, ImageTypes: []orchestrator.EnabledImageType{{ID: imageType}},
	})
	s.must(err)
	var devices []string
	for i := range ports {
		_, err = s.client.CreateDevice(ctx, orchestrator.NewDevice{ID: device(i), Type: "rack-board"})
		s.must(err)
		devices = append(devices, device(i))
	}
	b, err := s.client.CreateBridge(ctx, "rack", devices)
	s.must(err)
	s.username = b.Username
	s.must(os.WriteFile(s.password, []byte(b.Password+"\n"), 0o600))
}

// roll updates every device and returns how it went.
func (s *service) roll(image []byte) []orchestrator.Execution {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute)
	defer cancel()
	i, err := s.client.UploadImage(ctx, orchestrator.NewImage{
		ImageType: imageType, DeviceTypes: []string{"rack-board"}, Version: newVersion, FileName: "rack.bin",
	}, bytes.NewReader(image))
	s.must(err)
	_, err = s.client.CreateJob(ctx, orchestrator.NewJob{Name: "rack", Image: i.ID, Query: "true"})
	s.must(err)
	_, err = s.client.StartJob(ctx, "rack")
	s.must(err)
	_, err = app.WatchJob(ctx, s.client, "rack", app.WatchFuncs{
		Execution: func(orchestrator.Execution) error { return nil },
		Job:       func(orchestrator.Job) error { return nil },
	})
	s.must(err)
	_, executions, err := s.client.Job(ctx, "rack")
	s.must(err)
	return executions
}

func (s *service) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}
