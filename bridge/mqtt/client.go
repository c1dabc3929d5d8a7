package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"davit/internal/logevent"
	"davit/schemas"
)

// Config says how to reach the broker.
type Config struct {
	// URL of the broker: mqtt://HOST:PORT, mqtts://, ws:// or wss://.
	URL string
	// ClientID names the connection: the broker ends an older one of the same name.
	ClientID string
	Username string
	Password string
	// Login, if it is not nil, has the password in the place of Password.
	Login Login
	// TLS is used with mqtts and wss; nil means the system's trust.
	TLS *tls.Config
}

// Login is a password that may change.
type Login interface {
	// Password is asked for at each attempt to connect.
	Password() string
	// Accepted is told that the broker has taken it, Refused that it has not.
	Accepted() error
	Refused()
	// Renewed receives when there is another password: the connection is made anew.
	Renewed() <-chan struct{}
}

// Times of the connection.
const (
	keepAliveSeconds = 30
	packetTimeout    = 10 * time.Second
	// subscribeBatch is how many filters go into one SUBSCRIBE: a packet of
	// moderate size, which every broker takes.
	subscribeBatch = 48
)

// client is a Transport over MQTT 5.
type client struct {
	cfg Config
	url *url.URL
	log *slog.Logger
	up  atomic.Pointer[link] // the connection that was made last, nil before the first

	reconnects reconnects
	// reach opens connections; tests have another one.
	reach  func(context.Context, *url.URL, *tls.Config) (net.Conn, error)
	answer atomic.Pointer[heard] // of the attempt to connect that is under way
}

// New checks cfg and makes a Transport over MQTT 5, which connects when it runs. It logs
// what goes wrong on the way.
func New(cfg Config, log *slog.Logger) (Transport, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("broker URL: %w", err)
	}
	switch u.Scheme {
	case "mqtt", "tcp", "mqtts", "ssl", "tls", "ws", "wss":
	default:
		return nil, fmt.Errorf("broker URL %q: the scheme is %q; write mqtt://HOST:PORT, mqtts://, ws:// or wss://", u.Redacted(), u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("broker URL %q names no host", u.Redacted())
	}
	if u.Port() == "" {
		u.Host += ":" + map[string]string{"mqtt": "1883", "tcp": "1883", "ws": "80", "wss": "443"}[u.Scheme]
		if u.Port() == "" {
			u.Host += "8883"
		}
	}
	return &client{cfg: cfg, url: u, log: log, reach: reach}, nil
}

// Run implements Transport.
func (t *client) Run(ctx context.Context, c Client) error {
	var renewed <-chan struct{}
	if t.cfg.Login != nil {
		renewed = t.cfg.Login.Renewed()
	}
	for {
		err := t.connection(ctx, c, renewed)
		if err != nil || ctx.Err() != nil {
			return err
		}
		c.Disconnected()
	}
}

// connection keeps one connection up until ctx ends, or it is to be made anew.
func (t *client) connection(ctx context.Context, c Client, renewed <-chan struct{}) error {
	var subscribing sync.WaitGroup
	defer subscribing.Wait()
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer t.lost()
	cfg := t.config(c)
	cfg.OnConnectionUp = func(cm *autopaho.ConnectionManager, _ *paho.Connack) {
		t.succeeded()
		if t.cfg.Login != nil {
			if err := t.cfg.Login.Accepted(); err != nil {
				t.log.Error("the change of the password is not ended on disk; it is at the next login", "event", logevent.PasswordChangeOpen, "error", err)
			}
		}
		t.made(cm)
		subscribing.Go(func() { t.subscribe(life, cm, c) })
	}
	cfg.OnConnectionDown = func() bool {
		t.reconnects.lost()
		t.lost()
		c.Disconnected()
		return true
	}
	cm, err := autopaho.NewConnection(life, cfg)
	if err != nil {
		return fmt.Errorf("connect to broker: %w", err)
	}
	select {
	case <-ctx.Done():
	case <-renewed:
	}
	bye, cancel := context.WithTimeout(life, packetTimeout/5)
	defer cancel()
	if err := cm.Disconnect(bye); err != nil && !errors.Is(err, context.Canceled) {
		t.log.Debug("disconnect from broker", "event", logevent.BridgeFarewell, "error", err)
	}
	end()
	<-cm.Done()
	return nil
}

func (t *client) config(c Client) autopaho.ClientConfig {
	return autopaho.ClientConfig{
		ServerUrls: []*url.URL{t.url}, TlsCfg: t.cfg.TLS, KeepAlive: keepAliveSeconds,
		// Nothing is kept at the broker: what matters is repeated until it is acknowledged by the service.
		CleanStartOnInitialConnection: true, SessionExpiryInterval: 0,
		ReconnectBackoff: t.reconnects.wait, ConnectTimeout: packetTimeout, AttemptConnection: t.attempt,
		ConnectUsername: t.cfg.Username, ConnectPassword: []byte(t.cfg.Password),
		ConnectPacketBuilder: func(packet *paho.Connect, _ *url.URL) (*paho.Connect, error) {
			if t.cfg.Login != nil {
				packet.UsernameFlag, packet.PasswordFlag, packet.Password = true, true, []byte(t.cfg.Login.Password())
			}
			if w := c.Will(); w.Topic != "" {
				packet.WillMessage = &paho.WillMessage{Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain}
				packet.WillProperties = &paho.WillProperties{}
			}
			return packet, nil
		},
		OnConnectError: func(err error) {
			if t.toldToWait() {
				return
			}
			var answer *autopaho.ConnackError
			if t.cfg.Login != nil && errors.As(err, &answer) && answer.ReasonCode == packets.ConnackBadUsernameOrPassword {
				t.cfg.Login.Refused()
			}
			t.log.Warn("no connection to the broker; trying again", "event", logevent.BrokerUnreachable, "broker", t.url.Redacted(), "error", err)
		},
		ClientConfig: paho.ClientConfig{
			ClientID: t.cfg.ClientID, PacketTimeout: packetTimeout,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				c.deliver(p.Packet)
				return true, nil
			}},
			OnServerDisconnect: t.ended,
		},
	}
}

// ended logs that the broker has ended the connection. That another client took
// it over is nothing that ends by itself: each of the two comes back.
func (t *client) ended(d *paho.Disconnect) {
	if d.ReasonCode == packets.DisconnectSessionTakenOver {
		t.log.Error("another program has connected with this user name, which serves one: end one of the two, or give it a user name of its own (davit bridge add, davit device add)", "event", logevent.BridgeDuplicated,
			"broker", t.url.Redacted(), "principal", t.cfg.Username)
		return
	}
	t.log.Warn("the broker ended the connection", "event", logevent.BrokerEndedConnection, "broker", t.url.Redacted(), "reason", d.ReasonCode)
}

// subscribe subscribes and then says that the connection stands. It gives up
// when the connection does.
func (t *client) subscribe(ctx context.Context, cm *autopaho.ConnectionManager, c Client) {
	if err := t.subscribeAll(ctx, cm, c.Subscriptions()); err != nil {
		t.log.Warn("subscribe", "event", logevent.SubscribeFailed, "broker", t.url.Redacted(), "error", err)
		return // the connection is lost, or will be: its ping fails next
	}
	c.Connected()
}

// subscribeAll subscribes in batches. A subscription that the broker refuses is
// logged and not an error: the others stand.
func (t *client) subscribeAll(ctx context.Context, cm *autopaho.ConnectionManager, all []Subscription) error {
	for batch := range slices.Chunk(all, subscribeBatch) {
		packet := &paho.Subscribe{}
		for _, s := range batch {
			packet.Subscriptions = append(packet.Subscriptions, paho.SubscribeOptions{Topic: s.Topic, QoS: s.QoS})
		}
		call, cancel := context.WithTimeout(ctx, packetTimeout)
		ack, err := cm.Subscribe(call, packet)
		cancel()
		if err == nil {
			continue
		}
		if ack == nil {
			return err
		}
		for i, code := range ack.Reasons {
			if code >= 0x80 && i < len(batch) {
				t.log.Error("the broker refuses a subscription; may this user name act for the device? (davit bridge add, davit device add)", "event", logevent.SubscribeRefused,
					"topic", batch[i].Topic, "reason", code)
			}
		}
	}
	return nil
}

// errNotConnected: there has been no connection yet. errConnectionEnded: it ended before the
// broker acknowledged the message, which may have arrived.
var (
	errNotConnected    = errors.New("not connected to the broker")
	errConnectionEnded = errors.New("the connection to the broker ended before the message was acknowledged")
)

// link is one connection.
type link struct {
	cm    *autopaho.ConnectionManager
	ended context.Context // over when the connection is
	end   context.CancelFunc
}

// made notes a connection that stands, lost that it has ended.
func (t *client) made(cm *autopaho.ConnectionManager) *link {
	ended, end := context.WithCancel(context.Background())
	l := &link{cm, ended, end}
	t.up.Store(l)
	return l
}

func (t *client) lost() {
	if l := t.up.Load(); l != nil {
		l.end()
	}
}

// publish ends with the connection: paho forgets what was not acknowledged then, and whom
// it was to tell, who would wait for packetTimeout while the next connection stands.
func (l *link) publish(ctx context.Context, p *paho.Publish) error {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ended, cancel)()
	_, err := l.cm.Publish(call, p)
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return errConnectionEnded
	}
	return err
}

// Subscribe implements Transport.
func (t *client) Subscribe(ctx context.Context, subscriptions []Subscription) error {
	l := t.up.Load()
	if l == nil {
		return errNotConnected
	}
	return t.subscribeAll(ctx, l.cm, subscriptions)
}

// Unsubscribe implements Transport.
func (t *client) Unsubscribe(ctx context.Context, topics []string) error {
	l := t.up.Load()
	if l == nil {
		return errNotConnected
	}
	ctx, cancel := context.WithTimeout(ctx, packetTimeout)
	defer cancel()
	_, err := l.cm.Unsubscribe(ctx, &paho.Unsubscribe{Topics: topics})
	return err
}

// Publish implements Transport.
func (t *client) Publish(ctx context.Context, m Message) error {
	l := t.up.Load()
	if l == nil {
		return errNotConnected
	}
	p := &paho.Publish{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain}
	if m.Traceparent != "" {
		p.Properties = &paho.PublishProperties{}
		p.Properties.User.Add(schemas.TraceparentProperty, m.Traceparent)
		if m.Tracestate != "" {
			p.Properties.User.Add(schemas.TracestateProperty, m.Tracestate)
		}
	}
	return l.publish(ctx, p)
}

// deliver hands a message to the client.
func (c *Client) deliver(p *paho.Publish) {
	if c.Traced != nil && p.Properties != nil && len(p.Properties.User) > 0 {
		if parent := p.Properties.User.Get(schemas.TraceparentProperty); parent != "" {
			c.Traced(p.Topic, p.Payload, parent, p.Properties.User.Get(schemas.TracestateProperty))
			return
		}
	}
	c.Received(p.Topic, p.Payload)
}
