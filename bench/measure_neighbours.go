package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"davit/schemas"
)

// neighbours are others that behave badly: at the same service or, to tell what they
// cost the machine by themselves, at a listener that only reads.
type neighbours struct {
	name  string
	count int
	sink  bool
	// start lets neighbour i of them begin; it goes on until ctx ends.
	start func(ctx context.Context, n *neighbourhood, i int) error
}

// neighbourhood is what neighbours share.
type neighbourhood struct {
	d       *davit
	addr    string // of the service, or of the sink
	sink    bool
	first   int // index of the first device that is no good module
	image   []byte
	count   int
	tasks   sync.WaitGroup
	asked   atomic.Int64 // fetches
	opened  atomic.Int64 // connections
	refused atomic.Int64 // that were ended by the service
	failed  atomic.Int64 // that could not be opened
	open    atomic.Int64 // connections of a storm
}

const (
	// floodRate is how many fetches a second all flooding neighbours send together.
	floodRate = 10_000
	// floodTakes is how many bytes a second each of them takes.
	floodTakes = 20 << 10
)

// halfOpenShare is how many half-open connections there are for each of the other neighbours: they
// cost those who make them little. With more than MaxPending of the broker's limits, which ends the
// oldest of them to have room, it would be a storm of connections that is measured.
const halfOpenShare = 4

// atIt is for how long neighbours have been at it when the measurement begins: those that flood
// have what their sockets hold by then, and have asked as often as one may that has just come.
const atIt = 4 * time.Second

// flood asks over and over for sixteen single chunks all over the image, and takes little.
func flood(ctx context.Context, n *neighbourhood, i int) error {
	conn, topic, err := n.dial(i)
	if err != nil {
		return err
	}
	n.tasks.Go(func() { // takes
		buf := make([]byte, floodTakes/10)
		for beat := time.NewTicker(100 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				beat.Stop()
				return
			case <-beat.C:
			}
			if _, err := conn.Read(buf); err != nil {
				n.refused.Add(1)
				return
			}
		}
	})
	n.tasks.Go(func() { // asks
		defer conn.Close()
		random := rand.New(rand.NewPCG(uint64(i), 7))
		interval := time.Duration(float64(time.Second) * float64(n.count) / floodRate)
		next := time.Now().Add(time.Duration(random.Float64() * float64(interval)))
		for tag := uint16(0); ctx.Err() == nil; tag++ {
			time.Sleep(time.Until(next))
			next = next.Add(interval)
			if n.ask(conn, topic, tag, scattered(random, len(n.image))) != nil {
				return
			}
		}
	})
	return nil
}

// scattered are sixteen chunks of 4 KiB in ascending order, far from one another.
func scattered(random *rand.Rand, size int) []schemas.Range {
	const chunk, count = 4 << 10, 16
	part := size / count
	ranges := make([]schemas.Range, count)
	for i := range ranges {
		at := i*part + random.IntN(part-chunk+1)
		ranges[i] = schemas.Range{Offset: uint64(at), Length: chunk}
	}
	return ranges
}

// deaf asks for all that it may once a second and never reads.
func deaf(ctx context.Context, n *neighbourhood, i int) error {
	conn, topic, err := n.dial(i)
	if err != nil {
		return err
	}
	n.tasks.Go(func() {
		defer conn.Close()
		for tag := uint16(0); ctx.Err() == nil; tag++ {
			if n.ask(conn, topic, tag, []schemas.Range{{Length: 64 * 4 << 10}}) != nil {
				n.refused.Add(1)
				return
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	})
	return nil
}

// halfOpen begins a CONNECT and never ends it; when the connection is ended, it makes
// another one.
func halfOpen(ctx context.Context, n *neighbourhood, i int) error {
	n.tasks.Go(func() {
		for ctx.Err() == nil {
			conn, err := net.DialTimeout("tcp", n.addr, patience)
			if err == nil {
				n.opened.Add(1)
				stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the read
				_, _ = conn.Write([]byte{1 << 4, 60, 0, 4, 'M', 'Q'})       // the read tells
				_, _ = io.Copy(io.Discard, conn)
				n.refused.Add(1)
				stop()
				_ = conn.Close() // it has ended
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	return nil
}

// dial connects the neighbour's device and has it subscribed to its chunks.
func (n *neighbourhood) dial(i int) (net.Conn, string, error) {
	id := n.d.devices[n.first+i]
	conn, err := net.DialTimeout("tcp", n.addr, patience)
	if err != nil {
		return nil, "", err
	}
	n.opened.Add(1)
	b := appendConnect(nil, id, id, n.d.passwords[id])
	b = appendSubscribe(b, schemas.Topic{Device: id, Kind: schemas.KindChunk}.String())
	if _, err = conn.Write(b); err == nil && !n.sink {
		err = answered(conn)
	}
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("device %s: %w", id, err), conn.Close())
	}
	return conn, schemas.Topic{Device: id, Kind: schemas.KindFetch}.String(), nil
}

// answered waits for CONNACK and SUBACK.
func answered(conn net.Conn) error {
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	var b [4 + 5]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return err
	}
	if b[0]>>4 != 2 || b[3] != 0 || b[4]>>4 != 9 || b[8] > 2 {
		return fmt.Errorf("CONNECT and SUBSCRIBE were answered with % x", b)
	}
	return conn.SetReadDeadline(time.Time{})
}

// startSink listens and reads whatever comes.
func startSink() (net.Listener, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				_, _ = io.Copy(io.Discard, conn) // until the other side ends
				_ = conn.Close()
			}()
		}
	}()
	return ln, nil
}

func (n *neighbourhood) ask(conn net.Conn, topic string, tag uint16, ranges []schemas.Range) error {
	payload := appendFetch(make([]byte, 0, 1024), n.d.image.ID, tag, 4<<10, ranges, 0)
	b := append(appendPublishHead(make([]byte, 0, 1100), topic, len(payload)), payload...)
	n.asked.Add(1)
	_, err := conn.Write(b)
	return err
}

// besides runs load while the neighbours do what they do.
func (s *suite) besides(ctx context.Context, d *davit, first int, image []byte, who neighbours, load func() (sample, error)) (sample, error) {
	if who.count == 0 {
		return load()
	}
	ctx, cancel := context.WithCancel(ctx)
	n := &neighbourhood{d: d, addr: d.mqtt, sink: who.sink, first: first, image: image, count: who.count}
	defer n.tasks.Wait()
	defer cancel()
	if who.sink {
		sink, err := startSink()
		if err != nil {
			return sample{}, err
		}
		defer sink.Close()
		n.addr = sink.Addr().String()
	}
	if err := each(who.count, func(i int) error { return who.start(ctx, n, i) }); err != nil {
		return sample{}, err
	}
	wait := atIt
	if s.quick {
		wait /= 40
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
	opened, from := n.opened.Load(), time.Now()
	got, err := load()
	s.log("    %s: %d connections (%.0f a second, %d could not be opened), %d fetches, %d ended by the service\n", who.name,
		n.opened.Load(), float64(n.opened.Load()-opened)/time.Since(from).Seconds(), n.failed.Load(), n.asked.Load(), n.refused.Load())
	return got, err
}

// measureNeighbours compares what good modules get with and without bad neighbours.
func measureNeighbours(ctx context.Context, s *suite) (section, error) {
	const imageSize = 4 << 20
	good, crowds, total := 100, []int{100, 1000}, int64(5000<<20)
	if s.quick {
		good, crowds, total = 4, []int{4}, 4<<20
	}
	image := testImage(imageSize)
	d, err := s.offered(ctx, good+crowds[len(crowds)-1], image)
	if err != nil {
		return section{}, err
	}
	modules, err := d.connect(nil, good, image)
	if err != nil {
		return section{}, err
	}
	const chunk = 16 << 10
	window := windowFor(s.window, chunk, good)
	c := course{image: d.image.ID, chunk: chunk, window: window, batch: max(1, window/2), length: total / int64(good) / chunk * chunk}
	all := []neighbours{{name: "no neighbours"}}
	for _, n := range crowds {
		many := grouped(int64(n))
		for _, sink := range []bool{true, false} {
			all = append(all,
				neighbours{many + " that flood fetches", n, sink, flood},
				neighbours{many + " that ask and never read", n, sink, deaf},
				neighbours{grouped(int64(halfOpenShare*n)) + " half-open connections", halfOpenShare * n, sink, halfOpen})
		}
	}
	for _, sink := range []bool{true, false} {
		all = append(all, neighbours{grouped(stormRate) + " connections a second with bad credentials", stormers, sink, storm})
	}
	var contestants []contestant
	for _, who := range all {
		contestants = append(contestants, contestant{who.name, func() (sample, error) {
			return s.besides(ctx, d, good, image, who, func() (sample, error) {
				return takeBusy(d.process, good, c, func() (outcome, error) { return fetchAll(ctx, modules, c) })
			})
		}})
	}
	got, err := takeTurns(s.runs, s.log, contestants...)
	if err != nil {
		return section{}, err
	}
	return section{text: neighboursText, tables: []*table{neighboursTable(all, got)}}, nil
}

// neighboursTable has a row for each kind of neighbours at the service, beside the same elsewhere.
func neighboursTable(all []neighbours, got [][]sample) *table {
	t := &table{head: []string{"neighbours of 100 good modules", "good modules, MiB/s", "of that without neighbours", "of that with them elsewhere", "chunk p50 / p99, ms", "peak, MiB", "asked again"}}
	elsewhere := map[string][]sample{}
	for i, who := range all {
		if who.sink {
			elsewhere[who.name] = got[i]
			continue
		}
		alone, shared := "", ""
		if i > 0 {
			alone = ratios(got[i], got[0], sample.rate).String()
			r := ratios(got[i], elsewhere[who.name], sample.rate)
			shared = fmt.Sprintf("**%.2f** (%.2f-%.2f), wanted 0.8: %s", r.median, r.min, r.max, verdict(r.median >= 0.8))
		}
		var again int64
		for _, g := range got[i] {
			again += g.again
		}
		t.add(who.name, spreadBy(got[i], sample.rate).String(), alone, shared, latencies(got[i]), peaks(got[i]), fmt.Sprint(again))
	}
	return t
}

const neighboursText = `The good modules fetch as in the first table, chunks of 16 KiB, as fast as they can. Floods: 10,000 fetches a second in all, each of sixteen single chunks of 4 KiB all over the image, by modules that take 20 KiB/s each. Those that never read ask for 256 KiB every second. Half-open connections send the
beginning of a CONNECT, and come back when they are ended; more than 4,096 of those are not kept open: 5,000 would be a storm of 4,000 connections a second, which left 0.75 of the throughput without them (0.71 of that with 5,000 that nobody ends). Connections with bad credentials come from eight addresses, half of them under names that nobody has and half under those of the good modules, never the same twice; each waits a quarter of a second for its answer, and those that could not be opened
in time on a machine that is busy are told on standard error. The measurement begins four seconds after all of them are connected, when they have what their sockets hold: until then each of those that flood is a module that is served. They share the two processors with the service and with the good modules: elsewhere means that they do the same
to a listener that only reads, which tells what their own side costs.`
