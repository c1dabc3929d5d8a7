package bridge

import (
	"context"
	"time"

	"davit/internal/logevent"
	"davit/schemas"
)

// DefaultDrainTimeout is the limit of a drain that programs take unless told
// otherwise: enough for an MCU to boot and report its version, or for a load of
// some 300 KB at 115,200 bit/s, and well below the 90 s after which systemd kills.
const DefaultDrainTimeout = 30 * time.Second

// Stop ends Run at once, also while it drains. Frames that are being written
// are written to their end, and the records are on disk; the next Run goes on.
func (b *Bridge) Stop() { b.halt() }

// drain lets the MCU legs that are under way come to their end, and their
// results be acknowledged, until the limit or Stop. Nothing else goes on: fetching
// stops, no update is begun, and ports without a leg are closed.
func (b *Bridge) drain() {
	limit := b.cfg.DrainTimeout
	if limit <= 0 {
		return
	}
	now := time.Now()
	b.life.draining(now, now.Add(limit))
	ctx, cancel := context.WithTimeout(b.halted, limit)
	defer cancel()
	n := 0
	lines := b.lines()
	for _, under := range beginDrain(ctx, lines) {
		if under {
			n++
		}
	}
	if n > 0 {
		b.log.Info("draining", "event", logevent.DrainStarted, "updates_under_way", n, "at_most", limit.String())
	}
	for _, l := range lines {
		select {
		case <-l.dev.drain.over:
		case <-l.dev.gone: // taken out of the configuration before
		case <-ctx.Done():
			if b.halted.Err() != nil {
				b.log.Warn("draining is stopped", "event", logevent.DrainStopped)
			} else {
				b.log.Warn("draining has reached its limit", "event", logevent.DrainLimit, "limit", limit.String())
			}
			return
		}
	}
	if n > 0 {
		b.log.Info("drained", "event", logevent.DrainDone, "took", time.Since(now).Round(time.Millisecond).String())
	}
}

// beginDrain tells every device, and returns which of them have an MCU leg under
// way. One that does not answer until ctx ends hears of its end next.
func beginDrain(ctx context.Context, lines []*line) []bool {
	under := make([]bool, 0, len(lines))
	answers := make(chan bool, len(lines))
	for _, l := range lines {
		go func() { // it ends with the device at the latest
			var leg bool
			l.dev.do(func() { leg = l.dev.beginDrain() })
			answers <- leg
		}()
	}
	for range lines {
		select {
		case leg := <-answers:
			under = append(under, leg)
		case <-ctx.Done():
			return under
		}
	}
	return under
}

// draining is what a device knows of the end of the bridge. It belongs to the
// device's goroutine, but for over.
type draining struct {
	on       bool
	released bool          // there is no leg any more, and the port is closed
	done     bool          // over is closed
	over     chan struct{} // closed when the bridge need not wait for the device
}

// beginDrain says whether an MCU leg is under way.
func (d *device) beginDrain() bool {
	d.drain.on = true
	return d.legUnderWay()
}

// legUnderWay says whether the MCU leg can come to its end without anything from
// the service. An MCU that is booting may take its port away for a moment; one
// whose port is gone before has to be offered the image again.
func (d *device) legUnderWay() bool {
	ex := d.ex
	switch {
	case ex == nil || ex.fetchesOnly():
		return false
	case ex.state == schemas.StateBooting:
		return true
	case d.session == nil:
		return false
	case ex.image == nil: // offered, and not answered yet
		return d.b.spool.Whole(ex.offer.SHA256) && (ex.vouched || ex.offer.Manifest == "" || d.b.spool.Whole(ex.offer.Manifest))
	case ex.isDone: // the MCU is being loaded, with a signed image that may still be arriving
		return true
	}
	return ex.image.Held() == ex.image.Size()
}

// drained looks whether the device is through with a drain. It is called before
// every wait.
func (d *device) drained() {
	s := &d.drain
	if !s.on || s.done || d.legUnderWay() {
		return
	}
	if !s.released {
		d.release()
	}
	if d.connected && d.awaitsAck() {
		return
	}
	s.done = true
	close(s.over)
}

// release leaves the execution under way, if there is one, as it stands on disk
// to the next start, and closes the port.
func (d *device) release() {
	if ex := d.ex; ex != nil {
		d.log.Info("update is left for the next start", "event", logevent.ExecutionLeft, "execution", ex.offer.Execution, "state", ex.state)
		d.route(nil)
		ex.letGo()
		d.ex = nil
	}
	d.drain.released = true
	d.speakAnew()
}

// awaitsAck says whether the service has yet to confirm a result of the drain.
func (d *device) awaitsAck() bool {
	for _, r := range d.outbox {
		if r.awaited {
			return true
		}
	}
	return false
}
