package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/internal/logtest"
	"davit/schemas"
)

func encoded(t testing.TB, pk packets.Packet) []byte {
	t.Helper()
	pk.ProtocolVersion = 5
	b, err := encode(pk)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPublishIDOffset(t *testing.T) {
	for _, size := range []int{0, 10, 100, 200, 20_000, 70_000} {
		pk := publishPacket("davit/v1/d/offer", 1, true, strings.Repeat("x", size))
		pk.PacketID = 0xabcd
		b := encoded(t, pk)
		at, ok := publishIDOffset(b)
		if !ok || binary.BigEndian.Uint16(b[at:]) != 0xabcd {
			t.Errorf("payload of %d: offset %d, %t", size, at, ok)
		}
		for cut := range min(at+2, len(b)) {
			if _, ok := publishIDOffset(b[:cut]); ok {
				t.Errorf("found in %d of %d bytes", cut, len(b))
			}
		}
	}
	pk := publishPacket("x", 0, false, "payload")
	if _, ok := publishIDOffset(encoded(t, pk)); ok {
		t.Error("found in QoS 0")
	}
}

// Whatever is pushed and acknowledged in whatever order: never more than the
// window is out, ids are never zero or in use twice, messages keep their order,
// and nothing is lost.
func TestOutboxWindow(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		o := outbox{window: 1 + rnd.IntN(5), lastID: 65_530}
		out := make(map[uint16]bool)
		pushed, seen := 0, 0
		drain := func() {
			r := rawReader(o.ready)
			o.ready = nil
			for {
				pk, err := readPacket(r, 5)
				if err != nil {
					return
				}
				if pk.PacketID == 0 || out[pk.PacketID] {
					t.Fatalf("seed %d: packet id %d is zero or in use", seed, pk.PacketID)
				}
				out[pk.PacketID] = true
				if n := number(t, pk.Payload); n != seen {
					t.Fatalf("seed %d: message %d came as number %d", seed, n, seen)
				}
				seen++
			}
		}
		for pushed < 200 || seen < pushed {
			if pushed < 200 && rnd.IntN(2) == 0 {
				pk := publishPacket("t", 1, false, fmt.Sprint(pushed))
				pk.PacketID = 1
				o.push(encoded(t, pk))
				pushed++
			} else {
				for id := range out {
					delete(out, id)
					o.acked(id)
					o.acked(id) // twice changes nothing
					break
				}
			}
			drain()
			if len(out) > o.window {
				t.Fatalf("seed %d: %d out, the window is %d", seed, len(out), o.window)
			}
		}
		if o.size() != 0 {
			t.Errorf("seed %d: %d bytes left", seed, o.size())
		}
	}
}

func TestWindowFor(t *testing.T) {
	for _, c := range []struct {
		limit int
		rm    uint16
		want  int
	}{{64, 0, 64}, {64, 4, 4}, {64, 65_535, 64}, {65_535, 0, 65_534}} {
		if got := windowFor(c.limit, c.rm); got != c.want {
			t.Errorf("windowFor(%d, %d) = %d, want %d", c.limit, c.rm, got, c.want)
		}
	}
}

func TestConnectGuard(t *testing.T) {
	for _, c := range []struct {
		in       string
		ok, done bool
	}{
		{"", true, false}, {"\x10", true, false}, {"\x10\x20", true, true}, {"\x10\x80\x40", true, true}, {"\x10\x80\x41", false, false},
		{"\x10\xff\xff\xff\x7f", false, false}, {"\x10\x80\x80\x80\x80\x01", false, false}, {"\x20\x00", false, false}, {"GET / HTTP/1.1", false, false},
		{"\x16\x03\x01", false, false}, {"\x11\x20", false, false},
	} {
		for chunk := 1; chunk <= 3; chunk++ {
			var g connectGuard
			ok := true
			for p := []byte(c.in); len(p) > 0 && ok && !g.done; p = p[min(chunk, len(p)):] {
				ok = g.check(p[:min(chunk, len(p))])
			}
			if ok != c.ok || g.done != c.done {
				t.Errorf("%q by %d: ok %t, done %t", c.in, chunk, ok, g.done)
			}
		}
	}
}

// A reader that does not keep up is disconnected, counted, logged once, and
// its will tells the others; nobody waits for it.
func TestSlowReaderIsDropped(t *testing.T) {
	var log logtest.Buffer
	reg := prometheus.NewRegistry()
	b := start(t, func(c *Config) {
		c.Metrics = NewMetrics(reg)
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.Limits.WriteBuffer = 128 << 10
	})
	svc := connect(t, b.addr(), connectOptions{login: service()})
	svc.subscribe(1, schemas.Filter(schemas.KindPresence))
	w := publishPacket(topic("slow", schemas.KindPresence), 1, true, offline)
	dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "slow"), will: &w})
	dev.subscribe(0, topic("slow", schemas.KindChunk))
	big := string(make([]byte, 60<<10))
	gone := make(chan packets.Packet, 1)
	go func() {
		for {
			pk, err := svc.next(patience)
			if err != nil || pk.FixedHeader.Type == packets.Publish {
				gone <- pk
				return
			}
		}
	}()
	for i := 0; ; i++ {
		if i > 5000 {
			t.Fatal("300 MB written to a client that reads nothing")
		}
		if err := svc.put(publishPacket(topic("slow", schemas.KindChunk), 0, false, big)); err != nil {
			t.Fatal(err)
		}
		select {
		case pk := <-gone:
			if string(pk.Payload) != offline {
				t.Fatalf("%s: %q", pk.TopicName, pk.Payload)
			}
			if n := testutil.ToFloat64(b.metrics.slow); n != 1 {
				t.Errorf("%v slow readers counted", n)
			}
			if n := strings.Count(log.String(), "reads too slowly"); n != 1 {
				t.Errorf("logged %d times", n)
			}
			if n := testutil.ToFloat64(b.metrics.dropped); n != 0 {
				t.Errorf("%v messages dropped of a connected client", n)
			}
			return
		default:
		}
	}
}

// No message is lost for a client that reads, however fast a publisher is:
// publishers wait for mochi's channel instead of overflowing it.
func TestNothingIsDroppedForAReader(t *testing.T) {
	reg := prometheus.NewRegistry()
	b := start(t, func(c *Config) { c.Metrics = NewMetrics(reg) })
	svc := connect(t, b.addr(), connectOptions{login: service()})
	dev := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "d")})
	dev.subscribe(0, topic("d", schemas.KindChunk))
	const count = 5000
	fed := make(chan error, 1)
	go func() {
		for i := range count {
			if err := svc.put(publishPacket(topic("d", schemas.KindChunk), 0, false, fmt.Sprint(i))); err != nil {
				fed <- err
				return
			}
		}
		fed <- nil
	}()
	for i := range count {
		if n := number(t, dev.message().Payload); n != i {
			t.Fatalf("message %d came as number %d", n, i)
		}
	}
	if err := <-fed; err != nil {
		t.Fatal(err)
	}
	if n := testutil.ToFloat64(b.metrics.dropped); n != 0 {
		t.Errorf("%v messages dropped", n)
	}
	if in, out := testutil.ToFloat64(b.metrics.msgIn), testutil.ToFloat64(b.metrics.msgOut); in != count || out != count {
		t.Errorf("%v messages in and %v out counted, want %d", in, out, count)
	}
}

// Garbage on the port, before and after CONNECT, disturbs nobody.
func TestGarbageDisturbsNobody(t *testing.T) {
	b := start(t, func(c *Config) { c.Limits.ConnectTimeout = 300 * time.Millisecond })
	svc := connect(t, b.addr(), connectOptions{login: service()})
	svc.subscribe(1, schemas.Filter(schemas.KindHello))
	bad := addDevice(t, b, "bad")
	good := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "good")})
	rnd := rand.New(rand.NewPCG(1, 2))
	valid := [][]byte{
		encoded(t, connectPacket(connectOptions{login: bad})),
		encoded(t, publishPacket(topic("bad", schemas.KindHello), 0, false, "x")),
		[]byte("\x82\x06\x00\x01\x00\x00\x01a"), []byte("\xff\xff\xff\xff\xff"), []byte("\x30\xff\xff\xff\x7f"),
	}
	for i := range 150 {
		c := dialTCP(t, b.addr())
		p := bytes.Clone(valid[i%len(valid)])
		for range rnd.IntN(4) {
			p[rnd.IntN(len(p))] = byte(rnd.Uint32())
		}
		if i%2 == 0 {
			p = append(bytes.Clone(valid[0]), p...)
		}
		_, _ = c.Write(p) // the broker may have hung up
		_ = c.Close()
	}
	if got := good.publish(topic("good", schemas.KindHello), 1, false, "fine"); got != 0 {
		t.Errorf("PUBACK %#x", got)
	}
	for {
		pk := svc.message()
		if string(pk.Payload) == "fine" {
			break
		}
		if !strings.HasPrefix(pk.TopicName, "davit/v1/bad/") { // a mutation that is none
			t.Fatalf("%s: %q", pk.TopicName, pk.Payload)
		}
	}
	eventually(t, "all garbage is gone", func() bool { return b.Connections() == 1 && len(b.open()) == 2 })
}

// FuzzConnection sends one client's bytes after a proper CONNECT: nobody else
// may notice, and the connection is forgotten when it ends.
func FuzzConnection(f *testing.F) {
	for _, s := range []string{
		"\x82\x06\x00\x01\x00\x00\x01a", "\xc0\x00", "\xe0\x00", "\x10\x00", "\x30\x03\x00\x01a", "\xf0\x02\x00\x00", "\x40\x02\x00\x01",
		"\x62\x02\x00\x01", "\x32\x08\x00\x01a\x00\x01\x03\x26\x00", "\xa2\x06\x00\x01\x00\x00\x01a", "\x82\x0a\x00\x01\x00\x00\x04$SYS\x00",
		"\x82\x0b\x00\x01\x02\x0b\x00\x00\x04a/+b\x01", "\xe0\x07\x00\x05\x11\x00\x00\x00\x10", "\x32\xc8\xc8\xc8\xc8\xc8",
	} {
		f.Add([]byte(s))
	}
	b := start(f, func(c *Config) { c.Limits.ConnectRate = 1_000_000 })
	dev := addDevice(f, b, "fuzz")
	f.Fuzz(func(t *testing.T, data []byte) {
		svc := connect(t, b.addr(), connectOptions{login: service()})
		c := connect(t, b.addr(), connectOptions{login: dev, clientID: "x"})
		if _, err := c.Write(data); err == nil { // the broker may have hung up
			_ = c.Conn.(*net.TCPConn).CloseWrite()
		}
		c.ended()
		svc.quiet()
		_ = svc.Close()
		eventually(t, "both are forgotten", func() bool { return len(b.sessions.all()) == 0 })
	})
}

// A socket limit closes what is too much at once and lets in again later.
func TestTooManySockets(t *testing.T) {
	b := start(t, func(c *Config) { c.Limits.MaxConnections, c.Limits.MaxPending, c.Limits.MaxWaiting = 1, 3, 1 })
	b.sockets.Add(2) // one authenticated and one that waits
	var open []net.Conn
	for range 3 {
		open = append(open, dialTCP(t, b.addr()))
	}
	eventually(t, "three more sockets", func() bool { return b.sockets.Load() == 5 })
	extra := dialTCP(t, b.addr())
	_ = extra.SetReadDeadline(time.Now().Add(patience))
	var timeout net.Error
	if _, err := extra.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the fourth socket: %v", err)
	}
	_ = open[0].Close()
	eventually(t, "room again", func() bool { return b.sockets.Load() == 4 })
	connect(t, b.addr(), connectOptions{login: service()}).quiet()
}
