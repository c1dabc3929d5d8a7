package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// sample is one run of one server with one load.
type sample struct {
	cpu      time.Duration // of the server, user and system
	wall     time.Duration // from the first request until the last byte was compared
	bytes    int64         // of image data that arrived and was right
	chunks   int64
	p50, p99 time.Duration // of a chunk
	// all50 and all99 are the same of everything that one client gets.
	all50, all99 time.Duration
	peak         int64 // resident memory of the server in bytes
	lost         int64 // chunks that did not arrive
	again        int64 // times that a module had to ask again, or chunks out of order
}

func (s sample) cpuPerChunk() float64 {
	return float64(s.cpu) / float64(time.Microsecond) / float64(s.chunks)
}
func (s sample) cpuPerMiB() float64 { return s.cpu.Seconds() * 1e3 / (float64(s.bytes) / (1 << 20)) }
func (s sample) rate() float64      { return float64(s.bytes) / (1 << 20) / s.wall.Seconds() }

// outcome is what the clients of a run say.
type outcome struct {
	latency     histogram // of chunks
	whole       histogram // from the first request of a client to the last byte that it gets
	lost, again int64
	until       time.Time // when the last of them was done; what is counted afterwards takes no part
}

// take measures what a server does while load is run: length bytes in chunks of that
// size to each of n clients.
func take(p *process, n int, c course, load func() (outcome, error)) (sample, error) {
	if err := p.settle(); err != nil {
		return sample{}, err
	}
	return takeBusy(p, n, c, load)
}

// takeBusy is take without waiting for what the server may be doing already.
func takeBusy(p *process, n int, c course, load func() (outcome, error)) (sample, error) {
	if err := p.forgetPeak(); err != nil {
		return sample{}, err
	}
	before, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	began := time.Now()
	o, err := load()
	s := sample{wall: o.until.Sub(began), lost: o.lost, again: o.again}
	if err != nil {
		select {
		case <-p.done:
			err = errors.Join(err, p.ended())
		default:
		}
		return s, fmt.Errorf("%s: %w\n%s", p.name, err, p.log.String())
	}
	after, err := p.cpu()
	if err != nil {
		return s, err
	}
	s.cpu = after - before
	if _, s.peak, err = p.resident(); err != nil {
		return s, err
	}
	s.chunks = int64(n)*c.length/int64(c.chunk) - o.lost
	s.bytes = s.chunks * int64(c.chunk)
	s.p50, s.p99 = o.latency.quantile(0.5), o.latency.quantile(0.99)
	s.all50, s.all99 = o.whole.quantile(0.5), o.whole.quantile(0.99)
	return s, nil
}

// courseLimit is how long a course may take.
const courseLimit = 2 * time.Minute

// fetchAll has every module fetch the course at the same time.
func fetchAll(ctx context.Context, modules []*module, c course) (o outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, courseLimit)
	defer cancel()
	ended := make(chan error, 2*len(modules)) // none waits for it
	for _, m := range modules {
		go func() { // each on its own, as HTTP's clients do
			if err := m.start(c, func(err error) { ended <- err }); err != nil {
				ended <- err
			}
		}()
	}
	look := time.NewTicker(stallTime / 4)
	defer look.Stop()
	for left := len(modules); left > 0; {
		select {
		case err := <-ended:
			if err != nil {
				return o, err
			}
			left--
		case now := <-look.C:
			for _, m := range modules {
				if err := m.nudge(now); err != nil {
					return o, err
				}
			}
		case <-ctx.Done():
			return o, fmt.Errorf("%d of %d modules are not done: %w", left, len(modules), ctx.Err())
		}
	}
	o.until = time.Now()
	for _, m := range modules {
		m.mu.Lock()
		o.latency.merge(&m.latency)
		o.whole.add(m.took, 1)
		m.latency = histogram{} // here, where no time is taken
		o.again += int64(m.again)
		m.mu.Unlock()
	}
	return o, nil
}

// testImage makes bytes that repeat nowhere, the same for the same size.
func testImage(size int) []byte {
	b := make([]byte, size)
	var seed [32]byte
	copy(seed[:], "davit bench image")
	_, _ = rand.NewChaCha8(seed).Read(b) // never fails
	return b
}

// each runs f for 0 to n-1, several at a time, and returns the first error.
func each(n int, f func(i int) error) error {
	const workers = 32
	var wg sync.WaitGroup
	next := make(chan int)
	failed := make(chan error, workers)
	for range min(workers, n) {
		wg.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	var err error
	for i := 0; i < n && err == nil; i++ {
		select {
		case next <- i:
		case err = <-failed:
		}
	}
	close(next)
	wg.Wait()
	select {
	case late := <-failed:
		err = errors.Join(err, late)
	default:
	}
	return err
}
