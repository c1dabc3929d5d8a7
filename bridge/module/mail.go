package module

import (
	"context"
	"slices"
	"sync"
	"time"

	"davit/bridge/mqtt"
	"davit/internal/logevent"
	"davit/schemas"
)

// publishTimeout bounds one publication.
const publishTimeout = 10 * time.Second

// maxMail is how many messages may wait for Run's goroutine: what is lost then is said
// again.
const maxMail = 256

// mail is work for Run's goroutine.
type mail struct {
	mu      sync.Mutex
	waiting []func()
	wake    chan struct{}
}

func (m *mail) post(f func()) {
	m.mu.Lock()
	m.waiting = append(m.waiting, f)
	m.mu.Unlock()
	notify(m.wake)
}

// postIfRoom is post for what comes from outside.
func (m *mail) postIfRoom(f func()) {
	m.mu.Lock()
	full := len(m.waiting) >= maxMail
	m.mu.Unlock()
	if !full {
		m.post(f)
	}
}

func (m *mail) take() []func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.waiting
	m.waiting = nil
	return all
}

func notify(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// outbox has what is to be done on the connection, in its order and one after the other: the
// broker acknowledges each. What is newer replaces what has the same key.
type outbox struct {
	mu      sync.Mutex
	waiting []errand
	wake    chan struct{}
}

type errand struct {
	key string
	run func(ctx context.Context) error
	// insist has it tried again after an error.
	insist bool
}

func (o *outbox) put(e errand) {
	o.mu.Lock()
	if i := o.find(e.key); i >= 0 {
		o.waiting[i] = e
	} else {
		o.waiting = append(o.waiting, e)
	}
	o.mu.Unlock()
	notify(o.wake)
}

func (o *outbox) find(key string) int {
	return slices.IndexFunc(o.waiting, func(e errand) bool { return e.key == key })
}

func (o *outbox) next() (errand, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) == 0 {
		return errand{}, false
	}
	e := o.waiting[0]
	o.waiting = slices.Delete(o.waiting, 0, 1)
	return e, true
}

// failed puts an errand back, unless there is a newer one.
func (o *outbox) failed(e errand) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e.insist && o.find(e.key) < 0 {
		o.waiting = slices.Insert(o.waiting, 0, e)
	}
}

// run does errands until ctx ends.
func (o *outbox) run(ctx context.Context) {
	for ctx.Err() == nil {
		e, ok := o.next()
		if !ok {
			select {
			case <-ctx.Done():
			case <-o.wake:
			}
			continue
		}
		call, cancel := context.WithTimeout(ctx, publishTimeout)
		err := e.run(call)
		cancel()
		if err == nil {
			continue
		}
		o.failed(e)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// say publishes p, in its turn and sooner or later. key tells what it replaces, h what
// it carries of a trace, nil for nothing.
func (m *Module) say(key string, p schemas.Payload, h *schemas.TraceHeader) {
	msg, err := m.message(p, h)
	if err != nil {
		m.log.Error("message outside the contract", "event", logevent.BridgeMessageInvalid, "error", err)
		return
	}
	m.out.put(errand{key, func(ctx context.Context) error { return m.cfg.Transport.Publish(ctx, msg) }, true})
}

func (m *Module) message(p schemas.Payload, h *schemas.TraceHeader) (mqtt.Message, error) {
	b, err := schemas.Encode(p)
	k := p.Kind()
	msg := mqtt.Message{Topic: m.topic(k), Payload: b, QoS: k.QoS(), Retain: k.Retained()}
	if h != nil {
		msg.Traceparent, msg.Tracestate = h.Parent, h.State
	}
	return msg, err
}
