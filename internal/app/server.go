package app

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"davit/broker"
	"davit/gateway"
	"davit/gateway/people"
	"davit/internal/logevent"
	"davit/internal/machine"
	"davit/internal/trace"
	"davit/orchestrator"
	"davit/orchestrator/boltstore"
	"davit/orchestrator/fileblobs"
)

// Addresses say where a Server listens, as HOST:PORT; empty for a listener
// that was not asked for.
type Addresses struct {
	MQTT, MQTTS, Websocket, HTTP, HTTPS, Pprof string
}

// Server is the service: broker, gateway and orchestrator on one data folder.
type Server struct {
	log       *slog.Logger
	cleanup   closers
	bus       bus
	service   *orchestrator.Service
	storage   *storage
	disk      *disk
	drain     time.Duration // that HTTP requests have to end
	claims    *gateway.Claims
	rotations *gateway.Rotations
	sessions  *gateway.Sessions
	api       *gateway.API
	people    *people.Directory
	oidc      *people.OIDC   // nil without OpenID Connect
	web       []net.Listener // HTTP, then HTTPS if there is one
	profiles  net.Listener   // nil without --pprof
	addrs     Addresses
	files     *follower
	// certificate is the one for listeners over TLS, nil for none.
	certificate *broker.Certificate
	// connected counts devices at the embedded broker; nil with an external one.
	connected *connectedDevices
	// committing is how long the commit under way has taken; stopping says that Run is to end.
	committing func() time.Duration
	stopping   atomic.Bool
	compacting *compacting
	registry   *prometheus.Registry
	ready      chan struct{}
	done       chan struct{}
}

// NewServer takes the data folder and opens everything that a Server needs,
// listeners included; nothing is served before Run. Call Run or Close.
func NewServer(o ServerOptions) (*Server, error) {
	s := &Server{log: o.Log, drain: cmp.Or(o.Drain, gateway.DefaultDrain), ready: make(chan struct{}), done: make(chan struct{})}
	if err := s.open(o); err != nil {
		return nil, errors.Join(startError(err, machine.This()), s.cleanup.close())
	}
	return s, nil
}

func (s *Server) open(o ServerOptions) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if err := s.takeFolder(o.Data, "davit serve"); err != nil {
		return err
	}
	token, err := adminToken(o.Data)
	if err != nil {
		return err
	}
	registry := newRegistry()
	s.registry = registry
	tracer, err := o.Traces.tracer("davit", s.log, registry, &s.cleanup)
	if err != nil {
		return err
	}
	keys, ring, err := s.openFiles(o, registry)
	if err != nil {
		return err
	}
	records := orchestrator.NewMetrics(registry)
	store, blobs, file, err := s.openRecords(o, records)
	if err != nil {
		return err
	}
	s.committing = store.Committing
	counters := gateway.NewMetrics(registry)
	if err := s.openPeople(o, store, token, counters); err != nil {
		return err
	}
	if err := s.openBus(o, file, registry); err != nil {
		return err
	}
	if s.sessions, err = s.newSessions(counters); err != nil {
		return err
	}
	s.service, err = orchestrator.New(orchestrator.Options{
		Store: store, Blobs: blobs, Publisher: s.sessions, Multicaster: s.multicaster(), Logger: s.log.With("part", "orchestrator"), Metrics: records,
		MaxImageSize: uint64(o.MaxImage), MaxInProgress: o.MaxInProgress, Reoffers: o.Reoffers, Retention: o.Retention, ClockKept: clockKept, ClockConfirmed: o.ClockConfirmed,
		ModuleCredit: o.ModuleCredit, TotalCredit: o.TotalCredit, ImageKeys: keys, KeyRing: ring, Tracer: tracer,
	})
	if err != nil {
		return err
	}
	s.storage.service = s.service
	if err := s.shutOut(); err != nil {
		return err
	}
	if err := s.openAPI(o, counters, tracer); err != nil {
		return err
	}
	if err := s.listenPprof(o.Pprof); err != nil {
		return err
	}
	return s.listenWeb(o)
}

// openRecords opens the records with the images, and the credentials beside them: both take a second
// for a fleet of 100,000.
func (s *Server) openRecords(o ServerOptions, records *orchestrator.Metrics) (*boltstore.Store, *fileblobs.Blobs, *broker.Credentials, error) {
	openCredentials := meanwhile(func() (*broker.Credentials, error) { return broker.OpenCredentials(o.Data) })
	s.disk = &disk{dir: o.Data, log: s.log.With("part", "storage")}
	store, blobs, err := s.openData(o.Data, records)
	file, refused := openCredentials()
	if err != nil {
		return nil, nil, nil, err
	}
	s.cleanup.add("store", store.Close)
	if refused != nil {
		return nil, nil, nil, refused
	}
	s.registry.MustRegister(newStoreCollector(store, blobs), newDiskCollector(o.Data))
	minFree := cmp.Or(o.MinFree, DefaultMinFree)
	blobs.Reserve(minFree)
	s.storage = &storage{dir: o.Data, store: store, blobs: blobs, metrics: newCompactMetrics(s.registry), minFree: minFree}
	s.compacting = s.newCompacting(o, store)
	s.disk.metrics = newDiskMetrics(s.registry)
	return store, blobs, file, nil
}

// openAPI makes the HTTP API with the console, and what gives devices their passwords.
func (s *Server) openAPI(o ServerOptions, counters *gateway.Metrics, tracer *trace.Tracer) error {
	provision := gateway.NewProvisioner(s.service, credentials{s.bus.credentials})
	s.rotations = gateway.NewRotations(provision, counters, s.log.With("part", "rotations"))
	s.claims = gateway.NewClaims(provision, counters, s.log.With("part", "claims"))
	uploads := gateway.NewUploadSlots()
	console, err := s.newConsole(o, provision, uploads)
	if err != nil {
		return err
	}
	s.api, err = gateway.NewAPI(gateway.APIOptions{
		Service: s.service, Storage: s.storage, Credentials: credentials{s.bus.credentials}, Provision: provision, Console: console, People: s.people, OIDC: s.oidc,
		TrustedProxies: o.TrustedProxies, PublicURL: o.PublicURL, MaxUpload: o.MaxUpload, RequestRate: o.RequestRate, Uploads: uploads, Checks: s.checks(), Live: s.vital(), System: s.systemStatus(o, time.Now()), Connected: s.connectedByType(),
		MetricsHandler: metricsHandler(s.registry), Metrics: counters, Log: s.log.With("part", "http"), Levels: logevent.LevelsOf(s.log), Tracer: tracer,
	})
	return err
}

// meanwhile runs a function in a goroutine; what it returns waits for its end.
func meanwhile[T any](fn func() (T, error)) (wait func() (T, error)) {
	wait = sync.OnceValues(fn)
	go func() { _, _ = wait() }() // told to whoever waits
	return wait
}

// shutOut tells the broker which devices are in quarantine.
func (s *Server) shutOut() error {
	shut, err := s.service.Quarantined(context.Background())
	if err != nil {
		return fmt.Errorf("read which devices are in quarantine: %w", err)
	}
	s.bus.credentials.SetQuarantined(shut)
	return nil
}

func (s *Server) newSessions(m *gateway.Metrics) (*gateway.Sessions, error) {
	return gateway.NewSessions(gateway.SessionsOptions{
		Broker: s.bus.url, Username: s.bus.username, Password: s.bus.password,
		Devices: inbound{s},
		OnConnected: func(ctx context.Context) {
			if err := s.service.Republish(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("offers are not published anew", "event", logevent.OffersNotRepublished, "error", err)
			}
		},
		Metrics: m, Log: s.log.With("part", "sessions"),
	})
}

func (s *Server) listenWeb(o ServerOptions) error {
	plain, err := net.Listen("tcp", o.HTTP)
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	s.web = append(s.web, plain)
	s.cleanup.add("HTTP listener", closeOnce(plain))
	s.addrs.HTTP = plain.Addr().String()
	if o.HTTPS == "" {
		return nil
	}
	secure, err := tls.Listen("tcp", o.HTTPS, s.certificate.TLS())
	if err != nil {
		return fmt.Errorf("listen for HTTPS: %w", err)
	}
	s.web = append(s.web, secure)
	s.cleanup.add("HTTPS listener", closeOnce(secure))
	s.addrs.HTTPS = secure.Addr().String()
	return nil
}

// closeOnce closes a listener that its server may have closed before.
func closeOnce(ln net.Listener) func() error {
	return func() error {
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

// Registry has the server's metrics, as GET /metrics tells them.
func (s *Server) Registry() *prometheus.Registry { return s.registry }

// Addresses say where the server listens.
func (s *Server) Addresses() Addresses { return s.addrs }

// Ready is closed when everything listens and devices are admitted.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Done is closed when Run has returned.
func (s *Server) Done() <-chan struct{} { return s.done }

// String names the server in logs.
func (s *Server) String() string { return "serve" }

// Close frees what NewServer opened, for a Server that is not to run.
func (s *Server) Close() error { return s.cleanup.close() }

// Run serves until ctx ends (it then returns nil) or a part fails, and frees
// everything: those who use the broker end first, then the broker, then the
// store is closed and the folder given back. Run is called once.
func (s *Server) Run(ctx context.Context) error {
	defer close(s.done)
	err := s.runParts(ctx)
	return errors.Join(err, s.cleanup.close())
}

// runParts runs the orchestrator, then, when it has recovered, the sessions,
// and admits devices when those hear them.
func (s *Server) runParts(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { s.stopping.Store(true) })()
	g.Go(func() error { return s.service.Run(ctx) })
	g.Go(func() error { return s.api.Ready().Run(ctx) })
	g.Go(func() error { // what cannot be believed is not served: the next start says where the damage is
		select {
		case <-s.storage.store.Damaged():
			return s.storage.store.Damage()
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error { return s.files.run(ctx) })
	g.Go(func() error { return s.disk.run(ctx, s.storage.probe) })
	g.Go(func() error { return s.compacting.run(ctx) })
	for _, ln := range s.web {
		g.Go(func() error {
			return gateway.ServeDraining(ctx, ln, http.Handler(s.api), s.log.With("part", "http"), s.drain)
		})
	}
	if s.profiles != nil {
		g.Go(func() error { return gateway.Serve(ctx, s.profiles, profileHandler(), s.log.With("part", "pprof")) })
	}
	g.Go(func() error {
		select {
		case <-s.service.Ready():
		case <-ctx.Done():
			return nil
		}
		return s.sessions.Run(ctx)
	})
	g.Go(func() error {
		select {
		case <-s.sessions.Ready():
			s.bus.admit()
			close(s.ready)
		case <-ctx.Done():
		}
		return nil
	})
	return g.Wait()
}
