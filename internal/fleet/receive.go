package fleet

import (
	"bytes"
	"fmt"
	"strings"

	"davit/internal/fleet/mqtt"
	"davit/schemas"
)

// Puback implements mqtt.Handler. What is refused is repeated like what got lost.
func (d *device) Puback(_ uint16, code byte) {
	if code >= 0x80 {
		d.fleet.count.mark(fmt.Sprintf("the broker refused a message with code %#02x", code))
	}
}

// Suback implements mqtt.Handler.
func (d *device) Suback(id uint16, codes []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.update
	for _, code := range codes {
		if code < 0x80 {
			continue
		}
		d.fleet.count.mark(fmt.Sprintf("the broker refused a subscription with code %#02x", code))
		if u != nil && u.follow && u.followID == id {
			u.follow = false // it gets the image alone
			return
		}
		_ = d.conn.Close() // never fails
		return
	}
	if d.link == linkConnecting {
		d.up()
	}
}

// Message implements mqtt.Handler. What does not follow the contract ends the connection:
// the service is what is tested here.
func (d *device) Message(m *mqtt.Message) error {
	kind, ok := d.kindOf(m.Topic)
	if !ok && bytes.HasPrefix(m.Topic, streamPrefix) {
		return d.onChunk(m.Payload, true) // its header says of which image
	}
	if !ok {
		return fmt.Errorf("%w: a message on a topic that is not the device's", errContract)
	}
	switch kind {
	case string(schemas.KindChunk):
		return d.onChunk(m.Payload, false)
	case string(schemas.KindOffer):
		return d.onOffer(m.Payload)
	case string(schemas.KindAck):
		return d.onAck(m.Payload)
	case string(schemas.KindProfile):
		return contract(schemas.Decode(m.Payload, &schemas.Profile{}))
	}
	return fmt.Errorf("%w: a message of a kind that nobody subscribed to", errContract)
}

func contract(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", errContract, err)
	}
	return nil
}

// topicPrefix is what stands before the device's id in every topic.
var topicPrefix = []byte(strings.TrimSuffix(schemas.Topic{Kind: schemas.KindChunk}.String(), "/"+string(schemas.KindChunk)))

// streamPrefix is what stands before the SHA-256 in the topics of shared streams.
var streamPrefix = []byte(schemas.StreamTopic(""))

// kindOf is the last level of one of the device's own topics.
func (d *device) kindOf(topic []byte) (string, bool) {
	rest, ok := bytes.CutPrefix(topic, topicPrefix)
	if !ok || len(rest) < len(d.id)+1 || string(rest[:len(d.id)]) != d.id || rest[len(d.id)] != '/' {
		return "", false
	}
	switch k := rest[len(d.id)+1:]; string(k) {
	case string(schemas.KindChunk):
		return string(schemas.KindChunk), true
	case string(schemas.KindOffer):
		return string(schemas.KindOffer), true
	case string(schemas.KindAck):
		return string(schemas.KindAck), true
	case string(schemas.KindProfile):
		return string(schemas.KindProfile), true
	}
	return "", true
}

func (d *device) onOffer(payload []byte) error {
	c := &d.fleet.count
	now := d.fleet.clock.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(payload) == 0 {
		c.withdrawals.Add(1)
		if u := d.update; u != nil && !u.ended && d.phase != phaseBooting {
			d.drop()
		}
		return nil
	}
	var o schemas.Offer
	if err := schemas.Decode(payload, &o); err != nil {
		return contract(err)
	}
	c.offers.Add(1)
	first(&c.firstOffer, now)
	if d.asked != 0 {
		c.offerTime.add(timeBetween(d.asked, now))
		d.asked = 0
	}
	u := d.update
	if u != nil && u.offer.Execution == o.Execution && u.offer.Attempt == o.Attempt || d.phase == phaseBooting {
		return nil // the retained offer once more, or too late
	}
	d.take(o, now)
	return nil
}

// drop forgets the update under way.
func (d *device) drop() {
	d.unsubscribe(d.update)
	d.update, d.pending, d.stepAt = nil, nil, 0
	d.setPhase(phaseNone)
}

func (d *device) onAck(payload []byte) error {
	var a schemas.Ack
	if err := schemas.Decode(payload, &a); err != nil {
		return contract(err)
	}
	d.fleet.count.acks.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.pending
	if s == nil || s.Execution != a.Execution || s.Attempt != a.Attempt {
		return nil
	}
	if a.Superseded {
		d.fleet.count.superseded.Add(1)
		if u := d.update; u != nil && u.offer.Execution == a.Execution && u.offer.Attempt == a.Attempt && !u.ended {
			d.drop()
			return nil
		}
	} else if a.Seq < s.Seq {
		return nil
	}
	d.pending, d.waits = nil, 0
	if s.State.Final() && d.phase == phaseReporting {
		d.finished(s)
	}
	return nil
}

func (d *device) onChunk(payload []byte, shared bool) error {
	h, data, err := schemas.ParseChunk(payload)
	if err != nil {
		return contract(err)
	}
	if (h.Transfer == 0) != shared {
		return fmt.Errorf("%w: a chunk with transfer tag %d on the wrong topic", errContract, h.Transfer)
	}
	c := &d.fleet.count
	if shared {
		c.streamed.Add(1)
	}
	c.chunks.Add(1)
	c.chunkBytes.Add(int64(len(data)))
	now := d.fleet.clock.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.update
	if !d.fetching() || h.Image != u.image.tag {
		c.duplicates.Add(1)
		return nil // too late, or of another image
	}
	if p := d.kind.profile; p.Loss > 0 && d.draw() < p.Loss {
		c.dropped.Add(1)
		return nil
	}
	end := h.Offset + uint64(len(data))
	if end > u.offer.Size || (h.Flags&schemas.ChunkFlagLast != 0) != (end == u.offer.Size) {
		return fmt.Errorf("%w: a chunk ends beyond the image, or is wrong about being the last", errContract)
	}
	if !u.image.check(h.Offset, data) {
		c.wrong.Add(1)
		if u.wrong++; u.wrong > maxWrong {
			d.fail(schemas.StateFailed, schemas.CauseChecksum, "chunks of the image differ from what others got", now)
		}
		return nil // it stays open, and is asked for again
	}
	a := u.dl.arrive(h.Transfer, schemas.Range{Offset: h.Offset, Length: uint64(len(data))}, now)
	c.gaps.Add(int64(a.lost))
	switch {
	case a.asked:
		c.chunkTime.add(a.took)
	case !shared:
		c.unasked.Add(1)
	}
	if a.fresh == 0 {
		c.duplicates.Add(1)
		return nil
	}
	c.imageBytes.Add(int64(a.fresh))
	d.progress(now)
	return nil
}

// maxWrong is after how many wrong chunks a device gives up.
const maxWrong = 20
