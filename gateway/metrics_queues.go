package gateway

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// queuesCollector tells how much of what devices have said waits, when it is asked.
type queuesCollector struct {
	messages, bytes, limit *prometheus.Desc

	queues atomic.Pointer[map[string]*lanes]
}

func newQueuesCollector() *queuesCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"queue"}, nil)
	}
	return &queuesCollector{
		messages: desc("davit_gateway_queue_messages", "Messages of devices that wait for a worker or are with one: messages (hello, presence, status) and fetches that came through the broker's fan-out."),
		bytes:    desc("davit_gateway_queue_bytes", "Memory of the messages in a queue as it is counted, by queue."),
		limit:    desc("davit_gateway_queue_limit_bytes", "Memory that the messages in a queue may count, by queue: fetches are dropped from half of it on, reports from three quarters on."),
	}
}

// watchQueues says which queues there are.
func (m *Metrics) watchQueues(queues map[string]*lanes) {
	if m != nil {
		m.queues.queues.Store(&queues)
	}
}

// Describe implements prometheus.Collector.
func (c *queuesCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.messages
	ch <- c.bytes
	ch <- c.limit
}

// Collect implements prometheus.Collector.
func (c *queuesCollector) Collect(ch chan<- prometheus.Metric) {
	queues := c.queues.Load()
	if queues == nil {
		return
	}
	for name, q := range *queues {
		messages, bytes, limit := q.depth()
		ch <- prometheus.MustNewConstMetric(c.messages, prometheus.GaugeValue, float64(messages), name)
		ch <- prometheus.MustNewConstMetric(c.bytes, prometheus.GaugeValue, float64(bytes), name)
		ch <- prometheus.MustNewConstMetric(c.limit, prometheus.GaugeValue, float64(limit), name)
	}
}
