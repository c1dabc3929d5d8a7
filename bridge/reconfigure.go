package bridge

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"davit/bridge/recording"
)

// Settings are what of a Config can change while the bridge runs.
type Settings struct {
	// Ports with their devices, 1 to MaxPorts, as in Config.
	Ports []PortConfig
	// OfferInterval and RecordDir, as in Config, hold for every port that is
	// opened from then on.
	OfferInterval time.Duration
	RecordDir     string
	// Trust holds for every attempt that is begun from then on. Image keys cannot all be
	// taken away while the bridge runs.
	Trust Trust
}

// Changes are what Reconfigure did, as ids of devices. Each is in one of the
// first four lists.
type Changes struct {
	Kept, Added, Removed, Changed []string
	// Waiting are those for which it takes effect later: a removal or a change
	// waits for the end of the update that is under way on the port, and a device
	// that is taken back while it is being removed for the end of that.
	Waiting []string
}

// opening is how ports are opened.
type opening struct {
	offerInterval time.Duration
	recordDir     string
	recorded      *recording.Folder // nil for none
}

// openingOf makes settings usable. A folder that is in use already is used on.
func (b *Bridge) openingOf(s Settings) (opening, error) {
	o := opening{offerInterval: s.OfferInterval, recordDir: s.RecordDir}
	switch now := b.openings(); {
	case s.RecordDir == "":
		return o, nil
	case s.RecordDir == now.recordDir:
		o.recorded = now.recorded
		return o, nil
	}
	var err error
	o.recorded, err = recording.Open(s.RecordDir, b.log)
	return o, err
}

func (b *Bridge) openings() opening {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.opening
}

// errNotRunning is Reconfigure's answer of a bridge whose Run has begun to end.
var errNotRunning = errors.New("the bridge is stopping")

// Reconfigure puts other settings in force while Run runs; it waits for Run to
// begin until ctx ends. An error means that nothing has changed.
//
// A port that is the same goes on untouched. One that is new is served at once,
// on the connection that stands. One that is gone or is configured otherwise is
// left alone while an update is under way on it; after that, or at once, it is
// closed, or opened anew. A device that is gone says goodbye once the service
// has acknowledged its results, or after two minutes; its record stays in
// the data folder. If Reconfigure is called again before all that has happened, the
// newest settings win.
func (b *Bridge) Reconfigure(ctx context.Context, s Settings) (Changes, error) {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	if err := checkPorts(Config{Ports: s.Ports, Dialects: b.cfg.Dialects}); err != nil {
		return Changes{}, err
	}
	if err := s.Trust.check(s.Ports); err != nil {
		return Changes{}, err
	}
	if err := s.Trust.follows(b.trusting()); err != nil {
		return Changes{}, err
	}
	select {
	case <-b.running:
	case <-ctx.Done():
		return Changes{}, ctx.Err()
	}
	opening, err := b.openingOf(s)
	if err != nil {
		return Changes{}, err
	}
	if err := b.acceptList(s.Trust); err != nil {
		return Changes{}, err
	}
	old, err := b.install(s, opening)
	if err != nil {
		return Changes{}, err
	}
	return replan(old, s.Ports), nil
}

// install puts the settings in force and adds the ports that are new, or does
// nothing. It returns the lines that there were.
func (b *Bridge) install(s Settings, o opening) ([]*line, error) {
	fresh, err := b.prepareNew(s.Ports)
	if err != nil {
		return nil, err
	}
	defer b.mu.Unlock() // which prepareNew has locked
	if b.closing {
		return nil, errNotRunning
	}
	var old []*line
	for _, l := range b.devices {
		old = append(old, l)
	}
	if o.recorded != b.opening.recorded {
		b.folders = append(b.folders, o.recorded)
	}
	b.opening, b.wanted, b.trust = o, slices.Clone(s.Ports), s.Trust
	for _, l := range fresh {
		b.add(l)
	}
	b.arrange()
	return old, nil
}

// prepareNew makes the lines of the devices that are not there, and locks mu unless
// there is an error. The disk is not waited for while mu is held. Meanwhile devices
// may go, but none comes.
func (b *Bridge) prepareNew(ports []PortConfig) ([]*line, error) {
	fresh := map[string]*line{}
	for {
		for _, p := range ports {
			if fresh[p.Device] != nil || b.line(p.Device) != nil {
				continue
			}
			l, err := b.prepare(p)
			if err != nil {
				return nil, err
			}
			fresh[p.Device] = l
		}
		b.mu.Lock()
		if !slices.ContainsFunc(ports, func(p PortConfig) bool { return fresh[p.Device] == nil && b.devices[p.Device] == nil }) {
			return slices.Collect(maps.Values(fresh)), nil
		}
		b.mu.Unlock()
	}
}

// arrange puts the lines in the order of the configuration, those that it has no
// more last; mu is held.
func (b *Bridge) arrange() {
	var order, leaving []*line
	for _, p := range b.wanted {
		if l := b.devices[p.Device]; l != nil && !l.out { // nil if it is back and its record cannot be read
			order = append(order, l)
		}
	}
	wanted := byDevice(b.wanted)
	for _, l := range b.order {
		if _, ok := wanted[l.dev.id]; !ok {
			leaving = append(leaving, l)
		}
	}
	b.order = append(order, leaving...)
}

// replan tells the lines that there were what the configuration has for them.
func replan(old []*line, ports []PortConfig) Changes {
	var c Changes
	there, wanted := map[string]*line{}, byDevice(ports)
	for _, l := range old {
		id := l.dev.id
		there[id] = l
		if _, ok := wanted[id]; ok {
			continue
		}
		c.Removed = append(c.Removed, id)
		var v verdict
		if l.dev.do(func() { v = l.dev.leave() }) && v.waits {
			c.Waiting = append(c.Waiting, id)
		}
	}
	for _, p := range ports {
		l := there[p.Device]
		if l == nil {
			c.Added = append(c.Added, p.Device)
			continue
		}
		v := verdict{departed: true}
		l.dev.do(func() { v = l.dev.replan(p) })
		switch {
		case v.departed:
			c.Added, v.waits = append(c.Added, p.Device), true
		case v.changed:
			c.Changed = append(c.Changed, p.Device)
		default:
			c.Kept = append(c.Kept, p.Device)
		}
		if v.waits {
			c.Waiting = append(c.Waiting, p.Device)
		}
	}
	slices.Sort(c.Removed) // the lines came from a map
	slices.Sort(c.Waiting)
	return c
}

func byDevice(ports []PortConfig) map[string]PortConfig {
	m := make(map[string]PortConfig, len(ports))
	for _, p := range ports {
		m[p.Device] = p
	}
	return m
}
