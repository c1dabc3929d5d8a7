package rehearsal

import (
	"context"
	"math/rand/v2"
	"time"

	"davit/schemas"
)

// phase is where a device's update stands.
type phase byte

const (
	idle phase = iota
	answering
	downloading
	loading
	booting
)

// device is a module and its host MCU.
type device struct {
	id     string
	labels map[string]string
	// Each kind of chance is drawn from a source of its own, so that how the job goes
	// does not change when the device is connected.
	luck, line *rand.Rand
	speed      float64 // what its bandwidth is of the fleet's
	online     bool
	told       bool // what the service knows of that
	settled    bool // its last success is recorded
	version    string
	unsaid     bool            // the service does not know of the version yet
	offer      *schemas.Offer  // what its offer topic retains
	pending    *schemas.Status // its last report, until it can be sent
	ended      attempt         // the last one that it has brought to an end
	job        schemas.Offer   // what it works on
	seq        uint64          // of its reports of that
	fate       fate            // what becomes of that
	phase      phase           // of that
	due        time.Duration   // when the phase ends
	left       time.Duration   // what is left of a download while not connected
	valid      uint32          // counts phases
	holds      float64         // the part of the image that it has, of the one with the sum
	aim        float64         // the part that it has when its download ends, which may be without success
	sum        string          // SHA-256 of the image
	falls      uint32          // counts what would make it fall back
	booted     bool            // it has booted the job's image
	harmed     bool            // and did not keep it
}

// attempt is one attempt of an execution.
type attempt struct {
	execution string
	number    int
}

func attemptOf(o *schemas.Offer) attempt { return attempt{o.Execution, o.Attempt} }

// fate is what becomes of an attempt: a cause, and how far into its phase, if that
// is in the middle.
type fate struct {
	cause schemas.Cause
	part  float64
	falls bool
}

// draw decides what becomes of an attempt. It always draws the same number of times.
func (w *world) draw(d *device) (f fate) {
	ours := d.job.Version == newVersion
	spooled := d.sum == d.job.SHA256 && d.holds == 1 // nothing is downloaded
	found := len(Causes())
	for _, x := range w.cfg.Fleet.Faults {
		u, at := d.luck.Float64(), w.stage[x.Cause]
		if u >= x.Chance || at >= found || !x.on(d.labels) || x.Cause == schemas.CauseBoot && !ours || x.Cause == schemas.CauseNetwork && spooled {
			continue
		}
		f.cause, found = x.Cause, at
	}
	f.part = d.luck.Float64()
	for _, x := range w.cfg.Fleet.FallBacks {
		if d.luck.Float64() < x.Chance && x.on(d.labels) && ours {
			f.falls = true
		}
	}
	return f
}

// retain changes what a device's offer topic has.
func (w *world) retain(id string, o *schemas.Offer) {
	d := w.byID[id]
	d.offer = o
	if d.online {
		w.consider(d)
	}
}

// consider has a connected device act on what its offer topic has, as a module does:
// it drops what is withdrawn or replaced unless the host MCU boots it already.
func (w *world) consider(d *device) {
	if d.phase == booting || d.phase != idle && d.offer != nil && attemptOf(d.offer) == attemptOf(&d.job) {
		return
	}
	w.drop(d)
	if d.offer != nil && attemptOf(d.offer) != d.ended {
		d.job, d.seq, d.pending = *d.offer, 0, nil
		d.fate = w.draw(d)
		w.busy++
		w.enter(d, answering, time.Duration(d.luck.ExpFloat64()*float64(w.cfg.Fleet.Answer)))
	}
}

// enter begins a phase that takes so long.
func (w *world) enter(d *device, p phase, takes time.Duration) {
	d.phase = p
	d.valid++
	if p == downloading && !d.online {
		d.left = takes
		return
	}
	d.due = w.at + takes
	w.after(takes, event{act: actPhase, d: d, valid: d.valid})
}

// drop leaves what a device works on.
func (w *world) drop(d *device) {
	if d.phase != idle {
		w.keepPart(d)
		d.phase = idle
		d.valid++
		w.busy--
	}
}

// keepPart notes what a download that is interrupted or given up has brought.
func (w *world) keepPart(d *device) {
	if d.phase != downloading || !d.online {
		return
	}
	part := max(0, d.due-w.at).Seconds() * w.bandwidth(d) / float64(d.job.Size)
	w.hold(d, max(d.holds, d.aim-part))
}

// hold has a device have so much of the image.
func (w *world) hold(d *device, part float64) {
	w.bytes += uint64((part - d.holds) * float64(d.job.Size))
	d.holds = part
}

func (w *world) bandwidth(d *device) float64 { return w.cfg.Fleet.Bandwidth * d.speed }

// proceed ends a phase of a device's update.
func (w *world) proceed(ctx context.Context, d *device) error {
	switch d.phase {
	case answering:
		return w.answer(ctx, d)
	case downloading:
		return w.download(ctx, d)
	case loading:
		return w.load(ctx, d)
	case booting:
		return w.boot(ctx, d)
	}
	return nil
}

func (w *world) answer(ctx context.Context, d *device) error {
	if c := d.fate.cause; c == schemas.CauseRejected || c == schemas.CauseSize {
		return w.finish(ctx, d, schemas.Status{State: schemas.StateRejected, Cause: c})
	}
	if err := w.report(ctx, d, schemas.Status{State: schemas.StateAccepted}); err != nil || d.phase == idle {
		return err
	}
	if d.sum != d.job.SHA256 {
		d.sum, d.holds = d.job.SHA256, 0
	}
	if d.holds == 1 { // in its spool
		return w.downloaded(ctx, d)
	}
	d.aim = 1
	if d.fate.cause == schemas.CauseNetwork {
		d.aim = d.holds + (1-d.holds)*d.fate.part
	}
	takes := (d.aim - d.holds) * float64(d.job.Size) / w.bandwidth(d)
	w.enter(d, downloading, time.Duration(takes*float64(time.Second)))
	return nil
}

func (w *world) download(ctx context.Context, d *device) error {
	w.hold(d, d.aim)
	if c := d.fate.cause; c == schemas.CauseNetwork {
		return w.finish(ctx, d, schemas.Status{State: schemas.StateFailed, Cause: c, BytesDone: uint64(d.holds * float64(d.job.Size))})
	}
	return w.downloaded(ctx, d)
}

// downloaded begins to load the host MCU, unless the device was to download only.
func (w *world) downloaded(ctx context.Context, d *device) error {
	st := schemas.Status{State: schemas.StateDownloaded, BytesDone: d.job.Size}
	if d.job.Action == schemas.ActionDownload {
		w.held++
		return w.finish(ctx, d, st)
	}
	if err := w.report(ctx, d, st); err != nil || d.phase == idle {
		return err
	}
	takes := time.Duration(float64(d.job.Size) / w.lineRate * float64(time.Second))
	switch d.fate.cause {
	case schemas.CauseSerial, schemas.CauseFlash:
		takes = time.Duration(d.fate.part * float64(takes))
	case schemas.CauseTimeout:
		takes += verdictWait
	}
	w.enter(d, loading, takes)
	return nil
}

// verdictWait is after how long a module gives up on a host MCU that is silent.
const verdictWait = time.Minute

func (w *world) load(ctx context.Context, d *device) error {
	switch c := d.fate.cause; c {
	case schemas.CauseSerial, schemas.CauseFlash, schemas.CauseChecksum, schemas.CauseSignature:
		return w.finish(ctx, d, schemas.Status{State: schemas.StateFailed, Cause: c})
	case schemas.CauseTimeout:
		return w.finish(ctx, d, schemas.Status{State: schemas.StateTimedOut, Cause: c})
	}
	if err := w.report(ctx, d, schemas.Status{State: schemas.StateBooting}); err != nil || d.phase == idle {
		return err
	}
	const least, spread = 0.8, 0.4
	w.enter(d, booting, time.Duration((least+spread*d.luck.Float64())*float64(w.cfg.Fleet.Boot)))
	return nil
}

func (w *world) boot(ctx context.Context, d *device) error {
	d.booted = d.booted || d.job.Version == newVersion
	if d.fate.cause == schemas.CauseBoot {
		d.harmed = true
		return w.finish(ctx, d, schemas.Status{State: schemas.StateFailed, Cause: schemas.CauseBoot, HostVersion: d.version})
	}
	d.version = d.job.Version
	d.falls++
	if d.fate.falls {
		w.falling++
		w.after(time.Duration(d.luck.ExpFloat64()*float64(w.cfg.Fleet.FallAfter)), event{act: actFall, d: d, valid: d.falls})
	}
	return w.finish(ctx, d, schemas.Status{State: schemas.StateSucceeded, HostVersion: d.version})
}

// finish reports how an attempt has ended and looks at what there is to do then.
func (w *world) finish(ctx context.Context, d *device, st schemas.Status) error {
	d.ended = attemptOf(&d.job)
	d.phase = idle
	d.valid++
	w.busy--
	w.teller.cause(w, st.Cause)
	if err := w.report(ctx, d, st); err != nil {
		return err
	}
	if d.online {
		w.consider(d)
	}
	return nil
}

// fall has a device return to the version before.
func (w *world) fall(ctx context.Context, d *device, valid uint32) error {
	w.falling--
	if d.falls != valid || d.version != newVersion {
		return nil // it was brought to another version meanwhile
	}
	d.version, d.harmed, d.unsaid = w.before, true, true
	w.teller.fell(w)
	return w.hello(ctx, d)
}
