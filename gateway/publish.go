package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/eclipse/paho.golang/paho"

	"davit/orchestrator"
	"davit/schemas"
)

// Offer implements orchestrator.Publisher: it returns when the broker has
// answered.
func (s *Sessions) Offer(ctx context.Context, device string, o schemas.Offer) error {
	payload, err := schemas.Encode(&o)
	if err != nil {
		return err
	}
	return s.publish(ctx, s.control, schemas.Topic{Device: device, Kind: schemas.KindOffer}, payload)
}

// Withdraw implements orchestrator.Publisher: an empty retained message clears
// the offer.
func (s *Sessions) Withdraw(ctx context.Context, device string) error {
	return s.publish(ctx, s.control, schemas.Topic{Device: device, Kind: schemas.KindOffer}, nil)
}

// Forget implements orchestrator.Publisher: empty retained messages clear what
// the broker keeps of the device.
func (s *Sessions) Forget(ctx context.Context, device string) error {
	return errors.Join(s.Withdraw(ctx, device), s.clearPresence(ctx, device))
}

func (s *Sessions) clearPresence(ctx context.Context, device string) error {
	return s.publish(ctx, s.control, schemas.Topic{Device: device, Kind: schemas.KindPresence}, nil)
}

// Ack implements orchestrator.Publisher.
func (s *Sessions) Ack(ctx context.Context, device string, a schemas.Ack) error {
	payload, err := schemas.Encode(&a)
	if err != nil {
		return err
	}
	return s.publish(ctx, s.control, schemas.Topic{Device: device, Kind: schemas.KindAck}, payload)
}

// Profile implements orchestrator.Publisher.
func (s *Sessions) Profile(ctx context.Context, device string, p schemas.Profile) error {
	payload, err := schemas.Encode(&p)
	if err != nil {
		return err
	}
	return s.publish(ctx, s.control, schemas.Topic{Device: device, Kind: schemas.KindProfile}, payload)
}

// Chunk implements orchestrator.Publisher. It returns when the chunk is
// written to the connection, which blocks while the broker is slow, at most
// until a stalled broker is given up (two keep-alive times).
func (s *Sessions) Chunk(ctx context.Context, device string, chunk []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.publish(ctx, s.linkOf(device), schemas.Topic{Device: device, Kind: schemas.KindChunk}, chunk)
}

// Multicast implements orchestrator.Multicaster for a broker that is not ours: each
// chunk is published once, and the broker sends it to all who follow. It blocks as
// Chunk does.
func (s *Sessions) Multicast(ctx context.Context, sha256 string, image schemas.ImageBytes, chunks []schemas.Chunk, _ []orchestrator.Session) (sent int) {
	topic, l := schemas.StreamTopic(sha256), s.linkOf(sha256)
	var buf []byte
	for _, c := range chunks {
		buf = slices.Grow(c.AppendTo(buf[:0]), c.Length)
		header := len(buf)
		buf = buf[:header+c.Length]
		_, err := image.ReadAt(buf[header:], int64(c.Offset))
		if err == nil {
			err = l.publish(ctx, &paho.Publish{Topic: topic, QoS: schemas.KindChunk.QoS(), Payload: buf})
		}
		s.options.Metrics.publishedMessage(schemas.KindChunk, err)
		if err == nil {
			sent++
		}
	}
	return sent
}

// publish sends one message of the contract; at most maxOutstanding of those
// with QoS 1 are under way at a time.
func (s *Sessions) publish(ctx context.Context, l *link, t schemas.Topic, payload []byte) (err error) {
	defer func() { s.options.Metrics.publishedMessage(t.Kind, err) }()
	if err := schemas.ValidateID(t.Device); err != nil {
		return fmt.Errorf("publish %s: %w", t.Kind, err)
	}
	if t.Kind.QoS() > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-ctx.Done():
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("publish on %s: the broker does not answer: %w", t, err)
		}
	}
	p := &paho.Publish{Topic: t.String(), QoS: t.Kind.QoS(), Retain: t.Kind.Retained(), Payload: payload}
	if t.Kind == schemas.KindOffer {
		carry(ctx, p)
	}
	return l.publish(ctx, p)
}
