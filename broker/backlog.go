package broker

// Backlog is how many bytes wait for the client: in the broker, and, where the
// system tells it, in the socket until the client's system has acknowledged them.
// Those are of everything that goes to the client, not of one device's chunks only. It is asked
// for when chunks are to be sent.
func (s *Session) Backlog() int {
	c := s.conn
	c.sends.Add(1)
	n := c.backlog()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked {
		below := c.socket
		if counted, ok := below.(*socket); ok {
			below = counted.Conn
		}
		s.unsent, s.asked = newUnsent(below), true
	}
	if s.unsent != nil {
		n += s.unsent.get()
	}
	return n
}
