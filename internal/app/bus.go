package app

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"davit/broker"
	"davit/gateway"
	"davit/internal/app/address"
	"davit/orchestrator"
	"davit/schemas"
)

// bus is the MQTT broker as the rest of the server sees it: the embedded one,
// or an external one of which only the address is known.
type bus struct {
	embedded           *broker.Broker // nil with an external broker
	credentials        *broker.Credentials
	url                string
	username, password string
}

// serviceName is the service's own user name at the embedded broker. Devices
// and bridges cannot have it: $ is not a character of ids.
const serviceName = "$davit"

// openBus opens the embedded broker's listeners, or takes the external broker's
// address.
func (s *Server) openBus(o ServerOptions, file *broker.Credentials, registry prometheus.Registerer) (err error) {
	s.bus.credentials = file
	if o.External.URL != "" {
		return s.bus.useExternal(o.External)
	}
	s.connected = newConnectedDevices(s.typesOf)
	registry.MustRegister(s.connected)
	cfg := broker.Config{
		Credentials: file, ServiceName: serviceName, ServicePassword: rand.Text(),
		KnowsDevice: s.knowsDevice,
		OnConnect:   s.principalCame, OnDisconnect: s.principalGone, HoldDevices: true, Pressed: s.pressed,
		// No device is admitted before the sessions are there.
		OnFetch: func(device string, payload []byte, from *broker.Session, traceparent string) bool {
			return s.sessions.TakeFetch(device, payload, from, traceparent)
		},
		AdmitClaim: s.admitClaim, OnRequest: s.answerRequest,
		Limits: broker.Limits{MessageRate: o.MessageRate, ConnectRate: o.ConnectRate},
		Logger: s.log.With("part", "broker"), Metrics: broker.NewMetrics(registry),
	}
	if cfg.Listeners, err = listeners(o, s.certificate); err != nil {
		return err
	}
	s.tellPasswords(o, cfg.Listeners)
	b, err := broker.New(cfg)
	if err != nil {
		return err
	}
	if err := b.Start(); err != nil {
		return err
	}
	s.cleanup.add("broker", func() error { b.Stop(); return nil })
	addrs := b.Addrs()
	s.addrs.MQTT = addrs[0].String()
	for i, l := range cfg.Listeners[1:] {
		if l.Transport == broker.WebSocket {
			s.addrs.Websocket = addrs[i+1].String()
		} else {
			s.addrs.MQTTS = addrs[i+1].String()
		}
	}
	s.bus.embedded, s.bus.username, s.bus.password = b, serviceName, cfg.ServicePassword
	s.bus.url, err = loopbackURL(addrs[0])
	return err
}

// loopbackURL is how this process reaches its own listener: by the loopback
// address if it listens on all.
func loopbackURL(addr net.Addr) (string, error) {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.To4() == nil {
			host = "::1"
		}
	}
	return "mqtt://" + net.JoinHostPort(host, port), nil
}

func (b *bus) useExternal(e ExternalBroker) error {
	b.url, b.username = address.Broker(e.URL), e.Username
	if e.PasswordFile == "" {
		return nil
	}
	password, err := ReadToken(e.PasswordFile)
	if err != nil {
		return fmt.Errorf("read the broker's password: %w", err)
	}
	b.password = password
	return nil
}

// admit lets devices in that have waited for the service to subscribe.
func (b *bus) admit() {
	if b.embedded != nil {
		b.embedded.Admit()
	}
}

// pressed has new connections wait while much of what devices have said waits to be
// handled. There are no connections before the sessions are there.
func (s *Server) pressed() bool { return s.sessions.Load() > 0.25 }

// principalCame counts the devices of a new connection. That they are online
// they say themselves.
func (s *Server) principalCame(_ string, devices []string) { s.connected.came(devices) }

// principalGone counts the devices of a connection that has ended. That they
// are offline the broker says on their presence topics.
func (s *Server) principalGone(_ string, devices []string) { s.connected.gone(devices) }

// typesOf are the types of devices, "" for those that the service does not know.
func (s *Server) typesOf(devices []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.service.TypesOf(ctx, devices)
}

// inbound hands what devices say to the orchestrator. It stands between the
// two because each needs the other to be made.
type inbound struct{ s *Server }

var _ gateway.Devices = inbound{}

func (i inbound) Hello(ctx context.Context, device string, h schemas.Hello) error {
	return i.s.service.Hello(ctx, device, h)
}

func (i inbound) Presence(ctx context.Context, device string, online bool) error {
	return i.s.service.Presence(ctx, device, online)
}

func (i inbound) Status(ctx context.Context, device string, st schemas.Status) error {
	return i.s.service.Status(ctx, device, st)
}

func (i inbound) MayFetch(device string, from orchestrator.Session) (orchestrator.Ask, bool) {
	return i.s.service.MayFetch(device, from)
}

func (i inbound) Fetch(ctx context.Context, ask orchestrator.Ask, f schemas.Fetch, from orchestrator.Session) error {
	return i.s.service.Fetch(ctx, ask, f, from)
}
