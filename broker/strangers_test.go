package broker

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/internal/logtest"
	"davit/schemas"
)

// Thousands of made-up names do not keep a line about a real device out of the
// log, whose memory of what was said is bounded.
func TestStrangersDoNotSilenceTheLog(t *testing.T) {
	t.Parallel()
	var log logtest.Buffer
	b := start(t, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.Limits.FailureRate = 1 << 20
	})
	const workers, each = 8, 600 // together more than are remembered
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				conn, err := net.Dial("tcp", b.addr())
				if err != nil {
					t.Error(err)
					return
				}
				_, err = conn.Write(encoded(t, connectPacket(connectOptions{login: login{fmt.Sprintf("stranger-%d-%d", w, i), "x"}})))
				if err == nil {
					_, err = io.ReadFull(conn, make([]byte, 2)) // of the CONNACK
				}
				_ = conn.Close()
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "pump")})
	dev.publish(topic("other", schemas.KindStatus), 1, false, "x")
	if n := strings.Count(log.String(), "principal=pump"); n != 1 {
		t.Errorf("%d lines about the device after %d strangers, want 1", n, workers*each)
	}
}

// What a device could use to come past the topics that it may use reaches
// nobody, whether the connection survives it or not.
func TestTricksReachNobody(t *testing.T) {
	b := start(t, nil)
	pump, other := addDevice(t, b, "pump"), addDevice(t, b, "other")
	svc := connect(t, b.addr(), connectOptions{login: service()})
	svc.subscribe(1, "#")
	victim := connect(t, b.addr(), connectOptions{login: other, clientID: "id"})
	victim.subscribe(1, topic("other", schemas.KindOffer))
	publish := func(topic string, change func(*packets.Packet)) packets.Packet {
		pk := publishPacket(topic, 0, false, "trick")
		if change != nil {
			change(&pk)
		}
		return pk
	}
	alias := func(n uint16) func(*packets.Packet) {
		return func(pk *packets.Packet) { pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = n, true }
	}
	for name, tricks := range map[string][]packets.Packet{
		"alias of another's topic": {publish(topic("other", schemas.KindStatus), alias(1)), publish("", alias(1))},
		"alias alone":              {publish("", alias(7))},
		"empty topic":              {publish("", nil)},
		"NUL":                      {publish("davit/v1/other\x00/status", nil)},
		"NUL at the end":           {publish("davit/v1/pump/status\x00", nil)},
		"not UTF-8":                {publish("davit/v1/pump\xff/status", nil)},
		"wildcard":                 {publish("davit/v1/+/status", nil)},
		"up":                       {publish("davit/v1/pump/../other/status", nil)},
		"surrogate":                {publish("davit/v1/other\xed\xa0\x80/status", nil)},
		"other letters":            {publish("DAVIT/v1/other/status", nil)},
		"the service's share":      {publish("$share/davit/davit/v1/other/status", nil)},
	} {
		dev := connect(t, b.addr(), connectOptions{login: pump, clientID: "id"}) // the victim's client id
		for _, pk := range tricks {
			if err := dev.put(pk); err != nil {
				break // ended already
			}
		}
		_ = dev.Close()
		eventually(t, name+": the connection has ended", func() bool { return b.Connections() == 1 })
	}
	svc.publish(topic("other", schemas.KindOffer), 1, false, "end")
	pk := svc.message()
	for strings.HasSuffix(pk.TopicName, "/presence") { // of pump, when it had left
		pk = svc.message()
	}
	if string(pk.Payload) != "end" {
		t.Errorf("%q arrived on %q", pk.Payload, pk.TopicName)
	}
	if pk := victim.message(); string(pk.Payload) != "end" {
		t.Errorf("the victim heard %q", pk.Payload)
	}
}
