package main

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"
)

// roundTrip is the emulated round-trip time.
const roundTrip = 300 * time.Millisecond

// distanceCase is a module that holds a window of bytes.
type distanceCase struct {
	name          string
	chunk, window int   // bytes, chunks
	batch         int   // chunks in a fetch
	length        int64 // bytes
}

func distanceCases(quick bool) []distanceCase {
	cases := []distanceCase{
		{"one block of 4 KiB for each request", 4 << 10, 1, 1, 40 << 10},
		{"window of 64 KiB, chunks of 4 KiB", 4 << 10, 16, 2, 1 << 20},
		{"window of 256 KiB, chunks of 4 KiB", 4 << 10, 64, 8, 4 << 20},
		{"window of 2 MiB, chunks of 32 KiB", 32 << 10, 64, 8, 32 << 20},
	}
	if quick {
		return []distanceCase{{"one block of 4 KiB for each request", 4 << 10, 1, 1, 8 << 10}, {"window of 64 KiB, chunks of 4 KiB", 4 << 10, 16, 2, 128 << 10}}
	}
	return cases
}

// measureDistance has one module at a time fetch over a long way.
func measureDistance(ctx context.Context, s *suite) (section, error) {
	const imageSize = 4 << 20
	image := testImage(imageSize)
	cases := distanceCases(s.quick)
	// Each run has a device of its own: the service remembers how one behaved.
	d, err := s.offered(ctx, s.runs*len(cases), image)
	if err != nil {
		return section{}, err
	}
	way, err := startDelay(d.mqtt, roundTrip/2)
	if err != nil {
		return section{}, err
	}
	s.onEnd(way.stop)
	fresh, stop := iter.Pull(slices.Values(d.devices))
	defer stop()
	var contestants []contestant
	for _, k := range cases {
		c := course{image: d.image.ID, chunk: k.chunk, window: k.window, batch: k.batch, length: k.length, atOnce: true}
		contestants = append(contestants, contestant{k.name, func() (sample, error) {
			id, _ := fresh() // there is one for each run
			m, err := dialModule(way.addr(), id, d.passwords[id], image)
			if err != nil {
				return sample{}, err
			}
			defer m.close()
			return take(d.process, 1, c, func() (outcome, error) { return fetchAll(ctx, []*module{m}, c) })
		}})
	}
	got, err := takeTurns(s.runs, s.log, contestants...)
	if err != nil {
		return section{}, err
	}
	t := &table{head: []string{"one module, round trip 300 ms", "KiB/s", "of window / round trip", "one block for each request = 1", "asked again"}}
	goodput := func(s sample) float64 { return float64(s.bytes) / 1024 / s.wall.Seconds() }
	for i, k := range cases {
		limit := float64(k.chunk*k.window) / 1024 / roundTrip.Seconds()
		share := spreadBy(got[i], func(s sample) float64 { return goodput(s) / limit })
		var again int64
		for _, g := range got[i] {
			again += g.again
		}
		t.add(k.name, spreadBy(got[i], goodput).String(), share.String(), ratios(got[i], got[0], goodput).String(), fmt.Sprint(again))
	}
	return section{text: distanceText, tables: []*table{t}}, nil
}

const distanceText = `A proxy in the clients' process keeps every byte for 150 ms in each direction and is otherwise not there. Modules ask for an eighth of their window whenever so much of it has arrived; the time begins with the first fetch, so the first round trip, in which nothing can
arrive, is in it. Wanted: at least 10 times one block for each request, and at least 0.9 of window / round trip.`
