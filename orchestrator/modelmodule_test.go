package orchestrator_test

import (
	"maps"
	"slices"

	"davit/orchestrator"
	"davit/schemas"
)

// module is a device of a schedule: a module that keeps what it works on and its
// reports until they are acknowledged, and the host MCU behind it.
type module struct {
	rig       *modelRig
	id, typ   string
	labels    map[string]string
	runs      map[string]string // by image type, what the host MCU runs
	says      bool              // it vouches for that
	connected bool
	work      *work
	pending   []schemas.Status // reports that are not acknowledged, in order
	said      []schemas.Status // earlier ones, to be said once more, late
	before    map[string]string
}

// work is what a module does about an offer.
type work struct {
	offer schemas.Offer
	state schemas.State
	seq   uint64
}

// connect has the device come back: presence, hello, and what it has to report.
func (d *module) connect() {
	d.connected = true
	d.rig.logf("%s connects", d.id)
	d.rig.tolerate("presence", d.rig.Presence(ctx, d.id, true), orchestrator.ErrNotFound)
	d.hello()
}

func (d *module) disconnect() {
	d.connected = false
	d.rig.logf("%s is gone", d.id)
	d.rig.tolerate("presence", d.rig.Presence(ctx, d.id, false), orchestrator.ErrNotFound)
}

func (d *module) hello() {
	h := schemas.Hello{V: schemas.Version, Dialect: "ayla", HostVersions: map[string]string{}}
	for kind, version := range d.runs {
		if !d.says {
			version = ""
		}
		h.HostVersions[kind+"_version"] = version
	}
	if d.work != nil {
		h.Execution, h.Attempt = d.work.offer.Execution, d.work.offer.Attempt
	}
	d.rig.logf("%s says hello %v %s/%d", d.id, h.HostVersions, h.Execution, h.Attempt)
	d.rig.tolerate("hello", d.rig.Hello(ctx, d.id, h), orchestrator.ErrNotFound)
}

// act is the next thing that the device does.
func (d *module) act() {
	if d.connected && len(d.pending) > 0 && (d.rig.healthy || !d.rig.chance(4)) {
		d.send(d.pending[0])
		return
	}
	if d.connected {
		d.look()
	}
	if d.work != nil {
		d.goOn()
	}
}

// look compares what the device works on with its offer topic.
func (d *module) look() {
	o, some := d.rig.offers[d.id]
	switch {
	case some && (d.work == nil || d.work.offer.Execution != o.Execution || d.work.offer.Attempt != o.Attempt):
		d.work = &work{offer: o, state: schemas.StateOffered}
		d.pending = nil
	case some:
		d.work.offer = o
	case d.work != nil && (d.work.state == schemas.StateOffered || d.rig.healthy):
		d.work, d.pending = nil, nil
	}
}

// goOn does the next part of an update, which may go wrong.
func (d *module) goOn() {
	w := d.work
	if w.state.Final() || w.state == schemas.StateDownloaded && w.offer.Action == schemas.ActionDownload {
		return // it waits for the acknowledgement
	}
	bad := !d.rig.healthy && d.rig.chance(9)
	switch {
	case w.state == schemas.StateOffered && w.offer.Action.Deferrable() && !d.rig.healthy && d.rig.chance(2):
		d.report(schemas.Status{State: schemas.StateRejected, Cause: schemas.CauseDeferred, DeferS: 1 + d.rig.n(7200)})
	case bad && w.state == schemas.StateOffered:
		d.report(schemas.Status{State: schemas.StateRejected, Cause: pick(d.rig, []schemas.Cause{schemas.CauseRejected, schemas.CauseSize, schemas.CauseAlready})})
	case bad:
		d.report(schemas.Status{
			State: pick(d.rig, []schemas.State{schemas.StateFailed, schemas.StateFailed, schemas.StateTimedOut}),
			Cause: pick(d.rig, []schemas.Cause{schemas.CauseNetwork, schemas.CauseSerial, schemas.CauseFlash, schemas.CauseChecksum, schemas.CauseBoot, schemas.CauseSignature, schemas.CauseTimeout}),
		})
	case w.state == schemas.StateBooting:
		if d.before == nil {
			d.before = map[string]string{}
		}
		d.before[w.offer.ImageType] = d.runs[w.offer.ImageType]
		d.runs[w.offer.ImageType], d.says = w.offer.Version, true
		d.report(schemas.Status{State: schemas.StateSucceeded, HostVersion: w.offer.Version})
	default:
		next := schemas.States()[slices.Index(schemas.States(), w.state)+1]
		d.report(schemas.Status{State: next, BytesDone: w.offer.Size / 2})
	}
}

func (d *module) report(s schemas.Status) {
	d.work.seq++
	s.V, s.Execution, s.Attempt, s.Seq = schemas.Version, d.work.offer.Execution, d.work.offer.Attempt, d.work.seq
	d.work.state = s.State
	d.pending = append(d.pending, s)
	if d.connected {
		d.send(d.pending[0])
	}
}

func (d *module) send(s schemas.Status) {
	d.rig.stats.reports++
	if len(d.said) < 20 {
		d.said = append(d.said, s)
	} else {
		d.said[d.rig.n(len(d.said))] = s
	}
	d.rig.logf("%s reports %s/%d #%d %s %s", d.id, s.Execution, s.Attempt, s.Seq, s.State, s.Cause)
	d.rig.m.reporting = s.Execution
	err := d.rig.Status(ctx, d.id, s)
	d.rig.m.reporting = ""
	d.rig.tolerate("status", err)
}

// acked drops what is acknowledged, and the work that is over.
func (d *module) acked(a schemas.Ack) {
	d.pending = slices.DeleteFunc(d.pending, func(s schemas.Status) bool {
		return s.Execution == a.Execution && s.Attempt == a.Attempt && (s.Seq <= a.Seq || a.Superseded || a.State.Final())
	})
	w := d.work
	if w == nil || w.offer.Execution != a.Execution || w.offer.Attempt != a.Attempt {
		return
	}
	fetched := w.state == schemas.StateDownloaded && w.offer.Action == schemas.ActionDownload && len(d.pending) == 0
	if a.Superseded || a.State.Final() || fetched {
		d.work, d.pending = nil, nil
	}
}

// fallBack has the host MCU run again what it ran before an update.
func (d *module) fallBack() {
	for _, kind := range sortedKeys(d.before) {
		if d.work != nil && d.work.offer.ImageType == kind {
			continue
		}
		d.rig.logf("%s falls back to %s %s", d.id, kind, d.before[kind])
		d.runs[kind] = d.before[kind]
		delete(d.before, kind)
		d.rig.stats.fallBacks++
		if d.connected {
			d.hello()
		}
		return
	}
}

// running is what the host MCU runs, for the log.
func (d *module) running() map[string]string { return maps.Clone(d.runs) }
