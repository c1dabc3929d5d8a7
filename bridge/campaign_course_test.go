package bridge

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/bridge/portname"
	"davit/bridge/portname/porttest"
	"davit/internal/sim"
	"davit/schemas"
)

// Limits of a scenario, in virtual time.
const (
	// maxAttempts is how often the service offers an image by itself: three
	// times again, after 30 s, 1 min and 2 min.
	maxAttempts = 4
	firstPause  = 30 * time.Second
	// scenarioLimit is how long a scenario may take.
	scenarioLimit = 6 * time.Hour
	// afterwards is how long the bridge is watched after its success.
	afterwards = 3 * time.Minute
)

// course is a scenario under way. One goroutine does all that goes wrong, offers,
// and judges.
type course struct {
	*world
	s     *scenario
	began time.Time
	runs  map[*product]*running
	held  chan heldWrite
	ops   []op // by their time
	tree  *porttest.Tree
	up    bool // the bridge runs
	cut   bool // the broker is out of reach
	next  bool // the faults are over, and the update after them is under way
	out   outcome
}

// op is something to be done at a time.
type op struct {
	at time.Time
	do func()
}

// heldWrite is a write of the bridge that waits until the mischief is done.
type heldWrite struct {
	mischief
	release chan bool // swallow it?
}

// outcome is what the table says of a scenario.
type outcome struct {
	*scenario
	took       time.Duration // until the last product had succeeded
	failures   []schemas.Status
	repaired   bool
	resent     int
	transcript uint64
}

// carryOut runs a scenario.
func carryOut(t *testing.T, s *scenario) (out outcome) {
	t.Helper()
	defer sayAgain(t, s)
	c := &course{s: s, runs: map[*product]*running{}}
	if slices.ContainsFunc(s.products, func(p *product) bool { return p.renamed }) {
		c.tree = porttest.New(t)
	}
	inBareWorld(t, s.size, func(w *world) { c.furnish(w) }, func(*world) {
		c.update()
		c.watch(afterwards)
		c.lift()
		c.updateAfterwards()
		c.watch(0)
	})
	c.out.transcript = c.hash()
	return c.out
}

// furnish sets the scenario's ports, lines and MCUs up.
func (c *course) furnish(w *world) {
	c.world, c.began, c.held, c.up = w, time.Now(), make(chan heldWrite), true
	c.out.scenario = c.s
	w.image = sim.BuildDemoImage(newVersion, c.s.size, c.s.seed)
	w.service.images["img-1"] = w.image
	w.service.images["img-2"] = sim.BuildDemoImage(lastVersion, sim.MinDemoImage, c.s.seed)
	w.cfg.Logger = campaignLog(w.T, c.began)
	w.cfg.OpenPort = c.openPort
	w.cfg.Dialects = map[string]dialect.Dialect{ayla.Name: overheard{ayla.Dialect{}}, afero.Name: overheard{afero.Dialect{}}}
	for _, p := range c.s.products {
		r := newRunning(c, p)
		c.runs[p] = r
		w.lines[p.id] = sim.NewLine(p.line)
		w.cfg.Ports = append(w.cfg.Ports, p.port())
		if p.renamed {
			c.tree.Plug(r.adapter("ttyUSB0"))
		}
		r.host = p.host(r.told)
		r.images = [][]byte{r.host.RunningImage(), w.image, w.service.images["img-2"]}
		w.run(p.id, listened{r.host, r})
	}
}

// openPort opens the line that the port's name means now.
func (c *course) openPort(cfg PortConfig) (io.ReadWriteCloser, error) {
	for p, r := range c.runs {
		if p.id != cfg.Device {
			continue
		}
		if p.renamed {
			if _, err := resolve(cfg, portname.At(c.tree.Root)); err != nil {
				return nil, err
			}
		}
		end, err := c.lines[p.id].Open()
		if err != nil {
			return nil, err
		}
		return r.port(end), nil
	}
	return nil, errors.New("no such port")
}

// update offers the image to all products and goes on until each has it.
func (c *course) update() {
	for _, p := range c.s.products {
		r := c.runs[p]
		c.later(c.s.between(0, 10*time.Second), func() { c.offer(r, 1) })
	}
	c.until(func() bool { return c.all(func(r *running) bool { return r.settled }) })
	c.out.took = time.Since(c.began)
}

// updateAfterwards offers another image once the faults are over.
func (c *course) updateAfterwards() {
	c.next = true
	for _, p := range c.s.products {
		r := c.runs[p]
		r.settled, r.attempt = false, 0
		c.offer(r, 1)
	}
	c.until(func() bool { return c.all(func(r *running) bool { return r.settled }) })
}

func (c *course) all(is func(r *running) bool) bool {
	for _, r := range c.runs {
		if !is(r) {
			return false
		}
	}
	return true
}

// offer offers the image of the moment to a product.
func (c *course) offer(r *running, attempt int) {
	if r.settled {
		return
	}
	r.attempt = attempt
	r.latest = r.offer(attempt, c.next)
	if c.s.fetchFirst && !c.next && !r.fetched {
		r.latest.Action = schemas.ActionDownload
	}
	r.hears.Store(r.latest.Action != schemas.ActionDownload)
	c.service.offer(r.p.id, r.latest)
}

// later has something done in d.
func (c *course) later(d time.Duration, do func()) {
	o := op{time.Now().Add(d), do}
	i, _ := slices.BinarySearchFunc(c.ops, o, func(a, b op) int {
		if a.at.After(b.at) {
			return 1
		}
		return -1 // behind those of the same time
	})
	c.ops = slices.Insert(c.ops, i, o)
}

// until does what is due, holds the bridge's writes up where something is to go
// wrong, and takes what the service records, until done.
func (c *course) until(done func() bool) {
	limit := time.NewTimer(scenarioLimit)
	defer limit.Stop()
	clock := time.NewTimer(0)
	defer clock.Stop()
	for !done() {
		wait := scenarioLimit
		if len(c.ops) > 0 {
			wait = time.Until(c.ops[0].at)
		}
		clock.Reset(max(0, wait))
		select {
		case h := <-c.held:
			if h.delay > 0 {
				c.later(h.delay, func() { h.do(c) })
			} else {
				h.do(c)
			}
			select {
			case h.release <- h.swallow:
			default: // its port is closed
			}
		case st := <-c.service.ended:
			c.ended(st)
		case <-clock.C:
			for len(c.ops) > 0 && !c.ops[0].at.After(time.Now()) {
				o := c.ops[0]
				c.ops = c.ops[1:]
				o.do()
			}
		case <-limit.C:
			c.Fatalf("%v after the beginning it does not end: %s", time.Since(c.began), c.where())
		}
	}
}

func (c *course) where() string {
	text := ""
	for _, p := range c.s.products {
		r := c.runs[p]
		text += fmt.Sprintf("%s: attempt %d, %+v; ", p.id, r.attempt, c.service.last(r.latest.Execution))
	}
	return text
}

// watch goes on for a while.
func (c *course) watch(d time.Duration) {
	over := false
	c.later(d, func() { over = true })
	c.until(func() bool { return over })
}

// ended takes the end of an attempt that the service has recorded, and offers
// the image again if it was none to be content with.
func (c *course) ended(st schemas.Status) {
	for _, p := range c.s.products {
		r := c.runs[p]
		if st.Execution != r.latest.Execution {
			continue
		}
		if st.State == schemas.StateDownloaded {
			c.fetched(r)
			return
		}
		c.judge(r, st)
		if st.State == schemas.StateSucceeded {
			r.settled = true
			if c.s.late {
				old := r.latest
				c.later(time.Minute, func() { c.service.deliverOffer(p.id, old) })
			}
			return
		}
		c.failed(r, st)
	}
}

// fetched takes the offer of an image back that a product's bridge holds now, and has
// it installed after a while.
func (c *course) fetched(r *running) {
	if r.fetched {
		return // said again
	}
	r.fetched = true
	c.offerAnew(r, firstPause)
}

func (c *course) failed(r *running, st schemas.Status) {
	c.out.failures = append(c.out.failures, st)
	r.failures++
	if c.next || r.failures >= maxAttempts {
		r.settled = true
		c.Errorf("%s: attempt %d of %s ended %s, %q (%s), and nothing is broken", r.p.id, st.Attempt, st.Execution, st.State, st.Cause, st.Detail)
		return
	}
	if len(r.p.broken) > 0 && !r.repaired && r.failures >= c.s.repairAfter {
		r.repaired, c.out.repaired = true, true
		c.repair(r)
	}
	c.later(firstPause<<(r.failures-1), func() { c.offer(r, st.Attempt+1) })
}
