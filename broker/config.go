package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"time"
)

// Transport says how MQTT packets travel.
type Transport string

// The transports of a Listener.
const (
	TCP       Transport = "tcp"
	WebSocket Transport = "ws"
)

// Listener is one address on which the broker accepts connections.
type Listener struct {
	Transport Transport
	// Addr is "host:port"; port 0 takes a free one.
	Addr string
	// TLS makes the listener speak TLS; nil is plain text.
	TLS *tls.Config
	// Trust asks clients for a certificate, which then stands in for the password; nil
	// asks for none. It needs TLS.
	Trust *ClientTrust
	// NoPasswords refuses devices and bridges that have no certificate, whatever their
	// password is. The service is let in all the same.
	NoPasswords bool
}

// Limits bound what clients can make the broker hold. A zero field means its
// default.
type Limits struct {
	// MaxConnections is how many authenticated connections there may be. The
	// service's own do not count. Default 20,000.
	MaxConnections int
	// MaxPending is how many further sockets may be open that have not said
	// CONNECT yet. One more takes the place of one that has been silent for a
	// second, if there is one, or waits until there is. Default 4,096.
	MaxPending int
	// MaxWaiting is how many CONNECTs may wait to be served, each until four
	// fifths of ConnectTimeout. Who cannot be served in that time is told when to
	// come back. Default 8,192.
	MaxWaiting int
	// FailureRate is how many wrong passwords are answered in a second; the
	// answers to others are put off by up to two seconds. Default 100.
	FailureRate int
	// MessageRate is how many messages a second a device may send, fetches aside, which
	// go by what has arrived, and how many filters it may subscribe to or leave; a bridge
	// may send as many for each of its devices. Ten seconds' worth may come at once.
	// Who sends faster is read more slowly, and is disconnected after TooFast of that.
	// Default 100.
	MessageRate int
	// PacketRate is the same for packets of any kind, fetches and pings among them.
	// Default 2,000.
	PacketRate int
	// ByteRate is the same for bytes. Default 1 MiB.
	ByteRate int
	// ConnectRate is how many times a minute a device or a bridge may connect, all of
	// which may be at once. Default 60.
	ConnectRate int
	// TooFast is how long a device or bridge may send more than it may before it is
	// disconnected. Default 1 minute.
	TooFast time.Duration
	// MaxPerPrincipal is how many connections one device or bridge may have
	// at a time; one more ends its oldest. Default 8.
	MaxPerPrincipal int
	// ConnectTimeout is how long a socket may take from its first byte of
	// TCP to the end of CONNECT, and a CONNECT to its answer. Default 5 s.
	ConnectTimeout time.Duration
	// WriteBuffer is how many bytes may wait for one client before it is
	// disconnected as too slow. Chunks that Session.Send has taken do not
	// count; without Config.OnFetch, where chunks are messages like all others,
	// what the contract lets it ask for at a time comes on top: one full window
	// for each of its devices. Default 1 MiB.
	WriteBuffer int
	// ServiceWriteBuffer is how many bytes may wait for the service. Default
	// 16 MiB.
	ServiceWriteBuffer int
	// Window is how many QoS 1 messages may be on their way to one client
	// without PUBACK, if its Receive Maximum is not smaller. Default 64.
	Window int
	// ServiceWindow is the same for the service. Default 4096.
	ServiceWindow int
	// MaxPacketSize in bytes; a longer packet ends the connection. What is
	// shorter but over the contract's size is refused with the connection
	// kept. Default 256 KiB.
	MaxPacketSize uint32
	// MaxKeepalive is the longest keep alive that MQTT 5 clients are granted,
	// and what stands in for 0 (none). Default 10 minutes.
	MaxKeepalive time.Duration
}

// Config is what New needs.
type Config struct {
	// Listeners has at least one entry.
	Listeners []Listener
	// Credentials knows devices and bridges; nil admits the service only.
	Credentials *Credentials
	// KnowsDevice says whether there is a device of that id, for those that have a
	// certificate and no password. Nil knows none.
	KnowsDevice func(device string) bool
	// ServiceName and ServicePassword admit the service, with full rights on
	// all topics but those that begin with $. An empty password admits
	// nobody under that name.
	ServiceName, ServicePassword string
	// The broker itself keeps the retained presence true: when the last
	// connection of a principal has ended, that of each of its devices is
	// replaced by offline, which a bridge's one will could not do.
	//
	// OnConnect is called when a device or bridge has its first connection,
	// OnDisconnect when its last has ended, with the devices that the
	// principal had when it connected. The calls for all principals come one
	// at a time, in order, from one goroutine, so they should be brief. A
	// take-over, where a new connection replaces the old, is neither. The
	// CONNACK of a connection waits until OnDisconnect for the same principal
	// has returned, so what a device says afterwards is undone neither by it nor
	// by the presence.
	OnConnect, OnDisconnect func(principal string, devices []string)
	// HoldDevices makes devices and bridges wait with their CONNECT until
	// Admit is called, at most ConnectTimeout: a service that has to
	// subscribe first misses nothing that they say.
	HoldDevices bool
	// Pressed says that the service has as much to do as it should: new
	// connections wait meanwhile. Nil means never. It is called often and must not
	// block.
	Pressed func() bool
	// OnFetch takes the fetches of devices and bridges, instead of those who
	// subscribe to them; nil leaves them to subscribers. It is called on the
	// read loop of the connection that asks, after access control, and must not
	// block: closing the connection waits for it. It may send no messages to that
	// connection. payload is valid during the call. from is the connection to answer on: the
	// one that asked or, if only another one of the same principal subscribes
	// to the device's chunks, that one. It returns false for a fetch that it refused
	// unread; a device is then read on only after fetchRest.
	OnFetch func(device string, payload []byte, from *Session, traceparent string) bool
	// AdmitClaim says whether a module may come in with a claim's token in the place of
	// credentials, to ask for a device: nil, ErrClaimToken or ErrClaimRefused with the reason
	// for the log; any other error is the service's own. Nil admits none.
	AdmitClaim func(ctx context.Context, claim, token, device string) error
	// OnRequest handles a message that is answered to the connection that sent it, and
	// returns the answer, nil for none. It is needed with AdmitClaim. The connection has one request at a
	// time; ctx does not end with it.
	OnRequest func(ctx context.Context, r Request) (answer []byte)
	Limits    Limits
	// Logger is required.
	Logger *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics

	// listen replaces net.Listen in tests.
	listen func(network, addr string) (net.Listener, error)
	// trustCheck replaces the constant in tests.
	trustCheck time.Duration
}

func (c *Config) complete() error {
	if len(c.Listeners) == 0 {
		return errors.New("broker: no listener configured")
	}
	if c.Logger == nil {
		return errors.New("broker: no logger given")
	}
	for _, l := range c.Listeners {
		if l.Transport != TCP && l.Transport != WebSocket {
			return fmt.Errorf("broker: listener %s: transport %q is neither %s nor %s", l.Addr, l.Transport, TCP, WebSocket)
		}
		if l.Trust != nil && l.TLS == nil {
			return fmt.Errorf("broker: listener %s asks for client certificates and has no TLS", l.Addr)
		}
	}
	if c.ServicePassword != "" && c.ServiceName == "" {
		return errors.New("broker: a service password without a name")
	}
	if c.AdmitClaim != nil && c.OnRequest == nil {
		return errors.New("broker: claims are admitted and nobody takes them")
	}
	if c.trustCheck == 0 {
		c.trustCheck = trustCheck
	}
	c.Listeners = slices.Clone(c.Listeners)
	for i := range c.Listeners {
		if l := &c.Listeners[i]; l.Trust != nil {
			l.TLS = l.Trust.server(l.TLS)
		}
	}
	if c.listen == nil {
		c.listen = listen
	}
	return c.Limits.complete()
}

// listen opens a listener whose connections notice within a minute that the
// other end has vanished, whatever its keep alive.
func listen(network, addr string) (net.Listener, error) {
	lc := net.ListenConfig{Control: unpaced, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}
	lc.SetMultipathTCP(false) // no module speaks it, each accept costs more, and such a socket takes no filter (sieve_linux.go)
	return lc.Listen(context.Background(), network, addr)
}

func (l *Limits) complete() error {
	for _, f := range []struct {
		name string
		p    *int
		def  int
	}{
		{"MaxConnections", &l.MaxConnections, 20_000},
		{"MaxPending", &l.MaxPending, 4096},
		{"MaxWaiting", &l.MaxWaiting, 8192},
		{"FailureRate", &l.FailureRate, 100},
		{"MessageRate", &l.MessageRate, 100},
		{"PacketRate", &l.PacketRate, 2000},
		{"ByteRate", &l.ByteRate, 1 << 20},
		{"ConnectRate", &l.ConnectRate, 60},
		{"MaxPerPrincipal", &l.MaxPerPrincipal, 8},
		{"WriteBuffer", &l.WriteBuffer, 1 << 20},
		{"ServiceWriteBuffer", &l.ServiceWriteBuffer, 16 << 20},
		{"Window", &l.Window, 64},
		{"ServiceWindow", &l.ServiceWindow, 4096},
	} {
		if *f.p == 0 {
			*f.p = f.def
		}
		if *f.p < 0 {
			return fmt.Errorf("broker: limit %s is negative", f.name)
		}
	}
	for _, f := range []struct {
		name string
		p    *time.Duration
		def  time.Duration
	}{
		{"ConnectTimeout", &l.ConnectTimeout, 5 * time.Second},
		{"TooFast", &l.TooFast, time.Minute},
		{"MaxKeepalive", &l.MaxKeepalive, 10 * time.Minute},
	} {
		if *f.p == 0 {
			*f.p = f.def
		}
		if *f.p < 0 {
			return fmt.Errorf("broker: limit %s is negative", f.name)
		}
	}
	if l.MaxPacketSize == 0 {
		l.MaxPacketSize = 256 << 10
	}
	if l.Window > math.MaxUint16 || l.ServiceWindow > math.MaxUint16 {
		return fmt.Errorf("broker: a window is at most %d", math.MaxUint16)
	}
	if l.MaxKeepalive < time.Second || l.MaxKeepalive > maxSafeKeepalive*time.Second {
		return fmt.Errorf("broker: MaxKeepalive is %s, allowed are 1s to %ds", l.MaxKeepalive, maxSafeKeepalive)
	}
	return nil
}
