package bridge

import (
	"bytes"
	"context"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/bridge/dialect"
	"davit/bridge/dialect/ayla"
	"davit/bridge/mqtt"
	"davit/broker" // the real broker, in tests only: the bridge itself must not know it
	"davit/internal/logtest"
	"davit/internal/secrettest"
	"davit/internal/sim"
	"davit/schemas"
)

// stage is a broker with a service behind it, over real sockets.
type stage struct {
	testing.TB
	service  *service
	accounts *broker.Credentials
	broker   *broker.Broker
	addr     string
	log      *logtest.Buffer
	running  *Bridge // the one that was started last
	// serviceUp receives when the service has subscribed on a new connection.
	serviceUp <-chan struct{}
	watch     *secrettest.Watch // of what broker and bridge log
}

// servicePassword is what the fake service logs in with.
const servicePassword = secrettest.Mark + "service"

func newStage(t testing.TB) *stage {
	t.Helper()
	accounts, err := broker.OpenCredentials(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{TB: t, service: newService(t), accounts: accounts, addr: "127.0.0.1:0", log: &logtest.Buffer{}, watch: secrettest.New(t)}
	s.service.delay = 0
	s.startBroker()
	s.startService()
	return s
}

func (s *stage) startBroker() {
	s.Helper()
	b, err := broker.New(broker.Config{
		Listeners: []broker.Listener{{Transport: broker.TCP, Addr: s.addr}}, Credentials: s.accounts,
		ServiceName: "service", ServicePassword: servicePassword, Logger: s.watch.Logger(nil),
	})
	if err != nil {
		s.Fatal(err)
	}
	if err := b.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(b.Stop)
	s.broker, s.addr = b, b.Addrs()[0].String()
}

// startService connects the fake service to the broker.
func (s *stage) startService() {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var cm *autopaho.ConnectionManager
	up := make(chan struct{}, 10)
	cfg := autopaho.ClientConfig{
		ServerUrls: []*url.URL{{Scheme: "mqtt", Host: s.addr}}, KeepAlive: 20, CleanStartOnInitialConnection: true,
		ConnectUsername: "service", ConnectPassword: []byte(servicePassword), ReconnectBackoff: func(int) time.Duration { return 50 * time.Millisecond },
		OnConnectionUp: func(c *autopaho.ConnectionManager, _ *paho.Connack) {
			sub := &paho.Subscribe{}
			for _, k := range schemas.Kinds() {
				if k.FromDevice() {
					sub.Subscriptions = append(sub.Subscriptions, paho.SubscribeOptions{Topic: schemas.Filter(k), QoS: k.QoS()})
				}
			}
			go func() {
				if _, err := c.Subscribe(ctx, sub); err == nil {
					up <- struct{}{}
				}
			}()
		},
		ClientConfig: paho.ClientConfig{ClientID: "service", OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(p paho.PublishReceived) (bool, error) {
				if topic, err := schemas.ParseTopic(p.Packet.Topic); err == nil && len(p.Packet.Payload) > 0 {
					s.service.take(topic, p.Packet.Payload)
				}
				return true, nil
			}}},
	}
	cm, err := autopaho.NewConnection(ctx, cfg)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		s.service.busy.Wait()
		cancel()
		<-cm.Done()
	})
	s.serviceUp = up
	s.awaitService()
	s.service.client = &Client{Received: func(topic string, payload []byte) {
		t, _ := schemas.ParseTopic(topic)
		if _, err := cm.Publish(ctx, &paho.Publish{Topic: topic, Payload: payload, QoS: t.Kind.QoS(), Retain: t.Kind.Retained()}); err != nil {
			s.Logf("publish on %s: %v", topic, err)
		}
	}}
}

// awaitService waits until the service has subscribed on a new connection.
func (s *stage) awaitService() {
	s.Helper()
	select {
	case <-s.serviceUp:
	case <-time.After(20 * time.Second):
		s.Fatal("the service does not reach the broker")
	}
}

// bridge runs a bridge until the returned function is called.
func (s *stage) bridge(password string, m *Metrics, ports ...PortConfig) (stop func()) {
	s.Helper()
	return s.trusting(Trust{}, password, m, ports...)
}

// trusting is bridge with keys of images.
func (s *stage) trusting(t Trust, password string, m *Metrics, ports ...PortConfig) (stop func()) {
	s.Helper()
	s.watch.Plant(password)
	b, err := New(Config{
		DataDir: s.TempDir(), Ports: ports, Dialects: map[string]dialect.Dialect{ayla.Name: ayla.Dialect{}}, Metrics: m, Trust: t,
		MQTT:   mqtt.Config{URL: "mqtt://" + s.addr, Username: "rack-1", Password: password},
		Logger: s.watch.Logger(slog.NewTextHandler(s.log, nil)),
	})
	if err != nil {
		s.Fatal(err)
	}
	s.running = b
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	select {
	case <-b.Ready():
	case <-time.After(20 * time.Second):
		s.Fatalf("the bridge does not reach the broker\n%s", s.log)
	}
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.Errorf("Run: %v", err)
		}
	})
}

func (s *stage) await(what string, cond func() bool) {
	s.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("%s: not within 30 s\n%s", what, s.log)
		}
	}
}

// station is a pseudo-terminal with a simulated MCU that loses no time.
func (s *stage) station() (*sim.PTY, *sim.MCU) {
	s.Helper()
	pty, err := sim.OpenPTY(sim.LineConfig{Baud: 921_600})
	if err != nil {
		s.Fatal(err)
	}
	mcu := sim.NewMCU(sim.MCUConfig{EraseTime: sim.None, WriteTime: sim.None, VerifyTime: sim.None, BootTime: 20 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mcu.Run(ctx, pty.MCU()) }()
	s.Cleanup(func() {
		cancel()
		<-done
		_ = pty.Close()
	})
	return pty, mcu
}

// Everything real but the MCU: sockets, broker, termios, pseudo-terminal, disk.
// The broker restarts in the middle.
func TestUpdateOverMQTTAndPTY(t *testing.T) {
	s := newStage(t)
	password, err := s.accounts.AddBridge("rack-1", []string{pump, "idle"})
	if err != nil {
		t.Fatal(err)
	}
	pty, mcu := s.station()
	other, _ := s.station()
	image := sim.BuildDemoImage(newVersion, 100_000, 1)
	s.service.images["img-1"] = image
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry)
	stop := s.bridge(password, m, PortConfig{Device: pump, Path: pty.Path(), Baud: 921_600, Dialect: ayla.Name}, PortConfig{Device: "idle", Path: other.Path(), Baud: 921_600, Dialect: ayla.Name})
	defer stop()
	s.await("hello", func() bool {
		return s.service.hello(pump).HostVersions["oem_host_version"] == oldVersion && s.service.isOnline("idle")
	})

	w := &world{T: t}
	s.service.offer(pump, w.offerOf("img-1", newVersion, image))
	s.await("the load", func() bool { return s.service.last(theExecution).State == schemas.StateInstalling })
	s.broker.Stop()
	s.startBroker()
	s.await("the end", func() bool { return s.service.last(theExecution).State.Final() })
	if st := s.service.last(theExecution); st.State != schemas.StateSucceeded {
		t.Errorf("%s, cause %q: %s", st.State, st.Cause, st.Detail)
	}
	if mcu.RunningVersion() != newVersion || !bytes.Equal(mcu.RunningImage(), image) {
		t.Errorf("the MCU runs %q", mcu.RunningVersion())
	}
	for name, least := range map[string]float64{
		"davit_bridge_loaded_bytes_total": 100_000, "davit_bridge_port_up": 1, "davit_bridge_goodput_bytes_per_second": 1000, "davit_bridge_goodput_ratio": 0.01,
	} {
		if v := ofPort(t, registry, name, pty.Path()); v < least || name == "davit_bridge_goodput_ratio" && v > 1 {
			t.Errorf("%s is %v, want at least %v", name, v, least)
		}
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
	stop()
	s.await("the farewell", func() bool { return !s.service.isOnline(pump) && !s.service.isOnline("idle") })
	if v := testutil.ToFloat64(m.connected); v != 0 {
		t.Errorf("connected is %v after the end", v)
	}
}

// ofPort is the value of a metric with the port's label, -1 if there is none.
func ofPort(t *testing.T, reg prometheus.Gatherer, name, port string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "port" && l.GetValue() == port {
					return m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
	}
	return -1
}

// A bridge whose account does not have one of its devices says so, and serves
// the others.
func TestSubscriptionRefused(t *testing.T) {
	s := newStage(t)
	password, err := s.accounts.AddBridge("rack-1", []string{pump})
	if err != nil {
		t.Fatal(err)
	}
	pty, _ := s.station()
	stop := s.bridge(password, nil, PortConfig{Device: pump, Path: pty.Path(), Dialect: ayla.Name}, PortConfig{Device: "foreign", Path: "/dev/null", Dialect: ayla.Name})
	defer stop()
	s.await("hello", func() bool { return s.service.isOnline(pump) })
	s.await("the complaint", func() bool {
		return strings.Contains(s.log.String(), "davit/v1/foreign/offer") && strings.Contains(s.log.String(), "not a serial port")
	})
}

// A device that is added while the bridge runs is subscribed to on the connection
// that stands, and updated; one that is removed says goodbye and hears nothing more. The next
// connection has the same devices, and its will speaks for the first of them.
func TestReloadOverMQTT(t *testing.T) {
	s := newStage(t)
	const added = "pump-2"
	password, err := s.accounts.AddBridge("rack-1", []string{pump, added})
	if err != nil {
		t.Fatal(err)
	}
	first, _ := s.station()
	second, mcu := s.station()
	image := sim.BuildDemoImage(newVersion, 20_000, 1)
	s.service.images["img-1"] = image
	port := func(device, path string) PortConfig {
		return PortConfig{Device: device, Path: path, Baud: 921_600, Dialect: ayla.Name}
	}
	stop := s.bridge(password, nil, port(pump, first.Path()))
	defer stop()
	reload := func(ports ...PortConfig) {
		t.Helper()
		if _, err := s.running.Reconfigure(context.Background(), Settings{Ports: ports}); err != nil {
			t.Fatal(err)
		}
	}
	s.await("the first hello", func() bool { return s.service.hello(pump).HostVersions["oem_host_version"] == oldVersion })
	w := &world{T: t}
	s.service.offer(added, w.offerOf("img-1", newVersion, image)) // retained
	reload(port(pump, first.Path()), port(added, second.Path()))
	s.await("the end", func() bool { return s.service.last(theExecution).State.Final() })
	if st := s.service.last(theExecution); st.State != schemas.StateSucceeded || !bytes.Equal(mcu.RunningImage(), image) {
		t.Errorf("%s, cause %q: %s", st.State, st.Cause, st.Detail)
	}
	if n := strings.Count(s.log.String(), "connected to the broker"); n != 1 {
		t.Errorf("connected %d times", n)
	}

	reload(port(added, second.Path()))
	s.await("the farewell", func() bool {
		return !s.service.isOnline(pump) && s.service.isOnline(added) && s.running.line(pump) == nil
	})
	s.broker.Stop()
	s.startBroker()
	s.awaitService()
	again := w.offerOf("img-1", newVersion, image)
	again.Execution = "ex-2"
	s.service.offer(added, again) // retained: the bridge may not be there yet
	s.await("the end on the next connection", func() bool { return s.service.last("ex-2").State.Final() })
	if s.service.isOnline(pump) {
		t.Error("the device that is gone is online")
	}
	stop()
	s.await("the farewell", func() bool { return !s.service.isOnline(added) })
}

// A bridge whose connection another one with its user name takes over says so.
func TestTakenOverIsTold(t *testing.T) {
	s := newStage(t)
	password, err := s.accounts.AddBridge("rack-1", []string{pump})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		stop := s.bridge(password, nil, PortConfig{Device: pump, Path: "/dev/null", Dialect: ayla.Name})
		defer stop()
	}
	s.await("the first to say that another one has its name", func() bool {
		return strings.Contains(s.log.String(), "another program has connected with this user name") && strings.Contains(s.log.String(), "principal=rack-1")
	})
}
