package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	paholog "github.com/eclipse/paho.golang/paho/log"
	"github.com/eclipse/paho.golang/paho/session"
	"github.com/eclipse/paho.golang/paho/session/state"

	"davit/internal/logevent"
	"davit/internal/trace"
)

// Settings of the service's connections to the broker.
const (
	linkKeepAlive      = 15 // seconds; a stalled broker is noticed within two of them
	linkReceiveMaximum = 1024
	// linkMaxPacket is the largest packet that the broker may send us. A
	// payload over Kind.MaxPayload but below this is refused and counted here;
	// anything larger does not leave the broker.
	linkMaxPacket  = 256 << 10
	connectTimeout = 10 * time.Second
	requestTimeout = 10 * time.Second
	subscribeRetry = time.Second
)

// ErrDisconnected is returned for what cannot be published because the broker
// is not connected. Nothing is queued: offers are published anew after every
// connect, the rest is asked for again by the device.
var ErrDisconnected = errors.New("not connected to the MQTT broker")

// linkConfig describes one connection to the broker.
type linkConfig struct {
	name     string // for people and metrics
	clientID string
	options  *SessionsOptions
	broker   *url.URL
	filters  []paho.SubscribeOptions
	receive  func(topic string, payload []byte, c *trace.Carried)
	// subscribed is called after each connect, when the broker has granted
	// all filters; its context ends with the connection.
	subscribed func(context.Context)
}

// link is one connection to the broker that is kept up. Each connection starts
// afresh: no session, subscription or unfinished publish outlives it.
type link struct {
	linkConfig
	log     *slog.Logger
	manager *autopaho.ConnectionManager // set by start, used by stop

	complaint  string // what refused logged last, and when; its own
	complained time.Time

	tasks sync.WaitGroup

	mu      sync.Mutex
	cm      *autopaho.ConnectionManager
	conn    context.Context // of the present connection, nil without one
	hangUp  context.CancelFunc
	problem error // why the link is not usable, nil if it is
}

func newLink(cfg linkConfig) *link {
	return &link{linkConfig: cfg, log: cfg.options.Log.With("link", cfg.name), problem: ErrDisconnected}
}

// start begins to connect; the attempts end with ctx or stop.
func (l *link) start(ctx context.Context) error {
	var pause time.Duration // before the next attempt; only the connecting goroutine uses it
	cfg := autopaho.ClientConfig{
		ServerUrls:                    []*url.URL{l.broker},
		TlsCfg:                        l.options.TLS,
		KeepAlive:                     linkKeepAlive,
		CleanStartOnInitialConnection: true,
		ConnectTimeout:                connectTimeout,
		ReconnectBackoff: func(attempt int) time.Duration {
			if attempt == 0 {
				pause = 50 * time.Millisecond
				return 0
			}
			pause = min(2*pause, 5*time.Second)
			return pause
		},
		ConnectUsername:  l.options.Username,
		ConnectPassword:  []byte(l.options.Password),
		OnConnectionUp:   func(cm *autopaho.ConnectionManager, _ *paho.Connack) { l.up(ctx, cm) },
		OnConnectionDown: l.down,
		OnConnectError:   l.refused,
		ConnectPacketBuilder: func(c *paho.Connect, _ *url.URL) (*paho.Connect, error) {
			receiveMaximum, packetMax := uint16(linkReceiveMaximum), uint32(linkMaxPacket)
			c.CleanStart = true
			// Without problem information mochi keeps user properties from us, of PUBLISH too.
			c.Properties = &paho.ConnectProperties{ReceiveMaximum: &receiveMaximum, MaximumPacketSize: &packetMax, RequestProblemInfo: true}
			return c, nil
		},
		ClientConfig: paho.ClientConfig{
			ClientID:      l.clientID,
			Session:       &freshSession{},
			PacketTimeout: requestTimeout,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				l.receive(p.Packet.Topic, p.Packet.Payload, carried(p.Packet.Properties))
				return true, nil
			}},
			OnClientError: func(err error) {
				l.log.Warn("the connection to the MQTT broker failed", "event", logevent.LinkFailed, "error", err)
			},
			OnServerDisconnect: func(d *paho.Disconnect) {
				l.log.Warn("the MQTT broker ended the connection", "event", logevent.LinkEnded, "reason_code", d.ReasonCode)
			},
		},
	}
	cm, err := autopaho.NewConnection(ctx, cfg)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", l.broker.Redacted(), err)
	}
	l.manager = cm
	return nil
}

// refused runs on autopaho's goroutine when an attempt to connect has failed.
// A reason that stays the same is logged once a minute.
func (l *link) refused(err error) {
	var answer *autopaho.ConnackError
	if errors.As(err, &answer) && (answer.ReasonCode == packets.ConnackBadUsernameOrPassword || answer.ReasonCode == packets.ConnackNotAuthorized) {
		err = fmt.Errorf("the broker does not accept the service's user name and password: %w", err)
	}
	l.setProblem(err)
	if now := time.Now(); err.Error() != l.complaint || now.Sub(l.complained) >= time.Minute {
		l.complaint, l.complained = err.Error(), now
		l.log.Warn("cannot connect to the MQTT broker; trying again", "event", logevent.LinkDown, "broker", l.broker.Redacted(), "error", err)
	}
}

// stop ends the connection and waits until nothing of it runs any more.
func (l *link) stop(ctx context.Context) error {
	err := l.manager.Disconnect(ctx)
	l.down()
	l.tasks.Wait()
	return err
}

// up runs on autopaho's goroutine when a connection is made.
func (l *link) up(ctx context.Context, cm *autopaho.ConnectionManager) {
	conn, hangUp := context.WithCancel(ctx)
	l.mu.Lock()
	l.cm, l.conn, l.hangUp = cm, conn, hangUp
	l.mu.Unlock()
	l.tasks.Go(func() { l.subscribe(conn, cm) })
}

// down runs on autopaho's goroutine when the connection is lost. It returns
// true: connect again.
func (l *link) down() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hangUp != nil {
		l.hangUp()
		l.conn, l.hangUp = nil, nil
	}
	l.problem = ErrDisconnected
	l.options.Metrics.linkConnected(l.name, false)
	return true
}

// subscribe asks for the filters until the broker grants them or the
// connection ends.
func (l *link) subscribe(conn context.Context, cm *autopaho.ConnectionManager) {
	for {
		_, err := cm.Subscribe(conn, &paho.Subscribe{Subscriptions: l.filters})
		if err == nil {
			break
		}
		if conn.Err() != nil {
			return
		}
		err = fmt.Errorf("the MQTT broker does not grant the service's subscriptions: %w", err)
		l.setProblem(err)
		l.log.Error("cannot subscribe; trying again", "event", logevent.LinkSubscribeFailed, "error", err)
		select {
		case <-conn.Done():
			return
		case <-time.After(subscribeRetry):
		}
	}
	if !l.usable(conn) {
		return
	}
	l.log.Info("connected to the MQTT broker", "event", logevent.LinkUp, "broker", l.broker.Redacted())
	l.subscribed(conn)
}

func (l *link) setProblem(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.problem = err
	l.options.Metrics.linkConnected(l.name, false)
}

// usable marks the link as healthy unless conn has ended meanwhile.
func (l *link) usable(conn context.Context) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if conn.Err() != nil {
		return false
	}
	l.problem = nil
	l.options.Metrics.linkConnected(l.name, true)
	return true
}

// health says why the link is not usable, or nil.
func (l *link) health() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.problem == nil {
		return nil
	}
	return fmt.Errorf("MQTT link %s: %w", l.name, l.problem)
}

// publish sends p. QoS 0 returns when the packet is written, QoS 1 when the
// broker has answered, ctx or the connection has ended, or requestTimeout is
// over.
func (l *link) publish(ctx context.Context, p *paho.Publish) error {
	l.mu.Lock()
	conn, cm := l.conn, l.cm
	l.mu.Unlock()
	if conn == nil {
		return ErrDisconnected
	}
	if p.QoS > 0 {
		// paho does not end the wait for a PUBACK when the connection is lost, so it is tied to both.
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(conn, cancel)()
	}
	_, err := cm.Publish(ctx, p)
	switch {
	case err == nil:
		return nil
	case conn.Err() != nil || errors.Is(err, autopaho.ConnectionDownError) || errors.Is(err, session.ErrNoConnection):
		return fmt.Errorf("publish on %s: %w", p.Topic, ErrDisconnected)
	case p.QoS == 0 && !errors.Is(err, paho.ErrInvalidArguments):
		return fmt.Errorf("publish on %s: %w: %w", p.Topic, ErrDisconnected, err) // the write failed
	}
	return fmt.Errorf("publish on %s: %w", p.Topic, err)
}

// freshSession gives each connection a session state of its own, so that
// nothing is repeated on the next one. (autopaho shares one state between
// connections, and reads its send quota outside the lock while the next
// connection replaces it.)
type freshSession struct {
	current atomic.Pointer[state.State]
}

var _ session.SessionManager = (*freshSession)(nil)

func (f *freshSession) ConAckReceived(w io.Writer, c *packets.Connect, ca *packets.Connack) error {
	s := state.NewInMemory()
	if err := s.ConAckReceived(w, c, ca); err != nil {
		return err
	}
	f.current.Store(s)
	return nil
}

func (f *freshSession) ConnectionLost(d *packets.Disconnect) error {
	if s := f.current.Load(); s != nil {
		return s.ConnectionLost(d)
	}
	return nil
}

func (f *freshSession) AddToSession(ctx context.Context, p session.Packet, resp chan<- packets.ControlPacket) error {
	if s := f.current.Load(); s != nil {
		return s.AddToSession(ctx, p, resp)
	}
	return session.ErrNoConnection
}

func (f *freshSession) PacketReceived(p *packets.ControlPacket, publishes chan<- *packets.Publish) error {
	if s := f.current.Load(); s != nil {
		return s.PacketReceived(p, publishes)
	}
	return session.ErrNoConnection
}

func (f *freshSession) Ack(p *packets.Publish) error {
	if s := f.current.Load(); s != nil {
		return s.Ack(p)
	}
	return session.ErrNoConnection
}

// Close, SetErrorLogger and SetDebugLogger have nothing to do: paho calls them
// for sessions and loggers that it made itself.

func (f *freshSession) Close() error { return nil }

func (f *freshSession) SetErrorLogger(paholog.Logger) {}

func (f *freshSession) SetDebugLogger(paholog.Logger) {}
