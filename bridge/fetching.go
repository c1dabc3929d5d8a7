package bridge

import (
	"errors"

	"davit/bridge/dialect"
	"davit/internal/durable"
	"davit/internal/logevent"
	"davit/schemas"
)

// fetch brings the image to the spool, or finds it there.
func (d *device) fetch() {
	ex := d.ex
	if ex.image != nil {
		return // under way since before the MCU restarted
	}
	if !ex.vouched { // the MCU was told to boot by an earlier run, and has to be offered the image again
		d.vouch(d.fetch)
		return
	}
	var err error
	if ex.image, err = d.b.spool.Acquire(ex.offer.SHA256, ex.offer.Size); err != nil {
		d.finish(failure(err))
		return
	}
	ex.member = &member{device: d.id, image: ex.offer.Image, chunk: d.largestChunk(), stream: ex.offer.Stream, trace: d.fetchTrace()}
	if ex.signed != nil {
		ex.member.signed = ex.signed
		ex.member.start = func() {
			d.do(func() {
				if d.ex == ex {
					d.begun()
				}
			})
		}
	}
	ex.member.done = func(err error) {
		d.do(func() {
			if d.ex == ex {
				d.fetched(err)
			}
		})
	}
	held := ex.image.Held()
	whole := held == ex.image.Size()
	d.log.Debug("fetching the image", "event", logevent.FetchStarted, "execution", ex.offer.Execution, "held", held, "bytes", ex.offer.Size, "signed", ex.signed != nil)
	if ex.dl, err = d.b.downloads.join(ex.offer.SHA256, ex.offer.Size, ex.member); err != nil {
		d.finish(failure(err))
		return
	}
	d.route(ex.dl)
	if !whole {
		_ = d.advance(schemas.StateDownloading) // the download itself is what has to last, and it does
	}
}

// fetched goes on when the image is there, or cannot be had.
func (d *device) fetched(err error) {
	ex := d.ex
	d.route(nil)
	ex.dl = nil
	if err != nil {
		d.finish(failure(err))
		return
	}
	if ex.fetchesOnly() {
		d.fetchedOnly()
		return
	}
	_ = d.advance(schemas.StateDownloaded)
	d.begun()
}

// largestChunk is what the device asks for at most.
func (d *device) largestChunk() int {
	chunk := d.ex.offer.Chunk.Max
	if m := d.b.cfg.MaxChunk; m != 0 {
		chunk = min(chunk, m)
	}
	return chunk
}

// begun lets the MCU leg read the image: it is there, or enough of a signed one.
func (d *device) begun() {
	ex := d.ex
	if ex.fetchesOnly() || ex.isDone {
		return
	}
	ex.source.open(ex.image, ex.signed)
	ex.isDone = true
	close(ex.ready)
}

// failure is the result of an error on the way from the service to the spool.
func failure(err error) dialect.Result {
	r := dialect.Result{State: schemas.StateFailed, Detail: err.Error()}
	switch {
	case errors.Is(err, errNetwork):
		r.Cause = schemas.CauseNetwork
	case errors.Is(err, errChecksum):
		r.Cause = schemas.CauseChecksum
	case durable.IsNoSpace(err):
		r.Cause = schemas.CauseStorage
		r.Detail = "The bridge's disk is full: " + err.Error()
	default:
		r.Cause = schemas.CauseStorage
	}
	return r
}
