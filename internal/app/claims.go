package app

import (
	"context"
	"errors"
	"fmt"

	"davit/broker"
	"davit/internal/logevent"
	"davit/orchestrator"
	"davit/schemas"
)

// admitClaim says to the broker whether a module may come in with a claim's token. The
// broker listens before there is a service, but has nobody admitted then.
func (s *Server) admitClaim(ctx context.Context, claim, token, device string) error {
	select {
	case <-s.ready:
	case <-ctx.Done():
		return fmt.Errorf("the service is not ready: %w", ctx.Err())
	}
	err := s.claims.Admit(ctx, claim, token, device)
	var refused *orchestrator.ClaimError
	switch {
	case errors.Is(err, orchestrator.ErrClaimToken):
		return broker.ErrClaimToken
	case errors.As(err, &refused):
		return fmt.Errorf("%w: %w", broker.ErrClaimRefused, err)
	}
	return err
}

// answerRequest handles what modules ask the broker for: nobody is let in before there is
// a service.
func (s *Server) answerRequest(ctx context.Context, r broker.Request) []byte {
	var answer schemas.Payload
	switch r.Kind {
	case schemas.KindClaim:
		claimed := s.claims.Answer(ctx, r.Claim, r.Device, r.Remote, r.Payload)
		answer = &claimed
	default:
		rotated := s.rotations.Answer(ctx, r.Device, r.Certificate, r.Remote, r.Payload)
		answer = &rotated
	}
	b, err := schemas.Encode(answer)
	if err != nil {
		s.log.Error("an answer is outside the contract", "event", logevent.AnswerInvalid, "kind", answer.Kind(), "error", err)
	}
	return b
}
