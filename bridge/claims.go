package bridge

import (
	"context"
	"sync"
	"time"

	"davit/internal/logevent"
)

// claims says which line has which port, under the name that the configuration
// gives it. In one configuration no two lines have the same; between two, a line
// that is new on a port waits for the one that has it until an update is over.
// A line keeps its port while the adapter is unplugged.
type claims struct {
	mu   sync.Mutex
	of   map[string]*line
	free chan struct{} // closed when a port is given back
}

// take gives l the port named key, and back what else l had. If another line
// has it, take returns a channel that is closed when it is worth trying again.
func (c *claims) take(l *line, key string) (wait <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of, c.free = map[string]*line{}, make(chan struct{})
	}
	c.giveBack(l, key)
	if holder := c.of[key]; holder != nil && holder != l {
		return c.free
	}
	c.of[key] = l
	return nil
}

// release gives back what l has.
func (c *claims) release(l *line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.giveBack(l, "")
}

// giveBack takes everything but key from l; mu is held.
func (c *claims) giveBack(l *line, key string) {
	for k, holder := range c.of {
		if holder == l && k != key {
			delete(c.of, k)
			close(c.free)
			c.free = make(chan struct{})
		}
	}
}

// claim waits until no other line has the port, and returns false when ctx or s
// is over before that.
func (l *line) claim(ctx context.Context, s speech) bool {
	d := l.dev
	key, _ := PortKey(s.port.Path) // the configuration was checked
	wait := d.b.claims.take(l, key)
	if wait == nil {
		return true
	}
	const held = "another device of this bridge has the port until its update is over"
	l.port.set(PortClosed, "", held)
	d.log.Info("waiting for the port: "+held, "event", logevent.PortWaiting, "port", s.port.Path)
	d.do(func() { d.plan.awaiting = true })
	defer d.do(func() { d.plan.awaiting, d.downSince = false, time.Now() })
	for wait != nil {
		select {
		case <-ctx.Done():
			return false
		case <-s.over:
			return false
		case <-wait:
		}
		wait = d.b.claims.take(l, key)
	}
	return true
}
