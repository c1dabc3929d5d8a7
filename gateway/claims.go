package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"davit/internal/logevent"
	"davit/orchestrator"
	"davit/schemas"
)

// claims are the records with whose tokens modules become devices.
type claims interface {
	CreateClaim(context.Context, orchestrator.NewClaim) (orchestrator.ClaimSecret, error)
	RevokeClaim(ctx context.Context, id string) (orchestrator.Claim, error)
	Claim(ctx context.Context, id string) (orchestrator.Claim, error)
	Claims(context.Context, orchestrator.Page) ([]orchestrator.Claim, string, error)
	claimed
}

type claimed interface {
	CheckClaim(ctx context.Context, id, token, device string) error
	ClaimDevice(ctx context.Context, claim, device string, request schemas.Claim) (d orchestrator.Device, repeated bool, err error)
}

// ClaimDevice makes a device for a module that has a claim's token, and returns its
// password. As in AddDevice the record, which counts the use, comes first; what breaks off
// after it is finished by the same request, which gets a password as long as nobody has
// logged in as the device. Errors are *orchestrator.ClaimError, or the service's own.
func (p *Provisioner) ClaimDevice(ctx context.Context, claim, device string, request schemas.Claim) (password string, repeated bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	principal, known, err := p.credentials.Principal(ctx, device)
	if err != nil {
		return "", false, err
	}
	if known && principal.Bridge {
		return "", false, orchestrator.ClaimTaken(device)
	}
	if err := p.forgetOld(ctx, device); err != nil {
		return "", false, err
	}
	_, repeated, err = p.service.ClaimDevice(ctx, claim, device, request)
	if err != nil {
		return "", false, err
	}
	password, err = p.credentials.PutClaimed(ctx, device, !repeated)
	switch {
	case errors.Is(err, orchestrator.ErrExists):
		return "", false, orchestrator.ClaimTaken(device)
	case err != nil:
		return "", false, fmt.Errorf("device %q is recorded but got no credentials; its module's next try finishes it: %w", device, err)
	case repeated:
		err = p.service.Audit(ctx, "rotate", orchestrator.KindDevice, device, nil, nil)
	}
	return password, repeated, err
}

// The results of claims that are no schemas.RequestError, for Metrics.
const (
	claimMade     = "made"
	claimRepeated = "repeated"
	claimToken    = "wrong_token"
)

// Claims answers modules that come with the token of a claim.
type Claims struct {
	provision *Provisioner
	metrics   *Metrics
	log       *slog.Logger
}

// NewClaims returns what answers modules with a provisioner. metrics may be nil.
func NewClaims(p *Provisioner, metrics *Metrics, log *slog.Logger) *Claims {
	return &Claims{p, metrics, log}
}

// Admit says whether a module may come in with a token to ask for a device: the error is
// orchestrator.ErrClaimToken, an *orchestrator.ClaimError, or the service's own. What is
// refused for now only is told by Answer: a login knows no such word.
func (c *Claims) Admit(ctx context.Context, claim, token, device string) error {
	err := c.provision.service.CheckClaim(ctx, claim, token, device)
	var refused *orchestrator.ClaimError
	if errors.As(err, &refused) && refused.Reason.Temporary() {
		return nil
	}
	if err != nil {
		c.count(err, false)
	}
	return err
}

// Answer handles the request of a module that was admitted, and returns the answer.
func (c *Claims) Answer(ctx context.Context, claim, device, remote string, payload []byte) schemas.Claimed {
	answer := schemas.Claimed{V: schemas.Version}
	var request schemas.Claim
	if err := schemas.Decode(payload, &request); err != nil {
		c.metrics.claim(string(schemas.ErrorMalformed))
		answer.Error, answer.Detail = schemas.ErrorMalformed, schemas.Detail(err.Error())
		return answer
	}
	answer.Nonce = request.Nonce
	ctx = orchestrator.WithActor(ctx, orchestrator.Actor{Name: schemas.ClaimUserPrefix + claim, Kind: orchestrator.ActorModule, Address: remote})
	password, repeated, err := c.provision.ClaimDevice(ctx, claim, device, request)
	c.count(err, repeated)
	var refused *orchestrator.ClaimError
	switch {
	case err == nil:
		answer.Device, answer.Password = device, password
		c.log.Info("a module has become a device", "event", logevent.ClaimGranted, "device", device, "claim", claim, "repeated", repeated, "remote", remote)
	case errors.As(err, &refused):
		answer.Error, answer.Detail = refused.Reason, schemas.Detail(refused.Error())
		c.log.Warn("a claim is refused", "event", logevent.ClaimRefused, "device", device, "claim", claim, "remote", remote, "reason", refused.Reason)
	default:
		answer.Error, answer.Detail = schemas.ErrorInternal, "the service could not do it; ask again later"
		c.log.Error("a device could not be claimed", "event", logevent.ClaimFailed, "device", device, "claim", claim, "error", err)
	}
	return answer
}

func (c *Claims) count(err error, repeated bool) {
	var refused *orchestrator.ClaimError
	switch {
	case err == nil && repeated:
		c.metrics.claim(claimRepeated)
	case err == nil:
		c.metrics.claim(claimMade)
	case errors.As(err, &refused):
		c.metrics.claim(string(refused.Reason))
	case errors.Is(err, orchestrator.ErrClaimToken):
		c.metrics.claim(claimToken)
	default:
		c.metrics.claim(string(schemas.ErrorInternal))
	}
}
