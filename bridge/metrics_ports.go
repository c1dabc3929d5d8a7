package bridge

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// portFigures is a port in numbers.
type portFigures struct {
	port    string // its name in the configuration
	up      bool
	goodput float64 // of the last finished load, in bytes a second
	share   float64 // of what the line carries
	counts  LineCounts
}

// figures are the ports' of all lines. A port that two lines have for a moment, because a
// device gives way to another on it, is one.
func (b *Bridge) figures() []portFigures {
	var all []portFigures
	at := map[string]int{}
	for _, l := range b.lines() {
		f := l.port.figures()
		f.counts = l.counts.read()
		i, twice := at[f.port]
		if !twice {
			at[f.port] = len(all)
			all = append(all, f)
			continue
		}
		all[i].join(f)
	}
	return all
}

// join adds what another line has done on the same port.
func (f *portFigures) join(g portFigures) {
	f.up = f.up || g.up
	if g.goodput > 0 {
		f.goodput, f.share = g.goodput, g.share
	}
	f.counts.add(g.counts)
}

// portsCollector tells what the ports are and have done when it is asked: there is nothing
// to count beside what the status has. The port label is the port's name in the
// configuration, of which a bridge has at most MaxPorts.
type portsCollector struct {
	frames, resets, loaded, goodput, share, up *prometheus.Desc

	read atomic.Pointer[func() []portFigures]
}

func newPortsCollector() *portsCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"port"}, labels...), nil)
	}
	return &portsCollector{
		frames:  desc("davit_bridge_frames_total", "Serial frames by port and event: sent, retried, lost, received, bad.", "event"),
		resets:  desc("davit_bridge_mcu_resets_total", "Sequence restarts of the host MCU by port."),
		loaded:  desc("davit_bridge_loaded_bytes_total", "Image bytes acknowledged by the host MCU by port."),
		goodput: desc("davit_bridge_goodput_bytes_per_second", "Image bytes per second of the last finished load by port, 0 before the first."),
		share:   desc("davit_bridge_goodput_ratio", "Goodput of the last finished load as a share of the bytes that the line carries one behind the other at its speed and parity (0 to 1), by port. What frames add leaves some 0.93 to the ayla dialect and some 0.77 to the afero dialect."),
		up:      desc("davit_bridge_port_up", "1 while the serial port is open."),
	}
}

// Describe implements prometheus.Collector.
func (c *portsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.frames, c.resets, c.loaded, c.goodput, c.share, c.up} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *portsCollector) Collect(ch chan<- prometheus.Metric) {
	read := c.read.Load()
	if read == nil {
		return
	}
	for _, f := range (*read)() {
		for event, n := range map[string]uint64{
			"sent": f.counts.Sent, "retried": f.counts.Retried, "lost": f.counts.Lost, "received": f.counts.Received, "bad": f.counts.Bad,
		} {
			ch <- prometheus.MustNewConstMetric(c.frames, prometheus.CounterValue, float64(n), f.port, event)
		}
		ch <- prometheus.MustNewConstMetric(c.resets, prometheus.CounterValue, float64(f.counts.MCUResets), f.port)
		ch <- prometheus.MustNewConstMetric(c.loaded, prometheus.CounterValue, float64(f.counts.Loaded), f.port)
		ch <- prometheus.MustNewConstMetric(c.goodput, prometheus.GaugeValue, f.goodput, f.port)
		ch <- prometheus.MustNewConstMetric(c.share, prometheus.GaugeValue, f.share, f.port)
		ch <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, flag(f.up), f.port)
	}
}
