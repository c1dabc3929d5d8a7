package schemas

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// exchange writes one update from the connection to the last acknowledgement, each payload as Encode makes it.
func (p *protocolDocument) exchange() {
	image := []byte(strings.Repeat("davit lowers firmware. ", 8)[:160])
	digest := sha256.Sum256(image)
	sum := hex.EncodeToString(digest[:])
	const device, execution, id, chunkSize = "pump-7", "ex-6tbnlxq2afyd3wmc", "img-kzq5o3vthb2mrw7a", 96
	status := func(seq uint64, s Status) {
		s.V, s.Execution, s.Attempt, s.Seq = Version, execution, 1, seq
		p.said(device, &s)
		p.said(device, &Ack{V: Version, Execution: execution, Attempt: 1, Seq: seq, State: s.State})
	}
	p.printf("## An update, byte by byte\n\nDevice %s runs 2.0.3 and is to run 2.1.0. The image is a text that begins with \"%s\" and has %d bytes; it is fetched in chunks of %d bytes. "+
		"Line breaks before the payload are the page's. Each `>` is from the device, each `<` from the service.\n\n```text\n", device, image[:22], len(image), chunkSize)
	p.said(device, &Presence{V: Version, Online: true})
	p.said(device, &Hello{V: Version, Dialect: "ayla", HostVersions: map[string]string{"oem_host_version": "2.0.3"}})
	p.said(device, &Offer{
		V: Version, Execution: execution, Attempt: 1, Image: id, ImageType: "application", Version: "2.1.0", Size: uint64(len(image)), SHA256: sum,
		Chunk: ChunkHint{Preferred: DefaultChunkSize, Max: MaxChunkSize}, Host: HostHint{Dialect: "ayla", VersionProperty: "oem_host_version"},
	})
	status(1, Status{State: StateAccepted})
	p.said(device, &Fetch{V: Version, Image: id, Tag: 1, Chunk: chunkSize, Ranges: []Range{{Offset: 0, Length: uint64(len(image))}}})
	tag, ok := TagOf(sum)
	if !ok {
		p.t.Fatal("no tag")
	}
	p.chunk(device, ChunkHeader{Transfer: 1, Image: tag}, image[:chunkSize])
	p.printf("\nThe second chunk is lost. After 2 s of silence the hole is asked for:\n\n")
	p.said(device, &Fetch{V: Version, Image: id, Tag: 2, Chunk: chunkSize, Ranges: []Range{{Offset: chunkSize, Length: uint64(len(image)) - chunkSize}}})
	last := p.chunk(device, ChunkHeader{Flags: ChunkFlagLast, Transfer: 2, Image: tag, Offset: chunkSize}, image[chunkSize:])
	p.printf("\nThe SHA-256 agrees; the image goes to the host MCU, which boots it and says what it runs:\n\n")
	size := uint64(len(image))
	status(2, Status{State: StateDownloaded, BytesDone: size})
	status(3, Status{State: StateInstalling, BytesDone: size})
	status(4, Status{State: StateBooting, BytesDone: size})
	status(5, Status{State: StateSucceeded, BytesDone: size, HostVersion: "2.1.0"})
	p.printf("< %s retained\n  (empty: the offer is withdrawn)\n", Topic{device, KindOffer})
	p.printf("```\n\nOn the wire, the last chunk is this PUBLISH packet of MQTT 3.1.1 (MQTT 5 has one more byte, 00, before the payload: no properties):\n\n```text\n%s```\n", packet(Topic{device, KindChunk}.String(), last))
}

// said writes a message and its payload.
func (p *protocolDocument) said(device string, payload Payload) {
	b, err := Encode(payload)
	if err != nil {
		p.t.Fatal(err)
	}
	p.head(Topic{device, payload.Kind()})
	p.printf("  %s\n", b)
}

func (p *protocolDocument) head(topic Topic) {
	side, retained := "<", ""
	if topic.Kind.FromDevice() {
		side = ">"
	}
	if topic.Kind.Retained() {
		retained = " retained"
	}
	p.printf("%s %s QoS %d%s\n", side, topic, topic.Kind.QoS(), retained)
}

func (p *protocolDocument) chunk(device string, h ChunkHeader, data []byte) []byte {
	b := append(h.AppendTo(nil), data...)
	if _, _, err := ParseChunk(b); err != nil {
		p.t.Fatal(err)
	}
	p.head(Topic{device, KindChunk})
	p.printf("  % x  % x ... (%d bytes)\n", b[:ChunkHeaderSize], data[:8], len(data))
	return b
}

// packet is the hexadecimal form of a PUBLISH with QoS 0 (MQTT 3.1.1, section 3.3), with what its parts are.
func packet(topic string, payload []byte) string {
	remaining, length := 2+len(topic)+len(payload), []byte(nil)
	for n := remaining; ; n /= 128 {
		if n < 128 {
			length = append(length, byte(n))
			break
		}
		length = append(length, byte(n%128|128))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "30 % x\tPUBLISH, QoS 0; %d bytes follow\n", length, remaining)
	fmt.Fprintf(&b, "%02x %02x\tlength of the topic\n% x\n\t%s\n", len(topic)>>8, len(topic)&255, topic, topic)
	for _, part := range []struct {
		from, to int
		what     string
	}{{0, 1, "version"}, {1, 2, "flags: the data ends the image"}, {2, 4, "transfer: tag of the fetch"}, {4, 8, "image: beginning of the SHA-256"}, {8, 16, "offset"}} {
		fmt.Fprintf(&b, "% x\t%s\n", payload[part.from:part.to], part.what)
	}
	for data := payload[ChunkHeaderSize:]; len(data) > 0; data = data[min(16, len(data)):] {
		fmt.Fprintf(&b, "% x\n", data[:min(16, len(data))])
	}
	return strings.ReplaceAll(b.String(), "\t", "    ")
}
