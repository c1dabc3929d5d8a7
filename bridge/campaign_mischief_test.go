package bridge

import (
	"testing/synctest"
	"time"

	"davit/bridge/portname/porttest"
	"davit/internal/sim"
	"davit/schemas"
)

// stick has the line carry nothing in either direction for a while.
func (c *course) stick(p *product, d time.Duration) {
	dead := sim.LineFaults{Dead: true}
	c.lines[p.id].SetFaults(dead, dead)
	c.later(d, func() {
		if !c.next {
			c.lines[p.id].SetFaults(p.line.ToMCU, p.line.FromMCU)
		}
	})
}

// stall has the MCU not read for a while: the bridge's writes wait.
func (c *course) stall(p *product, d time.Duration) {
	c.lines[p.id].Stall(true)
	c.later(d, func() { c.lines[p.id].Stall(false) })
}

// unplug pulls the adapter and puts it back.
func (c *course) unplug(p *product, d time.Duration) {
	r := c.runs[p]
	if r.unplugged {
		return
	}
	r.unplugged = true
	c.lines[p.id].Unplug()
	if p.renamed {
		c.tree.Unplug(r.tty)
	}
	c.later(d, func() { c.plug(r) })
}

// plug puts an adapter back, as another tty if it is to be renamed.
func (c *course) plug(r *running) {
	if !r.unplugged {
		return
	}
	r.unplugged = false
	if r.p.renamed {
		c.tree.Plug(r.adapter(r.tty + "1"))
	}
	c.lines[r.p.id].Replug()
}

// killFor kills the bridge and starts it again.
func (c *course) killFor(d time.Duration) {
	if !c.up {
		return
	}
	synctest.Wait() // whatever else happens at this moment has happened, and the next frame is not written
	c.up = false
	c.kill()
	for _, r := range c.runs {
		r.forget() // what a killed bridge had heard
	}
	c.service.reachable(!c.cut)
	c.later(d, c.revive)
}

func (c *course) revive() {
	if !c.up {
		c.up = true
		c.start()
	}
}

// loseBroker cuts the connection to the broker for a while.
func (c *course) loseBroker(d time.Duration) {
	if c.cut {
		return
	}
	c.cut = true
	c.service.disconnect()
	c.later(d, c.findBroker)
}

func (c *course) findBroker() {
	if c.cut {
		c.cut = false
		c.service.connect()
	}
}

// unheard has the service acknowledge nothing for a while.
func (c *course) unheard(d time.Duration) {
	c.service.setAcks(false)
	c.later(d, func() { c.service.setAcks(true) })
}

// retract takes the offer back, as a job that is paused does, and offers a new
// attempt later.
func (c *course) retract(p *product, d time.Duration) {
	r := c.runs[p]
	last := c.service.last(r.latest.Execution)
	if r.settled || r.attempt == 0 || last.State.Final() && last.Attempt == r.attempt {
		return
	}
	c.offerAnew(r, d)
}

// offerAnew takes the offer of a product's attempt back and offers the next attempt
// in d, unless that has been taken back as well by then.
func (c *course) offerAnew(r *running, d time.Duration) {
	attempt := c.service.retract(r.p.id, r.latest.Execution)
	r.attempt = attempt
	c.later(d, func() {
		if r.attempt == attempt {
			c.offer(r, attempt)
		}
	})
}

// repair ends what is broken in an MCU.
func (c *course) repair(r *running) {
	f := r.p.mcu.Fault
	for _, unset := range r.p.broken {
		unset(&f)
	}
	f.ResetAtFrame, f.ResetAtByte, f.Afero.ResetAtStep = 0, 0, 0 // they come once
	c.mend(r, f)
}

// mend sets an MCU's faults anew; one that is dead is switched off and on.
func (c *course) mend(r *running, f sim.Fault) {
	r.host.SetFault(f)
	if r.p.mcu.Fault.NeverReturns && !r.mended {
		r.mended = true
		c.halt[r.p.id]()
		c.run(r.p.id, listened{r.host, r})
	}
}

// lift ends all that is wrong.
func (c *course) lift() {
	for _, p := range c.s.products {
		r := c.runs[p]
		r.calm()
		c.lines[p.id].SetFaults(sim.LineFaults{}, sim.LineFaults{})
		c.lines[p.id].Stall(false)
		c.plug(r)
		c.mend(r, sim.Fault{})
	}
	c.ops = nil
	c.revive()
	c.findBroker()
	c.service.setAcks(true)
}

// adapter is the product's USB adapter as a tty.
func (r *running) adapter(tty string) porttest.USB {
	r.tty = tty
	return porttest.USB{TTY: tty, Place: "1-1." + r.place + ":1.0", Vendor: "0403", Model: "6001", Serial: r.p.id, Driver: "ftdi_sio"}
}

// offer is one of the service's to the product: of the image that the scenario is
// about, or of the one after it.
func (r *running) offer(attempt int, next bool) schemas.Offer {
	w := r.c.world
	o := w.offerOf("img-1", newVersion, w.image)
	o.VersionID = theID
	if next {
		o = w.offerOf("img-2", lastVersion, w.service.images["img-2"])
		o.VersionID = lastID
		o.Execution = "ex-2"
	}
	o.Execution, o.Attempt = o.Execution+"-"+r.p.id, attempt
	o.Host = schemas.HostHint{Dialect: r.p.dialect}
	if r.numbered() {
		o.Host.NumericType, o.Host.VersionProperty, o.Host.AttributeSize = firmwareType, property, r.p.mcu.AttributeSize
	} else {
		o.VersionID = 0
	}
	return o
}
