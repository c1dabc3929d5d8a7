package broker

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/schemas"
)

func TestIndex(t *testing.T) {
	x := newIndex()
	a, b := &conn{}, &conn{}
	if x.add("t", subscriber{conn: a}) || x.add("t", subscriber{conn: b, id: 7}) || !x.add("t", subscriber{conn: a, id: 3}) {
		t.Error("existed: wrong")
	}
	found := x.find("t")
	if len(found) != 2 || found[0] != (subscriber{conn: b, id: 7}) || found[1] != (subscriber{conn: a, id: 3}) {
		t.Errorf("found %+v", found)
	}
	if !x.remove("t", b) || x.remove("t", b) || x.remove("u", a) {
		t.Error("removed: wrong")
	}
	if len(found) != 2 || found[0].conn != b {
		t.Error("a list that was found has changed")
	}
	if !x.remove("t", a) || len(x.topics) != 0 {
		t.Errorf("%d topics are left", len(x.topics))
	}
}

// What a subscription asks for about retained messages and identifiers is done
// (MQTT 5, 3.8.3.1 and 3.8.2.1.2), UNSUBACK says whether there was one, and the
// index is empty when the sessions have ended.
func TestSubscriptionOptions(t *testing.T) {
	b := start(t, nil)
	svc := connect(t, b.addr(), connectOptions{login: service()})
	offer := topic("pump", schemas.KindOffer)
	svc.publish(offer, 1, true, "first")
	dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "pump")})
	subscribe := func(handling byte, published bool) {
		dev.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 9,
			Properties: packets.Properties{SubscriptionIdentifier: []int{5}},
			Filters:    packets.Subscriptions{{Filter: offer, Qos: 1, RetainHandling: handling, RetainAsPublished: published, Identifier: 5}},
		})
		if codes := dev.expect(packets.Suback).ReasonCodes; len(codes) != 1 || codes[0] != 1 {
			t.Fatalf("SUBACK %v", codes)
		}
	}
	message := func(payload string, retain bool) {
		t.Helper()
		pk := dev.message()
		ids := pk.Properties.SubscriptionIdentifier
		if string(pk.Payload) != payload || pk.FixedHeader.Retain != retain || pk.FixedHeader.Qos != 1 || len(ids) != 1 || ids[0] != 5 {
			t.Fatalf("%q, retain %t, QoS %d, identifiers %v", pk.Payload, pk.FixedHeader.Retain, pk.FixedHeader.Qos, ids)
		}
	}
	subscribe(1, true) // new: what is retained is sent
	message("first", true)
	subscribe(1, false) // it exists
	dev.quiet()
	subscribe(2, false)
	dev.quiet()
	svc.publish(offer, 1, true, "second")
	message("second", false)
	subscribe(0, true)
	message("second", true)
	svc.publish(offer, 1, true, "third")
	message("third", true)
	for _, want := range []byte{packets.CodeSuccess.Code, packets.CodeNoSubscriptionExisted.Code} {
		dev.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 10,
			Filters: packets.Subscriptions{{Filter: offer}},
		})
		if codes := dev.expect(packets.Unsuback).ReasonCodes; len(codes) != 1 || codes[0] != want {
			t.Errorf("UNSUBACK %v, want %#x", codes, want)
		}
	}
	svc.publish(offer, 1, true, "fourth")
	dev.quiet()
	subscribe(0, false)
	_ = dev.Close()
	eventually(t, "the index is empty", func() bool { return len(b.index.find(offer)) == 0 })
}
