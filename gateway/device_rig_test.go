package gateway_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/prometheus/client_golang/prometheus"

	"davit/gateway"
	"davit/orchestrator"
	"davit/schemas"
)

// wait is how long a test waits for what should happen at once.
const wait = 10 * time.Second

// event is what the fake orchestrator was told.
type event struct {
	Device  string
	Payload any // a value of schemas, or a bool for presence
}

// fakeDevices is an orchestrator that writes down what it hears.
type fakeDevices struct {
	events   chan event
	onStatus func(context.Context, string, schemas.Status) error
	onHello  func(context.Context, string, schemas.Hello) error
	floods   atomic.Int32 // fetches that are still not worth reading
}

func newFakeDevices() *fakeDevices { return &fakeDevices{events: make(chan event, 10_000)} }

func (f *fakeDevices) Hello(ctx context.Context, d string, h schemas.Hello) error {
	if f.onHello != nil {
		return f.onHello(ctx, d, h)
	}
	f.events <- event{d, h}
	return nil
}

func (f *fakeDevices) Presence(_ context.Context, d string, online bool) error {
	f.events <- event{d, online}
	return nil
}

func (f *fakeDevices) Status(ctx context.Context, d string, s schemas.Status) error {
	if f.onStatus != nil {
		return f.onStatus(ctx, d, s)
	}
	f.events <- event{d, s}
	return nil
}

func (f *fakeDevices) MayFetch(device string, _ orchestrator.Session) (orchestrator.Ask, bool) {
	return orchestrator.Ask{Device: device}, f.floods.Add(-1) < 0
}

func (f *fakeDevices) Fetch(_ context.Context, ask orchestrator.Ask, r schemas.Fetch, _ orchestrator.Session) error {
	f.events <- event{ask.Device, r}
	return nil
}

// next returns the next event.
func (f *fakeDevices) next(t testing.TB) event {
	t.Helper()
	select {
	case e := <-f.events:
		return e
	case <-time.After(wait):
		t.Fatal("the orchestrator was told nothing")
		panic("unreachable")
	}
}

// startSessions runs Sessions for the time of the test.
func startSessions(t testing.TB, o gateway.SessionsOptions) *gateway.Sessions {
	t.Helper()
	s := runSessions(t, o)
	select {
	case <-s.Ready():
	case <-time.After(wait):
		t.Fatalf("sessions are not ready: %v", s.Health(t.Context()))
	}
	return s
}

func runSessions(t testing.TB, o gateway.SessionsOptions) *gateway.Sessions {
	t.Helper()
	if o.Log == nil {
		o.Log = testLog(t)
	}
	setCredentials(&o)
	s, err := gateway.NewSessions(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func setCredentials(o *gateway.SessionsOptions) {
	if o.Username == "" {
		o.Username, o.Password = serviceUser, servicePass
	}
}

// device is a module's MQTT side.
type device struct {
	t        testing.TB
	id       string
	client   *paho.Client
	received chan *paho.Publish
}

// connect connects a device and subscribes it to what the service says to it.
func connect(t testing.TB, b testBroker, id string) *device {
	t.Helper()
	d := dial(t, b, id)
	var subs []paho.SubscribeOptions
	for _, k := range schemas.Kinds() {
		if !k.FromDevice() {
			subs = append(subs, paho.SubscribeOptions{Topic: schemas.Topic{Device: id, Kind: k}.String(), QoS: k.QoS()})
		}
	}
	if _, err := d.client.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: subs}); err != nil {
		t.Fatalf("device %s: %v", id, err)
	}
	return d
}

// dial connects a device, or a bridge for devices.
func dial(t testing.TB, b testBroker, id string, devices ...string) *device {
	t.Helper()
	u, err := url.Parse(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, id: id, received: make(chan *paho.Publish, 10_000)}
	d.client = paho.NewClient(paho.ClientConfig{
		Conn: conn,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			d.received <- p.Packet
			return true, nil
		}},
	})
	hello := &paho.Connect{KeepAlive: 30, ClientID: "device-" + id, CleanStart: true,
		UsernameFlag: true, Username: id, PasswordFlag: true, Password: []byte(b.Login(t, id, devices...))}
	if _, err := d.client.Connect(t.Context(), hello); err != nil {
		t.Fatalf("device %s: %v", id, err)
	}
	t.Cleanup(func() { _ = d.client.Disconnect(&paho.Disconnect{}) })
	return d
}

// fleetOf returns the ids of n devices.
func fleetOf(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint("fleet-", i)
	}
	return ids
}

func (d *device) say(p schemas.Payload) {
	d.t.Helper()
	b, err := schemas.Encode(p)
	if err != nil {
		d.t.Fatal(err)
	}
	d.sayRaw(p.Kind(), b)
}

func (d *device) sayRaw(k schemas.Kind, b []byte) {
	d.t.Helper()
	topic := schemas.Topic{Device: d.id, Kind: k}.String()
	if _, err := d.client.Publish(d.t.Context(), &paho.Publish{Topic: topic, QoS: k.QoS(), Retain: k.Retained(), Payload: b}); err != nil {
		d.t.Fatalf("device %s: publish %s: %v", d.id, k, err)
	}
}

// hear returns the next message from the service.
func (d *device) hear() *paho.Publish {
	d.t.Helper()
	select {
	case p := <-d.received:
		return p
	case <-time.After(wait):
		d.t.Fatalf("device %s heard nothing", d.id)
		panic("unreachable")
	}
}

func hello() *schemas.Hello {
	return &schemas.Hello{V: 1, HostVersions: map[string]string{"oem_host_version": "1.0"}}
}

func status(seq uint64) *schemas.Status {
	return &schemas.Status{V: 1, Execution: "ex-1", Attempt: 1, Seq: seq, State: schemas.StateDownloading, BytesDone: seq}
}

func fetch() *schemas.Fetch {
	return &schemas.Fetch{V: 1, Image: "img-1", Tag: 7, Chunk: 4096, Ranges: []schemas.Range{{Offset: 0, Length: 8192}}}
}

func offer() schemas.Offer {
	return schemas.Offer{V: 1, Execution: "ex-1", Attempt: 1, Image: "img-1", ImageType: "app", Version: "2.0", Size: 10,
		SHA256: strings.Repeat("ab", 32), Chunk: schemas.ChunkHint{Preferred: 4096, Max: 65536}}
}

// metric reads one series.
func metric(t testing.TB, reg *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for i := 0; i < len(labels); i += 2 {
		want[labels[i]] = labels[i+1]
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			match := len(m.GetLabel()) == len(want)
			for _, l := range m.GetLabel() {
				match = match && want[l.GetName()] == l.GetValue()
			}
			if match {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no metric %s%v", name, want)
	return 0
}
