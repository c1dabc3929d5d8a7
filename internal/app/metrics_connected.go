package app

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"davit/orchestrator"
)

// unknownType stands for the type of devices that the service does not know.
const unknownType = "unknown"

// maxConnectedTypes is how many device types are told of by name; the others are one.
const maxConnectedTypes = 100

// connectedDevices counts the devices whose own connection, or whose bridge's, stands at
// the embedded broker, by device type. A device's type is looked up when it comes, so a
// scrape reads one number for each type. It implements prometheus.Collector.
type connectedDevices struct {
	desc    *prometheus.Desc
	typesOf func(devices []string) ([]string, error)

	mu     sync.Mutex
	at     map[string]connection // by device
	counts map[string]*int       // by type
}

// connection is how often a device is connected: once, or by itself and by its bridge.
type connection struct {
	times int
	count *int // of its type
}

func newConnectedDevices(typesOf func(devices []string) ([]string, error)) *connectedDevices {
	return &connectedDevices{
		desc: prometheus.NewDesc("davit_connected_devices",
			"Devices whose connection to the embedded broker stands, those of a connected bridge included, by device type.", []string{"type"}, nil),
		typesOf: typesOf, at: map[string]connection{}, counts: map[string]*int{},
	}
}

// came counts the devices of a connection that begins.
func (c *connectedDevices) came(devices []string) {
	types, err := c.typesOf(devices)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, d := range devices {
		at := c.at[d]
		if at.count == nil {
			name := unknownType
			if err == nil && types[i] != "" {
				name = types[i]
			}
			at.count = c.countOf(name)
			*at.count++
		}
		at.times++
		c.at[d] = at
	}
}

// countOf is the number of a type's devices; c.mu is held.
func (c *connectedDevices) countOf(name string) *int {
	if n := c.counts[name]; n != nil {
		return n
	}
	if len(c.counts) >= maxConnectedTypes {
		name = orchestrator.OtherTypes
	}
	if c.counts[name] == nil {
		c.counts[name] = new(int)
	}
	return c.counts[name]
}

// gone takes the devices of a connection off that has ended.
func (c *connectedDevices) gone(devices []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range devices {
		at, there := c.at[d]
		if !there {
			continue
		}
		if at.times--; at.times > 0 {
			c.at[d] = at
			continue
		}
		*at.count--
		delete(c.at, d)
	}
}

// byType is how many there are, by type. Types that were there stay with 0.
func (c *connectedDevices) byType() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]int, len(c.counts))
	for name, n := range c.counts {
		all[name] = *n
	}
	return all
}

// Describe implements prometheus.Collector.
func (c *connectedDevices) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *connectedDevices) Collect(ch chan<- prometheus.Metric) {
	for name, n := range c.byType() {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n), name)
	}
}
