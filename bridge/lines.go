package bridge

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"davit/internal/logevent"
	"davit/schemas"
)

// line is a device's port and its way out to the broker.
type line struct {
	dev      *device
	outgoing chan Message
	route    atomic.Pointer[download]
	port     portState
	counts   lineCounts

	// Set when the line is launched: each ends one of its goroutines, and the
	// device's gone and these channels are closed when that has happened.
	stopPort, stopDevice, stopSending context.CancelFunc
	closed, silent                    chan struct{}

	out bool // it is told to the broker no more; Bridge.mu guards it
}

// outgoingSize is how many messages of a device may wait for the broker.
const outgoingSize = 64

func newLine(d *device) *line {
	l := &line{dev: d, outgoing: make(chan Message, outgoingSize), closed: make(chan struct{}), silent: make(chan struct{})}
	d.line = l
	l.port.configure(d.port)
	l.port.set(PortClosed, "", "")
	return l
}

// prepare makes the line of a port; nothing of it runs yet.
func (b *Bridge) prepare(p PortConfig) (*line, error) {
	rec, err := b.records.load(p.Device)
	if err != nil {
		return nil, err
	}
	for _, sum := range rec.Kept {
		b.spool.Keep(sum, p.Device)
	}
	return newLine(newDevice(b, p, rec)), nil
}

// line finds a device's line.
func (b *Bridge) line(device string) *line {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.devices[device]
}

// lines are those that the broker is told of.
func (b *Bridge) lines() []*line {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Clone(b.order)
}

// crew are the goroutines of the lines: those of the start and those of lines
// that are added later.
type crew struct {
	// A line's goroutines end with these at the latest.
	ports, devices, sending, network  context.Context
	sessions, actors, senders, others sync.WaitGroup
}

// assemble starts the goroutines of the lines that there are.
func (b *Bridge) assemble(ports, devices, sending, network context.Context) {
	b.downloads.ctx = devices
	b.mu.Lock()
	defer b.mu.Unlock()
	b.crew.ports, b.crew.devices, b.crew.sending, b.crew.network = ports, devices, sending, network
	for _, l := range b.order {
		b.launch(l)
	}
	close(b.running)
}

// disband sees to it that no line is added any more.
func (b *Bridge) disband() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closing = true
}

// launch starts a line's goroutines. The caller holds mu, and Run has not begun
// to end. It returns the context that ends when the port is to be closed.
func (b *Bridge) launch(l *line) context.Context {
	c := &b.crew
	var port, device, sending context.Context
	port, l.stopPort = context.WithCancel(c.ports)
	device, l.stopDevice = context.WithCancel(c.devices)
	sending, l.stopSending = context.WithCancel(c.sending)
	c.actors.Go(func() { l.dev.run(device) })
	c.sessions.Go(func() {
		defer close(l.closed)
		l.run(port)
	})
	c.senders.Go(func() {
		defer close(l.silent)
		l.send(sending)
	})
	return port
}

// add takes a line that was prepared into the running bridge. The caller holds
// mu, and Run has not begun to end.
func (b *Bridge) add(l *line) {
	b.devices[l.dev.id] = l
	b.order = append(b.order, l)
	ctx := b.launch(l)
	b.crew.others.Go(func() { b.introduce(ctx, l) })
}

// subscribeAgain is after how long a subscription that failed is tried again.
const subscribeAgain = 5 * time.Second

// introduce subscribes to the topics of a line that was added, on the connection
// that stands, and has its device announce itself. A connection that comes up
// meanwhile has them by itself; to subscribe twice does no harm.
func (b *Bridge) introduce(ctx context.Context, l *line) {
	for {
		err := b.transport.Subscribe(ctx, subscriptionsOf(l.dev.id))
		if err == nil {
			break
		}
		l.dev.log.Debug("subscribe", "event", logevent.SubscribeFailed, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(subscribeAgain):
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !l.out {
		l.dev.mail.connect(b.connected)
	}
}

// retire ends the line of a device that has departed. The record stays on disk.
func (b *Bridge) retire(l *line) {
	l.stopPort()
	<-l.closed
	l.stopDevice()
	<-l.dev.gone
	l.stopSending() // or a presence that waits would overtake the farewell
	<-l.silent
	b.mu.Lock()
	l.out = true
	b.order = slices.DeleteFunc(b.order, func(x *line) bool { return x == l })
	b.mu.Unlock()

	ctx, cancel := context.WithTimeout(b.crew.network, goodbye)
	defer cancel()
	b.sayOffline(ctx, l.dev.id)
	var topics []string
	for _, s := range subscriptionsOf(l.dev.id) {
		topics = append(topics, s.Topic)
	}
	if err := b.transport.Unsubscribe(ctx, topics); err != nil {
		l.dev.log.Debug("unsubscribe", "event", logevent.SubscribeFailed, "error", err)
	}
	l.dev.log.Info("the port is closed and the device is gone from this bridge", "event", logevent.PortClosed, "port", l.dev.port.Path)
	b.replace(l)
}

// replace lets go of a line that has ended. If the configuration has its device
// again by now, another begins.
func (b *Bridge) replace(l *line) {
	for {
		p, again := b.wants(l.dev.id)
		var next *line
		if again {
			var err error // the disk is not waited for while mu is held
			if next, err = b.prepare(p); err != nil {
				b.log.Error("a device that was taken off the configuration and is back is not served; reload again, or restart the bridge", "event", logevent.DeviceNotServed, "device", p.Device, "error", err)
			}
		}
		if b.exchange(l, next, p, again) {
			return
		}
	}
}

// wants says whether the newest configuration has a device.
func (b *Bridge) wants(device string) (PortConfig, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	p, ok := byDevice(b.wanted)[device]
	return p, ok && !b.closing
}

// exchange puts next, which may be nil, in the place of a line that has ended,
// unless the configuration wants something else by now.
func (b *Bridge) exchange(l, next *line, p PortConfig, again bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, wanted := byDevice(b.wanted)[l.dev.id]
	switch {
	case b.closing:
		next = nil
	case wanted != again || !now.equal(p):
		return false
	}
	delete(b.devices, l.dev.id)
	if next != nil {
		b.add(next)
		b.arrange()
	}
	return true
}

func subscriptionsOf(device string) []Subscription {
	var all []Subscription
	for _, k := range schemas.Kinds() {
		if !k.FromDevice() {
			all = append(all, Subscription{Topic: schemas.Topic{Device: device, Kind: k}.String(), QoS: k.QoS()})
		}
	}
	return all
}

// subscriptions are those of all lines.
func (b *Bridge) subscriptions() []Subscription {
	var all []Subscription
	for _, l := range b.lines() {
		all = append(all, subscriptionsOf(l.dev.id)...)
	}
	if b.rotation != nil {
		all = append(all, b.rotation.subscription())
	}
	return all
}
