package bridge

import (
	"context"
	"fmt"
	"slices"

	"davit/bridge/dialect"
	"davit/internal/logevent"
	"davit/schemas"
)

// speech is how a host MCU is spoken to. It holds until over is closed; then
// there is another.
type speech struct {
	kind       dialect.Dialect // nil: not known yet, or not wanted any more; the port stays closed
	port       PortConfig      // complete, if kind is there
	properties []string        // the version properties to ask for
	over       <-chan struct{}
	released   bool // the port is not opened any more
	shut       bool // nor while the configuration is without it
}

// wait says for people what a port waits for that is not to be opened.
func (s *speech) wait() string {
	if s.shut {
		return "the configuration has the port no more"
	}
	return "the service has not said which dialect the host MCU speaks"
}

// speech returns how the MCU is spoken to now.
func (d *device) speech() speech {
	s := speech{kind: d.kind, port: d.port, properties: d.properties(), over: d.over, released: d.drain.released, shut: d.plan.shut}
	if s.shut {
		s.kind = nil
	}
	if s.kind == nil {
		return s
	}
	s.port = d.port.complete(s.kind.Line())
	if usual := s.kind.VersionProperty(); len(s.properties) == 0 && usual != "" {
		s.properties = []string{usual}
	}
	return s
}

// speakAnew ends the present speech, and with it the session on the port. What
// the port took in it says nothing of the next.
func (d *device) speakAnew() {
	d.lineDown()
	d.held = holdUp{}
	close(d.over)
	d.over = make(chan struct{})
}

// profiled takes what the service says of the device's type.
func (d *device) profiled(payload []byte) {
	var p schemas.Profile
	if err := schemas.Decode(payload, &p); err != nil {
		d.b.refuse(d.id, schemas.KindProfile, err)
		return
	}
	spoke := ""
	if d.kind != nil {
		spoke = d.kind.Name()
	}
	if problem := d.adopt(p.Dialect); problem != "" {
		if d.b.refusals.Allow("dialect " + d.id) {
			d.log.Warn("the port stays as it is: "+problem, "event", logevent.PortUnchanged, "device_type", p.DeviceType)
		}
		return
	}
	if p.Dialect != spoke {
		d.hello() // or the service would not know that it was heard
	}
	asked := d.speech().properties
	for _, property := range p.VersionProperties {
		d.rec.name(property)
	}
	if !slices.ContainsFunc(p.VersionProperties, func(property string) bool { return !slices.Contains(asked, property) }) {
		return
	}
	_ = d.save() // logged; the service says it again
	if d.ex == nil {
		d.speakAnew() // a session is told at its beginning what to ask for
	}
}

// adopt has a port that is not configured for a dialect speak the one that the
// device type names. What stands against that is returned as a sentence.
func (d *device) adopt(name string) (problem string) {
	kind := d.b.cfg.Dialects[name]
	switch {
	case d.kind != nil && d.kind.Name() == name:
		return ""
	case d.port.Dialect != "":
		return fmt.Sprintf("The device type says that the host MCU speaks %s, and the bridge's port is configured for %s; change one of them.", name, d.port.Dialect)
	case kind == nil:
		return fmt.Sprintf("The device type says that the host MCU speaks %s, which this bridge does not know.", name)
	}
	d.log.Info("dialect of the host MCU", "event", logevent.PortDialect, "dialect", name)
	d.rec.Dialect = name
	d.speakAs(kind)
	_ = d.save() // logged; the service says it again
	d.speakAnew()
	return ""
}

// speakAs changes the dialect. What was reported under the names of another
// protocol says nothing in this one.
func (d *device) speakAs(kind dialect.Dialect) {
	if d.kind != nil && kind != nil && d.kind.Name() != kind.Name() {
		d.rec.Versions, d.rec.Properties = map[string]string{}, nil
		clear(d.believed)
	}
	d.kind = kind
}

// listen returns how the MCU is spoken to once that is known, or false when ctx
// or the device ends or the port is not to be opened any more.
func (l *line) listen(ctx context.Context) (s speech, ok bool) {
	for {
		if !l.dev.do(func() { s = l.dev.speech() }) || s.released {
			return s, false
		}
		if s.kind != nil {
			return s, true
		}
		l.dev.b.claims.release(l)
		l.port.set(PortWaiting, "", s.wait())
		select {
		case <-s.over:
		case <-ctx.Done():
			return s, false
		}
	}
}

// until returns a context that ends with ctx or when over is closed.
func until(ctx context.Context, over <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-over:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
