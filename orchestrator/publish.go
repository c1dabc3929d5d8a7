package orchestrator

import "context"

// PublishPending publishes the offers and withdrawals that wait for it, one after
// the other, and says how many devices it did that for; those that are only repeated
// at a rate come when it is their time. Run does so by itself; only
// who has a clock of his own calls this, with Advance. It ends with the first error,
// and what was not published waits for the next call.
func (s *Service) PublishPending(ctx context.Context) (published int, err error) {
	for {
		device, _, _ := s.outbox.pop(s.now())
		if device == "" {
			return published, nil
		}
		cleared, err := s.publishOffer(ctx, device)
		if cleared != nil {
			_, err = s.commit(ctx, cleared.note)
		}
		s.outbox.done(device, err != nil)
		if err != nil {
			return published, err
		}
		published++
	}
}
