package broker

import (
	"fmt"
	"testing"

	"davit/schemas"
)

// Packets that come together, or byte by byte, over TCP are all handled in order, and
// the buffer that they were read ahead into is given back.
func TestReadAhead(t *testing.T) {
	b := start(t, nil)
	svc := connect(t, b.addr(), connectOptions{login: service()})
	svc.subscribe(1, schemas.SharedFilter("davit", schemas.KindStatus))
	dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "pump")})
	const n = 200
	var all []byte
	for i := range n {
		pk := publishPacket(topic("pump", schemas.KindStatus), 0, false, fmt.Sprintf("%0*d", 1+i, i))
		all = append(all, encoded(t, pk)...)
	}
	for len(all) > 0 {
		k := min(len(all), 1+len(all)*7%9000)
		if _, err := dev.Write(all[:k]); err != nil {
			t.Fatal(err)
		}
		all = all[k:]
	}
	for i := range n {
		if got := number(t, svc.message().Payload); got != i {
			t.Fatalf("message %d came as number %d", got, i)
		}
	}
	dev.quiet()
	for _, c := range b.sessions.of("pump") {
		if c.peek.raw == nil {
			t.Error("a plain socket is not read ahead")
		}
	}
}
