package bridge

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"davit/bridge/dialect"
)

// TestPortOfTwoLines: while a device gives way to another on its port, both lines have it,
// and the metrics tell of one port with the counts of both.
func TestPortOfTwoLines(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg)
	b := &Bridge{metrics: m}
	for i, id := range []string{"old", "new"} {
		l := &line{dev: &device{id: id, b: b}}
		l.port.configure(PortConfig{Device: id, Path: "/dev/ttyUSB0"})
		l.count(dialect.FramesSent, i+1)
		b.order = append(b.order, l)
	}
	b.order[0].port.loaded(5000)
	m.source(b.figures, nil)
	if n := ofPort(t, reg, "davit_bridge_frames_total", "/dev/ttyUSB0"); n < 0 {
		t.Fatal("the port is not told of")
	}
	got := b.figures()
	if len(got) != 1 || got[0].counts.Sent != 3 || got[0].goodput != 5000 {
		t.Errorf("%+v, want one port with 3 frames and 5000 B/s", got)
	}
}

func TestByteRate(t *testing.T) {
	for _, c := range []struct {
		port PortConfig
		want float64
	}{
		{PortConfig{Baud: 115_200, Parity: dialect.ParityNone}, 11_520},
		{PortConfig{Baud: 115_200, Parity: dialect.ParityOdd}, 115_200.0 / 11},
		{PortConfig{Baud: 9600, Parity: dialect.ParityEven}, 9600.0 / 11},
	} {
		if got := byteRate(c.port); got != c.want {
			t.Errorf("%+v: %v bytes a second, want %v", c.port, got, c.want)
		}
	}
}
