package broker

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"davit/internal/logtest"
	"davit/schemas"
)

// defaults are the limits of a configuration that says nothing of them.
func defaults(t testing.TB) *Limits {
	t.Helper()
	l := &Limits{}
	if err := l.complete(); err != nil {
		t.Fatal(err)
	}
	return l
}

// Whatever a principal sends, and when, in no stretch of time does more come through
// than the rate and one burst, and who stays within the rate never waits.
func TestRatesHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limits{PacketRate: rapid.IntRange(1, 500).Draw(t, "packets"), MessageRate: rapid.IntRange(1, 500).Draw(t, "messages"),
			ByteRate: rapid.IntRange(100, 100_000).Draw(t, "bytes"), TooFast: time.Hour}
		p := newPrincipal("rack", strings.Fields(strings.Repeat("d ", rapid.IntRange(1, 8).Draw(t, "devices"))))
		began := time.Now()
		now, n := began, float64(p.scale())
		var size, packets, messages float64
		for range rapid.IntRange(1, 300).Draw(t, "count") {
			now = now.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "pause")) * time.Millisecond)
			one := rapid.IntRange(0, 5000).Draw(t, "size")
			now = now.Add(p.packet(now, one, &l).wait)
			packets, size = packets+1, size+float64(one)
			if rapid.Bool().Draw(t, "message") {
				p.message(now, 1, &l)
				messages++
			}
			allowed := now.Sub(began).Seconds() + burstSeconds
			// A message is known for one after it is read, so one may be over.
			if packets > allowed*n*float64(l.PacketRate)+1 || size > allowed*n*float64(l.ByteRate)+1 || messages > allowed*n*float64(l.MessageRate)+1 {
				t.Fatalf("%v packets, %v messages, %v bytes in %s with %+v", packets, messages, size, now.Sub(began), l)
			}
		}
		end := now.Add(time.Hour)
		for i := range 100 {
			at := end.Add(time.Duration(i) * time.Second / time.Duration(l.PacketRate))
			if over := p.packet(at, 0, &l); over.wait != 0 {
				t.Fatalf("within the rate: waits %s for %s", over.wait, over.which)
			}
		}
	})
}

// A principal is too fast when it was made to wait again and again for that long, and
// not when it rests in between.
func TestTooFastIsForgotten(t *testing.T) {
	l := defaults(t)
	l.MessageRate = 1
	for _, c := range []struct {
		rest time.Duration
		ends bool
	}{{0, true}, {calm - time.Second, true}, {calm + time.Second, false}} {
		p := newPrincipal("d", []string{"d"})
		began := time.Now()
		now, ended := began, false
		for now.Sub(began) < 5*time.Minute {
			p.message(now, burstSeconds, l)
			over := p.packet(now, 10, l)
			ended = ended || over.persists
			now = now.Add(over.wait + c.rest)
		}
		if ended != c.ends {
			t.Errorf("rests of %s: ended %t, want %t", c.rest, ended, c.ends)
		}
	}
}

// The rate is looked at for every packet, and costs no memory.
func TestRateCheckDoesNotAllocate(t *testing.T) {
	b := start(t, nil)
	connect(t, b.addr(), connectOptions{login: addDevice(t, b, "d"), clientID: "x"}).quiet()
	c := b.sessions.all()[0]
	if n := testing.AllocsPerRun(1000, func() {
		b.count(c, 1)
		if b.pace(c, 100) != nil {
			t.Error("too fast")
		}
		c.principal.meter.messages, c.principal.meter.packets = 0, 0
	}); n != 0 {
		t.Errorf("%v allocations for each packet", n)
	}
}

// Who publishes faster than it may is read more slowly, on all of its connections
// together; who goes on in spite of that is disconnected with the reason, and
// neither it nor anybody else is told more than once a minute.
func TestPublishFloodIsSlowedThenEnded(t *testing.T) {
	for _, version := range []byte{4, 5} {
		const rate, tooFast = 200, 300 * time.Millisecond
		var log logtest.Buffer
		m := NewMetrics(prometheus.NewRegistry())
		b := start(t, func(c *Config) {
			c.Limits.MessageRate, c.Limits.TooFast, c.Metrics = rate, tooFast, m
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		pump, good := addDevice(t, b, "pump"), addDevice(t, b, "good")
		svc := connect(t, b.addr(), connectOptions{login: service()})
		svc.subscribe(0, topic("good", schemas.KindStatus))
		began := time.Now()
		var flooders []*mqttConn
		for i := range 2 {
			dev := connect(t, b.addr(), connectOptions{login: pump, version: version, clientID: fmt.Sprint(i)})
			flooders = append(flooders, dev)
			go func() {
				for dev.put(publishPacket(topic("pump", schemas.KindStatus), 0, false, "x")) == nil {
				}
			}()
		}
		other := connect(t, b.addr(), connectOptions{login: good, clientID: "x"})
		for range 50 {
			other.publish(topic("good", schemas.KindStatus), 1, false, "good")
			svc.message()
		}
		want := packets.ErrMessageRateTooHigh.Code
		if version == 4 {
			want = 0 // it has no word for it
		}
		if reason := flooders[0].ended(); reason != want {
			t.Errorf("MQTT %d: DISCONNECT %#x, want %#x", version, reason, want)
		}
		flooders[1].ended()
		came := testutil.ToFloat64(m.msgIn)
		if most := rate*(burstSeconds+time.Since(began).Seconds()) + 50 + 10; came > most {
			t.Errorf("MQTT %d: %v messages came in %s, at most %v may", version, came, time.Since(began), most)
		}
		if testutil.ToFloat64(m.limits.WithLabelValues(string(limitMessages))) < 2 {
			t.Error("slowing down is not counted")
		}
		if n := strings.Count(log.String(), "goes over its limits"); n != 1 {
			t.Errorf("MQTT %d: logged %d times:\n%s", version, n, log.String())
		}
		other.quiet()
	}
}

// A principal that connects over and over is told when to come back. Whoever tries
// its name with a wrong password takes nothing of what it may.
func TestConnectRate(t *testing.T) {
	const perMinute = 5
	for _, version := range []byte{4, 5} {
		m := NewMetrics(prometheus.NewRegistry())
		b := start(t, func(c *Config) { c.Limits.ConnectRate, c.Metrics = perMinute, m })
		pump := addDevice(t, b, "pump")
		for range 2 * perMinute {
			if _, ack := try(t, b.addr(), connectOptions{login: login{"pump", "guess"}, version: version, clientID: "x"}); ack.ReasonCode == 0 {
				t.Fatal("a wrong password was good")
			}
		}
		for range perMinute {
			connect(t, b.addr(), connectOptions{login: pump, version: version, clientID: "x"})
		}
		dev, ack := try(t, b.addr(), connectOptions{login: pump, version: version, clientID: "x"})
		want := packets.ErrConnectionRateExceeded.Code
		if version == 4 {
			want = packets.Err3ServerUnavailable.Code
		}
		if ack.ReasonCode != want {
			t.Errorf("MQTT %d: CONNACK %#x, want %#x", version, ack.ReasonCode, want)
		}
		if version == 5 && (len(ack.Properties.User) != 1 || ack.Properties.User[0].Key != schemas.RetryAfterProperty) {
			t.Errorf("the CONNACK does not say when to come back: %+v", ack.Properties)
		}
		dev.ended()
		if n := testutil.ToFloat64(m.limits.WithLabelValues(string(limitConnects))); n != 1 {
			t.Errorf("MQTT %d: %v are counted", version, n)
		}
	}
}

// Names that are too long or too deep, crowds of filters and of user properties get
// the reason that the standard has for them, and the connection lives on.
func TestLongNamesAndCrowds(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry())
	b := start(t, func(c *Config) { c.Metrics = m })
	pump := addDevice(t, b, "pump")
	dev := connect(t, b.addr(), connectOptions{login: pump, clientID: "x"})
	long, deep := "davit/v1/"+strings.Repeat("x", 60_000), "davit/v1"+strings.Repeat("/x", 1000)
	for _, name := range []string{long, deep} {
		if code := dev.publish(name, 1, false, "x"); code != packets.ErrTopicNameInvalid.Code {
			t.Errorf("publish to a name of %d bytes: PUBACK %#x", len(name), code)
		}
		if codes := dev.subscribe(0, name, name+"/#"); !bytes.Equal(codes, []byte{0x8F, 0x8F}) {
			t.Errorf("subscribe to a name of %d bytes: SUBACK %#x", len(name), codes)
		}
	}
	pk := publishPacket(topic("pump", schemas.KindStatus), 1, false, "x")
	pk.PacketID = 77
	crowd := make([]packets.UserProperty, maxUserProperties+1)
	pk.Properties.User = crowd
	dev.send(pk)
	if ack := dev.expect(packets.Puback); ack.ReasonCode != packets.ErrQuotaExceeded.Code {
		t.Errorf("user properties: PUBACK %#x", ack.ReasonCode)
	}
	filters := make([]string, 200)
	for i := range filters {
		filters[i] = topic("pump", schemas.KindOffer)
	}
	codes := dev.subscribe(0, filters...)
	if most := b.sessions.all()[0].principal.mayName(); codes[most-1] != 0 || codes[most] != packets.ErrQuotaExceeded.Code {
		t.Errorf("crowd of filters: SUBACK %#x", codes)
	}
	dev.quiet()
	for limit, want := range map[refusal]float64{refusedLength: 6, refusedUser: 1, refusedFilters: 128} {
		if n := testutil.ToFloat64(m.limits.WithLabelValues(string(limit))); n != want {
			t.Errorf("%s: %v are counted, want %v", limit, n, want)
		}
	}
	props := packets.Properties{User: crowd}
	if _, ack := try(t, b.addr(), connectOptions{login: pump, clientID: "y", props: props}); ack.ReasonCode != packets.ErrQuotaExceeded.Code {
		t.Errorf("user properties of a CONNECT: CONNACK %#x", ack.ReasonCode)
	}
	for name, want := range map[string]byte{long[:5000]: packets.ErrTopicNameInvalid.Code, topic("pump", schemas.KindPresence): packets.ErrQuotaExceeded.Code} {
		w := publishPacket(name, 1, false, strings.Repeat("x", 2000))
		if _, ack := try(t, b.addr(), connectOptions{login: pump, clientID: "y", will: &w}); ack.ReasonCode != want {
			t.Errorf("will of %d bytes on a name of %d: CONNACK %#x, want %#x", len(w.Payload), len(name), ack.ReasonCode, want)
		}
	}
}

// A packet that says it is longer than any may be is not waited for, and no memory is
// made ready for it: the client is told why and is gone.
func TestHugePacketIsNotRead(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry())
	b := start(t, func(c *Config) { c.Metrics = m })
	for _, c := range []struct {
		header []byte
		reason byte
	}{
		{[]byte{packets.Publish << 4, 0xff, 0xff, 0xff, 0x7f}, packets.ErrPacketTooLarge.Code}, // 256 MiB
		{[]byte{packets.Publish << 4, 0xff, 0xff, 0xff, 0xff, 0x7f}, packets.ErrMalformedPacket.Code},
	} {
		dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, fmt.Sprint("d", c.reason)), clientID: "x"})
		if _, err := dev.Write(c.header); err != nil {
			t.Fatal(err)
		}
		if reason := dev.ended(); reason != c.reason {
			t.Errorf("% x: DISCONNECT %#x, want %#x", c.header, reason, c.reason)
		}
	}
	if n := testutil.ToFloat64(m.limits.WithLabelValues(string(limitPacketSize))); n != 1 {
		t.Errorf("%v are counted", n)
	}
}
