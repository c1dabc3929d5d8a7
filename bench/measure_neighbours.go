package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"davit/schemas"
)

// neighbours are others at the same service that behave badly.
type neighbours struct {
	name  string
	count int
	// start lets neighbour i of them begin; it goes on until ctx ends.
	start func(ctx context.Context, n *neighbourhood, i int) error
}

// neighbourhood is what neighbours share.
type neighbourhood struct {
	d       *davit
	first   int // index of the first device that is no good module
	image   []byte
	count   int
	tasks   sync.WaitGroup
	asked   atomic.Int64 // fetches
	opened  atomic.Int64 // connections
	refused atomic.Int64 // that were ended by the service
}

const (
	// floodRate is how many fetches a second all flooding neighbours send together.
	floodRate = 10_000
	// floodTakes is how many bytes a second each of them takes.
	floodTakes = 20 << 10
)

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
			conn, err := net.DialTimeout("tcp", n.d.mqtt, patience)
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

// dial connects the neighbour's device; it subscribes to its chunks.
func (n *neighbourhood) dial(i int) (net.Conn, string, error) {
	id := n.d.devices[n.first+i]
	conn, err := net.DialTimeout("tcp", n.d.mqtt, patience)
	if err != nil {
		return nil, "", err
	}
	b := appendConnect(nil, id, id, n.d.passwords[id])
	b = appendSubscribe(b, schemas.Topic{Device: id, Kind: schemas.KindChunk}.String())
	_, err = conn.Write(b)
	n.opened.Add(1)
	return conn, schemas.Topic{Device: id, Kind: schemas.KindFetch}.String(), err
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
	n := &neighbourhood{d: d, first: first, image: image, count: who.count}
	defer n.tasks.Wait()
	defer cancel()
	if err := each(who.count, func(i int) error { return who.start(ctx, n, i) }); err != nil {
		return sample{}, err
	}
	wait := time.Second // until they are at it
	if s.quick {
		wait /= 10
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
	got, err := load()
	s.log("    %s: %d connections, %d fetches, %d ended by the service\n", who.name, n.opened.Load(), n.asked.Load(), n.refused.Load())
	return got, err
}

// measureNeighbours compares what good modules get with and without bad neighbours.
func measureNeighbours(ctx context.Context, s *suite) (section, error) {
	const imageSize = 4 << 20
	good, crowds, total := 100, []int{100, 1000}, int64(1000<<20)
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
		all = append(all,
			neighbours{fmt.Sprintf("%s that flood fetches", grouped(int64(n))), n, flood},
			neighbours{fmt.Sprintf("%s that ask and never read", grouped(int64(n))), n, deaf},
			neighbours{fmt.Sprintf("%s half-open connections", grouped(int64(n))), n, halfOpen})
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
	t := &table{head: []string{"neighbours of 100 good modules", "good modules, MiB/s", "of that without neighbours", "chunk p50 / p99, ms", "peak, MiB", "asked again"}}
	for i, who := range all {
		ratio := ""
		if i > 0 {
			r := ratios(got[i], got[0], sample.rate)
			ratio = fmt.Sprintf("**%.2f** (%.2f-%.2f), wanted 0.8: %s", r.median, r.min, r.max, verdict(r.median >= 0.8))
		}
		var again int64
		for _, g := range got[i] {
			again += g.again
		}
		t.add(who.name, spreadBy(got[i], sample.rate).String(), ratio, latencies(got[i]), peaks(got[i]), fmt.Sprint(again))
	}
	return section{text: neighboursText, tables: []*table{t}}, nil
}

const neighboursText = `The good modules fetch as in the first table, chunks of 16 KiB, as fast as they can. Floods: 10,000 fetches a second in all, each of sixteen single chunks of 4 KiB all over the image, by modules that take 20 KiB/s each. Those that never read ask for 256 KiB every second. Half-open connections send the
beginning of a CONNECT, and come back when they are ended. What the neighbours' own side costs of the two processors is in the figures, against the service.`
