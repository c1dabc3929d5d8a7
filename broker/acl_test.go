package broker

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/internal/logtest"
	"davit/schemas"
)

func topic(device string, k schemas.Kind) string {
	return schemas.Topic{Device: device, Kind: k}.String()
}

func TestMayPublishAndSubscribe(t *testing.T) {
	bridge := newPrincipal("rack", []string{"a", "b"})
	for _, k := range schemas.Kinds() {
		for _, device := range []string{"a", "b"} {
			if got := bridge.mayPublish(topic(device, k), false, 10); (got == allowed) != k.FromDevice() {
				t.Errorf("publish %s: %q", k, got)
			}
			if got := bridge.maySubscribe(topic(device, k)); (got == allowed) == k.FromDevice() {
				t.Errorf("subscribe %s: %q", k, got)
			}
		}
		for _, other := range []string{"c", "rack", "aa", "A"} {
			if bridge.mayPublish(topic(other, k), false, 10) == allowed || bridge.maySubscribe(topic(other, k)) == allowed {
				t.Errorf("%s of device %s is allowed", k, other)
			}
		}
	}
	for _, f := range []string{
		"#", "+", "davit/#", "davit/v1/a/#", "davit/v1/+/offer", "davit/v1/a/+", "$SYS/#", "$SYS/broker/version",
		"$share/g/davit/v1/a/offer", "$SHARE/g/davit/v1/a/offer", "davit/v1/a/offer/secret", "davit/v1/a", "davit/v2/a/offer", "",
		"davit/v1/a/offer ", "/davit/v1/a/offer", strings.Repeat("a/", 30_000),
	} {
		if bridge.maySubscribe(f) == allowed {
			t.Errorf("filter %.60q is allowed", f)
		}
		if bridge.mayPublish(f, false, 1) == allowed {
			t.Errorf("topic %.60q is allowed", f)
		}
	}
	for _, c := range []struct {
		kind   schemas.Kind
		retain bool
		size   int
		want   refusal
	}{
		{schemas.KindHello, true, 1, refusedRetain}, {schemas.KindStatus, true, 1, refusedRetain}, {schemas.KindFetch, true, 1, refusedRetain},
		{schemas.KindPresence, true, 1, allowed}, {schemas.KindPresence, false, 1, allowed},
		{schemas.KindHello, false, schemas.KindHello.MaxPayload(), allowed},
		{schemas.KindHello, false, schemas.KindHello.MaxPayload() + 1, refusedSize},
	} {
		if got := bridge.mayPublish(topic("a", c.kind), c.retain, c.size); got != c.want {
			t.Errorf("%s retain=%t size=%d: %q, want %q", c.kind, c.retain, c.size, got, c.want)
		}
	}
	bridge.revoked.Store(true)
	if bridge.mayPublish(topic("a", schemas.KindHello), false, 1) != refusedRevoked || bridge.mayRead(topic("a", schemas.KindOffer)) != refusedRevoked {
		t.Error("revoked, and still allowed")
	}
}

// A refusal keeps the connection, with the reason in MQTT 5's PUBACK and an
// ordinary one in 3.1.1, is counted, logged once, and nothing arrives.
func TestRefusedPublishKeepsTheConnection(t *testing.T) {
	for _, version := range []byte{4, 5} {
		var log logtest.Buffer
		reg := prometheus.NewRegistry()
		b := start(t, func(c *Config) {
			c.Metrics = NewMetrics(reg)
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		pump := addDevice(t, b, "pump-7")
		svc := connect(t, b.addr(), connectOptions{login: service(), clientID: "s"})
		svc.subscribe(1, "#")
		dev := connect(t, b.addr(), connectOptions{login: pump, version: version, clientID: "x"})
		big := strings.Repeat("x", 20_000)
		for _, bad := range []struct {
			topic, payload string
			retain         bool
			code           byte
		}{
			{topic("pump-8", schemas.KindStatus), "1", false, packets.ErrNotAuthorized.Code},
			{topic("pump-7", schemas.KindOffer), "1", false, packets.ErrNotAuthorized.Code},
			{topic("pump-7", schemas.KindHello), "1", true, packets.ErrNotAuthorized.Code},
			{"anything", "1", false, packets.ErrNotAuthorized.Code},
			{"$SYS/broker/version", "1", false, packets.ErrNotAuthorized.Code},
			{topic("pump-7", schemas.KindStatus), big, false, packets.ErrQuotaExceeded.Code},
		} {
			want := bad.code
			if version == 4 {
				want = 0
			}
			if got := dev.publish(bad.topic, 1, bad.retain, bad.payload); got != want {
				t.Errorf("MQTT %d: %s: PUBACK reason %#x, want %#x", version, bad.topic, got, want)
			}
			dev.publish(bad.topic, 0, bad.retain, bad.payload)
		}
		dev.publish(topic("pump-7", schemas.KindStatus), 1, false, "good")
		if got := svc.message(); string(got.Payload) != "good" {
			t.Errorf("MQTT %d: %q arrived on %s", version, got.Payload, got.TopicName)
		}
		svc.quiet()
		dev.quiet()
		if n := testutil.ToFloat64(b.metrics.aclRefusals.WithLabelValues("publish", string(refusedDevice))); n != 2 {
			t.Errorf("MQTT %d: counted %v refusals for another's device, want 2", version, n)
		}
		if n := strings.Count(log.String(), "publish refused"); n != 1 {
			t.Errorf("MQTT %d: logged %d times:\n%s", version, n, log.String())
		}
	}
}

func TestSubscribeRefusals(t *testing.T) {
	for _, c := range []struct{ version, denied byte }{{4, 0x80}, {5, packets.ErrNotAuthorized.Code}} {
		b := start(t, nil)
		dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "d"), version: c.version, clientID: "x"})
		codes := dev.subscribe(1, topic("d", schemas.KindOffer), "#", topic("e", schemas.KindOffer), topic("d", schemas.KindChunk))
		if want := []byte{1, c.denied, c.denied, 1}; !bytes.Equal(codes, want) {
			t.Errorf("MQTT %d: SUBACK %v, want %v", c.version, codes, want)
		}
		if codes := dev.subscribe(0, topic("d", schemas.KindAck)); codes[0] != 0 {
			t.Errorf("MQTT %d: QoS 0 granted as %d", c.version, codes[0])
		}
		svc := connect(t, b.addr(), connectOptions{login: service()})
		svc.publish(topic("e", schemas.KindOffer), 1, true, "not for d")
		svc.publish(topic("d", schemas.KindAck), 1, false, "ack")
		if pk := dev.message(); string(pk.Payload) != "ack" || pk.FixedHeader.Qos != 0 {
			t.Errorf("got %q with QoS %d, want the ack with 0", pk.Payload, pk.FixedHeader.Qos)
		}
		svc.publish(topic("d", schemas.KindOffer), 1, true, "offer")
		if pk := dev.message(); string(pk.Payload) != "offer" || pk.FixedHeader.Qos != 1 || pk.FixedHeader.Retain {
			t.Errorf("got %q %+v, want the offer with QoS 1", pk.Payload, pk.FixedHeader)
		}
		dev.quiet()
	}
}

// One SUBSCRIBE may name more filters than there are delivery slots.
func TestManyFiltersInOneSubscribe(t *testing.T) {
	b := start(t, nil)
	devices := make([]string, 100)
	filters := make([]string, 100)
	for i := range devices {
		devices[i] = "dev-" + strings.Repeat("x", i%30) + string(rune('a'+i/30))
		filters[i] = topic(devices[i], schemas.KindOffer)
	}
	pw, err := b.cfg.Credentials.AddBridge("rack", devices)
	if err != nil {
		t.Fatal(err)
	}
	svc := connect(t, b.addr(), connectOptions{login: service()})
	for _, f := range filters {
		svc.publish(f, 1, true, f)
	}
	svc.quiet() // a PUBACK goes out before the message does; now all have
	rack := connect(t, b.addr(), connectOptions{login: login{"rack", pw}})
	if codes := rack.subscribe(1, filters...); bytes.Count(codes, []byte{1}) != len(filters) {
		t.Fatalf("SUBACK %v", codes)
	}
	got := make(map[string]bool)
	for range filters {
		pk := rack.message()
		if !pk.FixedHeader.Retain || string(pk.Payload) != pk.TopicName {
			t.Fatalf("%s: %q, retain %t", pk.TopicName, pk.Payload, pk.FixedHeader.Retain)
		}
		got[pk.TopicName] = true
	}
	if len(got) != len(filters) {
		t.Errorf("%d retained offers, want %d", len(got), len(filters))
	}
}

func TestWillPassesTheACL(t *testing.T) {
	b := start(t, nil)
	pump := addDevice(t, b, "pump")
	svc := connect(t, b.addr(), connectOptions{login: service()})
	svc.subscribe(1, schemas.Filter(schemas.KindPresence))
	for _, c := range []struct {
		topic  string
		retain bool
	}{{topic("other", schemas.KindPresence), true}, {topic("pump", schemas.KindOffer), true}, {topic("pump", schemas.KindStatus), true}, {"x", false}} {
		w := publishPacket(c.topic, 1, c.retain, "off")
		for version, want := range map[byte]byte{4: 5, 5: packets.ErrNotAuthorized.Code} {
			if _, ack := try(t, b.addr(), connectOptions{login: pump, version: version, will: &w}); ack.ReasonCode != want {
				t.Errorf("MQTT %d: will on %s: CONNACK %#x, want %#x", version, c.topic, ack.ReasonCode, want)
			}
		}
	}
	w := publishPacket(topic("pump", schemas.KindPresence), 1, true, offline)
	dev := connect(t, b.addr(), connectOptions{login: pump, will: &w})
	_ = dev.Close()
	if pk := svc.message(); string(pk.Payload) != offline || pk.FixedHeader.Qos != 1 {
		t.Errorf("will %q with QoS %d", pk.Payload, pk.FixedHeader.Qos)
	}
	dev = connect(t, b.addr(), connectOptions{login: pump, will: &w})
	dev.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	dev.ended()
	svc.quiet()
}

func TestQoS2EndsTheConnection(t *testing.T) {
	b := start(t, nil)
	dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "d")})
	pk := publishPacket(topic("d", schemas.KindHello), 2, false, "x")
	pk.PacketID = 1
	dev.send(pk)
	if reason := dev.ended(); reason != packets.ErrQosNotSupported.Code {
		t.Errorf("DISCONNECT reason %#x, want %#x", reason, packets.ErrQosNotSupported.Code)
	}
}
