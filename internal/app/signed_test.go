package app

import (
	"bytes"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"davit/internal/mosquittotest"
	"davit/internal/signtest"
	"davit/orchestrator"
	"davit/schemas"
)

// fetchedManifest is the signed manifest that a module is sent by a service of its own
// over the embedded broker or an external one, and the bundle that it has to be.
func fetchedManifest(t *testing.T, external ExternalBroker, addr string) (got, want []byte) {
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
	image := bytes.Repeat([]byte("firmware"), 40_000)
	signed := signtest.Sign(t, image, signtest.Terms(testImageType, testDeviceType, "2.0.0", time.Now()), signtest.Key(t))
	i := b.upload(image, "2.0.0", 0)
	if _, err := b.client.AttachManifest(t.Context(), i.ID, orchestrator.NewManifest{Manifest: string(signed.Text), Signatures: string(signed.Signatures)}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.CreateJob(t.Context(), orchestrator.NewJob{Name: "job", Image: i.ID, Devices: []string{"pump"}, Start: true}); err != nil {
		t.Fatal(err)
	}
	var offer schemas.Offer
	if err := schemas.Decode(m.hear().Payload, &offer); err != nil {
		t.Fatal(err)
	}
	f := schemas.Fetch{V: 1, Image: offer.Manifest, Tag: 5, Chunk: 1000, Ranges: []schemas.Range{{Offset: 0, Length: offer.ManifestSize}}}
	payload, err := schemas.Encode(&f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.mqtt.Publish(t.Context(), &paho.Publish{Topic: topicOf("pump", schemas.KindFetch), Payload: payload}); err != nil {
		t.Fatal(err)
	}
	tag, ok := schemas.TagOf(offer.Manifest)
	if !ok {
		t.Fatalf("the offer has no manifest: %+v", offer)
	}
	for uint64(len(got)) < offer.ManifestSize {
		h, data, err := schemas.ParseChunk(m.hearChunk().Payload)
		if err != nil || h.Image != tag || h.Transfer != 5 || h.Offset != uint64(len(got)) {
			t.Fatalf("chunk %+v: %v", h, err)
		}
		got = append(got, data...)
	}
	m.kill()
	return got, signed.Bundle()
}

// TestManifestsReachModules: a module that fetches what its offer names has exactly what
// was signed, over the embedded broker and over another one.
func TestManifestsReachModules(t *testing.T) {
	for _, name := range []string{"embedded", "external"} {
		t.Run(name, func(t *testing.T) {
			external, at := ExternalBroker{}, ""
			if name == "external" {
				foreign := mosquittotest.Run(t)
				external, at = ExternalBroker{URL: foreign.URL(), Username: "service"}, foreign.Addr()
			}
			if got, want := fetchedManifest(t, external, at); !bytes.Equal(got, want) {
				t.Errorf("%d bytes that are not the %d of the bundle", len(got), len(want))
			}
		})
	}
}
