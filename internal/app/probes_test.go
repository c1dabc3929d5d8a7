package app

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davit/bridge"
	"davit/gateway"
	"davit/internal/pulse"
)

func TestStuckLoopsEndLiveness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		commits := pulse.New()
		slow := notLonger(slowCommit, "a commit takes %s", commits.Busy)
		stuck := notLonger(stuckCommit, "a commit takes %s", commits.Busy)
		both := func() (slowly, forGood bool) { return slow(t.Context()) != nil, stuck(t.Context()) != nil }
		if a, b := both(); a || b {
			t.Error("an idle loop is not healthy")
		}
		commits.Begin()
		time.Sleep(slowCommit + time.Second)
		if a, b := both(); !a || b {
			t.Errorf("after %s: slow %v, stuck %v", slowCommit, a, b)
		}
		time.Sleep(stuckCommit)
		if a, b := both(); !a || !b {
			t.Errorf("after %s: slow %v, stuck %v", stuckCommit, a, b)
		}
		commits.End()
		if a, b := both(); a || b {
			t.Error("it is not healthy when the commit has ended")
		}
	})
}

func TestBridgeProbes(t *testing.T) {
	open, closed, busy := bridge.PortStatus{Device: "pump", Port: "/dev/ttyUSB0", State: bridge.PortOpen}, bridge.PortStatus{Device: "lamp", Port: "/dev/ttyUSB1", State: bridge.PortClosed, Reason: "no such file"}, bridge.PortStatus{Device: "fan", State: bridge.PortOpen, Busy: true}
	connected := bridge.BrokerStatus{Connected: true}
	for _, c := range []struct {
		name   string
		status bridge.Status
		dir    string
		ready  int
		want   string
	}{
		{"all well", bridge.Status{Broker: connected, Ports: []bridge.PortStatus{open}}, "", 200, "1 of 1 open"},
		{"one unplugged", bridge.Status{Broker: connected, Ports: []bridge.PortStatus{open, closed}}, "", 200, "1 of 2 open: lamp (/dev/ttyUSB1) is closed: no such file"},
		{"none plugged", bridge.Status{Broker: connected, Ports: []bridge.PortStatus{closed}}, "", 503, "no port is open: lamp"},
		{"no broker", bridge.Status{Ports: []bridge.PortStatus{open}}, "", 503, "no connection to the broker"},
		{"draining", bridge.Status{Broker: connected, Draining: &bridge.Draining{}, Ports: []bridge.PortStatus{open}}, "", 503, "shutting down"},
		{"no folder", bridge.Status{Broker: connected, Ports: []bridge.PortStatus{open}}, "/nowhere/at/all", 503, "/nowhere/at/all"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := c.dir
			if dir == "" {
				dir = t.TempDir()
			}
			p := newBridgeProbes(func(context.Context) bridge.Status { return c.status }, dir)
			w := httptest.NewRecorder()
			gateway.NewReadiness(p.ready()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz?verbose", nil))
			if w.Code != c.ready || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("%d, want %d and %q:\n%s", w.Code, c.ready, c.want, w.Body)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		now := busy
		p := newBridgeProbes(func(context.Context) bridge.Status { return bridge.Status{Ports: []bridge.PortStatus{now}} }, "/")
		live := p.vital()[0].Healthy
		for _, step := range []struct {
			wait time.Duration
			ok   bool
		}{{0, true}, {stuckDevice / 2, true}, {stuckDevice, false}} {
			time.Sleep(step.wait)
			if err := live(t.Context()); (err == nil) != step.ok {
				t.Errorf("after %s more: %v", step.wait, err)
			}
		}
		now = open // it answers again
		time.Sleep(fresh)
		if err := live(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
