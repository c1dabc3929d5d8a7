package broker

import "davit/schemas"

// Multicast hands one chunk, as a message on topic, to each of the sessions
// that subscribes to exactly that topic and can take it at once; the others
// miss it. It returns how many have taken it. It does not wait.
func (b *Broker) Multicast(topic string, image schemas.ImageBytes, chunk schemas.Chunk, to []*Session) (sent int) {
	for _, s := range to {
		if s.offer(topic, image, &chunk) {
			sent++
		}
	}
	return sent
}

// offer sends a chunk if it can leave at once.
func (s *Session) offer(topic string, image schemas.ImageBytes, chunk *schemas.Chunk) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn
	g, ok := c.sub.find(topic)
	if !ok || c.principal.mayRead(topic) != allowed {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.flushing {
		return false
	}
	buf, err := (&address{c.version, topic, g.id}).appendChunk(c.broker.buffer(), image, chunk)
	if err != nil {
		c.broker.recycle(buf)
		return false
	}
	c.out.ready = buf
	c.send()
	return true
}
