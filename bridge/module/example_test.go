package module_test

import (
	"context"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"

	"davit/bridge/module"
	"davit/bridge/mqtt"
	"davit/schemas"
)

// product is a host MCU, as far as the example goes: a folder. The image's slot and the
// module's state are files in it, and so is what "runs".
type product struct {
	dir    string
	report func(versions map[string]string) error // takes what the host MCU says
}

func (p *product) path(name string) string { return filepath.Join(p.dir, name) }

// Accept implements module.Host.
func (p *product) Accept(_ context.Context, o schemas.Offer) error {
	if o.Size > 1<<20 {
		return &module.Refusal{Cause: schemas.CauseSize, Detail: "The product has room for 1 MiB."}
	}
	return nil
}

// Slot implements module.Host.
func (p *product) Slot(schemas.Offer) (module.Slot, error) {
	return os.OpenFile(p.path("slot"), os.O_RDWR|os.O_CREATE, 0o600)
}

// Boot implements module.Host. This product reports its version as soon as it has booted.
func (p *product) Boot(_ context.Context, o schemas.Offer) error {
	image, err := os.ReadFile(p.path("slot"))
	if err == nil {
		err = os.WriteFile(p.path("running"), image[:o.Size], 0o600)
	}
	if err == nil {
		err = os.WriteFile(p.path("version"), []byte(o.Version), 0o600)
	}
	if err != nil {
		return err
	}
	return p.report(p.versions())
}

// versions are what the host MCU reports.
func (p *product) versions() map[string]string {
	b, _ := os.ReadFile(p.path("version")) // there is none before the first update
	return map[string]string{"oem_host_version": string(b)}
}

// run is a whole module.
func run(ctx context.Context, p *product, device string, transport mqtt.Transport) error {
	state, _ := os.ReadFile(p.path("state")) // there is none at the first start
	m, err := module.New(module.Config{
		Device: device, Transport: transport, Host: p, Versions: p.versions(), Software: "example 1.0", Window: 256 << 10, State: state,
		Save: func(b []byte) error { return os.WriteFile(p.path("state"), b, 0o600) },
	})
	if err != nil {
		return err
	}
	p.report = m.Report
	return m.Run(ctx)
}

func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	device := "pump-7"
	transport, err := mqtt.New(mqtt.Config{URL: "mqtt://davit.example.com", ClientID: device, Username: device, Password: os.Getenv("PASSWORD")}, slog.Default())
	if err == nil {
		err = run(ctx, &product{dir: "/var/lib/pump"}, device, transport)
	}
	if err != nil {
		log.Fatal(err)
	}
}
