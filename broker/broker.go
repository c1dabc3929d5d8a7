package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"davit/internal/logevent"
	"davit/internal/logonce"
)

const (
	// stopWait is how long Stop lets connections end in order.
	stopWait = 3 * time.Second
	// listenerID is what mochi is told that every connection comes from.
	listenerID = "davit"
)

// Broker is the embedded MQTT broker. Make it with New, then Start and Stop
// it, or Run it; it runs once.
type Broker struct {
	cfg        Config
	log        *slog.Logger
	metrics    *Metrics
	server     *mqtt.Server
	inline     *mqtt.Client // publishes wills that mochi forgets, and presence
	making     sync.Mutex   // held while a client of mochi's is made
	events     *events
	sessions   *sessions
	index      *index
	pending    *pending
	admission  *admission
	failures   *failures
	tarpit     tarpit
	handshakes *handshakes
	logged     logonce.Limit
	// strangers limits the lines about those who are not let in. Their names
	// are anybody's to make up, so they must not use up the memory of logged.
	strangers logonce.Limit
	// refused bounds the lines about refused CONNECTs.
	refused refusedLog
	turns   shareTurns
	small   buffers   // for outboxes
	big     buffers   // with room for bigBuffer bytes
	batches sync.Pool // of *batch
	vectors sync.Pool // of *vector, where there is such a thing

	// retained keeps the sending of retained messages to a new subscriber
	// apart from the storing of others. In mochi alone the two race: a stored
	// message may reach the subscriber before the one that it replaces does,
	// and a scan with wildcards reads what storing writes. Senders hold it for
	// writing, those who store for reading.
	retained sync.RWMutex

	ready    chan struct{}
	admitted chan struct{} // closed by Admit
	admit    sync.Once
	stopping chan struct{}
	tasks    sync.WaitGroup // accept loops, connections, flushes
	sockets  atomic.Int64

	life      context.Context // ends with stopping
	endLife   context.CancelFunc
	claimants atomic.Int64 // connections with the token of a claim

	mu        sync.Mutex
	started   bool
	stopped   bool
	listeners []net.Listener
	https     []*http.Server
	conns     map[*conn]struct{}
}

// New checks the configuration. Nothing is opened before Start.
func New(cfg Config) (*Broker, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if c := cfg.Credentials; c != nil && cfg.ServiceName != "" && c.lookup(cfg.ServiceName) != nil {
		return nil, fmt.Errorf("broker: the service's name %q is taken by a device or bridge; remove it or name the service differently", cfg.ServiceName)
	}
	b := &Broker{
		cfg: cfg, log: cfg.Logger, metrics: cfg.Metrics,
		ready: make(chan struct{}), admitted: make(chan struct{}), stopping: make(chan struct{}),
		conns:   make(map[*conn]struct{}),
		batches: sync.Pool{New: newBatch}, vectors: sync.Pool{New: newVector},
		index: newIndex(), refused: refusedLog{log: cfg.Logger},
	}
	b.life, b.endLife = context.WithCancel(context.Background())
	b.pending = newPending(cfg.Limits.MaxPending)
	b.tarpit.most = cfg.Limits.MaxPending / 2
	b.failures = newFailures(cfg.Limits.FailureRate, cfg.Limits.MaxPending)
	b.admission = newAdmission(cfg.Limits.MaxWaiting, b.closed, b.metrics.connectsWaiting, b.stopping)
	b.handshakes = newHandshakes(b.stopping, b.metrics.handshakesWaiting)
	b.events = newEvents(b.call)
	b.sessions = newSessions(b.events, b.disconnect)
	b.server = newServer(cfg.Limits)
	if err := b.server.AddHook(&hook{b: b}, nil); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	b.inline = b.server.NewClient(nil, listenerID, listenerID, true)
	if !cfg.HoldDevices {
		b.Admit()
	}
	if cfg.Credentials != nil {
		cfg.Credentials.watch(b.revoked, b.ordered)
	}
	return b, nil
}

// newServer makes mochi's part. Serve is not called on it: its event loop
// looks after sessions that outlive connections, delayed wills and $SYS, none
// of which we have, and copies every client and retained message each second.
func newServer(l Limits) *mqtt.Server {
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumMessageExpiryInterval = 0
	caps.MaximumSessionExpiryInterval = 0
	caps.MaximumPacketSize = l.MaxPacketSize
	caps.ReceiveMaximum = 64 // each is acknowledged before the next is read
	caps.TopicAliasMaximum = 0
	caps.MinimumProtocolVersion = 4
	caps.MaximumQos = 1
	caps.Compatibilities.NoInheritedPropertiesOnAck = true // a PUBACK echoing user properties would carry a wrong reason code
	return mqtt.New(&mqtt.Options{
		Capabilities:             caps,
		ClientNetReadBufferSize:  headerBuffer,
		ClientNetWriteBufferSize: 1, // conn buffers; mochi must not
		SysTopicResendInterval:   1 << 30,
		// It would log whole packets for what clients do wrong; the hook logs instead.
		Logger: slog.New(slog.DiscardHandler),
	})
}

// String names the task.
func (b *Broker) String() string { return "MQTT broker" }

// Ready is closed when all listeners accept connections.
func (b *Broker) Ready() <-chan struct{} { return b.ready }

// Admit lets devices and bridges in that Config.HoldDevices made wait.
func (b *Broker) Admit() { b.admit.Do(func() { close(b.admitted) }) }

// closed says whether nobody is to be let in at this moment: the service does
// not listen yet, or has as much to do as it can.
func (b *Broker) closed() bool {
	select {
	case <-b.admitted:
	default:
		return true
	}
	return b.cfg.Pressed != nil && b.cfg.Pressed() || b.serviceLags()
}

// serviceLags says whether much waits to be read by the service.
func (b *Broker) serviceLags() bool {
	for _, c := range b.sessions.of(b.cfg.ServiceName) {
		if c.backlog() > b.cfg.Limits.ServiceWriteBuffer/4 {
			return true
		}
	}
	return false
}

// Connections is how many connections devices and bridges have.
func (b *Broker) Connections() int { return b.sessions.len() }

// Addrs are the addresses of the listeners, in the order of Config.Listeners;
// none before Start.
func (b *Broker) Addrs() []net.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	addrs := make([]net.Addr, len(b.listeners))
	for i, l := range b.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}

// Run starts the broker and stops it when ctx ends.
func (b *Broker) Run(ctx context.Context) error {
	if err := b.Start(); err != nil {
		return err
	}
	<-ctx.Done()
	b.Stop()
	return nil
}

// Start opens the listeners. If one cannot be opened, none stays open.
func (b *Broker) Start() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.started || b.stopped {
		return errors.New("broker: started already")
	}
	for _, l := range b.cfg.Listeners {
		ln, err := b.cfg.listen("tcp", l.Addr)
		if err != nil {
			for _, open := range b.listeners {
				_ = open.Close()
			}
			b.listeners = nil
			return fmt.Errorf("broker: listen for MQTT over %s: %w", l.Transport, err)
		}
		b.listeners = append(b.listeners, ln)
	}
	b.started = true
	go b.events.run()
	for i, l := range b.cfg.Listeners {
		b.serve(l, b.listeners[i])
		b.log.Info("MQTT listener open", "event", logevent.BrokerListening, "transport", string(l.Transport), "address", b.listeners[i].Addr().String(), "tls", l.TLS != nil)
	}
	b.tasks.Go(b.sieve)
	for t := range b.trusts() {
		b.tasks.Add(1)
		go b.watchTrust(t)
	}
	close(b.ready)
	return nil
}

// trusts are what the listeners go by that ask for certificates.
func (b *Broker) trusts() map[*ClientTrust]struct{} {
	all := make(map[*ClientTrust]struct{})
	for _, l := range b.cfg.Listeners {
		if l.Trust != nil {
			all[l.Trust] = struct{}{}
		}
	}
	return all
}

// Stop closes the listeners and all connections, delivers the callbacks that
// are due, and returns when nothing runs any more. It may be called again.
func (b *Broker) Stop() {
	b.mu.Lock()
	again := b.stopped || !b.started
	b.stopped = true
	listeners, https := b.listeners, b.https
	b.mu.Unlock()
	if again {
		return
	}
	if b.cfg.Credentials != nil {
		b.cfg.Credentials.watch(nil, nil)
	}
	for _, ln := range listeners {
		_ = ln.Close()
	}
	for _, c := range b.sessions.all() {
		b.disconnect(c, packets.ErrServerShuttingDown)
	}
	for _, h := range https {
		_ = h.Close()
	}
	ended := make(chan struct{})
	go func() {
		b.tasks.Wait()
		close(ended)
	}()
	b.endLife()
	close(b.stopping) // accept loops that wait, and CONNECTs on hold
	patience := time.NewTimer(stopWait)
	defer patience.Stop()
	b.abortPending()
	b.tarpit.close()
	select {
	case <-ended:
	case <-patience.C:
		b.abortAll()
		<-ended
	}
	b.events.stop()
	b.refused.end()
}

// abortPending ends sockets that have not authenticated.
func (b *Broker) abortPending() {
	live := make(map[*conn]bool)
	for _, c := range b.sessions.all() {
		live[c] = true
	}
	for _, c := range b.open() {
		if !live[c] {
			c.abort()
		}
	}
}

func (b *Broker) abortAll() {
	for _, c := range b.open() {
		c.abort()
	}
}

func (b *Broker) open() []*conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		conns = append(conns, c)
	}
	return conns
}

// begin registers a connection; it returns false once the broker stops.
func (b *Broker) begin(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return false
	}
	b.tasks.Add(1)
	b.conns[c] = struct{}{}
	return true
}

func (b *Broker) end(c *conn) {
	b.mu.Lock()
	delete(b.conns, c)
	b.mu.Unlock()
	b.tasks.Done()
}

// call does what is due at one event: presence first, then the callback.
func (b *Broker) call(e event) {
	fn := b.cfg.OnDisconnect
	if e.up {
		fn = b.cfg.OnConnect
	} else {
		b.offline(e.p)
	}
	if fn != nil {
		fn(e.p.name, append([]string(nil), e.p.devices...))
	}
}

// disconnect ends a session, telling MQTT 5 clients why.
func (b *Broker) disconnect(c *conn, code packets.Code) {
	_ = b.server.DisconnectClient(c.client, code) // returns code, or that the client is gone
}

// revoked ends the connections of a principal whose credentials have changed.
func (b *Broker) revoked(name string) {
	for _, c := range b.sessions.of(name) {
		if c.principal.revoked.Load() {
			b.disconnect(c, packets.ErrAdministrativeAction)
		}
	}
}

func (b *Broker) slowReader(c *conn) {
	b.metrics.slowReader()
	if p := c.principal; p != nil && b.logged.Allow("slow/"+p.name) {
		b.log.Warn("MQTT client reads too slowly; connection ended", "event", logevent.BrokerSlowReader, "principal", p.name, "remote", c.RemoteAddr().String())
	}
}
