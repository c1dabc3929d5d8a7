package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"pgregory.net/rapid"

	"davit/schemas"
)

// TestBoundaries: however a stream is cut, no part reaches over the end of a packet, and
// every end is seen.
func TestBoundaries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		ends := map[int]bool{}
		for range rapid.IntRange(1, 20).Draw(t, "packets") {
			size := rapid.OneOf(rapid.IntRange(0, 300), rapid.SampledFrom([]int{127, 128, 16_383, 16_384, 2_097_151, 2_097_152})).Draw(t, "size")
			stream = append(stream, byte(rapid.IntRange(0, 255).Draw(t, "first")))
			stream = binary.AppendUvarint(stream, uint64(size))
			stream = append(stream, make([]byte, size)...)
			ends[len(stream)] = true
		}
		var f boundaries
		for at := 0; at < len(stream); {
			most := rapid.OneOf(rapid.IntRange(1, 20), rapid.IntRange(1, 5000), rapid.Just(len(stream))).Draw(t, "read")
			n := f.upTo(stream[at:min(len(stream), at+most)])
			if n < 1 {
				t.Fatal("nothing was taken")
			}
			for k := at + 1; k < at+n; k++ {
				if ends[k] {
					t.Fatalf("one part from %d to %d, and a packet ends at %d", at, at+n, k)
				}
			}
			if at += n; f.between() != ends[at] {
				t.Fatalf("between packets after %d bytes: %t", at, f.between())
			}
		}
	})
}

// TestBoundariesOfNonsense: a length of more bytes than there may be ends somewhere; mochi
// says what is wrong with it.
func TestBoundariesOfNonsense(t *testing.T) {
	var f boundaries
	for p := bytes.Repeat([]byte{0xff}, 100); len(p) > 0; {
		n := f.upTo(p)
		if n < 1 {
			t.Fatal("nothing was taken")
		}
		p = p[n:]
	}
}

// TestPlainFetches: fetches that come together, in pieces, and with other packets between
// them arrive whole and in order, whether they are plain or not, and the others as well.
func TestPlainFetches(t *testing.T) {
	for _, version := range []byte{4, 5} {
		b, fetches := fetchingBroker(t, nil)
		svc := connect(t, b.addr(), connectOptions{login: service()})
		svc.subscribe(1, schemas.SharedFilter("davit", schemas.KindStatus))
		dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "pump"), version: version})
		const n = 300
		var all []byte
		var want []string
		add := func(pk packets.Packet) {
			pk.ProtocolVersion = version
			one, err := encode(pk)
			check(t, err)
			all = append(all, one...)
		}
		for i := range n {
			payload := fmt.Sprintf("%0*d", 1+i*37%7000, i) // some longer than what is read at a time
			want = append(want, payload)
			pk := publishPacket(topic("pump", schemas.KindFetch), 0, false, payload)
			if version == 5 && i%7 == 3 {
				pk.Properties.ContentType = "application/json"
			}
			add(pk)
			add(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
			if i%5 == 0 {
				add(publishPacket(topic("pump", schemas.KindStatus), 0, false, fmt.Sprint(i)))
			}
		}
		for k := 1; len(all) > 0; k = 1 + (k*7919+len(all))%9001 {
			k = min(k, len(all))
			_, err := dev.Write(all[:k])
			check(t, err)
			all = all[k:]
		}
		for i := range n {
			if got := <-fetches; got.device != "pump" || got.payload != want[i] {
				t.Fatalf("MQTT %d: fetch %d has %d bytes, %q", version, i, len(got.payload), got.payload[:min(20, len(got.payload))])
			}
			dev.expect(packets.Pingresp)
			if i%5 == 0 {
				if got := number(t, svc.message().Payload); got != i {
					t.Fatalf("MQTT %d: status %d came as number %d", version, got, i)
				}
			}
		}
	}
}

// TestPlainFetchHasItsRight: a device that asks plainly for another, without rights, too
// much, or malformed is judged as by the long way.
func TestPlainFetchHasItsRight(t *testing.T) {
	b, fetches := fetchingBroker(t, nil)
	who := addDevice(t, b, "pump")
	addDevice(t, b, "valve")
	dev := connect(t, b.addr(), connectOptions{login: who})
	dev.send(publishPacket(topic("pump", schemas.KindFetch), 0, false, "mine"))
	for _, pk := range []packets.Packet{
		publishPacket(topic("valve", schemas.KindFetch), 0, false, "another's"),
		publishPacket(topic("pump", schemas.KindFetch), 0, false, string(make([]byte, schemas.KindFetch.MaxPayload()+1))),
		publishPacket(topic("pump", schemas.KindFetch)+"/x", 0, false, "outside"),
	} {
		dev.send(pk)
	}
	dev.send(publishPacket(topic("pump", schemas.KindFetch), 0, false, "mine again"))
	for _, want := range []string{"mine", "mine again"} {
		if got := <-fetches; got.payload != want {
			t.Errorf("%q was taken, want %q", got.payload[:min(20, len(got.payload))], want)
		}
	}
	dev.quiet()
	_, err := dev.Write([]byte{plainPublish, 2, 0, 9}) // a topic longer than the packet
	check(t, err)
	if pk, err := dev.next(patience); err == nil && pk.FixedHeader.Type != packets.Disconnect {
		t.Errorf("a malformed PUBLISH was answered with %s", packets.PacketNames[pk.FixedHeader.Type])
	}
	eventually(t, "it is gone", func() bool { return b.Connections() == 0 })
}

// TestFetchAfterGoodbye: what comes behind a DISCONNECT is not taken, although mochi could
// have read both at once.
func TestFetchAfterGoodbye(t *testing.T) {
	b, fetches := fetchingBroker(t, nil)
	dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "pump"), version: 4})
	all := append(bytes.Repeat([]byte{packets.Pingreq << 4, 0}, headerBuffer/2-1), packets.Disconnect<<4, 0)
	fetch, err := encode(publishPacket(topic("pump", schemas.KindFetch), 0, false, "late"))
	check(t, err)
	_, err = dev.Write(append(all, fetch...))
	check(t, err)
	eventually(t, "it is gone", func() bool { return b.Connections() == 0 })
	if len(fetches) > 0 {
		t.Errorf("%q was taken", (<-fetches).payload)
	}
}

// FuzzWholePublish: what is taken apart is what mochi's decoder makes of it.
func FuzzWholePublish(f *testing.F) {
	for _, version := range []byte{4, 5} {
		pk := publishPacket(topic("pump", schemas.KindFetch), 0, false, "payload")
		pk.ProtocolVersion = version
		b, err := encode(pk)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, version == 5)
		f.Add(append(b, 0xc0, 0), version == 5)
	}
	f.Fuzz(func(t *testing.T, b []byte, five bool) {
		version := byte(4)
		if five {
			version = 5
		}
		topic, payload, head, size := wholePublish(b, version)
		if size == 0 {
			return
		}
		pk := packets.Packet{ProtocolVersion: version, FixedHeader: packets.FixedHeader{Type: packets.Publish}}
		if err := pk.PublishDecode(append([]byte{}, b[head:size]...)); err != nil {
			if len(topic) > 0 { // mochi wants UTF-8, as do device ids
				if _, wrong := schemas.ParseTopic(string(topic)); wrong != nil {
					return
				}
			}
			t.Fatalf("mochi says %v of %q", err, b[:size])
		}
		if pk.TopicName != string(topic) || !bytes.Equal(pk.Payload, payload) {
			t.Fatalf("%q and %q, mochi says %q and %q", topic, payload, pk.TopicName, pk.Payload)
		}
	})
}
