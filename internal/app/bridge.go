package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"davit/bridge"
	"davit/bridge/dialect"
	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/bridge/login"
	"davit/bridge/mqtt"
	"davit/bridge/replay"
	"davit/gateway"
	"davit/internal/app/address"
	"davit/internal/durable"
	"davit/internal/machine"
)

// Bridge is a bridge with its status socket and its own listener for metrics.
type Bridge struct {
	log      *slog.Logger
	cleanup  closers
	bridge   *bridge.Bridge
	registry *prometheus.Registry
	status   net.Listener // nil if the socket could not be made
	metrics  net.Listener // nil for none
	done     chan struct{}
	flags    BridgeOptions // as they were given, for a reload of the configuration file
	options  BridgeOptions // with what the file said at the start
}

// NewBridge reads the configuration file, if there is one, takes the data folder
// and opens the listener; ports and broker are opened by Run. Call Run or Close.
func NewBridge(flags BridgeOptions) (*Bridge, error) {
	o, err := flags.WithFile()
	if err != nil {
		return nil, err
	}
	b := &Bridge{log: o.Log, registry: newRegistry(), done: make(chan struct{}), flags: flags, options: o}
	if err := b.open(o); err != nil {
		return nil, errors.Join(startError(err, machine.This()), b.cleanup.close())
	}
	return b, nil
}

// family is a protocol family on a line, and without one.
type family interface {
	dialect.Dialect
	replay.Dialect
}

// families are the protocol families that this program speaks.
func families() map[string]family {
	all := map[string]family{}
	for _, f := range []family{ayla.Dialect{}, afero.Dialect{}} {
		all[f.Name()] = f
	}
	return all
}

// dialects are families as a bridge takes them.
func dialects() map[string]dialect.Dialect {
	all := map[string]dialect.Dialect{}
	for name, f := range families() {
		all[name] = f
	}
	return all
}

func (b *Bridge) open(o BridgeOptions) error {
	if err := o.Validate(); err != nil {
		return err
	}
	connection := mqtt.Config{URL: address.Broker(o.Broker), Username: o.Username}
	var passwords bridge.Passwords
	if o.PasswordFile != "" {
		file, err := login.Open(o.PasswordFile)
		if err != nil {
			return fmt.Errorf("read the bridge's password: %w", err)
		}
		connection.Login = file
		if o.TLSCert == "" { // which has no password to change
			passwords = file
		}
	}
	var err error
	if connection.TLS, err = o.secured(); err != nil {
		return err
	}
	trusted, err := o.trusted()
	if err != nil {
		return err
	}
	if err := durable.MakeDir(o.Data); err != nil {
		return err
	}
	if err := checkBridgeLayout(o.Data); err != nil {
		return err
	}
	b.registry.MustRegister(newDiskCollector(o.Data))
	tracer, err := o.Traces.tracer("davit-bridge", o.Log, b.registry, &b.cleanup)
	if err != nil {
		return err
	}
	b.bridge, err = bridge.New(bridge.Config{
		DataDir: o.Data, Ports: o.Ports, Dialects: dialects(), OfferInterval: o.OfferInterval, Defer: o.Defer, Window: o.Window, RecordDir: o.Record, DrainTimeout: o.DrainTimeout,
		MQTT: connection, Passwords: passwords, RotateEvery: o.RotatePassword,
		Trust:  trusted,
		Module: "davit bridge " + ReadBuild().Version,
		Logger: o.Log, Metrics: bridge.NewMetrics(b.registry), Tracer: tracer,
	})
	if err != nil {
		return err
	}
	b.cleanup.add("bridge", b.bridge.Close)
	if err := markBridgeLayout(o.Data); err != nil {
		return err
	}
	b.openStatus(o.Data)
	if o.Metrics == "" {
		return nil
	}
	if b.metrics, err = net.Listen("tcp", o.Metrics); err != nil {
		return fmt.Errorf("listen for metrics: %w", err)
	}
	b.cleanup.add("metrics listener", closeOnce(b.metrics))
	return nil
}

// secured is the configuration of a connection over TLS, nil for one without.
func (o *BridgeOptions) secured() (*tls.Config, error) {
	u, err := url.Parse(address.Broker(o.Broker))
	if err != nil {
		return nil, fmt.Errorf("broker URL: %w", err)
	}
	files := mqtt.TLSFiles{CA: o.CAFile, Cert: o.TLSCert, Key: o.TLSKey}
	if files == (mqtt.TLSFiles{}) {
		return nil, nil
	}
	return files.Load(u.Hostname())
}

// Registry has the bridge's metrics, as GET /metrics tells them.
func (b *Bridge) Registry() *prometheus.Registry { return b.registry }

// Options are those that the bridge was started with, its file's included.
func (b *Bridge) Options() BridgeOptions { return b.options }

// Ready is closed when the broker has been reached for the first time.
func (b *Bridge) Ready() <-chan struct{} { return b.bridge.Ready() }

// Done is closed when Run has returned.
func (b *Bridge) Done() <-chan struct{} { return b.done }

// MetricsAddr is where /metrics, /status, /readyz and /livez are served, empty if they are not.
func (b *Bridge) MetricsAddr() string {
	if b.metrics == nil {
		return ""
	}
	return b.metrics.Addr().String()
}

// String names the bridge in logs.
func (b *Bridge) String() string { return "bridge" }

// Close frees what NewBridge opened, for a Bridge that is not to run.
func (b *Bridge) Close() error { return b.cleanup.close() }

// Stop ends Run without waiting for updates under way any longer.
func (b *Bridge) Stop() { b.bridge.Stop() }

// Run serves the ports until ctx ends, lets the updates that are under way come to
// their end for as long as DrainTimeout says or until Stop, and returns nil then;
// or it returns when a part fails.
func (b *Bridge) Run(ctx context.Context) error {
	defer close(b.done)
	g, ctx := errgroup.WithContext(ctx)
	// Whoever looks at the bridge sees how it ends.
	looking, stopLooking := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error {
		defer stopLooking()
		return b.bridge.Run(ctx)
	})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", b.serveStatus)
	probes := newBridgeProbes(b.bridge.Status, b.options.Data)
	ready, live := gateway.NewReadiness(probes.ready()), gateway.NewLiveness(probes.vital())
	mux.Handle("GET /readyz", ready)
	mux.Handle("GET /livez", live)
	for _, h := range []*gateway.Health{ready, live} {
		g.Go(func() error { return h.Run(looking) })
	}
	if b.status != nil {
		local := http.NewServeMux() // what only the bridge's own user and root may do
		local.Handle("GET /status", mux)
		local.HandleFunc("GET /log-level", b.serveLogLevel)
		local.HandleFunc("PUT /log-level", b.serveLogLevel)
		g.Go(func() error { return gateway.Serve(looking, b.status, local, b.log.With("part", "status")) })
	}
	if b.metrics != nil {
		g.Go(func() error {
			all := http.NewServeMux()
			all.Handle("GET /metrics", metricsHandler(b.registry))
			all.Handle("GET /", mux)
			return gateway.Serve(looking, b.metrics, all, b.log.With("part", "metrics"))
		})
	}
	return errors.Join(g.Wait(), b.cleanup.close())
}
