package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"davit/bridge"
	"davit/internal/app"
	"davit/internal/client"
	"davit/internal/sim"
	"davit/orchestrator"
)

// The names of the scene.
const (
	imageType = "application"
	jobName   = "demo"
	// consoleUser signs in to the console of a demo that is left running.
	consoleUser = "demo"
	oldVersion  = "1.0.0"
	newVersion  = "2.0.0"
)

// faulty is which station the fault is injected at.
const faulty = 1

func deviceNames() []string { return []string{"lab-1", "lab-2", "lab-3"} }

// Limits of the scene's device type: short, so that a silent MCU ends soon.
const (
	verdictTimeout = 5 * time.Second
	bootTimeout    = 15 * time.Second
	versionTimeout = 10 * time.Second
	offerInterval  = 3 * time.Second
	startTimeout   = 20 * time.Second
)

// rig is everything that runs. It belongs to the goroutine that called Run.
type rig struct {
	options  Options
	scene    []*product // by station
	fault    fault
	dir      string
	undo     []func() error
	server   *app.Server
	client   *client.Client
	stations []*station
	image    orchestrator.Image
	password string // of the console's user, if everything is to be left running
}

func (r *rig) serverData() string { return filepath.Join(r.dir, "serve") }

func (r *rig) devices() []string { return deviceNames() }

// products are those of the scene, each once.
func (r *rig) products() []*product { return distinct(r.scene) }

// start brings everything up: the service with its records and the image, then
// the stations, and waits until every device is online and has told its version.
func (r *rig) start(ctx context.Context) error {
	if err := r.startServer(ctx); err != nil {
		return err
	}
	if err := r.fillRecords(ctx); err != nil {
		return err
	}
	if err := r.upload(ctx); err != nil {
		return err
	}
	for i, device := range r.devices() {
		s := &station{device: device, product: r.scene[i], unplugged: r.options.pace.unplugged}
		if i == faulty {
			s.fault = r.fault
		}
		if err := r.startStation(ctx, s); err != nil {
			return fmt.Errorf("start %s: %w", device, err)
		}
		r.stations = append(r.stations, s)
	}
	return r.awaitDevices(ctx)
}

func (r *rig) startServer(ctx context.Context) error {
	server, err := app.NewServer(app.ServerOptions{
		Data: r.serverData(), MQTT: "127.0.0.1:0", HTTP: "127.0.0.1:0", Log: r.options.Log,
	})
	if err != nil {
		return err
	}
	r.server = server
	r.run(ctx, server.Run)
	if err := awaitReady(ctx, "the service", server.Ready(), server.Done()); err != nil {
		return err
	}
	token, err := app.ReadToken(app.TokenFile(r.serverData()))
	if err != nil {
		return err
	}
	r.client, err = client.New("http://"+server.Addresses().HTTP, token)
	if err != nil {
		return err
	}
	r.undo = append(r.undo, func() error { r.client.Close(); return nil })
	return nil
}

// run runs a task until the rig is stopped. Its end is part of stop.
func (r *rig) run(ctx context.Context, task func(context.Context) error) {
	// The interrupt that ends ctx is to end the rig in its own order.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- task(ctx) }()
	r.undo = append(r.undo, func() error { cancel(); return <-ended })
}

// stop ends what runs, the newest first.
func (r *rig) stop() error {
	var failed error
	for _, undo := range slices.Backward(r.undo) {
		failed = errors.Join(failed, undo())
	}
	r.undo = nil
	return failed
}

func awaitReady(ctx context.Context, what string, ready, done <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	case <-done:
		return fmt.Errorf("%s ended before it was ready", what)
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(startTimeout):
		return fmt.Errorf("%s is not ready after %s", what, startTimeout)
	}
}

// fillRecords creates what an operator would create first.
func (r *rig) fillRecords(ctx context.Context) error {
	if _, err := r.client.CreateImageType(ctx, orchestrator.NewImageType{ID: imageType}); err != nil {
		return err
	}
	for _, p := range r.products() {
		if err := r.createType(ctx, p); err != nil {
			return err
		}
	}
	for i, device := range r.devices() {
		if _, err := r.client.CreateDevice(ctx, orchestrator.NewDevice{ID: device, Type: r.scene[i].deviceType}); err != nil {
			return err
		}
	}
	if !r.options.Keep {
		return nil
	}
	r.password = rand.Text()
	_, err := r.client.CreateUser(ctx, client.NewUser{Name: consoleUser, Role: "admin", Password: r.password})
	return err
}

// createType creates a product's device type, and says what its devices run if
// they tell only a number.
func (r *rig) createType(ctx context.Context, p *product) error {
	_, err := r.client.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: p.deviceType, Description: "simulated board of the demo", Dialect: p.dialect, AttributeSize: p.attributeSize,
		ImageTypes:    []orchestrator.EnabledImageType{{ID: imageType, NumericType: p.numericType}},
		AnswerTimeout: orchestrator.Duration(r.options.pace.answer), VerdictTimeout: orchestrator.Duration(verdictTimeout),
		BootTimeout: orchestrator.Duration(bootTimeout), VersionTimeout: orchestrator.Duration(versionTimeout),
	})
	if err != nil || !p.numbered() {
		return err
	}
	return r.register(ctx, p)
}

// startStation brings up one bench: the MCU at its terminal, and a bridge.
func (r *rig) startStation(ctx context.Context, s *station) error {
	mcu := sim.MCUConfig{
		Version: oldVersion, Image: factoryImage(), SlotSize: r.slotSize(), OnEvent: s.event, Seed: uint64(len(r.stations) + 1),
		BootTime: r.options.pace.boot, ConfirmAfter: r.options.pace.confirm,
	}
	line := sim.LineConfig{Baud: r.options.Baud, BitsPerByte: s.product.bitsPerByte, Seed: mcu.Seed}
	if s.fault.name != "" {
		mcu.Fault = s.fault.mcu.MCU
		line.ToMCU, line.FromMCU = s.fault.noiseIn(s.product.dialect)
	}
	link := filepath.Join(r.dir, s.device+".tty")
	var err error
	if s.pty, err = sim.OpenPTYAt(line, link); err != nil {
		return err
	}
	r.undo = append(r.undo, s.close)
	s.mcu = s.product.mcu(mcu)
	r.run(ctx, func(ctx context.Context) error { return ignoreEnd(ctx, s.mcu.Run(ctx, s.pty.MCU())) })

	name := "bridge-" + s.device
	b, err := r.client.CreateBridge(ctx, name, []string{s.device})
	if err != nil {
		return err
	}
	password := filepath.Join(r.dir, name+".password")
	if err := os.WriteFile(password, []byte(b.Password+"\n"), 0o600); err != nil {
		return err
	}
	s.bridge, err = app.NewBridge(app.BridgeOptions{
		Broker: "mqtt://" + r.server.Addresses().MQTT, Username: b.Username, PasswordFile: password,
		Ports: []bridge.PortConfig{s.port(link, r.options.Baud)},
		Data:  filepath.Join(r.dir, name), OfferInterval: offerInterval, Log: r.options.Log,
	})
	if err != nil {
		return err
	}
	r.run(ctx, s.bridge.Run)
	return awaitReady(ctx, name, s.bridge.Ready(), s.bridge.Done())
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// slotSize is large enough for the image in whole sectors.
func (r *rig) slotSize() int {
	const sector = sim.DefaultSectorSize
	return max(sim.DefaultSlotSize, (int(r.image.Size)+sector-1)/sector*sector)
}

// awaitDevices waits until every device is online and has told its version.
func (r *rig) awaitDevices(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, s := range r.stations {
		for {
			d, err := r.client.Device(ctx, s.device)
			if err != nil {
				return fmt.Errorf("%s does not come online with its version: %w", s.device, err)
			}
			if s.before = r.running(s.product, d.Versions[imageType]); d.Online && s.before.version != "" {
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}
