package app

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"davit/internal/mosquittotest"
	"davit/schemas"
)

// wireModule is a module that gets packets as they are on the wire.
type wireModule struct {
	t       *testing.T
	version byte // of MQTT; 4 is 3.1.1
	conn    net.Conn
	r       *bufio.Reader
	id      uint16 // of the last packet with QoS 1
}

// dialWire connects, and subscribes to what the service says to the device.
func dialWire(t *testing.T, addr string, version byte, user, password string) *wireModule {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	m := &wireModule{t: t, version: version, conn: conn, r: bufio.NewReader(conn)}
	const cleanAndLogin, keepAlive = 0b11000010, 60
	body := append(mqttString(nil, "MQTT"), version, cleanAndLogin, 0, keepAlive)
	body = mqttString(m.noProperties(body), user)
	m.send(mqttPacket(nil, 0x10, mqttString(mqttString(body, user), password)))
	m.id++
	body = m.noProperties(binary.BigEndian.AppendUint16(nil, m.id))
	for _, k := range []schemas.Kind{schemas.KindOffer, schemas.KindChunk} {
		body = append(mqttString(body, topicOf("pump", k)), 1)
	}
	m.send(mqttPacket(nil, 0x82, body))
	return m
}

// noProperties appends what stands in packets of MQTT 5 where properties could be.
func (m *wireModule) noProperties(p []byte) []byte {
	if m.version < 5 {
		return p
	}
	return append(p, 0)
}

func (m *wireModule) send(p []byte) {
	m.t.Helper()
	if _, err := m.conn.Write(p); err != nil {
		m.t.Fatal(err)
	}
}

// say publishes a payload of the contract for the device.
func (m *wireModule) say(p schemas.Payload) {
	m.t.Helper()
	payload, err := schemas.Encode(p)
	if err != nil {
		m.t.Fatal(err)
	}
	first, body := byte(mqttPublish<<4), mqttString(nil, topicOf("pump", p.Kind()))
	if p.Kind().Retained() {
		first |= 1
	}
	if p.Kind().QoS() > 0 {
		first |= 2
		m.id++
		body = binary.BigEndian.AppendUint16(body, m.id)
	}
	m.send(mqttPacket(nil, first, append(m.noProperties(body), payload...)))
}

// packet cuts the next one off what comes. The raw one has all of its bytes, the body
// those after the length.
func (m *wireModule) packet() (raw, body []byte) {
	m.t.Helper()
	_ = m.conn.SetReadDeadline(time.Now().Add(patience))
	for n := 2; ; n++ { // the length ends with the first byte below 0x80
		head, err := m.r.Peek(n)
		if err != nil {
			m.t.Fatal(err)
		}
		if head[n-1] >= 0x80 {
			continue
		}
		size, _ := binary.Uvarint(head[1:]) // the same encoding as MQTT's
		raw = make([]byte, n+int(size))
		if _, err := io.ReadFull(m.r, raw); err != nil {
			m.t.Fatal(err)
		}
		return raw, raw[n:]
	}
}

// hear returns the next message of a kind, as it was on the wire, and its payload. Others
// are passed over: an offer is made anew whenever the service learns something of the device.
func (m *wireModule) hear(k schemas.Kind) (raw, payload []byte) {
	m.t.Helper()
	for {
		raw, body := m.packet()
		if raw[0]>>4 != mqttPublish {
			continue
		}
		end := 2 + binary.BigEndian.Uint16(body)
		topic, rest := string(body[2:end]), body[end:]
		if raw[0]&6 != 0 {
			m.send([]byte{mqttPuback << 4, 2, rest[0], rest[1]})
			rest = rest[2:]
		}
		if topic != topicOf("pump", k) {
			continue
		}
		if m.version >= 5 {
			size, n := binary.Uvarint(rest)
			rest = rest[n+int(size):]
		}
		return raw, rest
	}
}

// onWire is what came for a list of fetches: whole PUBLISH packets, and their payloads.
type onWire struct{ packets, payloads [][]byte }

// streamed is what a module of a version of MQTT is sent for a list of fetches, one after
// the other, by a service of its own over the embedded broker or an external one. All of
// it has to go that way by the service's counters.
func streamed(t *testing.T, version byte, external ExternalBroker, addr string, image []byte, fetches []schemas.Fetch, ways ...string) (got onWire) {
	t.Helper()
	b := newBench(t)
	stop := b.serve(external)
	defer stop()
	password := b.records()
	if addr == "" {
		addr = b.mqtt
	}
	m := dialWire(t, addr, version, "rack", password)
	m.say(&schemas.Presence{V: 1, Online: true})
	m.say(&schemas.Hello{V: 1, Dialect: b.dialect, HostVersions: map[string]string{"version": "1.0.0"}})
	b.roll(image, "2.0.0")
	var offer schemas.Offer
	if _, payload := m.hear(schemas.KindOffer); schemas.Decode(payload, &offer) != nil {
		t.Fatalf("offer %q", payload)
	}
	for i, f := range fetches {
		f.V, f.Image, f.Tag = 1, offer.Image, uint16(i)
		m.say(&f)
		for _, r := range f.Ranges {
			for n := uint64(0); n < r.Length; n += uint64(f.Chunk) {
				packet, payload := m.hear(schemas.KindChunk)
				got.packets, got.payloads = append(got.packets, packet), append(got.payloads, payload)
			}
		}
	}
	for _, way := range ways { // what was written is counted a moment later
		until(t, "all are counted as "+way, func() bool { return series(t, b.http, way) == float64(len(got.packets)) })
	}
	return got
}

// TestBothWaysSendTheSame: a module gets the same chunks in the same order from the embedded
// broker, which has them from the service's own memory, and from mosquitto, to which they
// are published. What is compared is every byte of the PUBLISH packets from the first one
// on, that of the flags, to the end of the payload. A module that names no Subscription
// Identifier and takes no topic aliases gets no properties from either, so the two
// differ in nothing.
func TestBothWaysSendTheSame(t *testing.T) {
	image := make([]byte, 700_001)
	for i := range image {
		image[i] = byte(i*7 ^ i>>9)
	}
	var holes []schemas.Range
	for i := range uint64(schemas.MaxRanges) {
		holes = append(holes, schemas.Range{Offset: i * 10_000, Length: 1 + i%64})
	}
	fetches := []schemas.Fetch{
		{Chunk: 4096, Ranges: []schemas.Range{{Offset: 0, Length: 64 * 4096}}},
		{Chunk: schemas.MaxChunkSize, Ranges: []schemas.Range{{Offset: 1, Length: 700_000}}},
		{Chunk: schemas.MinChunkSize, Ranges: holes},
		{Chunk: 1000, Ranges: []schemas.Range{{Offset: 5, Length: 2500}, {Offset: 699_000, Length: 1001}}},
	}
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint("MQTT ", version), func(t *testing.T) {
			foreign := mosquittotest.Run(t) // it retains the offer, which is the next one's no more
			long := streamed(t, version, ExternalBroker{URL: foreign.URL(), Username: "service"}, foreign.Addr(), image, fetches,
				`davit_chunks_sent_total{way="long"}`)
			short := streamed(t, version, ExternalBroker{}, "", image, fetches,
				`davit_chunks_sent_total{way="short"}`, `davit_broker_sent_chunks_total{way="vectored"}`)
			if len(long.packets) != len(short.packets) {
				t.Fatalf("%d chunks the long way, %d the short way", len(long.packets), len(short.packets))
			}
			for i, s := range short.packets {
				if l := long.packets[i]; !bytes.Equal(s, l) {
					t.Fatalf("packet %d differs: %d bytes that begin with %x the short way, %d with %x the long way", i, len(s), s[:min(len(s), 64)], len(l), l[:min(len(l), 64)])
				}
				h, data, err := schemas.ParseChunk(short.payloads[i])
				if err != nil || !bytes.Equal(data, image[h.Offset:][:len(data)]) {
					t.Fatalf("chunk %d, %+v, is not of the image: %v", i, h, err)
				}
			}
		})
	}
}
