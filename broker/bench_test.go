package broker

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"davit/schemas"
)

// The benchmarks run our broker and mochi alone one after the other in the
// same process, and report ours as a ratio to mochi's: on a machine that other
// work shares, only ratios hold.

// target is a broker to load.
type target struct {
	addr   string
	device login
	svc    login
}

func benchDevices(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint("d", i)
	}
	return ids
}

func davitTarget(b *testing.B, devices int) target {
	br := start(b, func(c *Config) { c.Limits.MaxPerPrincipal = 1 << 20 })
	pw, err := br.cfg.Credentials.AddBridge("rack", benchDevices(devices))
	if err != nil {
		b.Fatal(err)
	}
	return target{br.addr(), login{"rack", pw}, service()}
}

func mochiTarget(b *testing.B, _ int) target {
	server := mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})
	check(b, server.AddHook(&allowHook{}, nil))
	l := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0"})
	check(b, server.AddListener(l))
	check(b, server.Serve())
	b.Cleanup(func() { check(b, server.Close()) })
	return target{l.Address(), login{"rack", "x"}, service()}
}

func brokers() []struct {
	name string
	open func(*testing.B, int) target
} {
	return []struct {
		name string
		open func(*testing.B, int) target
	}{{"mochi", mochiTarget}, {"davit", davitTarget}}
}

// BenchmarkUnicast4K sends 4 KiB QoS 0 messages from one connection to each
// of 100 subscribers in turn.
func BenchmarkUnicast4K(b *testing.B) {
	var rate [2]float64
	for i, br := range brokers() {
		b.Run(br.name, func(b *testing.B) {
			rate[i] = unicast(b, br.open(b, 100), 100)
			b.ReportMetric(rate[i], "msg/s")
			if i == 1 && rate[0] > 0 {
				b.ReportMetric(rate[1]/rate[0], "ratio")
			}
		})
	}
}

func unicast(b *testing.B, to target, clients int) float64 {
	const outstanding = 64 // like a window: mochi drops beyond its queue
	var received atomic.Int64
	var wg sync.WaitGroup
	credit := make(chan struct{}, outstanding)
	packet := make([][]byte, clients)
	for i := range clients {
		c := connect(b, to.addr, connectOptions{login: to.device, clientID: fmt.Sprint("c", i)})
		chunks := topic(fmt.Sprint("d", i), schemas.KindChunk)
		c.subscribe(0, chunks)
		packet[i] = encoded(b, publishPacket(chunks, 0, false, string(make([]byte, 4<<10))))
		_ = c.SetReadDeadline(time.Time{})
		wg.Go(func() {
			r := bufio.NewReaderSize(c.Conn, 8<<10)
			for {
				if _, err := io.CopyN(io.Discard, r, int64(len(packet[i]))); err != nil {
					return
				}
				received.Add(1)
				<-credit
			}
		})
		b.Cleanup(func() { _ = c.Close() })
	}
	svc := connect(b, to.addr, connectOptions{login: to.svc, clientID: "svc"})
	_ = svc.SetWriteDeadline(time.Time{})
	b.ResetTimer()
	began := time.Now()
	for n := range b.N {
		credit <- struct{}{}
		if _, err := svc.Write(packet[n%clients]); err != nil {
			b.Fatal(err)
		}
	}
	eventually(b, "all arrived", func() bool { return received.Load() == int64(b.N) })
	b.StopTimer()
	return float64(b.N) / time.Since(began).Seconds()
}

// BenchmarkConnectionMemory reports the heap and stack that an idle
// connection with two subscriptions costs, the test's own end included.
func BenchmarkConnectionMemory(b *testing.B) {
	const clients = 1000
	var size [2]float64
	for i, br := range brokers() {
		b.Run(br.name, func(b *testing.B) {
			to := br.open(b, clients)
			before := memory()
			for k := range clients {
				c, err := quietClient(b, to, k)
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = c.Close() })
			}
			size[i] = (memory() - before) / clients
			b.ReportMetric(size[i], "B/conn")
			if i == 1 && size[0] > 0 {
				b.ReportMetric(size[1]/size[0], "ratio")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func quietClient(b *testing.B, to target, k int) (io.Closer, error) {
	c := connect(b, to.addr, connectOptions{login: to.device, clientID: fmt.Sprint("c", k)})
	id := fmt.Sprint("d", k)
	c.subscribe(1, topic(id, schemas.KindOffer), topic(id, schemas.KindChunk))
	_ = c.put(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	_, err := c.next(patience)
	c.r = nil
	return c.Conn, err
}

func memory() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}
