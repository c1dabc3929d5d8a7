package broker

import (
	"bytes"
	"errors"
	"fmt"
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

// module is a client that has asked for chunks, and the session to send them on.
type module struct {
	*mqttConn
	*Session
	login
}

// fetchingBroker has devices' fetches handed over.
func fetchingBroker(t testing.TB, change func(*Config)) (*Broker, <-chan fetched) {
	var fetches <-chan fetched
	b := start(t, func(c *Config) {
		fetches = takeFetches(c)
		c.Metrics = NewMetrics(prometheus.NewRegistry())
		if change != nil {
			change(c)
		}
	})
	return b, fetches
}

// moduleOn connects, subscribes, and asks.
func moduleOn(t testing.TB, conn net.Conn, who login, fetches <-chan fetched, o connectOptions, also ...string) module {
	t.Helper()
	o.login = who
	c, ack := tryOn(t, conn, o)
	if ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	c.subscribe(0, append(also, topic(who.user, schemas.KindChunk))...)
	c.publish(topic(who.user, schemas.KindFetch), 0, false, "fetch")
	return module{c, (<-fetches).from, who}
}

// Fetches of devices and bridges are handed over after access control, and to
// nobody else; everything else goes its way.
func TestFetchesAreHandedOver(t *testing.T) {
	for _, version := range []byte{4, 5} {
		b, fetches := fetchingBroker(t, nil)
		pw, err := b.cfg.Credentials.AddBridge("rack", []string{"a", "b"})
		check(t, err)
		svc := connect(t, b.addr(), connectOptions{login: service(), clientID: "s"})
		svc.subscribe(1, "davit/#")
		c := connect(t, b.addr(), connectOptions{login: login{"rack", pw}, version: version})
		for i, f := range []struct {
			device string
			qos    byte
		}{{"a", 0}, {"b", 1}, {"a", 1}} {
			payload := fmt.Sprint("fetch ", i)
			if code := c.publish(topic(f.device, schemas.KindFetch), f.qos, false, payload); code != 0 {
				t.Errorf("PUBACK %#x", code)
			}
			got := <-fetches
			if got.device != f.device || got.payload != payload || got.from == nil || got.from.conn.principal.name != "rack" {
				t.Errorf("MQTT %d: %+v", version, got)
			}
		}
		if version == 5 { // with properties, which change nothing
			odd := publishPacket(topic("a", schemas.KindFetch), 0, false, "odd")
			odd.Properties.User = []packets.UserProperty{{Key: "trace", Val: "1"}}
			c.send(odd)
			odd.Properties = packets.Properties{ContentType: "application/json", MessageExpiryInterval: 60}
			c.send(odd)
			for range 2 {
				if got := <-fetches; got.device != "a" || got.payload != "odd" {
					t.Errorf("%+v", got)
				}
			}
		}
		for _, refused := range []packets.Packet{
			publishPacket(topic("c", schemas.KindFetch), 0, false, "another's"),
			publishPacket(topic("a", schemas.KindFetch), 0, true, "retained"),
			publishPacket(topic("a", schemas.KindFetch), 0, false, strings.Repeat("x", schemas.KindFetch.MaxPayload()+1)),
		} {
			c.send(refused)
		}
		c.publish(topic("a", schemas.KindStatus), 0, false, "status")
		if pk := svc.message(); string(pk.Payload) != "status" {
			t.Errorf("MQTT %d: %q arrived on %s", version, pk.Payload, pk.TopicName)
		}
		svc.publish(topic("a", schemas.KindFetch), 0, false, "of the service")
		if pk := svc.message(); string(pk.Payload) != "of the service" {
			t.Errorf("MQTT %d: %q arrived on %s", version, pk.Payload, pk.TopicName)
		}
		if len(fetches) > 0 {
			t.Errorf("MQTT %d: handed over: %+v", version, <-fetches)
		}
	}
}

// Without Config.OnFetch fetches are messages like all others.
func TestFetchesWithoutATaker(t *testing.T) {
	b := start(t, nil)
	svc := connect(t, b.addr(), connectOptions{login: service()})
	svc.subscribe(0, schemas.Filter(schemas.KindFetch))
	connect(t, b.addr(), connectOptions{login: addDevice(t, b, "d")}).publish(topic("d", schemas.KindFetch), 1, false, "fetch")
	if pk := svc.message(); string(pk.Payload) != "fetch" {
		t.Errorf("%q arrived on %s", pk.Payload, pk.TopicName)
	}
}

// A device whose fetch is refused for being one too many is not read for a while; a
// bridge, which speaks for others as well, is.
func TestWhoAsksTooOftenRests(t *testing.T) {
	for _, bridge := range []bool{false, true} {
		b := start(t, func(c *Config) {
			c.OnFetch = func(_ string, payload []byte, _ *Session, _ string) bool { return string(payload) != "one too many" }
		})
		svc := connect(t, b.addr(), connectOptions{login: service()})
		svc.subscribe(1, schemas.Filter(schemas.KindStatus))
		who := addDevice(t, b, "d")
		if bridge {
			who = addBridge(t, b, "rack", "d")
		}
		c := connect(t, b.addr(), connectOptions{login: who})
		told := func(payload string) time.Duration {
			began := time.Now()
			c.publish(topic("d", schemas.KindFetch), 0, false, payload)
			c.publish(topic("d", schemas.KindStatus), 0, false, "status")
			svc.message()
			return time.Since(began)
		}
		for _, payload := range []string{"fetch", "one too many", "fetch"} {
			rests := payload == "one too many" && !bridge
			if took := told(payload); rests && took < fetchRest || !rests && took >= fetchRest {
				t.Errorf("bridge %t, %q: the next message took %s", bridge, payload, took)
			}
		}
	}
}

// A module may be two programs with the same credentials: one asks, the other reads.
func TestFetchIsAnsweredWhereItIsRead(t *testing.T) {
	b, fetches := fetchingBroker(t, nil)
	who := addDevice(t, b, "d")
	asks := connect(t, b.addr(), connectOptions{login: who, clientID: "asks"})
	ask := func() *Session {
		asks.publish(topic("d", schemas.KindFetch), 0, false, "fetch")
		return (<-fetches).from
	}
	image := newImage(1000)
	if _, err := ask().Send("d", image, chunksOf(image, 500), nil); !errors.Is(err, ErrNotSubscribed) {
		t.Errorf("nobody reads: %v", err)
	}
	reads := connect(t, b.addr(), connectOptions{login: who, clientID: "reads"})
	reads.subscribe(0, topic("d", schemas.KindChunk))
	check(t, sender{"d", ask(), image}.send(chunksOf(image, 500)))
	for _, c := range chunksOf(image, 500) {
		if pk := reads.message(); !bytes.Equal(pk.Payload, image.payload(t, c)) {
			t.Errorf("%d bytes came on %s", len(pk.Payload), pk.TopicName)
		}
	}
	asks.subscribe(0, topic("d", schemas.KindChunk))
	if s := ask(); s.conn.client.ID != "d\x00asks" {
		t.Errorf("answered on %q", s.conn.client.ID)
	}
}

// Chunks go only to who subscribes to them, may read them, and is there.
func TestSendIsRefused(t *testing.T) {
	b, fetches := fetchingBroker(t, nil)
	m := moduleOn(t, dialTCP(t, b.addr()), addDevice(t, b, "d"), fetches, connectOptions{})
	addDevice(t, b, "e")
	image := newImage(1000)
	refused := func(device string, want error) {
		t.Helper()
		if n, err := m.Send(device, image, chunksOf(image, 500), func() { t.Error("ready called") }); n != 0 || !errors.Is(err, want) {
			t.Errorf("%d taken: %v, want %v", n, err, want)
		}
	}
	refused("e", ErrNotSubscribed)
	refused("", ErrNotSubscribed)
	m.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 9, Filters: packets.Subscriptions{{Filter: topic("d", schemas.KindChunk)}}})
	m.expect(packets.Unsuback)
	refused("d", ErrNotSubscribed)
	m.subscribe(0, topic("d", schemas.KindChunk))
	check(t, sender{"d", m.Session, image}.send(chunksOf(image, 500)))
	_ = m.mqttConn.Close()
	eventually(t, "it is gone", func() bool { return b.Connections() == 0 })
	refused("d", ErrSessionEnded)
	for reason, want := range map[string]float64{"not_subscribed": 3, "ended": 1} {
		if n := testutil.ToFloat64(b.metrics.chunks.refused.WithLabelValues(reason)); n != want {
			t.Errorf("%s counted %v times, want %v", reason, n, want)
		}
	}
	if n := testutil.ToFloat64(b.metrics.chunks.sent[wayVectored]); n != 2 {
		t.Errorf("%v chunks counted, want 2", n)
	}
	if n := testutil.ToFloat64(b.metrics.chunks.bytes[wayVectored]); n != float64(2*(1+2+2+len(topic("d", schemas.KindChunk))+1+schemas.ChunkHeaderSize+500)) {
		t.Errorf("%v bytes counted", n)
	}
}

// A subscription that is made anew has another Subscription Identifier at once (MQTT 5,
// 3.8.4).
func TestSendKnowsTheLastSubscription(t *testing.T) {
	b, fetches := fetchingBroker(t, nil)
	m := moduleOn(t, dialTCP(t, b.addr()), addDevice(t, b, "d"), fetches, connectOptions{})
	image := newImage(500)
	for _, id := range []int{0, 9, 300, 0} {
		m.send(reader{id: id}.subscribe(topic("d", schemas.KindChunk)))
		m.expect(packets.Suback)
		check(t, sender{"d", m.Session, image}.send(chunksOf(image, 500)))
		got := m.message().Properties.SubscriptionIdentifier
		if id == 0 && len(got) > 0 || id > 0 && !slices.Equal(got, []int{id}) {
			t.Errorf("the chunk has identifiers %v, want %d", got, id)
		}
	}
}

// What an MQTT 5 client says is the longest packet it takes holds here as well.
func TestMaximumPacketSizeOfTheClient(t *testing.T) {
	b, fetches := fetchingBroker(t, nil)
	who := addDevice(t, b, "d")
	image := newImage(3000)
	chunks := chunksOf(image, 1000)
	fits := 1 + 2 + 2 + len(topic("d", schemas.KindChunk)) + 1 + schemas.ChunkHeaderSize + 1000
	chunks = []schemas.Chunk{chunks[0], {ChunkHeader: chunks[1].ChunkHeader, Length: 1001}, chunks[2], {Length: 2000}}
	for _, image := range []*testImage{image, image.unmapped()} {
		m := moduleOn(t, dialTCP(t, b.addr()), who, fetches, connectOptions{props: packets.Properties{MaximumPacketSize: uint32(fits)}})
		check(t, sender{"d", m.Session, image}.send(chunks))
		for _, c := range []schemas.Chunk{chunks[0], chunks[2]} {
			if pk := m.message(); !bytes.Equal(pk.Payload, image.payload(t, c)) {
				t.Errorf("a packet with %d bytes of payload", len(pk.Payload))
			}
		}
		m.quiet()
	}
	if n := testutil.ToFloat64(b.metrics.chunks.refused.WithLabelValues("too_large")); n != 4 {
		t.Errorf("%v counted, want 4", n)
	}
}

// Over every transport a whole image arrives, and what mochi says in between.
func TestShortWayOverEveryTransport(t *testing.T) {
	certFile, keyFile, pool := serverCertificate(t)
	conf, err := loadTLS(certFile, keyFile)
	check(t, err)
	b, fetches := fetchingBroker(t, func(c *Config) {
		c.Listeners = []Listener{
			{Transport: TCP, Addr: "127.0.0.1:0"}, {Transport: TCP, Addr: "127.0.0.1:0", TLS: conf}, {Transport: WebSocket, Addr: "127.0.0.1:0"}, {Transport: WebSocket, Addr: "127.0.0.1:0", TLS: conf},
		}
	})
	image := newImage(3 << 20)
	for name, transport := range map[string]struct {
		dial func() net.Conn
		way  way
	}{
		"tcp": {func() net.Conn { return dialTCP(t, b.Addrs()[0].String()) }, wayVectored},
		"tls": {func() net.Conn { return dialTLS(t, b.Addrs()[1].String(), pool) }, wayCopied},
		"ws":  {func() net.Conn { return dialWS(t, b.Addrs()[2].String(), nil, 1<<20) }, wayCopied},
		"wss": {func() net.Conn { return dialWS(t, b.Addrs()[3].String(), clientTLS(pool), 1<<20) }, wayCopied},
	} {
		t.Run(name, func(t *testing.T) {
			before := testutil.ToFloat64(b.metrics.chunks.sent[transport.way])
			m := moduleOn(t, transport.dial(), addDevice(t, b, "d-"+name), fetches, connectOptions{})
			chunks := append(chunksOf(image, 16<<10), chunksOf(image, schemas.MaxChunkSize)...)
			sent := make(chan error, 1)
			go func() { sent <- sender{m.user, m.Session, image}.send(chunks) }()
			pings := 0
			for i := 0; i < len(chunks); {
				pk, err := m.next(patience)
				check(t, err)
				switch {
				case pk.FixedHeader.Type == packets.Pingresp:
					pings--
				case !bytes.Equal(pk.Payload, image.payload(t, chunks[i])):
					t.Fatalf("%d bytes on %q are not chunk %d", len(pk.Payload), pk.TopicName, i)
				default:
					if i++; i%10 == 0 {
						pings++
						m.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
					}
				}
			}
			for ; pings > 0; pings-- {
				m.expect(packets.Pingresp)
			}
			check(t, <-sent)
			image.free(t)
			if n := testutil.ToFloat64(b.metrics.chunks.sent[transport.way]) - before; n != float64(len(chunks)) {
				t.Errorf("%v chunks counted %s, want %d", n, transport.way, len(chunks))
			}
		})
	}
	eventually(t, "nobody waits", func() bool { return testutil.ToFloat64(b.metrics.chunks.slow) == 0 })
}
