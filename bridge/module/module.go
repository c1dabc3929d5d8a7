package module

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"davit/bridge/mqtt"
	"davit/internal/logevent"
	"davit/schemas"
)

// Host is what stands behind the module: the host MCU and the memory for its image.
type Host interface {
	// Accept returns nil if the host takes the image. A *Refusal says why not, or for how
	// long it is put off.
	Accept(ctx context.Context, o schemas.Offer) error
	// Slot returns where the image's bytes are kept. It does not wait. For the same SHA-256
	// it is the same slot with what was written before, as long as no other was asked
	// for.
	Slot(o schemas.Offer) (Slot, error)
	// Boot loads the image from its slot into the host MCU, and returns when it has been
	// told to start it. A *Refusal says what went wrong; with any other error the
	// cause is the boot. It may be called again for the same image, after a restart of
	// the module in the middle of it.
	Boot(ctx context.Context, o schemas.Offer) error
}

// Slot keeps the bytes of one image.
type Slot interface {
	io.ReaderAt
	io.WriterAt
	// Sync returns when what was written lasts.
	Sync() error
}

// Refusal is the host's no, or what went wrong on its side.
type Refusal struct {
	// Cause is one of the contract's; empty means rejected, or boot if Boot returned it.
	Cause schemas.Cause
	// Code is the host MCU's own, 0 to 255.
	Code int
	// Detail is one sentence for a person.
	Detail string
	// Defer puts off an offer that allows it (soft, confirm): for so long, in whole
	// seconds. The cause is deferred then.
	Defer time.Duration
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.Detail != "" {
		return r.Detail
	}
	return fmt.Sprintf("refused (%s, code %d)", r.Cause, r.Code)
}

// Defaults of Config.
const (
	DefaultWindow      = 64 << 10
	DefaultBootTimeout = 5 * time.Minute
	DefaultPatience    = 30 * time.Minute
)

// Config of a Module. Device, Transport and Host have to be there.
type Config struct {
	Device    string // its id
	Transport mqtt.Transport
	Host      Host
	// Versions are what the host MCU reports now, by version property; Report says when
	// they change.
	Versions map[string]string
	// DeviceType, Software and Dialect are said in hellos: the type that the module believes
	// it is of, the name of its own firmware, the protocol that it speaks with the MCU.
	DeviceType, Software, Dialect string
	// Window is how many bytes of an image the module can have under way, and MaxChunk
	// how many it can take in one message. 0 means DefaultWindow, and the window.
	Window, MaxChunk int
	// State is what Save was given last, nil at the first start. Save returns when that
	// lasts; without it a restart begins an update anew.
	State []byte
	Save  func(state []byte) error
	// BootTimeout is how long the host MCU has to report its new version unless the
	// offer says it, Patience how long a download may stand still while there is a
	// connection.
	BootTimeout, Patience time.Duration
	Logger                *slog.Logger // nil discards
}

// Module is a device of the service. It runs once.
type Module struct {
	cfg    Config
	log    *slog.Logger
	mail   mail
	chunks chan chunk
	out    outbox
	work   sync.WaitGroup // Accept, Boot and verification

	hosting sync.Mutex // held by each of those: the host is asked one thing at a time

	// The rest belongs to the goroutine of Run.
	ctx       context.Context
	rec       record
	connected bool
	versions  map[string]string
	up        *update
	reports   []*report
	helloDue  time.Time
}

// New checks cfg and reads its State.
func New(cfg Config) (*Module, error) {
	if err := schemas.ValidateID(cfg.Device); err != nil {
		return nil, fmt.Errorf("device: %w", err)
	}
	if cfg.Transport == nil || cfg.Host == nil {
		return nil, errors.New("a module needs a Transport and a Host")
	}
	setDefault(&cfg.Window, DefaultWindow)
	setDefault(&cfg.MaxChunk, min(cfg.Window, schemas.MaxChunkSize))
	setDefault(&cfg.BootTimeout, DefaultBootTimeout)
	setDefault(&cfg.Patience, DefaultPatience)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Module{
		cfg: cfg, log: cfg.Logger.With("device", cfg.Device), versions: maps.Clone(cfg.Versions), chunks: make(chan chunk, 2*schemas.MaxWindow),
	}
	m.mail.wake, m.out.wake = make(chan struct{}, 1), make(chan struct{}, 1)
	if err := m.fits(cfg.Versions); err != nil {
		return nil, err
	}
	var err error
	m.rec, err = decodeState(cfg.State)
	return m, err
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// Report says which versions the host MCU reports, by version property: when one has
// changed, and whenever the MCU has started. An empty version is one that is not known. An error
// means that the contract has no room for them.
func (m *Module) Report(versions map[string]string) error {
	if err := m.fits(versions); err != nil {
		return err
	}
	versions = maps.Clone(versions)
	m.mail.post(func() { m.reported(versions) })
	return nil
}

// Run serves the device until ctx ends, and returns nil then, or until the transport
// ends by itself.
func (m *Module) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	network, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	m.ctx = ctx
	var link errgroup.Group
	link.Go(func() error {
		defer stop()
		return m.cfg.Transport.Run(network, mqtt.Client{
			Will: m.offline, Subscriptions: m.subscriptions,
			Connected:    func() { m.mail.post(func() { m.link(true) }) },
			Disconnected: func() { m.mail.post(func() { m.link(false) }) },
			Received:     m.received, Traced: m.traced,
		})
	})
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		m.out.run(ctx)
	}()
	m.resume()
	m.loop(ctx)
	m.letGo()
	<-sent
	bye, cancel := context.WithTimeout(network, publishTimeout/5)
	defer cancel()
	if err := m.cfg.Transport.Publish(bye, m.offline()); err != nil {
		m.log.Debug("farewell", "event", logevent.FarewellNotSent, "error", err)
	}
	hangUp()
	return link.Wait()
}

// letGo ends what the host is doing, and keeps what there is of the image.
func (m *Module) letGo() {
	if m.up != nil {
		m.up.cancel()
	}
	m.work.Wait()
	if m.up != nil {
		m.keep(m.up)
		m.save()
	}
}

// loop does what is due, takes what has come, and waits.
func (m *Module) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(max(0, time.Until(m.tick(time.Now()))))
		select {
		case <-ctx.Done():
			return
		case <-m.mail.wake:
			for _, f := range m.mail.take() {
				f()
			}
		case c := <-m.chunks:
			m.takeChunks(c)
		case <-timer.C:
		}
	}
}

// offline is the module's will, and its farewell.
func (m *Module) offline() mqtt.Message {
	msg, _ := m.message(&schemas.Presence{V: schemas.Version}, nil) // the device's id is checked
	return msg
}

func (m *Module) subscriptions() []mqtt.Subscription {
	var all []mqtt.Subscription
	for _, k := range schemas.Kinds() {
		if !k.FromDevice() {
			all = append(all, mqtt.Subscription{Topic: m.topic(k), QoS: k.QoS()})
		}
	}
	return all
}

func (m *Module) topic(k schemas.Kind) string {
	return schemas.Topic{Device: m.cfg.Device, Kind: k}.String()
}

// received takes a message without waiting.
func (m *Module) received(topic string, payload []byte) { m.traced(topic, payload, "", "") }

// traced is received for a message that carries a trace context, of which only an
// offer's is of interest.
func (m *Module) traced(topic string, payload []byte, parent, state string) {
	if _, ok := schemas.ParseStreamTopic(topic); ok {
		m.offerChunk(chunk{payload, true})
		return
	}
	switch topic {
	case m.topic(schemas.KindChunk):
		m.offerChunk(chunk{payload, false})
	case m.topic(schemas.KindOffer):
		m.mail.postIfRoom(func() { m.onOffer(payload, schemas.ReadTraceHeader(parent, state)) })
	case m.topic(schemas.KindAck):
		m.mail.postIfRoom(func() { m.onAck(payload) })
	}
}

// offerChunk drops what the download is too slow for: it is asked for again.
func (m *Module) offerChunk(c chunk) {
	select {
	case m.chunks <- c:
	default:
		m.log.Debug("chunk dropped", "event", logevent.ChunkDropped)
	}
}
