package gateway

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"davit/internal/logevent"
	"davit/internal/trace"
	"davit/orchestrator"
	"davit/schemas"
)

// Shares of the queue's memory, by kind: under overload the messages that are
// repeated by themselves go first. A fetch is asked for again within seconds
// and a status until it is acknowledged; a hello or a presence is said once.
const (
	fetchShare  = 0.5 // of the message queue: above it fetches are dropped
	statusShare = 0.75
	fullShare   = 1
)

// receive takes one message from the broker. It runs on paho's goroutine, so
// it only sorts and queues.
func (s *Sessions) receive(name string, payload []byte, c *trace.Carried) {
	topic, err := schemas.ParseTopic(name)
	if err != nil || !topic.Kind.FromDevice() {
		s.refuse("", "", reasonTopic, err)
		return
	}
	if _, worth := s.worthReading(topic, payload, nil); !worth {
		return
	}
	if !s.enqueue(topic, payload, c) && !s.messages.ending() {
		s.options.Metrics.droppedMessage(topic.Kind)
		s.refusals.warn(logevent.MessageDropped, topic.Device, "message dropped: too much waits to be handled", "kind", topic.Kind)
	}
}

// worthReading counts a message and refuses what can be told without reading it. Of a fetch
// it returns what the orchestrator knows of it then.
func (s *Sessions) worthReading(topic schemas.Topic, payload []byte, from orchestrator.Session) (ask orchestrator.Ask, worth bool) {
	s.options.Metrics.receivedMessage(topic.Kind)
	if len(payload) > topic.Kind.MaxPayload() {
		s.refuse(topic.Device, topic.Kind, reasonOversized, errOversized)
		return ask, false
	}
	if topic.Kind != schemas.KindFetch {
		return ask, true
	}
	if ask, worth = s.options.Devices.MayFetch(topic.Device, from); !worth {
		s.refuse(topic.Device, topic.Kind, reasonFlood, errFlood)
	}
	return ask, worth
}

var (
	errOversized = errors.New("longer than a conforming device sends")
	errFlood     = errors.New("the device asks faster than it is answered")
)

// TakeFetch takes a fetch from the embedded broker, which has it from the very
// connection that is to get the chunks. It is read at once, on the read loop of
// that connection: nothing of it waits but for the store, which is asked once in a
// while, and what one device costs is bounded by MayFetch. Nothing of the
// payload is kept. traceparent is what came with it, empty for nearly all. It returns false
// if it has refused the fetch unread, for being too long or one of too many.
func (s *Sessions) TakeFetch(device string, payload []byte, from orchestrator.Session, traceparent string) bool {
	if s.fetches.ending() {
		return true
	}
	ask, worth := s.worthReading(schemas.Topic{Device: device, Kind: schemas.KindFetch}, payload, from)
	if !worth {
		return false
	}
	ctx := context.Background()
	if traceparent != "" {
		ctx = carrying(ctx, parsed(traceparent, ""))
	}
	s.judge(ctx, device, schemas.KindFetch, payload, s.fetch(ctx, ask, payload, from))
	return true
}

// fetch decodes a fetch and gives it to the orchestrator.
func (s *Sessions) fetch(ctx context.Context, ask orchestrator.Ask, payload []byte, from orchestrator.Session) (err error) {
	defer caught(&err)
	f, err := schemas.DecodeFetch(payload)
	if err != nil {
		return err
	}
	return s.options.Devices.Fetch(ctx, ask, f, from)
}

// carrying is a context with what came with a message, if anything did.
func carrying(ctx context.Context, c *trace.Carried) context.Context {
	if c == nil {
		return ctx
	}
	return trace.Carry(ctx, *c)
}

func (s *Sessions) enqueue(t schemas.Topic, payload []byte, c *trace.Carried) bool {
	it := item{kind: t.Kind, payload: payload, trace: c}
	switch t.Kind {
	case schemas.KindFetch:
		return s.messages.load() <= fetchShare && s.fetches.put(t.Device, it, fullShare)
	case schemas.KindStatus:
		return s.messages.put(t.Device, it, statusShare)
	}
	return s.messages.put(t.Device, it, fullShare)
}

// handle decodes one message and gives it to the orchestrator. It runs on a
// worker.
func (s *Sessions) handle(ctx context.Context, device string, it item) {
	ctx = carrying(ctx, it.trace)
	s.judge(ctx, device, it.kind, it.payload, s.dispatch(ctx, device, it))
}

// judge counts and logs what a message was refused for, if err says that it was.
func (s *Sessions) judge(ctx context.Context, device string, kind schemas.Kind, payload []byte, err error) {
	switch {
	case err == nil:
	case errors.Is(err, schemas.ErrPayload) && !errors.Is(err, orchestrator.ErrInvalid):
		s.refuse(device, kind, payloadReason(kind, payload, err), err)
	case ctx.Err() != nil:
		// The service is being stopped; what was not acknowledged is repeated.
	case errors.Is(err, ErrDisconnected):
		// The report is recorded and its ack could not be sent: the device repeats it.
		s.refusals.warn(logevent.AckNotSent, device, "acknowledgement not sent", "kind", kind, "error", err)
	case kind == schemas.KindFetch:
		s.options.Metrics.refusedMessage(kind, orchestratorReason(err)) // logged where it was refused
	default:
		s.refuse(device, kind, orchestratorReason(err), err)
	}
}

// caught makes an error of a panic, which is a fault of ours that one device must not be
// able to end the service for all with.
func caught(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}

// dispatch calls what takes a message of its kind.
func (s *Sessions) dispatch(ctx context.Context, device string, it item) (err error) {
	defer caught(&err)
	switch it.kind {
	case schemas.KindHello:
		err = deliver(ctx, device, it, &schemas.Hello{}, s.options.Devices.Hello)
	case schemas.KindStatus:
		err = deliver(ctx, device, it, &schemas.Status{}, s.options.Devices.Status)
	case schemas.KindFetch:
		err = s.fetch(ctx, orchestrator.Ask{Device: device}, it.payload, nil)
	case schemas.KindPresence:
		err = s.handlePresence(ctx, device, it)
	}
	return err
}

// handlePresence clears what the broker retains of a device that the service
// does not know: it may have been deleted while it was connected, or while this
// process was not running.
func (s *Sessions) handlePresence(ctx context.Context, device string, it item) error {
	if len(it.payload) == 0 {
		return nil // cleared; nobody says anything
	}
	err := deliver(ctx, device, it, &schemas.Presence{}, func(ctx context.Context, device string, p schemas.Presence) error {
		return s.options.Devices.Presence(ctx, device, p.Online)
	})
	if errors.Is(err, orchestrator.ErrNotFound) {
		if failed := s.clearPresence(ctx, device); failed != nil {
			err = fmt.Errorf("%w; its retained presence is not cleared: %v", err, failed)
		}
	}
	return err
}

// deliver decodes into p and calls fn with its value.
func deliver[T any, P interface {
	*T
	schemas.Payload
}](ctx context.Context, device string, it item, p P, fn func(context.Context, string, T) error) error {
	if err := schemas.Decode(it.payload, p); err != nil {
		return err
	}
	return fn(ctx, device, *p)
}

// refuse counts a refusal and logs it once per device and minute. The
// connection stays: it carries other devices' messages as well.
func (s *Sessions) refuse(device string, kind schemas.Kind, r reason, err error) {
	s.options.Metrics.refusedMessage(kind, r)
	if r == reasonInternal {
		s.refusals.error(logevent.MessageFailed, device, "message could not be handled", "kind", kind, "error", err)
		return
	}
	s.refusals.warn(logevent.MessageRefused, device, "message refused", "kind", kind, "reason", string(r), "error", err)
}
