package bridge

import (
	"time"

	"davit/internal/logevent"
	"davit/schemas"
)

// departPatience is how long a device whose port is closed for good waits for
// the service to acknowledge its results. The record keeps them.
const departPatience = 2 * time.Minute

// plan is what a reload of the configuration wants of a device. It is carried
// out when no update is under way. The device's goroutine owns it.
type plan struct {
	port     *PortConfig    // another configuration of the port, nil for none
	leaving  bool           // the configuration has the device no more
	shut     bool           // the port is closed for good
	departBy time.Time      // when the results are waited for no longer
	departed bool           // nothing brings this device back; another may take its place
	offer    *schemas.Offer // what was not taken up because the device is leaving
	awaiting bool           // another line has the port yet
}

// verdict is what a reload means for a device.
type verdict struct {
	departed bool // it cannot be had any more
	changed  bool
	waits    bool // for the end of an update
}

// replan takes the device's port in a new configuration, which may have been
// without the device in between.
func (d *device) replan(p PortConfig) verdict {
	if d.plan.departed {
		return verdict{departed: true}
	}
	d.plan.leaving, d.plan.port = false, nil
	changed := !p.equal(d.port)
	if changed {
		d.plan.port = &p
	}
	if d.plan.shut {
		d.plan.shut = false
		d.speakAnew()
	}
	d.settle(time.Now())
	if o := d.plan.offer; o != nil {
		d.plan.offer = nil
		d.take(*o)
	}
	return verdict{changed: changed, waits: d.plan.port != nil}
}

// leave takes note that the configuration has the device no more.
func (d *device) leave() verdict {
	d.plan.leaving, d.plan.port = true, nil
	d.settle(time.Now())
	return verdict{departed: d.plan.departed, waits: !d.plan.shut}
}

// settle carries out the plan as far as it can be now, and returns when there is
// more to do. Nothing is done while an update is under way.
func (d *device) settle(now time.Time) time.Time {
	if d.ex != nil || d.plan.departed {
		return time.Time{}
	}
	if p := d.plan.port; p != nil {
		d.plan.port = nil
		d.usePort(*p)
	}
	if !d.plan.leaving {
		return time.Time{}
	}
	if !d.plan.shut {
		d.plan.shut, d.plan.departBy = true, now.Add(departPatience)
		d.speakAnew()
	}
	if len(d.outbox) > 0 && now.Before(d.plan.departBy) {
		return d.plan.departBy
	}
	d.plan.departed = true
	d.b.crew.others.Go(func() { d.b.retire(d.line) })
	return time.Time{}
}

// usePort puts another configuration of the port in force.
func (d *device) usePort(p PortConfig) {
	before := d.kind
	d.port = p
	d.line.port.configure(p)
	d.speakAs(d.configured())
	d.log.Info("the port is configured anew", "event", logevent.PortConfigured, "port", p.Path)
	d.speakAnew()
	if d.kind != before {
		d.hello() // whose dialect is another; if it is not known, the service says it
	}
}
