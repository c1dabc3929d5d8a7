package broker

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/schemas"
)

// recorder is a pair of callbacks.
type recorder struct {
	mu    sync.Mutex
	calls []string
	block chan struct{} // if set, down waits for it
}

func (r *recorder) up(p string, devices []string) { r.add(fmt.Sprintf("+%s%v", p, devices)) }

func (r *recorder) down(p string, devices []string) {
	if r.block != nil {
		<-r.block
	}
	r.add(fmt.Sprintf("-%s%v", p, devices))
}

func (r *recorder) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, s)
}

func (r *recorder) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

func TestCallbacksCountPrincipalsNotConnections(t *testing.T) {
	rec := &recorder{}
	b := start(t, func(c *Config) { c.OnConnect, c.OnDisconnect = rec.up, rec.down })
	pw, err := b.cfg.Credentials.AddBridge("rack", []string{"b", "a"})
	if err != nil {
		t.Fatal(err)
	}
	rack := login{"rack", pw}
	one := connect(t, b.addr(), connectOptions{login: rack, clientID: "1"})
	two := connect(t, b.addr(), connectOptions{login: rack, clientID: "2"})
	again := connect(t, b.addr(), connectOptions{login: rack, clientID: "1"})
	if reason := one.ended(); reason != packets.ErrSessionTakenOver.Code {
		t.Errorf("DISCONNECT reason %#x", reason)
	}
	connect(t, b.addr(), connectOptions{login: service()}) // is not told of
	_ = two.Close()
	eventually(t, "one connection is left", func() bool { return b.Connections() == 1 })
	again.quiet()
	_ = again.Close()
	eventually(t, "the bridge is offline", func() bool { return len(rec.list()) == 2 })
	if got := rec.list(); !slices.Equal(got, []string{"+rack[a b]", "-rack[a b]"}) {
		t.Errorf("callbacks %v", got)
	}
}

// What a device says after it came back is never undone by the callback for
// its end before: the CONNACK waits for that.
func TestConnackWaitsForTheCallback(t *testing.T) {
	rec := &recorder{block: make(chan struct{})}
	b := start(t, func(c *Config) { c.OnConnect, c.OnDisconnect = rec.up, rec.down })
	pump := addDevice(t, b, "pump")
	dev := connect(t, b.addr(), connectOptions{login: pump, clientID: "x"})
	_ = dev.Close()
	eventually(t, "the connection is gone", func() bool { return b.Connections() == 0 })
	back := rawClient(t, dialTCP(t, b.addr()), 5)
	back.send(connectPacket(connectOptions{login: pump, clientID: "x"}))
	eventually(t, "the new connection is in", func() bool { return b.Connections() == 1 })
	if _, err := back.next(50 * time.Millisecond); err == nil {
		t.Fatal("CONNACK while the callback for the old connection runs")
	}
	close(rec.block)
	back.expect(packets.Connack)
	eventually(t, "all callbacks", func() bool { return len(rec.list()) == 3 })
	if got := rec.list(); !slices.Equal(got, []string{"+pump[pump]", "-pump[pump]", "+pump[pump]"}) {
		t.Errorf("callbacks %v", got)
	}
}

// However fast connections follow one another, callbacks alternate and the
// last says what is true.
func TestCallbacksAlternateInAStorm(t *testing.T) {
	rec := &recorder{}
	b := start(t, func(c *Config) {
		c.OnConnect, c.OnDisconnect = rec.up, rec.down
		c.Limits.ConnectRate = 1000
	})
	pump := addDevice(t, b, "pump")
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 25 {
				c, err := net.Dial("tcp", b.addr())
				if err != nil {
					t.Error(err)
					return
				}
				cl := rawClient(t, c, 5)
				if err := cl.put(connectPacket(connectOptions{login: pump, clientID: fmt.Sprint((w + i) % 2)})); err == nil {
					_, _ = cl.next(patience) // a take-over may come first
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	last := connect(t, b.addr(), connectOptions{login: pump, clientID: "last"})
	eventually(t, "only the last is left", func() bool { return b.Connections() == 1 })
	last.quiet()
	_ = last.Close()
	eventually(t, "nobody is left", func() bool { return b.Connections() == 0 })
	b.Stop()
	calls := rec.list()
	for i, c := range calls {
		if want := []string{"+pump[pump]", "-pump[pump]"}[i%2]; c != want {
			t.Fatalf("call %d of %v is %s", i, calls, c)
		}
	}
	if len(calls)%2 != 0 {
		t.Errorf("the last of %d calls is %s", len(calls), calls[len(calls)-1])
	}
}

// Two principals may use the same client id without noticing one another, and
// none can name a session of the other.
func TestClientIDsAreScoped(t *testing.T) {
	b := start(t, nil)
	one, two := addDevice(t, b, "one"), addDevice(t, b, "two")
	a := connect(t, b.addr(), connectOptions{login: one, clientID: "x"})
	for _, id := range []string{"x", "one", "one\x00x"[:3] + "/x", "davit"} {
		connect(t, b.addr(), connectOptions{login: two, clientID: id})
	}
	a.quiet()
	a.subscribe(1, topic("one", schemas.KindOffer))
	svc := connect(t, b.addr(), connectOptions{login: service(), clientID: "x"})
	svc.publish(topic("one", schemas.KindOffer), 1, true, "o")
	a.message()
}

func TestOneMoreConnectionEndsTheOldest(t *testing.T) {
	b := start(t, func(c *Config) { c.Limits.MaxPerPrincipal = 2 })
	pump := addDevice(t, b, "pump")
	first := connect(t, b.addr(), connectOptions{login: pump, clientID: "1"})
	second := connect(t, b.addr(), connectOptions{login: pump, clientID: "2"})
	third := connect(t, b.addr(), connectOptions{login: pump, clientID: "3"})
	if reason := first.ended(); reason != packets.ErrQuotaExceeded.Code {
		t.Errorf("DISCONNECT reason %#x", reason)
	}
	second.quiet()
	third.quiet()
}

// The will of a connection that the broker ends is published, whatever the
// read loop was doing.
func TestWillAfterTheBrokerEndedTheConnection(t *testing.T) {
	b := start(t, nil)
	svc := connect(t, b.addr(), connectOptions{login: service()})
	svc.subscribe(1, schemas.Filter(schemas.KindPresence))
	for i := range 30 {
		pump := addDevice(t, b, fmt.Sprint("pump", i))
		w := publishPacket(topic(pump.user, schemas.KindPresence), 1, true, offline)
		dev := connect(t, b.addr(), connectOptions{login: pump, will: &w})
		switch i % 3 {
		case 0:
			dev.publish(topic(pump.user, schemas.KindFetch), 0, false, "busy")
		case 1: // mochi panics over this one
			if _, err := dev.Write([]byte("\x82\x06\x00\x01\x00\x00\x01a")); err != nil {
				t.Fatal(err)
			}
			dev.ended()
		}
		if err := b.cfg.Credentials.Remove(pump.user); err != nil {
			t.Fatal(err)
		}
		dev.ended()
		if pk := svc.message(); pk.TopicName != w.TopicName || string(pk.Payload) != offline {
			t.Fatalf("%s: %q", pk.TopicName, pk.Payload)
		}
	}
	late := connect(t, b.addr(), connectOptions{login: service(), clientID: "late"})
	late.subscribe(1, schemas.Filter(schemas.KindPresence))
	for range 30 {
		if pk := late.message(); !pk.FixedHeader.Retain {
			t.Fatal("not retained")
		}
	}
}

// Members of a shared subscription take turns, and one that is gone gets none.
func TestSharedSubscriptionTakesTurns(t *testing.T) {
	b := start(t, nil)
	pump := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "pump")})
	var members []*mqttConn
	for i := range 3 {
		m := connect(t, b.addr(), connectOptions{login: service(), clientID: fmt.Sprint("replica", i)})
		if codes := m.subscribe(1, schemas.SharedFilter("davit", schemas.KindHello)); codes[0] != 1 {
			t.Fatalf("SUBACK %#x", codes[0])
		}
		members = append(members, m)
	}
	for i := range 30 {
		pump.publish(topic("pump", schemas.KindHello), 1, false, fmt.Sprint(i))
	}
	for i, m := range members {
		for range 10 {
			if pk := m.message(); pk.FixedHeader.Qos != 1 {
				t.Fatalf("member %d: QoS %d", i, pk.FixedHeader.Qos)
			}
		}
		m.quiet()
	}
	_ = members[0].Close()
	eventually(t, "the member is gone", func() bool { return len(b.sessions.all()) == 3 })
	for i := range 10 {
		pump.publish(topic("pump", schemas.KindHello), 1, false, fmt.Sprint(i))
	}
	for _, m := range members[1:] {
		for range 5 {
			m.message()
		}
		m.quiet()
	}
}

// Retained presence stored while a wildcard subscriber looks for it: mochi has
// a data race there, which the race detector would see.
func TestRetainedUnderWildcardScans(t *testing.T) {
	b := start(t, nil)
	var devs []*mqttConn
	for i := range 4 {
		devs = append(devs, connect(t, b.addr(), connectOptions{login: addDevice(t, b, fmt.Sprint("d", i))}))
	}
	svc := connect(t, b.addr(), connectOptions{login: service()})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, d := range devs {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				payload := []string{"on", ""}[n%2] // stored and removed
				pk := publishPacket(topic(fmt.Sprint("d", i), schemas.KindPresence), 1, true, payload)
				pk.PacketID = 1
				if err := d.put(pk); err != nil {
					t.Error(err)
					return
				}
				if _, err := d.next(patience); err != nil { // PUBACK
					t.Error(err)
					return
				}
			}
		})
	}
	for range 25 {
		svc.subscribe(1, schemas.Filter(schemas.KindPresence))
		svc.id++
		svc.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: svc.id,
			Filters: packets.Subscriptions{{Filter: schemas.Filter(schemas.KindPresence)}},
		})
		svc.expect(packets.Unsuback)
	}
	close(stop)
	wg.Wait()
}
