package rehearsal

import (
	"context"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// report sends a report of what a device works on, or keeps it until the device is
// connected; a newer one takes its place. What the modules of this service say in
// between (how far a download is) changes nothing that the rules look at and is left
// out.
func (w *world) report(ctx context.Context, d *device, st schemas.Status) error {
	d.seq++
	st.V, st.Execution, st.Attempt, st.Seq = schemas.Version, d.job.Execution, d.job.Attempt, d.seq
	d.pending = &st
	if !d.online {
		return nil
	}
	return w.flush(ctx, d)
}

// flush sends the report that waits. What the service has done with is dropped; what
// runs then is said in a hello.
func (w *world) flush(ctx context.Context, d *device) error {
	st := d.pending
	if st == nil {
		return nil
	}
	d.pending = nil
	if err := w.present(ctx, d); err != nil {
		return err
	}
	w.moved = true
	if err := w.service.Status(ctx, d.id, *st); err != nil {
		return err
	}
	step := st.HostVersion != newVersion && st.HostVersion != oldVersion // on the way: the next one follows
	d.settled = st.State == schemas.StateSucceeded && !step
	if !w.ack.Superseded && w.ack.State == st.State {
		return nil
	}
	if d.phase != booting && attemptOf(&d.job) == (attempt{st.Execution, st.Attempt}) && (w.ack.Superseded || w.ack.State.Final()) {
		d.ended = attempt{st.Execution, st.Attempt}
		w.drop(d)
	}
	d.unsaid = d.unsaid || st.State == schemas.StateSucceeded
	return w.hello(ctx, d)
}

// hello says what a device runs, if the service does not know. Hellos that say
// nothing new are left out.
func (w *world) hello(ctx context.Context, d *device) error {
	if !d.online || !d.unsaid {
		return nil
	}
	d.unsaid, d.settled = false, false
	if err := w.present(ctx, d); err != nil {
		return err
	}
	w.moved = true
	h := schemas.Hello{V: schemas.Version, DeviceType: typeID, Dialect: orchestrator.DialectAyla,
		HostVersions: map[string]string{orchestrator.DefaultVersionProperty: d.version}}
	if d.phase != idle {
		h.Execution, h.Attempt = d.job.Execution, d.job.Attempt
	}
	return w.service.Hello(ctx, d.id, h)
}

// toggle has a device's connection come or go, and sets when it does so next.
func (w *world) toggle(ctx context.Context, d *device) error {
	if d.online && d.phase == downloading {
		w.keepPart(d)
		d.left = max(0, d.due-w.at)
		d.valid++
	}
	d.online = !d.online
	w.later(d)
	if !d.settled && !w.over {
		if err := w.present(ctx, d); err != nil {
			return err
		}
	}
	if !d.online {
		return nil
	}
	if d.phase == downloading {
		w.enter(d, downloading, d.left)
	}
	if err := w.flush(ctx, d); err != nil {
		return err
	}
	if err := w.hello(ctx, d); err != nil {
		return err
	}
	w.consider(d)
	return nil
}

// present tells the service whether a device is connected, if it does not know. A
// device with which nothing more is to happen is not told of before it speaks again:
// most are such ones for most of the time.
func (w *world) present(ctx context.Context, d *device) error {
	if d.told == d.online {
		return nil
	}
	d.told, w.moved = d.online, true
	return w.service.Presence(ctx, d.id, d.online)
}

// later sets when a device's connection comes or goes next.
func (w *world) later(d *device) {
	f := &w.cfg.Fleet
	if f.Online == 1 {
		return
	}
	mean := float64(f.OnlineFor)
	if !d.online {
		mean *= (1 - f.Online) / f.Online
	}
	w.after(time.Duration(d.line.ExpFloat64()*mean), event{act: actToggle, d: d})
}
