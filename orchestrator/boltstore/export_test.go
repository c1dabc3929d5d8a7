package boltstore

// Waiting is how many updates the writer has not taken yet.
func (s *Store) Waiting() int { return len(s.requests) }

// OnStep has fn called before each step of a compaction: copy, round, rest, rename, sync.
func (s *Store) OnStep(fn func(step string) error) { s.onStep = fn }
