package broker

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/schemas"
)

// streamOf is the stream of a made-up image.
func streamOf(n int) string { return schemas.StreamTopic(fmt.Sprintf("%064x", n)) }

// An image's stream reaches those who follow it, of either version of MQTT and
// over every transport, and no one else.
func TestMulticast(t *testing.T) {
	certFile, keyFile, pool := serverCertificate(t)
	conf, err := loadTLS(certFile, keyFile)
	check(t, err)
	b, fetches := fetchingBroker(t, func(c *Config) {
		c.Listeners = []Listener{{Transport: TCP, Addr: "127.0.0.1:0"}, {Transport: TCP, Addr: "127.0.0.1:0", TLS: conf}, {Transport: WebSocket, Addr: "127.0.0.1:0"}}
	})
	tcp := func() net.Conn { return dialTCP(t, b.Addrs()[0].String()) }
	var followers []module
	for i, dial := range []func() net.Conn{
		tcp, tcp, tcp,
		func() net.Conn { return dialTLS(t, b.Addrs()[1].String(), pool) },
		func() net.Conn { return dialWS(t, b.Addrs()[2].String(), nil, 1<<20) },
	} {
		for version := byte(4); version <= 5; version++ {
			who := addDevice(t, b, fmt.Sprintf("d%d-%d", i, version))
			followers = append(followers, moduleOn(t, dial(), who, fetches, connectOptions{version: version}, streamOf(1)))
		}
	}
	other := moduleOn(t, tcp(), addDevice(t, b, "other"), fetches, connectOptions{}, streamOf(2))
	gone := moduleOn(t, tcp(), addDevice(t, b, "gone"), fetches, connectOptions{}, streamOf(1))
	_ = gone.mqttConn.Close()
	eventually(t, "one is gone", func() bool { return b.Connections() == len(followers)+1 })
	to := []*Session{other.Session, gone.Session}
	for _, f := range followers {
		to = append(to, f.Session)
	}
	image := newImage(100_000)
	chunks := chunksOf(image, 10_000)
	for two := range slices.Chunk(chunks, 2) {
		// Over TLS and WebSocket those before are on their way for a moment.
		eventually(t, "nothing waits", func() bool { return testutil.ToFloat64(b.metrics.chunks.slow) == 0 })
		if n := b.Multicast(streamOf(1), image, two, to); n != 2*len(followers) {
			t.Fatalf("%d messages with the chunks from %d on, want %d", n, two[0].Offset, 2*len(followers))
		}
	}
	for _, f := range followers {
		for _, c := range chunks {
			if pk := f.message(); pk.TopicName != streamOf(1) || !bytes.Equal(pk.Payload, image.payload(t, c)) {
				t.Fatalf("%s: %d bytes on %s", f.user, len(pk.Payload), pk.TopicName)
			}
		}
		f.quiet()
	}
	other.quiet()
	image.free(t)
	if n := testutil.ToFloat64(b.metrics.chunks.missed); n != float64(2*len(chunks)) {
		t.Errorf("%v counted as missed, want %d", n, 2*len(chunks))
	}
	if n := b.Multicast(streamOf(1), image, []schemas.Chunk{{Length: 100_001}}, to); n != 0 {
		t.Errorf("%d have taken what is not there", n)
	}
	many := chunksOf(image, 1000) // more than a vectored write, or a buffer, has room for
	if n := b.Multicast(streamOf(1), image, many, to[2:3]); n != len(many) {
		t.Errorf("%d of %d chunks", n, len(many))
	}
	for _, c := range many {
		if pk := followers[0].message(); !bytes.Equal(pk.Payload, image.payload(t, c)) {
			t.Fatalf("%d bytes", len(pk.Payload))
		}
	}
	tls := followers[6]
	// It takes what is copied at a time, and of what comes then either all or nothing: what
	// it took first may have left meanwhile.
	n := b.Multicast(streamOf(1), image, many, []*Session{tls.Session})
	first, rest := n, many[:0]
	if n > maxBatch {
		rest = many[maxBatch:]
		first -= len(rest)
	}
	if first < copyLimit/1100 || first > copyLimit/1000 {
		t.Errorf("%d chunks were copied", n)
	}
	for _, c := range slices.Concat(many[:first], rest) {
		if pk := tls.message(); !bytes.Equal(pk.Payload, image.payload(t, c)) {
			t.Fatalf("%d bytes", len(pk.Payload))
		}
	}
	tls.quiet()
}

// Who cannot take a chunk at once misses it, whole, and delays nobody.
func TestMulticastPassesOverTheSlow(t *testing.T) {
	b, fetches := fetchingBroker(t, nil)
	slow := moduleOn(t, dialTCP(t, b.addr()), addDevice(t, b, "slow"), fetches, connectOptions{}, streamOf(1))
	quick := moduleOn(t, dialTCP(t, b.addr()), addDevice(t, b, "quick"), fetches, connectOptions{}, streamOf(1))
	image := newImage(1 << 20)
	chunks := chunksOf(image, 64<<10)
	took := make(map[int]bool) // rounds in which the slow one took the chunk
	rounds := 0
	for ; rounds < 2000 && len(took) == rounds; rounds++ {
		n := 0
		for end := 0; n == 0 && end < 1000; end++ { // the quick one reads right after, and takes every one
			n = b.Multicast(streamOf(1), image, chunks[rounds%len(chunks):][:1], []*Session{slow.Session, quick.Session})
		}
		if n == 2 {
			took[rounds] = true
		}
		if pk := quick.message(); !bytes.Equal(pk.Payload, image.payload(t, chunks[rounds%len(chunks)])) {
			t.Fatalf("round %d: %d bytes", rounds, len(pk.Payload))
		}
	}
	if len(took) == rounds {
		t.Fatal("a client that does not read has taken 2,000 chunks")
	}
	for i := range len(took) {
		if pk := slow.message(); !bytes.Equal(pk.Payload, image.payload(t, chunks[i%len(chunks)])) {
			t.Fatalf("the slow one's message %d has %d bytes", i, len(pk.Payload))
		}
	}
	slow.quiet()
	image.free(t)
}

// A stream is followed by its exact name, with QoS 0, by who knows it; nobody
// but the service publishes on it, and names that are made up are bounded.
func TestStreamsAreFollowedByName(t *testing.T) {
	for _, version := range []byte{4, 5} {
		b, _ := fetchingBroker(t, nil)
		who := addDevice(t, b, "d")
		refused, over := packets.ErrNotAuthorized.Code, packets.ErrQuotaExceeded.Code
		if version == 4 {
			refused, over = packets.ErrUnspecifiedError.Code, packets.ErrUnspecifiedError.Code
		}
		dev := connect(t, b.addr(), connectOptions{login: who, version: version})
		if codes := dev.subscribe(1, streamOf(1)); !bytes.Equal(codes, []byte{0}) {
			t.Errorf("MQTT %d: SUBACK %#x", version, codes)
		}
		for _, f := range []string{
			"davit/v1/@/#", "davit/v1/@/+", "davit/v1/+/" + strings.Repeat("0", 64), "davit/v1/@/" + strings.Repeat("0", 63), "davit/v1/@/" + strings.Repeat("A", 64),
			"$share/g/" + streamOf(1), streamOf(1) + "/", "davit/v1/@", "davit/v1/@/chunk",
		} {
			if codes := dev.subscribe(0, f); !bytes.Equal(codes, []byte{refused}) {
				t.Errorf("MQTT %d: %s: SUBACK %#x", version, f, codes)
			}
		}
		dev.publish(streamOf(1), 0, false, "of a device")
		dev.publish(streamOf(1), 0, true, "of a device")
		svc := connect(t, b.addr(), connectOptions{login: service()})
		svc.publish(streamOf(2), 1, false, "of another image")
		svc.publish(streamOf(1), 1, false, "of the service")
		if pk := dev.message(); string(pk.Payload) != "of the service" || pk.FixedHeader.Qos != 0 {
			t.Errorf("MQTT %d: %q, QoS %d", version, pk.Payload, pk.FixedHeader.Qos)
		}
		for i := range 1 + extraStreams { // one is followed already
			want := byte(0)
			if i == extraStreams {
				want = over
			}
			if codes := dev.subscribe(0, streamOf(10+i)); codes[0] != want {
				t.Errorf("MQTT %d: stream %d more: SUBACK %#x, want %#x", version, i, codes, want)
			}
		}
		if codes := dev.subscribe(0, streamOf(1)); codes[0] != 0 {
			t.Errorf("MQTT %d: again: SUBACK %#x", version, codes)
		}
		dev.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 99, Filters: packets.Subscriptions{{Filter: streamOf(10)}}})
		dev.expect(packets.Unsuback)
		if codes := dev.subscribe(0, streamOf(99)); codes[0] != 0 {
			t.Errorf("MQTT %d: after one is left: SUBACK %#x", version, codes)
		}
		dev.quiet()
	}
}
