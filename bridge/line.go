package bridge

import (
	"context"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/recording"
	"davit/internal/logevent"
	"davit/schemas"
)

// Waits between attempts to open a port.
const (
	firstReopen = 250 * time.Millisecond
	lastReopen  = 10 * time.Second
	// steady is how long a session has to last to count as a good one.
	steady = 10 * time.Second
)

// run opens the port and runs sessions on it until ctx ends: an adapter that
// was unplugged is taken again when it is back.
func (l *line) run(ctx context.Context) {
	d := l.dev
	defer d.b.claims.release(l)
	wait, complaint := firstReopen, ""
	for ctx.Err() == nil {
		s, ok := l.listen(ctx)
		if !ok {
			return
		}
		if !l.claim(ctx, s) {
			continue
		}
		began := time.Now()
		err := l.session(ctx, s)
		l.port.down(err)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= steady {
			wait, complaint = firstReopen, ""
		}
		if err != nil && err.Error() != complaint {
			complaint = err.Error()
			d.log.Warn("serial port is down; trying again", "event", logevent.PortDown, "port", s.port.Path, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.over:
			wait, complaint = firstReopen, ""
			continue
		case <-time.After(wait):
		}
		wait = min(2*wait, lastReopen)
	}
}

// session opens the port and runs one session until it dies, or is over.
func (l *line) session(ctx context.Context, how speech) error {
	d := l.dev
	port, err := d.b.cfg.OpenPort(how.port)
	if err != nil {
		return err
	}
	opening := d.b.openings()
	line := recording.Tap(port, d.record(opening.recorded, how))
	s := how.kind.NewSession(line, dialect.Config{
		Baud: how.port.Baud, VersionProperties: how.properties, OfferInterval: opening.offerInterval,
		AttributeSize: how.port.AttributeSize, LoadSize: how.port.LoadSize,
	}, &lineEvents{d, how.over, l.count})
	current := false
	d.do(func() {
		if current = !isClosed(how.over); current {
			d.lineUp(s)
		}
	})
	if !current {
		return line.Close() // another port is wanted by now, or none: the MCU on this one hears nothing
	}
	ctx, cancel := until(ctx, how.over)
	defer cancel()
	tty := terminal(port, how.port.Path)
	l.port.up(how, tty)
	d.log.Info("serial port is open", "event", logevent.PortOpen, "port", how.port.Path, "tty", tty, "baud", how.port.Baud, "dialect", how.kind.Name())
	err = s.Run(ctx)
	d.do(func() {
		if !isClosed(how.over) { // or it says nothing of the next port
			d.lineDown()
			d.gaveUp(err)
		}
	})
	return err
}

// terminal is the path that a port was opened by, which its name did not say
// if it is not a path.
func terminal(port any, name string) string {
	if p, ok := port.(interface{ Path() string }); ok {
		return p.Path()
	}
	return name
}

// record begins a recording in folder of the port that was opened just now, if there are
// to be any.
func (d *device) record(folder *recording.Folder, how speech) *recording.Recorder {
	return folder.Start(recording.Header{
		Dialect: how.kind.Name(), Device: d.id, Baud: how.port.Baud, Parity: string(how.port.Parity), RTSCTS: *how.port.RTSCTS,
	})
}

// lineEvents takes what happens on a line to its device.
type lineEvents struct {
	d     *device
	over  <-chan struct{} // of the speech that the session was opened in
	count func(dialect.Counter, int)
}

// Version implements dialect.Events.
func (e *lineEvents) Version(property, version string) {
	e.d.do(func() {
		if !isClosed(e.over) { // or it is the word of an MCU on another port, or in another protocol
			e.d.version(property, version)
		}
	})
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Restarted implements dialect.Events.
func (e *lineEvents) Restarted() {
	e.d.do(e.d.disbelieve)
}

// Counted implements dialect.Events.
func (e *lineEvents) Counted(c dialect.Counter, n int) { e.count(c, n) }

// send publishes the device's messages in their order until ctx ends.
func (l *line) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-l.outgoing:
			l.sendOne(ctx, m)
		}
	}
}

func (l *line) sendOne(ctx context.Context, m Message) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	err := l.dev.b.transport.Publish(ctx, m)
	if err == nil {
		return
	}
	l.dev.log.Debug("publish", "event", logevent.PublishFailed, "topic", m.Topic, "error", err)
	if t, e := schemas.ParseTopic(m.Topic); e == nil && (t.Kind == schemas.KindHello || t.Kind == schemas.KindPresence) {
		mail := &l.dev.mail
		mail.update(func() { mail.failed = true })
	}
}
