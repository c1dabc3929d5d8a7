package app

import (
	"bytes"
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"davit/internal/mosquittotest"
	"davit/schemas"
)

// streamed is what a module is sent for a list of fetches, one after the other, by
// a service of its own over the embedded broker or an external one.
func streamed(t *testing.T, external ExternalBroker, addr string, image []byte, fetches []schemas.Fetch) (chunks [][]byte) {
	b := newBench(t)
	stop := b.serve(external)
	defer stop()
	password := b.records()
	if addr == "" {
		addr = b.mqtt
	}
	m := dialModule(t, addr, "rack", password, "")
	m.subscribe(topicOf("pump", schemas.KindOffer), topicOf("pump", schemas.KindChunk))
	m.say("pump", &schemas.Presence{V: 1, Online: true})
	m.say("pump", &schemas.Hello{V: 1, Dialect: b.dialect, HostVersions: map[string]string{"version": "1.0.0"}})
	b.roll(image, "2.0.0")
	var offer schemas.Offer
	if err := schemas.Decode(m.hear().Payload, &offer); err != nil {
		t.Fatal(err)
	}
	for i, f := range fetches {
		f.V, f.Image, f.Tag = 1, offer.Image, uint16(i)
		payload, err := schemas.Encode(&f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.mqtt.Publish(t.Context(), &paho.Publish{Topic: topicOf("pump", schemas.KindFetch), Payload: payload}); err != nil {
			t.Fatal(err)
		}
		for _, r := range f.Ranges {
			for n := uint64(0); n < r.Length; n += uint64(f.Chunk) {
				p := m.hearChunk()
				if p.Topic != topicOf("pump", schemas.KindChunk) || p.QoS != 0 || p.Retain {
					t.Fatalf("a message on %s, QoS %d, retained %v", p.Topic, p.QoS, p.Retain)
				}
				chunks = append(chunks, p.Payload)
			}
		}
	}
	m.kill()
	return chunks
}

// TestBothWaysSendTheSame: a module gets the same chunks, byte for byte and in the
// same order, from the embedded broker, which has them from the service's own
// memory, and from another broker, to which they are published.
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
	foreign := mosquittotest.Run(t)
	long := streamed(t, ExternalBroker{URL: foreign.URL(), Username: "service"}, foreign.Addr(), image, fetches)
	short := streamed(t, ExternalBroker{}, "", image, fetches)
	if len(long) != len(short) {
		t.Fatalf("%d chunks the long way, %d the short way", len(long), len(short))
	}
	for i := range short {
		if !bytes.Equal(short[i], long[i]) {
			t.Fatalf("chunk %d differs: %d bytes the short way, %d the long way", i, len(short[i]), len(long[i]))
		}
		h, data, err := schemas.ParseChunk(short[i])
		if err != nil || !bytes.Equal(data, image[h.Offset:][:len(data)]) {
			t.Fatalf("chunk %d, %+v, is not of the image: %v", i, h, err)
		}
	}
}
