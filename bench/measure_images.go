package main

import (
	"context"
	"fmt"
	"time"
)

// measureImages compares how long modules take to fetch an image over MQTT with how
// long as many HTTP clients take to get the same file from nginx.
func measureImages(ctx context.Context, s *suite) (section, error) {
	clients, size := 1000, 256<<10
	if s.quick {
		clients = 10
	}
	image := testImage(size)
	d, err := s.offered(ctx, clients, image)
	if err != nil {
		return section{}, err
	}
	web, err := startNginx(s.dir, image)
	if err != nil {
		return section{}, err
	}
	s.onEnd(web.stop)
	modules, err := d.connect(nil, clients, image)
	if err != nil {
		return section{}, err
	}
	https := make([]*httpClient, clients)
	err = each(clients, func(i int) (err error) {
		if https[i], err = dialHTTP(web.addr, image); err != nil {
			return err
		}
		return https[i].download() // so that its worker has it
	})
	if err != nil {
		return section{}, err
	}
	whole := course{chunk: size, window: 1, batch: 1, length: int64(size)}
	contestants := []contestant{{"nginx", func() (sample, error) {
		return take(web.process, clients, whole, func() (outcome, error) { return downloadAll(ctx, https) })
	}}}
	for _, chunk := range []int{4 << 10, 16 << 10, 64 << 10, 128 << 10} {
		window := windowFor(s.window, chunk, clients)
		c := course{image: d.image.ID, chunk: chunk, window: window, batch: window, length: int64(size), atOnce: true}
		contestants = append(contestants, contestant{fmt.Sprintf("davit, chunks of %d KiB", chunk>>10), func() (sample, error) {
			return take(d.process, clients, c, func() (outcome, error) { return fetchAll(ctx, modules, c) })
		}})
	}
	adapts := course{image: d.image.ID, chunk: size, window: size, length: int64(size), adapts: true}
	contestants = append(contestants, contestant{"davit, chunks that adapt", func() (sample, error) {
		return take(d.process, clients, adapts, func() (outcome, error) { return fetchAll(ctx, modules, adapts) })
	}})
	// The service gives modules that it does not know yet less at a time.
	first := course{image: d.image.ID, chunk: 16 << 10, window: 16, batch: 4, length: int64(size)}
	if _, err := fetchAll(ctx, modules, first); err != nil {
		return section{}, err
	}
	got, err := takeTurns(s.runs*imagesRepeat, s.log, contestants...)
	if err != nil {
		return section{}, err
	}
	return section{text: fmt.Sprintf(imagesText, grouped(int64(clients)), size>>10), tables: []*table{imagesTable(contestants, got)}}, nil
}

// imagesTable has nginx first, and what davit is compared with it in below.
func imagesTable(contestants []contestant, got [][]sample) *table {
	t := &table{head: []string{"server", "total, ms", "davit / nginx", "one download p50 / p99, ms", "server CPU, ms/MiB", "MiB/s", "peak, MiB"}}
	total := func(s sample) float64 { return ms(s.wall) }
	for i, c := range contestants {
		g, ratio := got[i], ""
		if i > 0 {
			ratio = ratioText(ratios(g, got[0], total), 1.2)
		}
		one := medians(g, func(s sample) (p50, p99 time.Duration) { return s.all50, s.all99 })
		t.add(c.name, spreadBy(g, total).String(), ratio, one, spreadBy(g, sample.cpuPerMiB).String(), spreadBy(g, sample.rate).String(), peaks(g))
	}
	return t
}

// imagesRepeat is how many times more runs there are than asked for: they are short.
const imagesRepeat = 3

const imagesText = `%s clients that are connected begin at the same moment and get an image of %d KiB each; the time is until the last byte of the last one was compared. nginx sends the file with sendfile over connections that are kept alive; davit's modules
ask for all of it in one fetch, when each has fetched it once before; those that adapt begin anew with each image, as the bridge does with a window of 256 KiB: 32 KiB in chunks of 2 KiB, and then what the path allows. Both servers have both processors, which they share with the clients: the same Go program, which reads and
compares in both cases. One download is from a client's first request to the last byte that it compared. The peak is the server's resident memory, that of nginx the sum of its processes', in which a page that they share counts for each of them.`
