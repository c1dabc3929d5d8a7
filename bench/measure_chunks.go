package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"davit/schemas"
)

// contestant is one of the servers whose runs take turns.
type contestant struct {
	name string
	run  func() (sample, error)
}

// takeTurns runs each contestant in turn, as many times as asked for.
func takeTurns(runs int, log func(string, ...any), contestants ...contestant) ([][]sample, error) {
	got := make([][]sample, len(contestants))
	for run := range runs {
		for i, c := range contestants {
			s, err := c.run()
			if err != nil {
				return nil, fmt.Errorf("run %d of %s: %w", run+1, c.name, err)
			}
			log("  %-34s %7.2f µs CPU/chunk %8.1f MiB/s  p50 %8s p99 %8s  peak %4d MiB  lost %d again %d\n",
				c.name, s.cpuPerChunk(), s.rate(), s.p50, s.p99, s.peak>>20, s.lost, s.again)
			got[i] = append(got[i], s)
		}
	}
	return got, nil
}

// chunkLoad is one line of the table of what a chunk costs.
type chunkLoad struct {
	modules, chunk int
	perRun         int64 // bytes in all
}

func chunkLoads(quick bool) []chunkLoad {
	if quick {
		return []chunkLoad{{4, 4 << 10, 2 << 20}, {4, 16 << 10, 2 << 20}}
	}
	var loads []chunkLoad
	for _, modules := range []int{100, 1000} {
		loads = append(loads, chunkLoad{modules, 4 << 10, 400 << 20}, chunkLoad{modules, 16 << 10, 1000 << 20}, chunkLoad{modules, 64 << 10, 2000 << 20})
	}
	return loads
}

// windowBytes is what as many modules can await at a time: what the contract allows, and
// together what the service has under way to all of them.
func windowBytes(modules int) int { return min(schemas.MaxAwaited, 256<<20/modules) }

// windowFor is how many chunks of that size a module awaits: what the contract allows,
// unless the command says less.
func windowFor(most, chunk, modules int) int {
	w := min(schemas.MaxWindow, windowBytes(modules)/chunk)
	if most > 0 {
		w = min(w, most)
	}
	return w
}

// measureChunks compares what the service takes of the CPU for a chunk with what
// mosquitto takes, and with a program that only writes.
func measureChunks(ctx context.Context, s *suite) (section, error) {
	const imageSize = 4 << 20
	image := testImage(imageSize)
	loads := chunkLoads(s.quick)
	d, err := s.offered(ctx, loads[len(loads)-1].modules, image)
	if err != nil {
		return section{}, err
	}
	m, err := startMosquitto(s.dir)
	if err != nil {
		return section{}, err
	}
	s.onEnd(m.stop)
	f, err := startFloor(imageSize)
	if err != nil {
		return section{}, err
	}
	s.onEnd(f.stop)
	var modules []*module
	var subs []*subscriber
	var takers []*taker
	cost := &table{head: []string{"modules, chunk", "davit, µs", "mosquitto, µs", "davit / mosquitto", "one write each, µs", "64 KiB a write, µs"}}
	flow := &table{head: []string{"modules, chunk", "davit, MiB/s", "mosquitto, MiB/s", "davit p50 / p99, ms", "mosquitto p50 / p99, ms", "davit peak, MiB", "mosquitto peak, MiB", "lost, asked again"}}
	for _, l := range loads {
		if modules, err = d.connect(modules, l.modules, image); err != nil {
			return section{}, err
		}
		if subs, err = m.connect(subs, l.modules, image); err != nil {
			return section{}, err
		}
		if takers, err = dialFloors(takers, l.modules, f.addr, image); err != nil {
			return section{}, err
		}
		length := l.perRun / int64(l.modules) / int64(l.chunk) * int64(l.chunk)
		window := windowFor(s.window, l.chunk, l.modules)
		c := course{image: d.image.ID, chunk: l.chunk, window: window, batch: max(1, window/2), length: length}
		few := c
		few.window = 16 // more makes mosquitto no cheaper
		s.log("%d modules, chunks of %d bytes, window %d\n", l.modules, l.chunk, window)
		got, err := takeTurns(s.runs, s.log,
			contestant{"davit", func() (sample, error) {
				return take(d.process, l.modules, c, func() (outcome, error) { return fetchAll(ctx, modules, c) })
			}},
			contestant{"mosquitto", func() (sample, error) {
				return take(m.process, l.modules, c, func() (outcome, error) { return feedAll(ctx, m.addr, subs, few, image) })
			}},
			contestant{"floor, one write a chunk", func() (sample, error) {
				return take(f.process, l.modules, c, func() (outcome, error) { return takeAll(takers, c, 1) })
			}},
			contestant{"floor, 64 KiB a write", func() (sample, error) {
				return take(f.process, l.modules, c, func() (outcome, error) { return takeAll(takers, c, max(1, 64<<10/l.chunk)) })
			}})
		if err != nil {
			return section{}, err
		}
		addChunkRows(cost, flow, l, got)
	}
	return section{text: chunksText, tables: []*table{cost, flow}}, nil
}

// dialFloors connects as many takers to the program that only writes as there are to be.
func dialFloors(takers []*taker, to int, addr string, image []byte) ([]*taker, error) {
	for len(takers) < to {
		k, err := dialFloor(addr, image)
		if err != nil {
			return nil, err
		}
		takers = append(takers, k)
	}
	return takers, nil
}

// wantedOfMosquitto is what davit's processor time for a chunk may be of mosquitto's.
var wantedOfMosquitto = map[int]float64{4 << 10: 0.6, 16 << 10: 0.4, 64 << 10: 0.4}

func addChunkRows(cost, flow *table, l chunkLoad, got [][]sample) {
	name := fmt.Sprintf("%s, %d KiB", grouped(int64(l.modules)), l.chunk>>10)
	ratio := ratios(got[0], got[1], sample.cpuPerChunk)
	cost.add(name, spreadBy(got[0], sample.cpuPerChunk).String(), spreadBy(got[1], sample.cpuPerChunk).String(),
		ratioText(ratio, wantedOfMosquitto[l.chunk]), spreadBy(got[2], sample.cpuPerChunk).String(), spreadBy(got[3], sample.cpuPerChunk).String())
	var lost, again int64
	for _, s := range slices.Concat(got...) {
		lost += s.lost
		again += s.again
	}
	flow.add(name, spreadBy(got[0], sample.rate).String(), spreadBy(got[1], sample.rate).String(), latencies(got[0]), latencies(got[1]),
		peaks(got[0]), peaks(got[1]), fmt.Sprintf("%d, %d", lost, again))
}

// latencies are the medians of two quantiles of chunks, in milliseconds.
func latencies(s []sample) string {
	return medians(s, func(s sample) (p50, p99 time.Duration) { return s.p50, s.p99 })
}

// medians are those of two times, in milliseconds.
func medians(s []sample, of func(sample) (a, b time.Duration)) string {
	first := spreadBy(s, func(s sample) float64 { a, _ := of(s); return ms(a) })
	second := spreadBy(s, func(s sample) float64 { _, b := of(s); return ms(b) })
	return figure(first.median) + " / " + figure(second.median)
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

// peaks is the highest peak of the runs in MiB.
func peaks(s []sample) string {
	return figure(spreadBy(s, func(s sample) float64 { return float64(s.peak) / (1 << 20) }).max)
}

// publishers is how many connections feed mosquitto: more make it no faster.
const publishers = 4

// feedAll is feed as a load.
func feedAll(ctx context.Context, addr string, subs []*subscriber, c course, image []byte) (o outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, courseLimit)
	defer cancel()
	if o.lost, err = feed(ctx, addr, subs, publishers, c, image); err != nil {
		return o, err
	}
	o.until = time.Now()
	for _, s := range subs {
		o.latency.merge(&s.latency)
		o.again += s.repeated.Load()
	}
	return o, nil
}

const chunksText = `Server processor time (user and system, from /proc) for each chunk that arrived, median (min-max). Modules ask davit for a 4 MiB image, over and over, with half a window (64 chunks, at most 2 MiB or what the service has under way to each if it is divided evenly, 256 MiB to all) in each fetch; what the fetches cost is in the figure. mosquitto is
sent the same bytes, for as many QoS 0 subscribers each on its own topic, by four connections with pre-encoded packets, vectored writes and at most 16 chunks under way to each subscriber; what those cost is not in the figure. "One write each" is a Go program that
does nothing but write the same packets, one write call for each; "64 KiB a write" puts as many as that in one. Latency is from fetch to chunk at davit and from publish to chunk at mosquitto; it is mostly the window.`
