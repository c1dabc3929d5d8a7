package broker

import "davit/schemas"

// Multicast hands one chunk, as a message on topic, to each of the sessions
// that subscribes to exactly that topic and for whose socket nothing waits; the
// others miss it. It returns to how many it is on its way. It does not wait. The
// image has to be valid until Multicast returns.
func (b *Broker) Multicast(topic string, image schemas.ImageBytes, chunk schemas.Chunk, to []*Session) (sent int) {
	m := multicast{broker: b, topic: topic, image: image, mapped: image.Mapped(), chunk: []schemas.Chunk{chunk}}
	m.vectored = b.batches.Get().(*batch)
	defer b.putBatch(m.vectored)
	defer func() { b.recycle(m.copied) }()
	for _, s := range to {
		if m.send(s.conn) {
			sent++
		}
	}
	b.metrics.multicastMissed(len(to) - sent)
	return sent
}

// multicast is one chunk on its way to many. The packet is encoded anew only if
// a client needs another than the one before it: for another version of MQTT,
// or with another Subscription Identifier.
type multicast struct {
	broker *Broker
	topic  string
	image  schemas.ImageBytes
	mapped []byte // nil if nothing can be sent from it
	chunk  []schemas.Chunk

	vectored   *batch  // the packet for
	vectoredTo address // this address
	copied     []byte
	copiedTo   address
}

// send returns whether the chunk has left to c.
func (m *multicast) send(c *conn) bool {
	to, err := c.address(m.topic)
	if err != nil {
		return false
	}
	_, vectored := c.raw.(vectorWriter)
	if vectored = vectored && m.mapped != nil; vectored {
		err = m.encodeVectored(to)
	} else {
		err = m.encodeCopied(to)
	}
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.flushing {
		return false
	}
	size := len(m.copied)
	if vectored {
		size = m.vectored.size
		_, err = c.writeBatch(m.vectored, m.image)
	} else {
		c.putOut(append(m.broker.bigBuffer(), m.copied...))
	}
	if err != nil {
		return false
	}
	m.broker.metrics.chunksSent(wayMulticast, 1, size)
	return true
}

func (m *multicast) encodeVectored(to address) error {
	if to == m.vectoredTo {
		return nil
	}
	m.vectoredTo = address{}
	if err := m.vectored.fill(&to, m.mapped, m.chunk); err != nil {
		return err
	}
	m.vectoredTo = to
	return nil
}

func (m *multicast) encodeCopied(to address) (err error) {
	if to == m.copiedTo {
		return nil
	}
	m.copiedTo = address{}
	if m.copied == nil {
		m.copied = m.broker.bigBuffer()
	}
	if m.copied, err = to.appendChunk(m.copied[:0], m.image, &m.chunk[0]); err != nil {
		return err
	}
	m.copiedTo = to
	return nil
}
