package fleet

import (
	"time"

	"davit/internal/fleet/mqtt"
	"davit/schemas"
)

func timeBetween(from, to instant) time.Duration { return time.Duration(to - from) }

// scaled is how long something takes for which a host MCU needs t.
func (d *device) scaled(t time.Duration) instant {
	return instant(float64(t) / d.fleet.cfg.TimeScale)
}

// after has the device go on at a time.
func (d *device) after(now, wait instant) {
	d.stepAt = now + max(wait, 1)
	d.wake(d.stepAt)
}

// take begins what is offered.
func (d *device) take(o schemas.Offer, now instant) {
	d.unsubscribe(d.update)
	u := &update{offer: o, image: d.fleet.images.find(&o), fails: uint64(d.draw() * float64(o.Size))}
	d.update, d.pending = u, nil
	d.setPhase(phaseAnswering)
	d.after(now, d.scaled(time.Duration(float64(d.kind.profile.Answer)*2*d.draw())))
}

// step does what the host MCU, or the module for it, has taken its time for.
func (d *device) step(now instant) {
	u := d.update
	if u == nil || u.ended {
		return
	}
	switch d.phase {
	case phaseAnswering:
		d.answer(now)
	case phaseInstalling:
		d.installed(now)
	case phaseBooting:
		d.booted(now)
	}
}

// answer accepts the offer, or not.
func (d *device) answer(now instant) {
	u := d.update
	switch {
	case u.offer.Version == d.version && !u.offer.Force:
		d.report(schemas.Status{State: schemas.StateSucceeded, HostVersion: d.version, Detail: "the host MCU runs it already"}, now)
		d.setPhase(phaseReporting)
		return
	case d.kind.fault == schemas.CauseRejected || d.kind.fault == schemas.CauseSize:
		d.fail(schemas.StateRejected, d.kind.fault, "the simulated host MCU refuses it", now)
		return
	}
	d.setPhase(phaseDownloading)
	d.report(schemas.Status{State: schemas.StateAccepted}, now)
	if d.kept == u.offer.SHA256 {
		d.downloaded(now)
		return
	}
	u.dl = d.newLoader(&u.offer)
	if d.kind.neverRead {
		d.fleet.count.stalled.Add(1)
	}
	u.follow = u.offer.Stream && d.kind.profile.Streams
	d.subscribe()
	d.fetch(now)
}

// subscribe subscribes to the shared stream that the update follows, if it does and there
// is a connection; up does it otherwise.
func (d *device) subscribe() {
	u := d.update
	if u == nil || !u.follow || d.phase != phaseDownloading || d.conn == nil {
		return
	}
	u.followID, _ = d.conn.Subscribe(mqtt.Subscription{Filter: schemas.StreamTopic(u.offer.SHA256)}) // an error ends the connection
}

// unsubscribe ends that.
func (d *device) unsubscribe(u *update) {
	if u != nil && u.follow && d.conn != nil {
		_ = d.conn.Unsubscribe(schemas.StreamTopic(u.offer.SHA256)) // an error ends the connection
	}
	if u != nil {
		u.follow = false
	}
}

// tellEvery is how often a download is reported.
const tellEvery = 10 * time.Second

// progress goes on with a download of which something has come.
func (d *device) progress(now instant) {
	u := d.update
	have := u.dl.held()
	if have == u.offer.Size {
		last(&d.fleet.count.lastChunk, now)
		d.downloaded(now)
		return
	}
	if d.kind.fault == schemas.CauseNetwork && have > u.fails {
		d.fail(schemas.StateFailed, schemas.CauseNetwork, "the simulated network has gone", now)
		return
	}
	if timeBetween(u.told, now) >= tellEvery {
		d.fleet.count.progress.Add(1)
		d.report(schemas.Status{State: schemas.StateDownloading, BytesDone: have}, now)
	}
	d.fetch(now)
	u.heard = now
	if d.pending == nil {
		d.waits = 0 // what comes is an answer
	}
}

// downloaded verifies the image, and loads it or keeps it.
func (d *device) downloaded(now instant) {
	u := d.update
	if !u.image.verify() {
		d.fleet.count.wrongImages.Add(1)
		d.fail(schemas.StateFailed, schemas.CauseChecksum, "the SHA-256 of the image does not agree", now)
		return
	}
	d.unsubscribe(u)
	u.dl = nil
	if u.offer.Action == schemas.ActionDownload {
		d.kept, u.ended = u.offer.SHA256, true
		d.report(schemas.Status{State: schemas.StateDownloaded, BytesDone: u.offer.Size}, now)
		d.setPhase(phaseNone)
		return
	}
	d.kept = ""
	d.report(schemas.Status{State: schemas.StateDownloaded, BytesDone: u.offer.Size}, now)
	d.setPhase(phaseInstalling)
	size := float64(u.offer.Size)
	if d.failsOnTheLine() {
		size = float64(u.fails)
	}
	const bitsPerByte = 10
	d.after(now, d.scaled(time.Duration(size*bitsPerByte/float64(d.kind.profile.Line)*float64(time.Second))))
}

func (d *device) failsOnTheLine() bool {
	switch d.kind.fault {
	case schemas.CauseSerial, schemas.CauseFlash, schemas.CauseTimeout:
		return true
	}
	return false
}

// installed boots the image, or fails.
func (d *device) installed(now instant) {
	switch cause := d.kind.fault; {
	case cause == schemas.CauseTimeout:
		d.fail(schemas.StateTimedOut, cause, "the simulated host MCU does not answer", now)
	case d.failsOnTheLine():
		d.fail(schemas.StateFailed, cause, "the simulated load was not finished", now)
	case cause == schemas.CauseChecksum, cause == schemas.CauseSignature:
		d.fail(schemas.StateFailed, cause, "the simulated host MCU refuses what it was loaded with", now)
	default:
		d.setPhase(phaseBooting)
		d.report(schemas.Status{State: schemas.StateBooting, BytesDone: d.update.offer.Size}, now)
		d.after(now, d.scaled(time.Duration(float64(d.kind.profile.Boot)*(0.8+0.4*d.draw()))))
	}
}

// booted reports the version that runs.
func (d *device) booted(now instant) {
	u := d.update
	if d.kind.fault == schemas.CauseBoot {
		d.fail(schemas.StateFailed, schemas.CauseBoot, "the simulated host MCU returned to the image before", now)
		return
	}
	d.before, d.version = d.version, u.offer.Version
	d.setPhase(phaseReporting)
	d.report(schemas.Status{State: schemas.StateSucceeded, BytesDone: u.offer.Size, HostVersion: d.version}, now)
}

// fail ends the update.
func (d *device) fail(state schemas.State, cause schemas.Cause, detail string, now instant) {
	d.unsubscribe(d.update)
	d.update.dl = nil
	d.setPhase(phaseReporting)
	d.report(schemas.Status{State: state, Cause: cause, Detail: detail}, now)
}

// finished takes that the end of an update was acknowledged.
func (d *device) finished(s *schemas.Status) {
	c := &d.fleet.count
	now := d.fleet.clock.now()
	last(&c.lastEnd, now)
	if s.State == schemas.StateSucceeded {
		d.setPhase(phaseSucceeded)
		d.hello(now) // a version has changed
		if d.kind.fallsBack && !d.fell {
			d.fell = true
			d.fallAt = now + d.scaled(d.kind.profile.FallBackAfter)
			d.wake(d.fallAt)
			return // counted when it has fallen back
		}
	} else {
		d.setPhase(phaseFailed)
	}
	d.settle(s.Cause == d.kind.fault)
}

// settle counts the end of an update, once for each device.
func (d *device) settle(asDrawn bool) {
	if d.counted {
		return
	}
	d.counted = true
	c := &d.fleet.count
	if asDrawn {
		c.asDrawn.Add(1)
	} else {
		c.otherwise.Add(1)
	}
	c.finished.Add(1)
	d.fleet.changed()
}

// fallBack returns to the version before the update.
func (d *device) fallBack(now instant) {
	d.version, d.before = d.before, d.version
	d.fleet.count.fallenBack.Add(1)
	if d.link == linkOnline {
		d.hello(now)
	}
	d.settle(true)
}
