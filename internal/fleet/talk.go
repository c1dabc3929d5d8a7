package fleet

import (
	"time"

	"davit/internal/fleet/mqtt"
	"davit/schemas"
)

// publish has a message leave when the device's latency is over.
func (d *device) publish(k schemas.Kind, payload []byte, now instant) {
	latency := d.kind.profile.Latency
	if latency == 0 {
		d.send(k, payload)
		return
	}
	at := now + instant(latency)
	d.later = append(d.later, delayed{at, k, payload})
	d.wake(at)
}

// release sends what has waited long enough.
func (d *device) release(now instant) {
	n := 0
	for n < len(d.later) && d.later[n].at <= now {
		d.send(d.later[n].kind, d.later[n].payload)
		n++
	}
	if n == len(d.later) {
		d.later = nil
		return
	}
	d.later = d.later[:copy(d.later, d.later[n:])]
}

// send publishes a message. One that is not sent is repeated, or said again after the next
// connection.
func (d *device) send(k schemas.Kind, payload []byte) {
	if d.conn == nil {
		return
	}
	// An error ends the connection, and Serve returns it.
	_, _ = d.conn.Publish(&mqtt.Message{Topic: []byte(d.topic(k)), Payload: payload, QoS: k.QoS(), Retain: k.Retained()})
}

// say publishes a payload of the contract.
func (d *device) say(p schemas.Payload, now instant) {
	b, err := schemas.Encode(p)
	if err != nil {
		d.fleet.count.mark("the fleet itself: " + err.Error())
		return
	}
	d.publish(p.Kind(), b, now)
}

// hello says what the device is and runs.
func (d *device) hello(now instant) {
	h := schemas.Hello{
		V: schemas.Version, DeviceType: d.fleet.cfg.DeviceType, Module: "simulated fleet", Dialect: dialect,
		HostVersions: map[string]string{d.fleet.cfg.Property: d.version}, MaxChunk: schemas.MaxChunkSize,
		Streams: d.kind.profile.Streams,
	}
	if u := d.update; u != nil && !u.ended {
		h.Execution, h.Attempt = u.offer.Execution, u.offer.Attempt
	}
	d.fleet.count.hellos.Add(1)
	d.asked = now
	d.helloAt = now + instant(float64(helloEvery)*(0.9+0.2*d.draw()))
	d.say(&h, now)
}

// dialect is what simulated host MCUs are said to speak, so that no profile is sent.
const dialect = "ayla"

// report tells a new state of the update. It takes the place of one that is not
// acknowledged yet.
func (d *device) report(s schemas.Status, now instant) {
	u := d.update
	u.seq++
	s.V, s.Execution, s.Attempt, s.Seq = schemas.Version, u.offer.Execution, u.offer.Attempt, u.seq
	u.ended = u.ended || s.State.Final()
	u.told = now
	d.pending, d.waits = &s, 0
	d.fleet.count.statuses.Add(1)
	d.say(&s, now)
	d.awaitAnswer(now)
}

// patience is how long an answer may take: longer the more often it was waited for, and
// as long as the device's own line takes for two chunks.
func (d *device) patience() time.Duration {
	p := d.kind.profile
	wait := min(d.fleet.cfg.Repeat<<min(d.waits, 6), time.Minute) + p.Latency
	if dl, ok := d.window(); ok && p.Bandwidth > 0 {
		wait += time.Duration(float64(2*dl.chunk) / p.Bandwidth * float64(time.Second))
	}
	return wait
}

// window is the loader of a device with a window of a fixed size.
func (d *device) window() (*download, bool) {
	if d.update == nil {
		return nil, false
	}
	dl, ok := d.update.dl.(*download)
	return dl, ok
}

// fetching says whether the device fetches an image.
func (d *device) fetching() bool {
	return d.update != nil && !d.update.ended && d.update.dl != nil && d.phase == phaseDownloading
}

// awaitAnswer sets when what is not answered is repeated.
func (d *device) awaitAnswer(now instant) {
	d.repeatAt = now + instant(float64(d.patience())*(0.9+0.2*d.draw()))
	d.wake(d.repeatAt)
}

// repeat says again what was not answered: a report, and a fetch of which nothing comes.
func (d *device) repeat(now instant) {
	fetching := d.fetching()
	if d.pending == nil && !fetching {
		d.waits = 0
		return
	}
	if d.pending != nil {
		d.fleet.count.statusRepeats.Add(1)
		d.say(d.pending, now)
	}
	if u := d.update; fetching && u.dl.next() == 0 && timeBetween(u.heard, now) >= d.patience()*8/10 {
		if u.dl.awaited() > 0 {
			d.fleet.count.fetchRepeats.Add(1)
			u.dl.expire()
		}
		u.alone = true
		d.fetch(now)
	}
	d.waits = min(d.waits+1, 100)
	d.awaitAnswer(now)
}

// fetch asks for more of the image, if it is time for that.
func (d *device) fetch(now instant) {
	u := d.update
	f := schemas.Fetch{Image: u.offer.Image}
	for u.dl.fetch(&f, now, u.follow && !u.alone) {
		u.heard, u.alone = now, false
		first(&d.fleet.count.firstFetch, now)
		d.fleet.count.fetches.Add(1)
		d.say(&f, now)
	}
	d.fetchAt = u.dl.next()
	d.wake(d.fetchAt)
}
