package boltstore

// Waiting is how many updates the writer has not taken yet.
func (s *Store) Waiting() int { return len(s.requests) }
