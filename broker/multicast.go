package broker

import "davit/schemas"

// Multicast hands chunks, as messages on topic, to each of the sessions that
// subscribes to exactly that topic and for whose socket nothing waits. It does
// not wait: what a socket does not take, but for the rest of a packet that it
// has begun, the session misses, and so do the others all. It returns how many
// messages are on their way, of len(chunks) for each session. At most copyLimit
// bytes are copied at a time for a session that needs it, and the next when they have left. The image has to be valid until
// Multicast returns.
func (b *Broker) Multicast(topic string, image schemas.ImageBytes, chunks []schemas.Chunk, to []*Session) (sent int) {
	m := multicast{broker: b, topic: topic, image: image, mapped: image.Mapped()}
	m.vectored = b.batches.Get().(*batch)
	defer b.putBatch(m.vectored)
	defer func() { b.recycle(m.copied) }()
	for left := chunks; len(left) > 0; left = left[len(m.chunks):] {
		m.begin(left[:min(len(left), maxBatch)])
		for _, s := range to {
			sent += m.send(s.conn)
		}
	}
	b.metrics.multicastMissed(len(chunks)*len(to) - sent)
	return sent
}

// multicast is some chunks on their way to many. The packets are encoded anew
// only if a client needs others than the one before it: for another version of
// MQTT, or with another Subscription Identifier.
type multicast struct {
	broker *Broker
	topic  string
	image  schemas.ImageBytes
	mapped []byte // nil if nothing can be sent from it
	chunks []schemas.Chunk

	vectored   *batch  // the packets for
	vectoredTo address // this address
	copied     []byte  // those of count chunks for
	copiedTo   address // this one
	count      int
}

// begin goes on to other chunks.
func (m *multicast) begin(chunks []schemas.Chunk) {
	m.chunks, m.vectoredTo, m.copiedTo = chunks, address{}, address{}
}

// send returns how many chunks are on their way to c.
func (m *multicast) send(c *conn) (sent int) {
	to, err := c.address(m.topic)
	if err != nil {
		return 0
	}
	_, vectored := c.raw.(vectorWriter)
	if vectored = vectored && m.mapped != nil; vectored {
		m.encodeVectored(to)
	} else {
		m.encodeCopied(to)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	size := len(m.copied)
	switch {
	case c.closing || c.flushing:
		return 0
	case !vectored:
		if sent = m.count; sent > 0 {
			c.putOut(append(m.broker.bigBuffer(), m.copied...))
		}
	case len(m.vectored.packets) > 0:
		if sent, err = c.writeBatch(m.vectored, m.image); err != nil {
			return 0
		}
		size = m.vectored.sizeOf(sent)
	}
	m.broker.metrics.chunksSent(wayMulticast, sent, size)
	return sent
}

// encodeVectored makes the packets of the chunks up to one that cannot be sent.
func (m *multicast) encodeVectored(to address) {
	if to == m.vectoredTo {
		return
	}
	m.vectoredTo = to
	_ = m.vectored.fill(&to, m.image, m.mapped, m.chunks) // what is not in the batch is missed
}

// encodeCopied is the same in one buffer.
func (m *multicast) encodeCopied(to address) {
	if to == m.copiedTo {
		return
	}
	if m.copied == nil {
		m.copied = m.broker.bigBuffer()
	}
	m.copiedTo = to
	m.copied, m.count, _ = to.appendChunks(m.copied[:0], m.image, m.chunks)
}
