// Package bridge plays the module for host MCUs on serial ports: one MQTT
// connection for all of them, an image spool, and for each port a session that
// survives the loss of any process on either side.
//
// Who owns what: each device has one goroutine that owns its record and its
// execution (device), and one that opens its port and runs the dialect's
// session on it (line); each image that is fetched has one (download). They
// hand each other work and never share state but through mutexes named for it.
// Everything that a restart needs is under Config.DataDir.
//
// The package imports schemas and internal/durable, never broker, gateway or
// orchestrator. Dialects are handed in.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"davit/bridge/dialect"
	"davit/bridge/mqtt"
	"davit/bridge/recording"
	"davit/bridge/spool"
	"davit/internal/durable"
	"davit/internal/keystate"
	"davit/internal/logevent"
	"davit/internal/logonce"
	"davit/internal/trace"
	"davit/schemas"
)

// MaxPorts is how many ports one bridge serves.
const MaxPorts = 64

// Defaults of Config.
const (
	DefaultFetchPatience = 30 * time.Minute
	// publishTimeout bounds one publication.
	publishTimeout = 10 * time.Second
	// goodbye bounds the farewell to the broker.
	goodbye = 2 * time.Second
)

// Config of a bridge. What is left zero has a default.
type Config struct {
	// DataDir holds records and images; no other process may use it.
	DataDir string
	// Ports with their devices, 1 to MaxPorts.
	Ports []PortConfig
	// Dialects by name. Every port's has to be there, and so do those of device
	// types whose devices are on ports that name none.
	Dialects map[string]dialect.Dialect
	// MQTT says how to reach the broker; Transport, if set, stands in its place. An empty
	// ClientID is made of the user name.
	MQTT      mqtt.Config
	Transport Transport
	// OpenPort opens a port; nil means OpenSerial.
	OpenPort func(PortConfig) (io.ReadWriteCloser, error)
	// Module names the bridge's software in hello messages.
	Module string
	// MaxChunk is the largest chunk in bytes to ask for; 0 leaves it to the offer.
	MaxChunk int
	// Window is how many bytes of images are asked for ahead at most, MinWindow to MaxWindow,
	// shared by the images that are fetched at a time. How many are, and in chunks of what
	// size, follows the path to the service (package fetcher).
	Window int
	// Passwords keep the bridge's password when it is changed over MQTT: when the service
	// says so, and whenever it is older than RotateEvery, if that is not 0. Nil leaves it as
	// it is.
	Passwords   Passwords
	RotateEvery time.Duration
	// Trust says whose images are let through.
	Trust Trust
	// Spool says how much disk images may take.
	Spool spool.Options
	// FetchPatience is how long a download may stand still while the broker
	// is connected.
	FetchPatience time.Duration
	// PortPatience is how long an execution waits for a port that is gone.
	PortPatience time.Duration
	// OfferInterval is how long after an unanswered offer it is repeated; 0
	// leaves it to the dialect.
	OfferInterval time.Duration
	// Defer is after how long a product that was busy is asked again whether it takes
	// an update that it may put off (CheckDefer); 0 means DefaultDefer.
	Defer time.Duration
	// RecordDir is a folder for recordings of what passes on the ports; empty for
	// none. Recording never holds up an update.
	RecordDir string
	// DrainTimeout is how long Run goes on for MCU legs that are under way when
	// its context ends; 0 ends them at once. Either way the next Run goes on with
	// what is left.
	DrainTimeout time.Duration

	Logger  *slog.Logger  // nil discards
	Metrics *Metrics      // nil counts nothing
	Tracer  *trace.Tracer // nil traces nothing
}

// Bridge serves ports. It runs once.
type Bridge struct {
	cfg       Config
	log       *slog.Logger
	metrics   *Metrics
	transport Transport
	lock      *durable.DirLock
	spool     *spool.Spool
	records   records
	counters  counters
	lists     keystate.File
	downloads *downloads
	claims    claims
	refusals  logonce.Limit
	ready     chan struct{}
	readyOnce sync.Once
	halted    context.Context // ends when Run is to end without draining
	halt      context.CancelFunc
	life      life
	rotation  *rotation     // nil if the password stays as it is
	running   chan struct{} // closed once Run has started what New prepared
	reloading sync.Mutex    // held by Reconfigure: one at a time

	mu        sync.RWMutex        // guards what follows; nobody waits for a device while holding it
	devices   map[string]*line    // all that there are, those on their way out included
	order     []*line             // those that the broker is told of; the will is the first one's
	wanted    []PortConfig        // what the newest configuration has
	opening   opening             // how ports are opened from now on
	trust     Trust               // whose images are let through from now on
	folders   []*recording.Folder // all that recordings are written to
	connected bool
	closing   bool // Run is ending: no line is added any more
	crew      crew
}

// New checks cfg, takes the data folder and reads the devices' records. Nothing
// runs before Run; Close gives the folder back if Run is never called.
func New(cfg Config) (*Bridge, error) {
	cfg, err := complete(cfg)
	if err != nil {
		return nil, err
	}
	b := &Bridge{cfg: cfg, log: cfg.Logger, metrics: cfg.Metrics, transport: cfg.Transport, devices: map[string]*line{}, ready: make(chan struct{}), running: make(chan struct{})}
	b.halted, b.halt = context.WithCancel(context.Background())
	if b.transport == nil {
		if cfg.MQTT.ClientID == "" {
			cfg.MQTT.ClientID = "davit-bridge-" + cfg.MQTT.Username
		}
		if b.transport, err = mqtt.New(cfg.MQTT, b.log.With("part", "mqtt")); err != nil {
			return nil, err
		}
	}
	if cfg.Passwords != nil {
		b.rotation = newRotation(cfg.MQTT.Username, cfg.Passwords, cfg.RotateEvery, b.transport.Publish, b.log.With("part", "mqtt"))
	}
	if err := b.open(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func complete(cfg Config) (Config, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.OpenPort == nil {
		cfg.OpenPort = OpenSerial
	}
	if cfg.Window == 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.FetchPatience == 0 {
		cfg.FetchPatience = DefaultFetchPatience
	}
	if cfg.PortPatience == 0 {
		cfg.PortPatience = DefaultPortPatience
	}
	if cfg.Defer == 0 {
		cfg.Defer = DefaultDefer
	}
	switch {
	case cfg.DataDir == "":
		return cfg, errors.New("no data folder is given")
	case cfg.MaxChunk != 0 && (cfg.MaxChunk < schemas.MinChunkSize || cfg.MaxChunk > schemas.MaxChunkSize):
		return cfg, fmt.Errorf("max chunk is %d, allowed are %d to %d", cfg.MaxChunk, schemas.MinChunkSize, schemas.MaxChunkSize)
	}
	if err := CheckWindow(cfg.Window); err != nil {
		return cfg, fmt.Errorf("window: %w", err)
	}
	if err := CheckDefer(cfg.Defer); err != nil {
		return cfg, fmt.Errorf("time for which updates are put off: %w", err)
	}
	if err := (&schemas.Hello{V: schemas.Version, Module: cfg.Module}).Validate(); err != nil {
		return cfg, fmt.Errorf("name of the bridge's software: %w", err) // or no hello could ever be sent
	}
	cfg.Ports = slices.Clone(cfg.Ports)
	if err := checkPorts(cfg); err != nil {
		return cfg, err
	}
	return cfg, cfg.Trust.check(cfg.Ports)
}

// checkPorts refuses too many, doubles, names that nothing can have and unknown dialects.
// Different names of one port cannot be told here, as adapters come and go: the
// second to be opened is told that it is in use.
func checkPorts(cfg Config) error {
	if len(cfg.Ports) == 0 || len(cfg.Ports) > MaxPorts {
		return fmt.Errorf("%d ports are given, allowed are 1 to %d", len(cfg.Ports), MaxPorts)
	}
	devices, ports := map[string]bool{}, map[string]string{}
	for _, p := range cfg.Ports {
		if err := schemas.ValidateID(p.Device); err != nil {
			return fmt.Errorf("port %s: device id: %w", p.Path, err)
		}
		if devices[p.Device] {
			return fmt.Errorf("device %s has two ports", p.Device)
		}
		key, err := PortKey(p.Path)
		if err != nil {
			return fmt.Errorf("device %s: port %q: %w", p.Device, p.Path, err)
		}
		if other, taken := ports[key]; taken {
			return fmt.Errorf("port %s is given to both %s and %s", p.Path, other, p.Device)
		}
		devices[p.Device], ports[key] = true, p.Device
		if p.Dialect != "" && cfg.Dialects[p.Dialect] == nil {
			known := slices.Sorted(maps.Keys(cfg.Dialects))
			return fmt.Errorf("device %s: dialect %q is not known; there are %s", p.Device, p.Dialect, strings.Join(known, ", "))
		}
		if err := p.checkOptions(); err != nil {
			return fmt.Errorf("device %s: %w", p.Device, err)
		}
	}
	return nil
}

// open takes the folder and everything in it.
func (b *Bridge) open() error {
	if err := durable.MakeDir(b.cfg.DataDir); err != nil {
		return err
	}
	dir := filepath.Join(b.cfg.DataDir, "devices")
	b.counters = counters{filepath.Join(b.cfg.DataDir, "counters")}
	for _, folder := range []string{dir, b.counters.dir} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	var err error
	if b.lock, err = durable.Lock(b.cfg.DataDir, "davit bridge"); err != nil {
		return err
	}
	if err := errors.Join(durable.RemoveTemp(dir), durable.RemoveTemp(b.counters.dir)); err != nil {
		return err
	}
	if b.spool, err = spool.Open(filepath.Join(b.cfg.DataDir, "spool"), b.cfg.Spool); err != nil {
		return err
	}
	b.lists = keystate.File(filepath.Join(b.cfg.DataDir, "keylist.json"))
	if err := b.acceptList(b.cfg.Trust); err != nil {
		return err
	}
	if b.opening, err = b.openingOf(Settings{OfferInterval: b.cfg.OfferInterval, RecordDir: b.cfg.RecordDir}); err != nil {
		return err
	}
	b.folders = append(b.folders, b.opening.recorded)
	b.records, b.trust = records{dir}, b.cfg.Trust
	b.downloads = &downloads{
		publish: b.fetch, transport: b.transport, spool: b.spool, metrics: b.metrics, log: b.log.With("part", "spool"), window: b.cfg.Window,
		patience: b.cfg.FetchPatience, running: map[string]*download{},
	}
	b.metrics.source(b.figures, b.spool)
	for _, p := range b.cfg.Ports {
		l, err := b.prepare(p)
		if err != nil {
			return err
		}
		b.devices[p.Device] = l
		b.order = append(b.order, l)
	}
	b.wanted = b.cfg.Ports
	return nil
}

// Close gives the data folder back. Run does it by itself.
func (b *Bridge) Close() error {
	if b.lock == nil {
		return nil
	}
	lock := b.lock
	b.lock = nil
	return lock.Unlock()
}

// Ready is closed when the broker has been reached for the first time.
func (b *Bridge) Ready() <-chan struct{} { return b.ready }

// String names the bridge in logs.
func (b *Bridge) String() string { return fmt.Sprintf("bridge with %d ports", len(b.lines())) }

// Run serves the ports until ctx ends, lets the MCU legs under way come to their
// end for as long as Config.DrainTimeout says or until Stop, and returns nil then.
// What is left is continued by the next Run of a bridge on the same folder.
func (b *Bridge) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, b.Close()) }()
	// They end in this order: first the sessions, which may have something to record; then the devices, which
	// record it; then the connection, which says goodbye.
	behind := context.WithoutCancel(ctx)
	lines, stopLines := context.WithCancel(behind)
	defer stopLines()
	devices, stopDevices := context.WithCancel(behind)
	defer stopDevices()
	sending, stopSending := context.WithCancel(behind)
	defer stopSending()
	network, stopNetwork := context.WithCancel(behind)
	defer stopNetwork()
	b.life.began(time.Now())

	b.assemble(lines, devices, sending, network)
	if b.rotation != nil {
		b.crew.others.Go(func() { b.rotation.run(sending) })
	}
	var link errgroup.Group
	link.Go(func() error {
		defer b.Stop() // a transport that ends by itself ends the bridge
		return b.transport.Run(network, b.client())
	})
	select {
	case <-ctx.Done():
	case <-b.halted.Done():
	}
	b.disband()
	if ctx.Err() != nil {
		b.drain()
	}
	stopLines()
	b.crew.sessions.Wait()
	stopDevices()
	b.crew.actors.Wait()
	b.downloads.all.Wait()
	stopSending()
	b.crew.senders.Wait() // or a presence that waits would overtake the farewell
	b.crew.others.Wait()
	b.farewell(network)
	stopNetwork()
	err = link.Wait()
	for _, f := range b.folders {
		f.Wait()
	}
	b.metrics.broker(false)
	return err
}

// client is what the transport has to know.
func (b *Bridge) client() Client {
	return Client{Will: b.will, Subscriptions: b.subscriptions, Connected: b.up, Disconnected: b.down, Received: b.received, Traced: b.traced}
}

// will is the next connection's. A connection has one only: it speaks for the first device. The service's own
// broker knows the bridge's other devices; another broker's retained presence of those stays until the bridge is back.
// The will of a connection that stands is left as it is when its device goes: another one would cost a connection
// that works.
func (b *Bridge) will() Message {
	lines := b.lines()
	if len(lines) == 0 {
		return Message{}
	}
	m, _ := message(lines[0].dev.id, &schemas.Presence{V: schemas.Version}) // a device id is checked
	return m
}

func message(device string, p schemas.Payload) (Message, error) {
	payload, err := schemas.Encode(p)
	if err != nil {
		return Message{}, err
	}
	k := p.Kind()
	return Message{Topic: schemas.Topic{Device: device, Kind: k}.String(), Payload: payload, QoS: k.QoS(), Retain: k.Retained()}, nil
}

func (b *Bridge) up() {
	b.log.Info("connected to the broker", "event", logevent.BridgeConnected)
	b.metrics.broker(true)
	b.setConnected(true)
	if b.rotation != nil {
		b.rotation.up()
	}
	b.readyOnce.Do(func() { close(b.ready) })
}

func (b *Bridge) down() {
	b.log.Warn("connection to the broker lost", "event", logevent.BridgeDisconnected)
	b.metrics.broker(false)
	if b.rotation != nil {
		b.rotation.down()
	}
	b.setConnected(false)
}

func (b *Bridge) setConnected(up bool) {
	b.life.linked(up, time.Now())
	b.downloads.setConnected(up)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.connected = up
	for _, l := range b.order {
		l.dev.mail.connect(up)
	}
}

// received takes a message of the service to its device, without waiting.
func (b *Bridge) received(topic string, payload []byte) { b.traced(topic, payload, "", "") }

// traced is received for a message that carries a trace context, of which only an
// offer's is wanted.
func (b *Bridge) traced(topic string, payload []byte, parent, state string) {
	if sum, ok := schemas.ParseStreamTopic(topic); ok {
		b.downloads.stream(sum, payload)
		return
	}
	t, err := schemas.ParseTopic(topic)
	if err != nil {
		return // we subscribed to topics of the contract only
	}
	if t.Kind == schemas.KindRotated {
		if b.rotation != nil && t.Device == b.rotation.name {
			b.rotation.take(payload)
		}
		return
	}
	l := b.line(t.Device)
	if l == nil {
		return
	}
	m := &l.dev.mail
	switch t.Kind {
	case schemas.KindOffer:
		m.update(func() { m.offer, m.hasOffer, m.offerTrace = payload, true, schemas.ReadTraceHeader(parent, state) })
	case schemas.KindProfile:
		m.update(func() { m.profile, m.hasProfile = payload, true })
	case schemas.KindChunk:
		if dl := l.route.Load(); dl != nil {
			dl.take(arrival{payload, false})
		} else {
			b.metrics.strayChunk()
		}
	case schemas.KindAck:
		var a schemas.Ack
		if err := schemas.Decode(payload, &a); err != nil {
			b.refuse(t.Device, t.Kind, err)
			return
		}
		m.update(func() {
			if len(m.acks) < maxAcks {
				m.acks = append(m.acks, a)
			}
		})
	}
}

// route sends a device's chunks to dl, or nowhere.
func (d *device) route(dl *download) { d.line.route.Store(dl) }

// publish queues a message of a device. One that is lost is said again: a
// status until its ack, a hello after a failure.
func (b *Bridge) publish(d *device, p schemas.Payload, h *schemas.TraceHeader) {
	m, err := message(d.id, p)
	if err != nil {
		d.log.Error("message outside the contract", "event", logevent.BridgeMessageInvalid, "error", err)
		return
	}
	if h != nil {
		m.Traceparent, m.Tracestate = h.Parent, h.State
	}
	select {
	case d.line.outgoing <- m:
	default:
		d.log.Debug("message dropped: the connection is slower than the device", "event", logevent.BridgeMessageDropped, "topic", m.Topic)
		d.mail.update(func() { d.mail.failed = d.mail.failed || p.Kind() == schemas.KindHello })
	}
}

func (b *Bridge) fetch(ctx context.Context, device string, f *schemas.Fetch, h *schemas.TraceHeader) error {
	m, err := message(device, f)
	if err != nil {
		return err
	}
	if h != nil {
		m.Traceparent, m.Tracestate = h.Parent, h.State
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	return b.transport.Publish(ctx, m)
}

// farewell says that the devices go, while the connection stands. One after the
// other would be too much for the time that there is, on a full rack far from its broker.
func (b *Bridge) farewell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	var all sync.WaitGroup
	for _, l := range b.lines() {
		all.Go(func() { b.sayOffline(ctx, l.dev.id) })
	}
	all.Wait()
}

// sayOffline says that a device is gone.
func (b *Bridge) sayOffline(ctx context.Context, device string) {
	m, err := message(device, &schemas.Presence{V: schemas.Version})
	if err == nil {
		err = b.transport.Publish(ctx, m)
	}
	if err != nil {
		b.log.Debug("farewell", "event", logevent.FarewellNotSent, "device", device, "error", err)
	}
}

// refuse counts a malformed message and logs it once per device and minute.
func (b *Bridge) refuse(device string, k schemas.Kind, err error) {
	b.metrics.refusedMessage(k)
	if !b.refusals.Allow(device) {
		return
	}
	b.log.Warn("malformed message from the service", "event", logevent.ServiceMessageMalformed, "device", device, "kind", k, "error", err)
}
