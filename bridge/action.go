package bridge

import (
	"fmt"
	"slices"
	"time"

	"davit/bridge/dialect"
	"davit/internal/logevent"
	"davit/schemas"
)

// DefaultDefer is after how long a product that is busy is asked again whether it
// takes an update that it may put off.
const DefaultDefer = 15 * time.Minute

// CheckDefer says what is wrong with such a time, for which the contract has whole
// seconds and 30 days at most.
func CheckDefer(d time.Duration) error {
	if limit := schemas.MaxDeferS * time.Second; d < time.Second || d > limit || d%time.Second != 0 {
		return fmt.Errorf("%s is not one of 1s to %s, in whole seconds", d, limit)
	}
	return nil
}

// maxKept is how many images a device may have asked for to be installed later.
const maxKept = 4

// fetchesOnly says whether the image is to be fetched and no more: neither the
// port nor the MCU has a part in that.
func (ex *execution) fetchesOnly() bool { return ex.offer.Action == schemas.ActionDownload }

// fetchOnly carries out an offer that asks for the image alone.
func (d *device) fetchOnly() {
	if err := d.advance(schemas.StateAccepted); err != nil {
		d.finish(failure(err))
		return
	}
	d.fetch()
}

// fetchedOnly says that the image is there, until the service has acknowledged it.
func (d *device) fetchedOnly() {
	d.keep(d.ex.offer.SHA256)
	if d.ex.state == schemas.StateDownloaded {
		d.report() // as before the restart, which nobody may have heard
		return
	}
	if err := d.advance(schemas.StateDownloaded); err != nil {
		d.finish(failure(err))
	}
}

// handedIn ends an execution that was to fetch the image only: the service knows
// that it is here.
func (d *device) handedIn() {
	ex := d.ex
	s := ex.out.status
	d.log.Info("the image is kept until it is to be installed", "event", logevent.ImageKept, "execution", s.Execution, "version", ex.offer.Version)
	d.rec.remember(endedRecord{Execution: s.Execution, Attempt: s.Attempt, Status: &s, Acked: true, At: time.Now()})
	d.close()
}

// keep notes that the device will want the image later, so that others make room
// in the spool first. The record is saved by the caller.
func (d *device) keep(sum string) {
	kept := slices.DeleteFunc(slices.Clone(d.rec.Kept), func(s string) bool { return s == sum })
	if len(kept) == maxKept {
		d.b.spool.LetGo(kept[0], d.id)
		kept = kept[1:]
	}
	d.rec.Kept = append(kept, sum)
	d.b.spool.Keep(sum, d.id)
}

// installed notes that the image is not wanted for later any more. The record is
// saved by the caller.
func (d *device) installed(sum string) {
	d.rec.Kept = slices.DeleteFunc(slices.Clone(d.rec.Kept), func(s string) bool { return s == sum })
	d.b.spool.LetGo(sum, d.id)
}

// deferral returns for how long an update is put off that ended with r, 0 if it is
// not. The MCU is the product: where the offer lets that put the update off, an
// MCU that says that it is busy has done so. One that gives no reason may be busy as
// well; that is believed where the time for it has an end, and is a no where the
// product was asked whether it agrees. Whether that time is over is the service's to say:
// a bridge's clock may be wrong.
func (d *device) deferral(a schemas.Action, r dialect.Result) time.Duration {
	if r.Busy && a.Deferrable() || r.Unexplained && a == schemas.ActionSoft {
		return d.b.cfg.Defer
	}
	return 0
}

// putOff makes a status one that puts the update off.
func putOff(s *schemas.Status, d time.Duration) {
	s.State, s.Cause, s.DeferS = schemas.StateRejected, schemas.CauseDeferred, int(d/time.Second)
	s.Detail = schemas.Detail(fmt.Sprintf("%s The update is put off for %s.", s.Detail, d))
}
