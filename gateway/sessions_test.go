package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/gateway"
	"davit/orchestrator"
	"davit/schemas"
)

// TestContract carries every message of the contract through each broker.
func TestContract(t *testing.T) {
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			early := connect(t, b, "early")
			early.say(&schemas.Presence{V: 1, Online: true})
			orch := newFakeDevices()
			s := startSessions(t, gateway.SessionsOptions{Broker: b.URL(), Devices: orch})
			if e := orch.next(t); e.Device != "early" || e.Payload != true {
				t.Fatalf("the presence that was retained before arrived as %+v", e)
			}
			d := connect(t, b, "pump-7")
			for _, p := range []schemas.Payload{&schemas.Presence{V: 1}, hello(), status(1), fetch()} {
				d.say(p)
				e := orch.next(t)
				for e.Device == "early" { // a broker may distribute what it has retained and acknowledged a moment before
					e = orch.next(t)
				}
				have, _ := json.Marshal(e.Payload)
				want, _ := json.Marshal(p)
				if p.Kind() == schemas.KindPresence {
					want = []byte("false")
				}
				if e.Device != "pump-7" || string(have) != string(want) {
					t.Errorf("%s arrived from %s as %s, sent was %s", p.Kind(), e.Device, have, want)
				}
			}
			checkPublisher(t, s, b, d)
		})
	}
}

func checkPublisher(t *testing.T, s *gateway.Sessions, b testBroker, d *device) {
	t.Helper()
	if err := s.Offer(t.Context(), d.id, offer()); err != nil {
		t.Fatal(err)
	}
	var got schemas.Offer
	if err := schemas.Decode(d.hear().Payload, &got); err != nil || got.Execution != "ex-1" {
		t.Errorf("offer arrived as %+v, %v", got, err)
	}
	again := connect(t, b, d.id)
	if p := again.hear(); !p.Retain || p.Topic != "davit/v1/"+d.id+"/offer" {
		t.Errorf("a device that connects later got %+v, want the retained offer", p)
	}
	_ = d.client.Disconnect(&paho.Disconnect{})
	d = again
	if err := s.Withdraw(t.Context(), d.id); err != nil {
		t.Fatal(err)
	}
	if p := d.hear(); len(p.Payload) != 0 || !strings.HasSuffix(p.Topic, "/offer") {
		t.Errorf("the withdrawal arrived as %+v", p)
	}
	ack := schemas.Ack{V: 1, Execution: "ex-1", Attempt: 1, Seq: 3, State: schemas.StateDownloading}
	if err := s.Ack(t.Context(), d.id, ack); err != nil {
		t.Fatal(err)
	}
	var gotAck schemas.Ack
	if err := schemas.Decode(d.hear().Payload, &gotAck); err != nil || gotAck != ack {
		t.Errorf("ack arrived as %+v, %v", gotAck, err)
	}
	profile := schemas.Profile{V: 1, DeviceType: "lamp", Dialect: "afero", VersionProperties: []string{"2101"}}
	if err := s.Profile(t.Context(), d.id, profile); err != nil {
		t.Fatal(err)
	}
	var gotProfile schemas.Profile
	p := d.hear()
	if err := schemas.Decode(p.Payload, &gotProfile); err != nil || !reflect.DeepEqual(gotProfile, profile) || p.Topic != "davit/v1/"+d.id+"/profile" || p.QoS != 1 || p.Retain {
		t.Errorf("profile arrived as %+v, %v", p, err)
	}
	if err := s.Profile(t.Context(), d.id, schemas.Profile{V: 1, Dialect: "afero"}); !errors.Is(err, schemas.ErrPayload) {
		t.Errorf("a profile without a device type: %v", err)
	}
	for i := range 20 {
		chunk := schemas.ChunkHeader{Transfer: 7, Offset: uint64(i)}.AppendTo(nil)
		if err := s.Chunk(t.Context(), d.id, append(chunk, make([]byte, 4096)...)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		if h, _, err := schemas.ParseChunk(d.hear().Payload); err != nil || h.Offset != uint64(i) {
			t.Fatalf("chunk %d arrived as %+v, %v", i, h, err)
		}
	}
	if err := s.Chunk(t.Context(), "a/#", nil); !errors.Is(err, schemas.ErrID) {
		t.Errorf("a chunk to a malformed device id: %v", err)
	}
}

// badPayload is something that no conforming device sends, and why it is refused.
type badPayload struct {
	kind   schemas.Kind
	raw    string
	reason string
}

func badPayloads() []badPayload {
	return []badPayload{
		{schemas.KindHello, `{"v":1,"module":"` + strings.Repeat("x", 9000) + `"}`, "oversized"},
		{schemas.KindPresence, `{"v":1,"online":true` + strings.Repeat(" ", 2000) + `}`, "oversized"},
		{schemas.KindHello, "{\"v\":1,\"module\":\"\xff\xfe\"}", "not_utf8"},
		{schemas.KindHello, `{"v":1,"module":"bra`, "not_json"},
		{schemas.KindHello, ``, "not_json"},
		{schemas.KindHello, `{"v":2,"flavour":"new"}`, "version"},
		{schemas.KindHello, `{}`, "version"},
		{schemas.KindHello, `{"v":1,"flavour":"new"}`, "unknown_field"},
		{schemas.KindHello, `{"v":1,"Module":"case"}`, "unknown_field"},
		{schemas.KindHello, `{"v":1,"v":1}`, "invalid"},
		{schemas.KindHello, `[]`, "invalid"},
		{schemas.KindHello, `{"v":1,"max_chunk":1}`, "invalid"},
		{schemas.KindStatus, `{"v":1,"execution":"ex-1","attempt":0,"seq":1,"state":"downloading"}`, "invalid"},
		{schemas.KindStatus, `{"v":1,"execution":"ex-1","attempt":1,"seq":1,"state":"succeeded"}`, "invalid"},
		{schemas.KindStatus, `{"v":1,"execution":"ex-1","attempt":1,"seq":404,"state":"downloading"}`, "unknown_device"},
		{schemas.KindStatus, `{"v":1,"execution":"ex-1","attempt":1,"seq":409,"state":"downloading"}`, "refused"},
		{schemas.KindStatus, `{"v":1,"execution":"ex-1","attempt":1,"seq":500,"state":"downloading"}`, "internal"},
		{schemas.KindStatus, `{"v":1,"execution":"ex-1","attempt":1,"seq":501,"state":"downloading"}`, "internal"},
		{schemas.KindFetch, `{"v":1,"image":"img-1","tag":1,"chunk":4096,"ranges":[` + strings.Repeat(`{"offset":0,"length":1},`, 300) + `{"offset":0,"length":1}]}`, "invalid"},
		{schemas.KindFetch, `{"v":1,"image":"img-1","tag":1,"chunk":4096,"ranges":[{"offset":0,"length":10},{"offset":5,"length":10}]}`, "invalid"},
		{schemas.KindFetch, `{"v":1,"image":"img-1","tag":1,"chunk":64,"ranges":[{"offset":0,"length":100000}]}`, "invalid"},
	}
}

// TestBadPayloads sends what no conforming device sends: each is refused and
// counted by its reason, logged once, and the next good message gets through.
func TestBadPayloads(t *testing.T) {
	for name, start := range brokers() {
		// The embedded broker refuses what is too long by itself; another one passes it on.
		t.Run(name, func(t *testing.T) { checkBadPayloads(t, start(t), name != "embedded") })
	}
}

func checkBadPayloads(t *testing.T, b testBroker, oversized bool) {
	orch := newFakeDevices()
	orch.onStatus = func(_ context.Context, device string, s schemas.Status) error {
		switch s.Seq {
		case 404:
			return fmt.Errorf("%w: device %s", orchestrator.ErrNotFound, device)
		case 409:
			return fmt.Errorf("%w: not now", orchestrator.ErrConflict)
		case 500:
			return errors.New("disk on fire")
		case 501:
			panic("a fault of ours")
		}
		orch.events <- event{device, s}
		return nil
	}
	reg := prometheus.NewRegistry()
	logs := &logRecorder{}
	startSessions(t, gateway.SessionsOptions{Broker: b.URL(), Devices: orch, Metrics: gateway.NewMetrics(reg), Log: logs.logger()})
	d := connect(t, b, "pump-7")
	want := map[string]float64{}
	for _, c := range badPayloads() {
		if c.reason == "oversized" && !oversized {
			continue
		}
		d.sayRaw(c.kind, []byte(c.raw))
		want[string(c.kind)+" "+c.reason]++
	}
	d.say(status(1))
	if e := orch.next(t); e.Device != "pump-7" {
		t.Fatalf("after the bad ones the good status arrived as %+v", e)
	}
	d.say(fetch())
	orch.next(t)
	for key, n := range want {
		kind, reason, _ := strings.Cut(key, " ")
		counted := func() float64 {
			return metric(t, reg, "davit_gateway_mqtt_refused_total", "kind", kind, "reason", reason)
		}
		eventually(t, func() bool { return counted() >= n }) // fetches go by two links
		if have := counted(); have != n {
			t.Errorf("refused %s: counted %v, want %v", key, have, n)
		}
	}
	if n := logs.count("pump-7"); n != 1 {
		t.Errorf("%d lines were logged for the device within a minute, want 1:\n%s", n, logs)
	}
}

// TestFlood: fetches that are not worth reading are counted as a flood and logged once,
// whether they come from the broker or from the connection itself, and nobody is told
// of them. The next one that is gets through.
func TestFlood(t *testing.T) {
	const refused = 3
	counted := func(reg *prometheus.Registry) float64 {
		return metric(t, reg, "davit_gateway_mqtt_refused_total", "kind", "fetch", "reason", "flood")
	}
	payload, err := schemas.Encode(fetch())
	if err != nil {
		t.Fatal(err)
	}
	for name, say := range map[string]func(t *testing.T, b testBroker, s *gateway.Sessions){
		"by the broker": func(t *testing.T, b testBroker, _ *gateway.Sessions) {
			d := connect(t, b, "pump-7")
			for range refused + 1 {
				d.sayRaw(schemas.KindFetch, payload)
			}
		},
		"by the connection": func(t *testing.T, _ testBroker, s *gateway.Sessions) {
			for i := range refused + 1 {
				if taken := s.TakeFetch("pump-7", payload, nil, ""); taken != (i == refused) {
					t.Errorf("fetch %d was taken: %v", i, taken)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, orch, reg, logs := newEmbedded(t), newFakeDevices(), prometheus.NewRegistry(), &logRecorder{}
			orch.floods.Store(refused)
			s := startSessions(t, gateway.SessionsOptions{Broker: b.URL(), Devices: orch, Metrics: gateway.NewMetrics(reg), Log: logs.logger()})
			say(t, b, s)
			if e := orch.next(t); e.Device != "pump-7" || len(orch.events) > 0 {
				t.Errorf("the orchestrator was told %+v and of %d more", e, len(orch.events))
			}
			if n := counted(reg); n != refused {
				t.Errorf("%v fetches are counted as a flood, want %d", n, refused)
			}
			if lines := logs.Lines("pump-7"); len(lines) != 1 || !strings.Contains(lines[0], "reason=flood") {
				t.Errorf("logged: %q, want one line with the reason", lines)
			}
		})
	}
}

// TestOrderAndGroupCommit proves that many reports are handled at the same
// time, and each device's in order.
func TestOrderAndGroupCommit(t *testing.T) {
	const devices, each = 200, 3
	b := newEmbedded(t)
	orch := newFakeDevices()
	var inside atomic.Int32
	together := make(chan struct{})
	var mu sync.Mutex
	last := map[string]uint64{}
	done := make(chan struct{}, devices*each)
	orch.onStatus = func(_ context.Context, device string, s schemas.Status) error {
		if s.Seq == 1 {
			if inside.Add(1) == devices {
				close(together)
			}
			<-together // a group commit: nobody returns before all are in
		}
		mu.Lock()
		if last[device] != s.Seq-1 {
			t.Errorf("%s: status %d came after %d", device, s.Seq, last[device])
		}
		last[device] = s.Seq
		mu.Unlock()
		done <- struct{}{}
		return nil
	}
	startSessions(t, gateway.SessionsOptions{Broker: b.URL(), Devices: orch})
	fleet := dial(t, b, "fleet", fleetOf(devices)...)
	for seq := range each {
		for n := range devices {
			payload, err := schemas.Encode(status(uint64(seq + 1)))
			if err != nil {
				t.Fatal(err)
			}
			topic := schemas.Topic{Device: fmt.Sprint("fleet-", n), Kind: schemas.KindStatus}.String()
			if _, err := fleet.client.Publish(t.Context(), &paho.Publish{Topic: topic, QoS: 1, Payload: payload}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n := range devices * each {
		select {
		case <-done:
		case <-time.After(wait):
			t.Fatalf("%d of %d reports were handled, %d at once", n, devices*each, inside.Load())
		}
	}
}

// TestOverload fills the queue: fetches go first, then statuses; a hello still
// gets in.
func TestOverload(t *testing.T) {
	b := newEmbedded(t)
	orch := newFakeDevices()
	release := make(chan struct{})
	orch.onStatus = func(_ context.Context, device string, s schemas.Status) error {
		<-release
		orch.events <- event{device, s}
		return nil
	}
	reg := prometheus.NewRegistry()
	const queue = 40 << 10
	startSessions(t, gateway.SessionsOptions{Broker: b.URL(), Devices: orch, Metrics: gateway.NewMetrics(reg), Workers: 1, QueueBytes: queue})
	d := dial(t, b, "fleet", fleetOf(12)...)
	publish := func(device string, p schemas.Payload) {
		t.Helper()
		payload, err := schemas.Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		topic := schemas.Topic{Device: device, Kind: p.Kind()}.String()
		if _, err := d.client.Publish(t.Context(), &paho.Publish{Topic: topic, QoS: p.Kind().QoS(), Payload: payload}); err != nil {
			t.Fatal(err)
		}
	}
	const statuses = 300
	for n := range statuses {
		publish(fmt.Sprint("fleet-", n%10), status(uint64(n+1)))
	}
	received := func(kind string, want float64) {
		t.Helper()
		eventually(t, func() bool { return metric(t, reg, "davit_gateway_mqtt_received_total", "kind", kind) == want })
	}
	received("status", statuses)
	publish("fleet-1", fetch())
	publish("fleet-11", hello())
	received("fetch", 1)
	received("hello", 1)
	dropped := func(kind string) float64 { return metric(t, reg, "davit_gateway_mqtt_dropped_total", "kind", kind) }
	if dropped("fetch") != 1 || dropped("hello") != 0 {
		t.Errorf("dropped %v fetches and %v hellos, want 1 and 0", dropped("fetch"), dropped("hello"))
	}
	lost := int(dropped("status"))
	if lost == 0 {
		t.Errorf("a queue of %d bytes took %d statuses", queue, statuses)
	}
	close(release)
	handled := map[string]int{}
	for range statuses - lost + 1 {
		switch orch.next(t).Payload.(type) {
		case schemas.Hello:
			handled["hello"]++
		case schemas.Status:
			handled["status"]++
		}
	}
	if handled["status"] != statuses-lost || handled["hello"] != 1 {
		t.Errorf("handled %v; %d statuses of %d were dropped", handled, lost, statuses)
	}
}

// TestBrokerComesBack stops the broker and starts an empty one in its place.
func TestBrokerComesBack(t *testing.T) {
	b := newEmbedded(t)
	orch := newFakeDevices()
	connected := make(chan struct{}, 10)
	s := startSessions(t, gateway.SessionsOptions{Broker: b.URL(), Devices: orch,
		OnConnected: func(context.Context) { connected <- struct{}{} }})
	<-connected
	b.Stop(t)
	// Each link notices by itself; until then a chunk is written to a dead connection without an error.
	eventually(t, func() bool {
		return s.Health(t.Context()) != nil && errors.Is(s.Chunk(t.Context(), "pump-7", []byte("x")), gateway.ErrDisconnected)
	})
	begin := time.Now()
	if err := s.Offer(t.Context(), "pump-7", offer()); !errors.Is(err, gateway.ErrDisconnected) {
		t.Errorf("an offer without a broker: %v", err)
	}
	if err := s.Chunk(t.Context(), "pump-7", []byte("x")); !errors.Is(err, gateway.ErrDisconnected) {
		t.Errorf("a chunk without a broker: %v", err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("publishing without a broker took %v to fail", took)
	}
	b.Start(t)
	select {
	case <-connected:
	case <-time.After(wait):
		t.Fatal("OnConnected was not called after the reconnect")
	}
	eventually(t, func() bool { return s.Health(t.Context()) == nil })
	d := connect(t, b, "pump-7")
	d.say(hello())
	if e := orch.next(t); e.Device != "pump-7" {
		t.Errorf("after the reconnect the hello arrived as %+v", e)
	}
	if err := s.Offer(t.Context(), "pump-7", offer()); err != nil {
		t.Errorf("an offer after the reconnect: %v", err)
	}
	d.hear()
}

// TestStopAcknowledgesWhatArrived: a report that is being committed when the
// service stops is acknowledged all the same.
func TestStopAcknowledgesWhatArrived(t *testing.T) {
	b := newEmbedded(t)
	orch := newFakeDevices()
	committing, commit := make(chan struct{}), make(chan struct{})
	var s *gateway.Sessions
	orch.onStatus = func(ctx context.Context, device string, st schemas.Status) error {
		close(committing)
		<-commit
		return s.Ack(ctx, device, schemas.Ack{V: 1, Execution: st.Execution, Attempt: st.Attempt, Seq: st.Seq, State: st.State})
	}
	var err error
	s, err = gateway.NewSessions(gateway.SessionsOptions{Broker: b.URL(), Username: serviceUser, Password: servicePass, Devices: orch, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Ready()
	d := connect(t, b, "pump-7")
	d.say(status(1))
	<-committing
	stop()
	close(commit)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if p := d.hear(); !strings.HasSuffix(p.Topic, "/ack") {
		t.Errorf("got %s, want the ack", p.Topic)
	}
}

func TestSessionsOptionsAreChecked(t *testing.T) {
	for _, u := range []string{"", "http://x", "mqtt://", "mqtt://%zz", "127.0.0.1:1883"} {
		_, err := gateway.NewSessions(gateway.SessionsOptions{Broker: u, Devices: newFakeDevices(), Log: testLog(t)})
		if err == nil || !strings.Contains(err.Error(), "URL") {
			t.Errorf("broker %q: %v", u, err)
		}
	}
}

func TestMetricNames(t *testing.T) {
	reg := prometheus.NewRegistry()
	gateway.NewMetrics(reg)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
