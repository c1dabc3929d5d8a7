package broker

import (
	"fmt"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/schemas"
)

// 13: a SUBSCRIBE that ends after its filter ends that connection only.
func subscribePanic(r *rig) error {
	dev := connect(r, r.addr, connectOptions{login: r.device("d"), clientID: "d"})
	if _, err := dev.Write([]byte("\x82\x06\x00\x01\x00\x00\x01a")); err != nil {
		return err
	}
	dev.ended()
	connect(r, r.addr, connectOptions{login: r.svc, clientID: "svc"}).quiet()
	return nil
}

// 14: a keep alive of over 43,690 s does not end the connection at once.
func keepaliveOverflow(r *rig) error {
	for _, version := range []byte{4, 5} {
		dev := connect(r, r.addr, connectOptions{login: r.device(fmt.Sprint("d", version)), clientID: "d", version: version, keepalive: 43_691})
		if err := dev.put(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}}); err != nil {
			return err
		}
		if _, err := dev.next(soon); err != nil {
			return fmt.Errorf("MQTT %d: a keep alive of 43,691 s: %w", version, err)
		}
	}
	return nil
}

// 15: the PUBACK of a message with user properties has a reason code that
// MQTT 5 knows (3.4.2.1).
func pubackReason(r *rig) error {
	dev := connect(r, r.addr, connectOptions{login: r.device("d"), clientID: "d"})
	pk := publishPacket(topic("d", schemas.KindHello), 1, false, "x")
	pk.PacketID = 7
	pk.Properties.User = []packets.UserProperty{{Key: "k", Val: "v"}}
	dev.send(pk)
	if code := dev.expect(packets.Puback).ReasonCode; code != 0 && code != packets.CodeNoMatchingSubscribers.Code {
		return fmt.Errorf("PUBACK with reason code %#x", code)
	}
	return nil
}

// 16: whoever subscribes while a retained message is replaced ends up with the
// new one, not with the old.
func staleRetained(r *rig) error {
	const rounds, last = 40, 30
	svc := connect(r, r.addr, connectOptions{login: r.svc, clientID: "svc"})
	for round := range rounds {
		id := fmt.Sprint("d", round)
		offers := topic(id, schemas.KindOffer)
		svc.publish(offers, 1, true, "0")
		dev := connect(r, r.addr, connectOptions{login: r.device(id), clientID: id})
		fed := make(chan error, 1)
		go func() {
			for i := range last {
				if err := svc.put(publishPacket(offers, 0, true, fmt.Sprint(i+1))); err != nil {
					fed <- err
					return
				}
			}
			fed <- nil
		}()
		dev.id = 100
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1, Filters: packets.Subscriptions{{Filter: offers}}}
		for i := range 50 { // the same again sends what is retained again
			pk.PacketID = uint16(i + 1)
			dev.send(pk)
		}
		if err := <-fed; err != nil {
			return err
		}
		svc.quiet()
		dev.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
		newest := -1
		for {
			pk := must(dev.next(patience))
			if pk.FixedHeader.Type == packets.Pingresp {
				break
			}
			if pk.FixedHeader.Type != packets.Publish {
				continue
			}
			n := number(r, pk.Payload)
			if n < newest {
				return fmt.Errorf("message %d came after its successor %d", n, newest)
			}
			newest = n
		}
	}
	return nil
}
