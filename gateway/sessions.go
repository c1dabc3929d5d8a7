package gateway

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"golang.org/x/sync/errgroup"

	"davit/orchestrator"
	"davit/schemas"
)

// Devices receives what devices say. Messages of one device come one after the
// other and in order (fetches in an order of their own); those of different
// devices come from many goroutines at once, so that an implementation which
// commits in groups has something to group.
//
// An error that wraps orchestrator.ErrNotFound means an unknown device,
// ErrInvalid or ErrConflict a message that is not granted: both are counted and
// logged once per device and minute. Any other error is the service's own.
type Devices interface {
	Hello(ctx context.Context, device string, h schemas.Hello) error
	Presence(ctx context.Context, device string, online bool) error
	// Status returns when the report is on disk and its ack is published. A
	// report that fails stays without ack, so the device repeats it.
	Status(ctx context.Context, device string, s schemas.Status) error
	// MayFetch says whether a fetch of the device is worth reading, before it is. Fetch is
	// given what it returns, or an Ask with the name of the device. from is as for Fetch.
	MayFetch(device string, from orchestrator.Session) (orchestrator.Ask, bool)
	// Fetch must not block; what it cannot take is asked for again. It logs
	// what it refuses, because only it knows how often that is worth a line. from is
	// the connection that is to get the chunks, nil if they are to be published.
	Fetch(ctx context.Context, ask orchestrator.Ask, f schemas.Fetch, from orchestrator.Session) error
}

// SessionsOptions configure Sessions.
type SessionsOptions struct {
	// Broker is the broker's URL: mqtt://, mqtts://, ws:// or wss://.
	Broker string
	// Username and Password are the service's own credentials.
	Username, Password string
	// TLS is used with mqtts and wss; nil means the system's roots.
	TLS *tls.Config
	// ClientID begins the MQTT client ids; it has to differ between replicas.
	// The default is random.
	ClientID string
	// Devices receives what devices say.
	Devices Devices
	// OnConnected is called after every (re)connect, when the subscriptions
	// stand, on a goroutine of its own: the broker may be another one or have
	// lost what it retained, so all offers are to be published again. ctx ends
	// with the connection. Nil means nothing to do.
	OnConnected func(ctx context.Context)
	// DataLinks is how many connections carry fetches and chunks, beside the
	// one for everything else; 0 means 2.
	DataLinks int
	// Workers is how many messages are handled at once; 0 means 512. Most of
	// them wait for the same group commit.
	Workers int
	// QueueBytes bounds the messages that wait for a worker; 0 means 64 MiB.
	QueueBytes int
	// Metrics may be nil; Log must not.
	Metrics *Metrics
	Log     *slog.Logger
}

// Defaults and limits of Sessions.
const (
	defaultDataLinks  = 2
	defaultWorkers    = 512
	defaultQueueBytes = 64 << 20
	fetchWorkers      = 4
	// maxOutstanding is how many QoS 1 publishes may wait for their PUBACK.
	maxOutstanding = 512
	// drainTimeout is how long Run, when its context has ended, waits for the
	// messages that had arrived.
	drainTimeout = 3 * time.Second
)

// shareGroup is the shared subscription's group: replicas of the service
// divide the messages among them.
const shareGroup = "davit"

// Sessions is the service's side of the MQTT contract: it receives what devices
// publish and is the orchestrator's Publisher.
type Sessions struct {
	options  SessionsOptions
	control  *link
	data     []*link
	messages *lanes // hello, presence, status
	fetches  *lanes
	refusals *refusalLog
	slots    chan struct{} // taken by QoS 1 publishes under way
	seed     maphash.Seed
	ready    chan struct{}
	onReady  sync.Once
}

var (
	_ orchestrator.Publisher   = (*Sessions)(nil)
	_ orchestrator.Multicaster = (*Sessions)(nil)
)

// NewSessions checks the options. Nothing is connected before Run.
func NewSessions(o SessionsOptions) (*Sessions, error) {
	broker, err := url.Parse(o.Broker)
	if err != nil {
		return nil, fmt.Errorf("broker URL: %w", err)
	}
	switch strings.ToLower(broker.Scheme) {
	case "mqtt", "mqtts", "ws", "wss":
	default:
		return nil, fmt.Errorf("broker URL %q: the scheme has to be mqtt, mqtts, ws or wss", broker.Redacted())
	}
	if broker.Host == "" {
		return nil, fmt.Errorf("broker URL %q names no host", broker.Redacted())
	}
	if o.Devices == nil || o.Log == nil {
		return nil, errors.New("gateway sessions need Devices and Log")
	}
	setDefault(&o.ClientID, "davit-"+rand.Text()[:10])
	setDefault(&o.DataLinks, defaultDataLinks)
	setDefault(&o.Workers, defaultWorkers)
	setDefault(&o.QueueBytes, defaultQueueBytes)
	s := &Sessions{
		options:  o,
		messages: newLanes(o.QueueBytes),
		fetches:  newLanes(o.QueueBytes / 4),
		refusals: &refusalLog{log: o.Log},
		slots:    make(chan struct{}, maxOutstanding),
		seed:     maphash.MakeSeed(),
		ready:    make(chan struct{}),
	}
	s.control = newLink(linkConfig{
		name: "control", clientID: o.ClientID + "-control", options: &s.options, broker: broker,
		receive: s.receive, subscribed: s.controlUp,
		filters: []paho.SubscribeOptions{
			{Topic: schemas.SharedFilter(shareGroup, schemas.KindHello), QoS: 1},
			{Topic: schemas.SharedFilter(shareGroup, schemas.KindStatus), QoS: 1},
			// A shared subscription does not get retained messages, and every replica may know who is there.
			{Topic: schemas.Filter(schemas.KindPresence), QoS: 1},
		},
	})
	for i := range o.DataLinks {
		// All data links are in one share group, so the broker divides the fetches among them.
		s.data = append(s.data, newLink(linkConfig{
			name: fmt.Sprintf("data-%d", i+1), clientID: fmt.Sprintf("%s-data-%d", o.ClientID, i+1), options: &s.options, broker: broker,
			receive: s.receive, subscribed: func(context.Context) { s.announce() },
			filters: []paho.SubscribeOptions{{Topic: schemas.SharedFilter(shareGroup, schemas.KindFetch), QoS: 0}},
		}))
	}
	o.Metrics.watchQueues(map[string]*lanes{"messages": s.messages, "fetches": s.fetches})
	return s, nil
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// String names the task.
func (s *Sessions) String() string { return "device sessions" }

// Ready is closed when every link has been connected and subscribed once.
func (s *Sessions) Ready() <-chan struct{} { return s.ready }

// Health returns nil while every link is connected and subscribed, or else why
// not.
func (s *Sessions) Health(context.Context) error {
	var errs []error
	for _, l := range s.links() {
		errs = append(errs, l.health())
	}
	return errors.Join(errs...)
}

// Load says how full the queue of what devices have said is, from 0 to 1.
func (s *Sessions) Load() float64 { return s.messages.load() }

func (s *Sessions) links() []*link { return append([]*link{s.control}, s.data...) }

func (s *Sessions) controlUp(conn context.Context) {
	s.announce()
	if s.options.OnConnected != nil {
		s.options.OnConnected(conn)
	}
}

// announce closes ready once all links are up.
func (s *Sessions) announce() {
	if s.Health(context.Background()) == nil {
		s.onReady.Do(func() { close(s.ready) })
	}
}

// Run keeps the connections up until ctx ends, and returns when the messages
// that had arrived are handled and acknowledged (or drainTimeout is over) and
// no goroutine is left. Run is called once.
func (s *Sessions) Run(ctx context.Context) error {
	// Workers outlive ctx by the drain.
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	var workers sync.WaitGroup
	for range s.options.Workers {
		workers.Go(func() { s.messages.work(func(d string, it item) { s.handle(work, d, it) }) })
	}
	for range fetchWorkers {
		workers.Go(func() { s.fetches.work(func(d string, it item) { s.handle(work, d, it) }) })
	}
	connections, disconnect := context.WithCancel(context.WithoutCancel(ctx))
	defer disconnect()
	var err error
	var started []*link
	for _, l := range s.links() {
		if err = l.start(connections); err != nil {
			break
		}
		started = append(started, l)
	}
	if err == nil {
		<-ctx.Done()
	}
	deadline := time.AfterFunc(drainTimeout, abandon)
	defer deadline.Stop()
	// What has arrived is handled and acknowledged before the links go; what arrives now is not taken.
	s.messages.close()
	s.fetches.close()
	workers.Wait()
	goodbye, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	var stopping errgroup.Group
	for _, l := range started {
		stopping.Go(func() error { return l.stop(goodbye) })
	}
	return errors.Join(err, stopping.Wait())
}

// linkOf picks the data link for a device's chunks; one device's chunks stay
// in order on one link.
func (s *Sessions) linkOf(device string) *link {
	return s.data[maphash.String(s.seed, device)%uint64(len(s.data))]
}
