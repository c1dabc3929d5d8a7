package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"davit/internal/fleet"
	"davit/orchestrator"
)

const (
	// hellosEach is how many hellos a second the fleet says when all are connected.
	hellosEach = 1000
	// repeating is how long the service may go on repeating the offers of all who came, which it does at a rate.
	repeating = 4 * time.Minute
	// calm is how long the service is left idle before its memory is read: it gives back
	// what the storm needed when it has been calm for some seconds.
	calm = 15 * time.Second
	// idleLooks find that a storm is over: a second without work.
	idleLooks = 5
)

// gathering is what happened when a whole fleet came at once.
type gathering struct {
	seconds  float64       // until all were subscribed and had said hello
	cpu      time.Duration // of the server, until it had nothing left to do
	idle     int64         // its resident memory then, in bytes
	peak     int64
	result   *fleet.Result
	attempts int64
	hellos   int64 // said after that
}

// measureFleet lets a fleet of idle devices connect at once, to a service that has just
// started, and then say hello.
func measureFleet(ctx context.Context, s *suite) (section, error) {
	devices, hold := 19_000, 10*time.Second
	if s.quick {
		devices, hold = 20, time.Second/2
	}
	d, err := s.offered(ctx, devices, testImage(64<<10))
	if err != nil {
		return section{}, err
	}
	if err := d.stop(); err != nil {
		return section{}, err
	}
	var davits, brokers []gathering
	for run := range s.runs {
		if err := d.serve(d.mqtt); err != nil {
			return section{}, err
		}
		g, err := gather(ctx, s, d.process, d.fleet(hold))
		if err = errors.Join(err, d.stop()); err != nil {
			return section{}, fmt.Errorf("run %d of davit: %w", run+1, err)
		}
		davits = append(davits, g)
		g, err = s.gatherAtMosquitto(ctx, d.fleet(0))
		if err != nil {
			return section{}, fmt.Errorf("run %d of mosquitto: %w", run+1, err)
		}
		brokers = append(brokers, g)
	}
	news, err := measureNews(ctx, s, devices)
	if err != nil {
		return section{}, err
	}
	return fleetSection(devices, hold, davits, brokers, news), nil
}

// news is what happened when hellos came at a rate that each brought a new offer.
type news struct {
	rate   float64 // of hellos, in 1/s
	offers float64 // for each
	cpu    time.Duration
	result *fleet.Result
}

// measureNews lets devices connect for the first time, a thousand a second, while a
// continuous job waits for what runs the old version: each hello makes its execution
// and is answered by its offer.
func measureNews(ctx context.Context, s *suite, devices int) ([]news, error) {
	var all []news
	for run := range s.runs {
		n, err := newsOnce(ctx, s, devices)
		if err != nil {
			return nil, fmt.Errorf("run %d of new offers: %w", run+1, err)
		}
		s.log("  %-14s %.0f hellos/s, each with %.2f offers, %.2f ms CPU each; offer p50 %.1f p99 %.1f ms\n", "new offers", n.rate, n.offers,
			n.cpu.Seconds()*1e3/float64(devices), n.result.Latency.Offer.P50, n.result.Latency.Offer.P99)
		all = append(all, n)
	}
	return all, nil
}

func newsOnce(ctx context.Context, s *suite, devices int) (n news, err error) {
	d, err := startDavit(s.binary, s.dir)
	if err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if err := d.populate(ctx, devices); err != nil {
		return n, err
	}
	query := fmt.Sprintf("version.%s == %q", imageType, oldVersion)
	if err := d.startJob(ctx, testImage(64<<10), query, &orchestrator.Rollout{Continuous: true}); err != nil {
		return n, err
	}
	if err := d.settle(); err != nil {
		return n, err
	}
	before, err := d.cpu()
	if err != nil {
		return n, err
	}
	c := d.fleet(0)
	c.Ramp, c.Hellos = hellosEach, 0
	c.Ready = func() error {
		if err := d.allOffered(ctx); err != nil {
			return err
		}
		after, err := d.cpu()
		n.cpu = after - before
		return err
	}
	if n.result, err = fleet.Run(ctx, c); err != nil {
		return n, err
	}
	if r := n.result; !r.Succeeded {
		return n, fmt.Errorf("the fleet: %s; %v", strings.Join(r.Reasons, "; "), r.Errors)
	}
	n.rate = float64(n.result.Messages.Hellos) / n.result.Connects.Seconds
	n.offers = float64(n.result.Messages.Offers) / float64(devices)
	return n, nil
}

// fleet is a fleet of the service's devices that do nothing with what they are offered.
func (d *davit) fleet(hold time.Duration) fleet.Config {
	c := fleet.DefaultConfig()
	c.Broker, c.DeviceType, c.Property, c.Version = d.mqtt, deviceType, orchestrator.DefaultVersionProperty, oldVersion
	c.Profiles[0].Answer = 24 * time.Hour // the host MCUs think about it
	c.Ramp = 1e6                          // all at once
	c.Timeout = 2 * time.Minute
	c.Hellos, c.Hold = hellosEach, hold
	for _, id := range d.devices {
		c.Devices = append(c.Devices, fleet.Login{ID: id, Password: d.passwords[id]})
	}
	return c
}

// gatherAtMosquitto connects the same fleet to mosquitto, where nobody listens to it.
func (s *suite) gatherAtMosquitto(ctx context.Context, c fleet.Config) (g gathering, err error) {
	m, err := startMosquitto(s.dir)
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	c.Broker, c.Hellos = m.addr, 0
	return gather(ctx, s, m.process, c)
}

// gather runs a fleet, which comes as soon as the server is there, and looks at the server when all are connected
// and nothing is left to do.
func gather(ctx context.Context, s *suite, p *process, c fleet.Config) (g gathering, err error) {
	before, err := p.cpu()
	if err != nil {
		return g, err
	}
	c.Ready = func() error {
		if err := p.settleIn(repeating, idleLooks); err != nil {
			return err
		}
		after, err := p.cpu()
		if err != nil {
			return err
		}
		g.cpu = after - before
		if !s.quick {
			time.Sleep(calm)
		}
		g.idle, g.peak, err = p.resident()
		return err
	}
	if g.result, err = fleet.Run(ctx, c); err != nil {
		return g, err
	}
	r := g.result
	if !r.Succeeded {
		return g, fmt.Errorf("the fleet: %s; %v", strings.Join(r.Reasons, "; "), r.Errors)
	}
	g.seconds, g.attempts = r.Connects.Seconds, r.Connects.Attempts
	g.hellos = r.Messages.Hellos - int64(r.Devices)
	s.log("  %-14s %d online in %.1f s, %d attempts, %.1f s CPU, %d MiB, peak %d MiB; %d offers; offer p50 %.1f p99 %.1f ms\n", p.name, r.Online, g.seconds, g.attempts,
		g.cpu.Seconds(), g.idle>>20, g.peak>>20, r.Messages.Offers, r.Latency.Offer.P50, r.Latency.Offer.P99)
	return g, nil
}

func fleetSection(devices int, hold time.Duration, davits, brokers []gathering, fresh []news) section {
	n := float64(devices)
	t := &table{head: []string{grouped(int64(devices)) + " modules", "davit", "mosquitto", "wanted of davit"}}
	row := func(name, wanted string, f func(gathering) float64) {
		t.add(name, spreadBy(davits, f).String(), spreadBy(brokers, f).String(), wanted)
	}
	row("memory of the process for each idle module, KiB", "at most 24", func(g gathering) float64 { return float64(g.idle) / 1024 / n })
	row("the same at the peak, while they come", "", func(g gathering) float64 { return float64(g.peak) / 1024 / n })
	row("all at once: seconds until the last is subscribed and has said hello", "at most 30", func(g gathering) float64 { return g.seconds })
	row("attempts to connect for each", "", func(g gathering) float64 { return float64(g.attempts) / n })
	row("CPU until nothing is left to do, s", "", func(g gathering) float64 { return g.cpu.Seconds() })
	only := func(name, wanted string, f func(gathering) float64) {
		t.add(name, spreadBy(davits, f).String(), "", wanted)
	}
	only("offers received by each", "at least 1", func(g gathering) float64 {
		return float64(g.result.Messages.Offers) / n
	})
	only(fmt.Sprintf("hellos a second afterwards (of %s asked for)", grouped(hellosEach)), "1,000", func(g gathering) float64 { return float64(g.hellos) / hold.Seconds() })
	only("from hello to the first offer when they come, p50, ms", "", func(g gathering) float64 { return g.result.Latency.Offer.P50 })
	only("from hello to the first offer when they come, p99, ms", "", func(g gathering) float64 { return g.result.Latency.Offer.P99 })
	u := &table{head: []string{grouped(int64(devices)) + " modules, a hello each, a new offer for each", "davit", "wanted"}}
	fact := func(name, wanted string, f func(news) float64) { u.add(name, spreadBy(fresh, f).String(), wanted) }
	fact(fmt.Sprintf("connections with a hello a second (of %s asked for)", grouped(hellosEach)), "1,000", func(n news) float64 { return n.rate })
	fact("offers received by each", "1", func(n news) float64 { return n.offers })
	fact("CPU of the service for each: password, session, hello, execution, offer, ms", "", func(n news) float64 { return n.cpu.Seconds() * 1e3 / float64(devices) })
	fact("from hello to the offer, p50, ms", "", func(n news) float64 { return n.result.Latency.Offer.P50 })
	fact("from hello to the offer, p99, ms", "", func(n news) float64 { return n.result.Latency.Offer.P99 })
	return section{text: fleetText, tables: []*table{t, u}}
}

const fleetText = "Every run starts the server anew, so that it has verified no password yet and has its offers to publish again, and as soon as it serves lets all modules (`internal/fleet`, in the process that measures, each with its own password, four subscriptions, its will and an image offered to it) connect at the same moment; " +
	"those that are told to come later do. The offer that the broker retains comes with the subscription, and once more when the service has heard the hello. Then they say hello in turns, 1,000 a second, by which nothing new is to be offered. mosquitto checks no passwords here and has nobody to whom a hello matters.\n\n" +
	"In the second table they connect for the first time, 1,000 a second, while a continuous job waits for whatever runs the old version."
