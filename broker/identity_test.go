package broker

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/internal/mosquittotest"
	"davit/schemas"
)

// reader is a kind of client: version of MQTT, QoS that it subscribes with,
// Subscription Identifier.
type reader struct {
	version, qos byte
	id           int
}

// subscribe is the packet by which it subscribes to a topic.
func (k reader) subscribe(topic string) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1}
	pk.Filters = packets.Subscriptions{{Filter: topic, Qos: k.qos, Identifier: k.id}}
	if k.id > 0 {
		pk.Properties.SubscriptionIdentifier = []int{k.id}
	}
	return pk
}

// listen subscribes to a topic, and begins to note the bytes that come.
func (k reader) listen(t *testing.T, addr string, who login, topic string) (*mqttConn, *bytes.Buffer) {
	c := connect(t, addr, connectOptions{login: who, version: k.version, clientID: fmt.Sprint(k)})
	c.send(k.subscribe(topic))
	if codes := c.expect(packets.Suback).ReasonCodes; codes[0] > 1 {
		t.Fatalf("SUBACK %#x", codes)
	}
	if c.r.Buffered() > 0 {
		t.Fatal("something came before it was asked for")
	}
	var got bytes.Buffer
	c.r = bufio.NewReader(io.TeeReader(c.Conn, &got))
	return c, &got
}

// publishes are the payloads, one after the other, by a publisher of the service.
func publishes(t *testing.T, addr string, who login, topic string, payloads [][]byte) {
	svc := connect(t, addr, connectOptions{login: who, clientID: "service"})
	for _, p := range payloads {
		svc.publish(topic, 0, false, string(p))
	}
	svc.quiet()
}

// The bytes that a client sees do not depend on the way: past mochi from the
// image's memory or copied, through mochi, and over mosquitto, to a device's
// topic and to an image's stream.
func TestAllWaysGiveTheSameBytes(t *testing.T) {
	foreign := mosquittotest.Run(t).Addr()
	image := newImage(400_003)
	var chunks []schemas.Chunk
	for at, i := 0, 0; at < int(image.Size()); i++ { // lengths of one to three bytes
		size := min([]int{64, 80, 4096, 16 << 10, schemas.MaxChunkSize, 65, 17_000}[i%7], int(image.Size())-at)
		chunks = append(chunks, schemas.Chunk{ChunkHeader: schemas.ChunkHeader{Transfer: uint16(i), Image: 0xfeedbeef, Offset: uint64(at)}, Length: size})
		at += size
	}
	chunks[len(chunks)-1].Flags = schemas.ChunkFlagLast
	payloads := make([][]byte, len(chunks))
	for i, c := range chunks {
		payloads[i] = image.payload(t, c)
	}
	stream := schemas.StreamTopic(fmt.Sprintf("%064x", 7))
	for _, kind := range []reader{{4, 0, 0}, {4, 1, 0}, {5, 0, 0}, {5, 1, 0}, {5, 0, 1}, {5, 1, 300}} {
		for name, to := range map[string]string{"device": topic("d", schemas.KindChunk), "stream": stream} {
			t.Run(fmt.Sprint(name, kind), func(t *testing.T) {
				want := overMosquitto(t, foreign, kind, to, payloads)
				for way, got := range map[string][]byte{
					"through mochi": throughMochi(t, kind, to, payloads),
					"vectored":      shortWay(t, kind, to, image, chunks),
					"copied":        shortWay(t, kind, to, image.unmapped(), chunks),
				} {
					if !bytes.Equal(got, want) {
						at := 0
						for at < min(len(got), len(want)) && got[at] == want[at] {
							at++
						}
						t.Errorf("%s: %d bytes, over mosquitto %d; the first other one is at %d", way, len(got), len(want), at)
					}
				}
			})
		}
	}
}

// messages reads as many as there should be and returns all bytes that came.
func messages(t *testing.T, c *mqttConn, got *bytes.Buffer, payloads [][]byte) []byte {
	t.Helper()
	for i, want := range payloads {
		if pk := c.message(); !bytes.Equal(pk.Payload, want) {
			t.Fatalf("message %d has %d bytes, want %d", i, len(pk.Payload), len(want))
		}
	}
	return got.Bytes()
}

func overMosquitto(t *testing.T, addr string, kind reader, to string, payloads [][]byte) []byte {
	c, got := kind.listen(t, addr, login{}, to)
	publishes(t, addr, login{}, to, payloads)
	return messages(t, c, got, payloads)
}

func throughMochi(t *testing.T, kind reader, to string, payloads [][]byte) []byte {
	b := start(t, nil)
	c, got := kind.listen(t, b.addr(), addDevice(t, b, "d"), to)
	publishes(t, b.addr(), service(), to, payloads)
	return messages(t, c, got, payloads)
}

func shortWay(t *testing.T, kind reader, to string, image *testImage, chunks []schemas.Chunk) []byte {
	var fetches <-chan fetched
	b := start(t, func(c *Config) { fetches = takeFetches(c) })
	c, got := kind.listen(t, b.addr(), addDevice(t, b, "d"), to)
	c.publish(topic("d", schemas.KindFetch), 0, false, "fetch")
	s := (<-fetches).from
	sent := make(chan error, 1)
	go func() {
		if _, stream := schemas.ParseStreamTopic(to); !stream {
			sent <- sender{"d", s, image}.send(chunks)
			return
		}
		for _, ch := range chunks { // one that the session cannot take is missed, and offered again
			for end := time.Now().Add(patience); b.Multicast(to, image, []schemas.Chunk{ch}, []*Session{s}) == 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					sent <- fmt.Errorf("the chunk at %d is never taken", ch.Offset)
					return
				}
			}
		}
		sent <- nil
	}()
	payloads := make([][]byte, len(chunks))
	for i, ch := range chunks {
		payloads[i] = image.payload(t, ch)
	}
	all := messages(t, c, got, payloads)
	check(t, <-sent)
	image.free(t)
	return all
}
