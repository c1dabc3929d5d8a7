package sim

import "time"

// startCause is why an application starts, as far as it can tell.
type startCause string

const (
	startPlain    startCause = ""
	startNew      startCause = "new"      // an image on trial, for the first time
	startFallback startCause = "fallback" // the boot loader went back to this one
)

// spare is the slot that does not run.
func (b *board) spare() *slot { return &b.slots[1-b.active] }

// reset is one that nobody asked for over the wire.
func (b *board) reset(now time.Time) {
	b.resets++
	b.event(Event{Kind: EventReset, Version: b.slots[b.active].version})
	b.restart(now)
}

// resetOnce is a reset that a fault wants, which happens once.
func (b *board) resetOnce(now time.Time) {
	b.resetDone = true
	b.reset(now)
}

// restart forgets everything volatile and starts the boot loader after a
// silence. What is about to be written still goes out, as from a UART's FIFO.
func (b *board) restart(now time.Time) {
	b.wipe()
	if b.cfg.Fault.NeverReturns {
		return
	}
	b.after(now, b.cfg.BootTime, "", b.bootLoader)
}

// wipe is what a reset does to the memory.
func (b *board) wipe() {
	b.volatile = volatile{}
	b.firmware.forget()
}

// bootLoader chooses the image to start: one on trial gets one chance, one
// that had it and did not confirm itself is given up.
func (b *board) bootLoader(now time.Time) {
	b.wipe()
	active, spare := &b.slots[b.active], b.spare()
	switch {
	case spare.state == slotTrial:
		spare.state = slotTried
		if b.cfg.Fault.NoBoot {
			// It hangs until the watchdog bites; then the old image is started.
			b.event(Event{Kind: EventFallback, Version: active.version})
			spare.state, b.cause = slotEmpty, startFallback
			b.after(now, b.cfg.BootTime, "", b.bootLoader)
			return
		}
		b.active = 1 - b.active
		b.cause = startNew
	case active.state == slotTried && spare.state == slotConfirmed:
		active.state = slotEmpty
		b.active = 1 - b.active
		b.cause = startFallback
		b.event(Event{Kind: EventFallback, Version: b.slots[b.active].version})
	}
	b.start(now)
}

// start is the application's beginning. A new image confirms itself after a
// while.
func (b *board) start(now time.Time) {
	b.boots++
	b.up = true
	running := &b.slots[b.active]
	b.event(Event{Kind: EventStarted, Version: running.version})
	cause := b.cause
	b.cause = startPlain
	b.firmware.begin(now, cause)
	if running.state == slotTried {
		b.after(now, b.cfg.ConfirmAfter, "confirm", func(time.Time) {
			running.state = slotConfirmed
			b.event(Event{Kind: EventConfirm, Version: running.version})
		})
	}
}

// reportsAtStart says whether the application reports its version once it can
// talk.
func (b *board) reportsAtStart(cause startCause) bool {
	return b.cfg.Report == ReportAtStart || b.cfg.Report == ReportAfterUpdate && cause != startPlain
}
