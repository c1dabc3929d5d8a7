package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"davit/bridge"
	"davit/gateway"
	"davit/internal/durable"
)

const (
	// leastRoom is how many bytes a bridge's disk needs to keep the state of updates.
	leastRoom = 1 << 20
	// stuckDevice is for how long a device's goroutine may not answer before nothing but a
	// restart is thought to help.
	stuckDevice = 5 * time.Minute
	// fresh is for how long one look at the bridge serves the checks of one question.
	fresh = 20 * time.Millisecond
	// namedPorts is how many ports an answer tells of one by one.
	namedPorts = 8
)

// bridgeProbes are what /readyz and /livez of a bridge stand on. It is safe for concurrent use.
type bridgeProbes struct {
	look func(context.Context) bridge.Status
	dir  string

	mu   sync.Mutex
	at   time.Time
	last bridge.Status
	busy map[string]time.Time // by device: since when it does not answer
}

func newBridgeProbes(look func(context.Context) bridge.Status, dir string) *bridgeProbes {
	return &bridgeProbes{look: look, dir: dir, busy: map[string]time.Time{}}
}

// status is a look at the bridge that the checks of one question share.
func (p *bridgeProbes) status(ctx context.Context) bridge.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.at.IsZero() && time.Since(p.at) < fresh {
		return p.last
	}
	p.last, p.at = p.look(ctx), time.Now()
	busy := map[string]time.Time{}
	for _, port := range p.last.Ports {
		if !port.Busy {
			continue
		}
		busy[port.Device] = p.at
		if since, before := p.busy[port.Device]; before {
			busy[port.Device] = since
		}
	}
	p.busy = busy
	return p.last
}

// ready are the conditions for being ready: updates can go on.
func (p *bridgeProbes) ready() []gateway.Check {
	return []gateway.Check{
		{Name: "broker", Remedy: "updates that are under way on host MCUs go on; look at the log, or ask davit doctor bridge", Healthy: func(ctx context.Context) error {
			if s := p.status(ctx); !s.Broker.Connected {
				return fmt.Errorf("there has been no connection to the broker for %s", span(s.At, s.Broker.Since))
			}
			return nil
		}},
		{Name: "spool", Remedy: "make room on that disk; the bridge goes on by itself", Healthy: p.room},
		{Name: "ports", Remedy: "davit bridge ports lists those of this machine; davit doctor bridge says what is in the way", Healthy: p.ports, Detail: p.portsDetail},
		{Name: "running", Remedy: "wait for its end, or for the bridge that is started in its place", Healthy: func(ctx context.Context) error {
			if p.status(ctx).Draining != nil {
				return errors.New("the bridge is shutting down: updates that host MCUs are in the middle of come to their end")
			}
			return nil
		}},
	}
}

// vital are the conditions for being alive.
func (p *bridgeProbes) vital() []gateway.Check {
	return []gateway.Check{{Name: "devices", Remedy: "restart the bridge; updates go on where they are. Keep its log for a report", Healthy: func(ctx context.Context) error {
		p.status(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		for device, since := range p.busy {
			if d := time.Since(since); d > stuckDevice {
				return fmt.Errorf("device %s has not answered for %s", device, d.Round(time.Second))
			}
		}
		return nil
	}}}
}

// room says whether the state of updates can be kept.
func (p *bridgeProbes) room(context.Context) error {
	free, _, err := durable.Room(p.dir)
	if err != nil {
		return fmt.Errorf("the data folder %s cannot be looked at: %w", p.dir, err)
	}
	if free < leastRoom {
		return fmt.Errorf("the disk of %s is full (%d bytes are free): the state of updates cannot be kept", p.dir, free)
	}
	return nil
}

// ports says whether any port is, or may yet be, open: one that is unplugged does not hold up the others.
func (p *bridgeProbes) ports(ctx context.Context) error {
	s := p.status(ctx)
	for _, port := range s.Ports {
		if port.State != bridge.PortClosed {
			return nil
		}
	}
	if len(s.Ports) == 0 {
		return nil
	}
	return fmt.Errorf("no port is open: %s", closedPorts(s))
}

func (p *bridgeProbes) portsDetail(ctx context.Context) string {
	s := p.status(ctx)
	open := 0
	for _, port := range s.Ports {
		if port.State == bridge.PortOpen {
			open++
		}
	}
	text := fmt.Sprintf("%d of %d open", open, len(s.Ports))
	if closed := closedPorts(s); closed != "" {
		text += ": " + closed
	}
	return text
}

// closedPorts names the ports that are not open, with the reason.
func closedPorts(s bridge.Status) string {
	var all []string
	for _, port := range s.Ports {
		if port.State == bridge.PortOpen {
			continue
		}
		text := fmt.Sprintf("%s (%s) is %s", port.Device, port.Port, port.State)
		if port.Reason != "" {
			text += ": " + port.Reason
		}
		all = append(all, text)
	}
	if len(all) > namedPorts {
		all = append(all[:namedPorts], fmt.Sprintf("and %d more", len(all)-namedPorts))
	}
	return strings.Join(all, "; ")
}

// span is how long at is after since, in seconds.
func span(at, since time.Time) string {
	if since.IsZero() {
		return "0s" // it has not happened yet
	}
	return at.Sub(since).Round(time.Second).String()
}
