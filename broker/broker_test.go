package broker

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/schemas"
)

func TestConfigIsChecked(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	tcp := []Listener{{Transport: TCP, Addr: "127.0.0.1:0"}}
	creds := credentials(t)
	if _, err := creds.AddDevice("davit"); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"no listener":   {Logger: log},
		"no logger":     {Listeners: tcp},
		"transport":     {Listeners: []Listener{{Transport: "udp"}}, Logger: log},
		"nameless":      {Listeners: tcp, Logger: log, ServicePassword: "x"},
		"negative":      {Listeners: tcp, Logger: log, Limits: Limits{WriteBuffer: -1}},
		"keep alive":    {Listeners: tcp, Logger: log, Limits: Limits{MaxKeepalive: 24 * time.Hour}},
		"window":        {Listeners: tcp, Logger: log, Limits: Limits{Window: 70_000}},
		"name is taken": {Listeners: tcp, Logger: log, Credentials: creds, ServiceName: "davit", ServicePassword: "x"},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestStartFailsCleanlyAndRunStops(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg := Config{
		Listeners: []Listener{{Transport: TCP, Addr: "127.0.0.1:0"}, {Transport: WebSocket, Addr: taken.Addr().String()}},
		Logger:    slog.New(slog.DiscardHandler),
	}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Fatalf("Start on a taken port: %v", err)
	}
	b.Stop()

	cfg.Listeners = cfg.Listeners[:1]
	if b, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	<-b.Ready()
	addr := b.addr()
	if err := b.Start(); err == nil {
		t.Error("started twice")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		_ = c.Close()
		t.Error("still listening")
	}
}

// Stop ends every kind of connection, tells MQTT 5 clients why, and delivers
// the callbacks.
func TestStopEndsEverything(t *testing.T) {
	rec := &recorder{}
	b := start(t, func(c *Config) { c.OnConnect, c.OnDisconnect = rec.up, rec.down })
	dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "d")})
	pending := dialTCP(t, b.addr())
	b.Stop()
	if reason := dev.ended(); reason != packets.ErrServerShuttingDown.Code {
		t.Errorf("DISCONNECT reason %#x", reason)
	}
	_ = pending.SetReadDeadline(time.Now().Add(patience))
	if _, err := pending.Read(make([]byte, 1)); err == nil {
		t.Error("the silent socket got a byte")
	}
	if got := rec.list(); !slices.Equal(got, []string{"+d[d]", "-d[d]"}) {
		t.Errorf("callbacks %v", got)
	}
}

func TestRefusedConnects(t *testing.T) {
	reg := prometheus.NewRegistry()
	b := start(t, func(c *Config) {
		c.Metrics = NewMetrics(reg)
		c.Limits.MaxConnections = 1
	})
	pump := addDevice(t, b, "pump")
	for name, c := range map[string]struct {
		o      connectOptions
		v5, v4 byte
	}{
		"anonymous":      {connectOptions{}, packets.ErrBadUsernameOrPassword.Code, 5},
		"no password":    {connectOptions{login: login{"pump", ""}}, packets.ErrBadUsernameOrPassword.Code, 5},
		"wrong password": {connectOptions{login: login{"pump", "x"}}, packets.ErrBadUsernameOrPassword.Code, 5},
		"unknown":        {connectOptions{login: login{"nobody", "x"}}, packets.ErrBadUsernameOrPassword.Code, 5},
		"wrong service":  {connectOptions{login: login{serviceName, pump.password}}, packets.ErrBadUsernameOrPassword.Code, 5},
		"long client id": {connectOptions{login: pump, clientID: strings.Repeat("x", 300)}, packets.ErrClientIdentifierNotValid.Code, 2},
	} {
		for version, want := range map[byte]byte{5: c.v5, 4: c.v4} {
			c.o.version = version
			conn, ack := try(t, b.addr(), c.o)
			if ack.ReasonCode != want {
				t.Errorf("%s, MQTT %d: CONNACK %#x, want %#x", name, version, ack.ReasonCode, want)
			}
			conn.ended()
		}
	}
	if n := testutil.ToFloat64(b.metrics.authFailures.WithLabelValues(string(verdictPassword))); n != 4 {
		t.Errorf("%v wrong passwords counted, want 4", n)
	}
	_, ack := try(t, b.addr(), connectOptions{login: pump, props: packets.Properties{AuthenticationMethod: "SCRAM"}})
	if ack.ReasonCode != packets.ErrBadAuthenticationMethod.Code {
		t.Errorf("enhanced authentication: CONNACK %#x", ack.ReasonCode)
	}
	connect(t, b.addr(), connectOptions{login: pump, clientID: "1"})
	for version, want := range map[byte]byte{5: packets.ErrServerBusy.Code, 4: 3} {
		if _, ack := try(t, b.addr(), connectOptions{login: pump, clientID: "2", version: version}); ack.ReasonCode != want {
			t.Errorf("one too many, MQTT %d: CONNACK %#x, want %#x", version, ack.ReasonCode, want)
		}
	}
	connect(t, b.addr(), connectOptions{login: service()}) // is never too many
}

// What mochi is told is not what the client asked for, so the client is told.
func TestConnackTellsTheLimits(t *testing.T) {
	b := start(t, nil)
	pump := addDevice(t, b, "pump")
	_, ack := try(t, b.addr(), connectOptions{login: pump, keepalive: 20_000, props: packets.Properties{SessionExpiryInterval: 3600, SessionExpiryIntervalFlag: true}})
	p := ack.Properties
	if ack.SessionPresent || !p.SessionExpiryIntervalFlag || p.SessionExpiryInterval != 0 {
		t.Errorf("session present %t, expiry %d (%t)", ack.SessionPresent, p.SessionExpiryInterval, p.SessionExpiryIntervalFlag)
	}
	if p.ServerKeepAlive != 600 || p.MaximumQos != 1 || !p.MaximumQosFlag || p.MaximumPacketSize != 256<<10 || p.AssignedClientID == "" || p.TopicAliasMaximum != 0 {
		t.Errorf("CONNACK properties %+v", p)
	}
	if strings.ContainsAny(p.AssignedClientID, "\x00/") {
		t.Errorf("assigned client id %q", p.AssignedClientID)
	}
	// A DISCONNECT that asks for a longer session is not a violation, and no will is sent.
	svc := connect(t, b.addr(), connectOptions{login: service()})
	svc.subscribe(1, "#")
	w := publishPacket(topic("pump", schemas.KindPresence), 1, true, offline)
	dev := connect(t, b.addr(), connectOptions{login: pump, will: &w})
	dev.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
		Properties:  packets.Properties{SessionExpiryInterval: 60, SessionExpiryIntervalFlag: true},
	})
	dev.ended()
	svc.quiet()
}

func TestDevicesAreHeldUntilAdmitted(t *testing.T) {
	b := start(t, func(c *Config) {
		c.HoldDevices = true
		c.Limits.ConnectTimeout = 500 * time.Millisecond
	})
	pump := addDevice(t, b, "pump")
	if _, ack := try(t, b.addr(), connectOptions{login: pump}); ack.ReasonCode != packets.ErrServerUnavailable.Code {
		t.Errorf("never admitted: CONNACK %#x", ack.ReasonCode)
	}
	early := rawClient(t, dialTCP(t, b.addr()), 5)
	early.send(connectPacket(connectOptions{login: pump}))
	svc := connect(t, b.addr(), connectOptions{login: service()})
	svc.subscribe(1, schemas.Filter(schemas.KindHello))
	b.Admit()
	if ack := early.expect(packets.Connack); ack.ReasonCode != 0 {
		t.Errorf("CONNACK %#x", ack.ReasonCode)
	}
	early.publish(topic("pump", schemas.KindHello), 1, false, "hello")
	svc.message()
}

// Without metrics and credentials everything works that does not need them.
func TestNilMetricsAndCredentials(t *testing.T) {
	b, err := New(Config{
		Listeners:   []Listener{{Transport: TCP, Addr: "127.0.0.1:0"}},
		ServiceName: serviceName, ServicePassword: servicePass, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	defer b.Stop()
	connect(t, b.addr(), connectOptions{login: service()}).quiet()
	if _, ack := try(t, b.addr(), connectOptions{login: login{"d", "x"}}); ack.ReasonCode == 0 {
		t.Error("a device without credentials is in")
	}
}

// A client that falls silent is dropped, with its will; 3.1.1 clients without
// a keep alive as well, since the longest allowed stands in for it.
func TestSilentClientsAreDropped(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *Config) { c.Limits.MaxKeepalive = time.Second })
	svc := connect(t, b.addr(), connectOptions{login: service(), version: 4})
	svc.subscribe(1, schemas.Filter(schemas.KindPresence))
	want := make(map[string]bool)
	for id, o := range map[string]connectOptions{
		"short": {version: 4, keepalive: 1}, "none": {version: 4, noKeepalive: true}, "long": {version: 5, keepalive: 600}, "none5": {version: 5, noKeepalive: true},
	} {
		w := publishPacket(topic(id, schemas.KindPresence), 1, true, offline)
		want[w.TopicName] = true
		o.login, o.will = addDevice(t, b, id), &w
		connect(t, b.addr(), o)
	}
	for range want {
		pk := svc.message()
		if !want[pk.TopicName] {
			t.Errorf("a second will on %s", pk.TopicName)
		}
		want[pk.TopicName] = false
	}
}

// A device may be sent all it may ask for at a time, however slow it is.
func TestFullWindowFitsTheBuffer(t *testing.T) {
	b := start(t, func(c *Config) { c.Limits.WriteBuffer = 64 << 10 })
	svc := connect(t, b.addr(), connectOptions{login: service()})
	dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "d")})
	dev.subscribe(0, topic("d", schemas.KindChunk))
	chunk := string(make([]byte, schemas.KindChunk.MaxPayload()))
	const window = schemas.MaxAwaited / schemas.MaxChunkSize
	for range 5 { // the socket buffers take some of the first rounds
		for range window {
			svc.publish(topic("d", schemas.KindChunk), 0, false, chunk)
		}
		svc.quiet()
		for range window {
			dev.message()
		}
	}
}
