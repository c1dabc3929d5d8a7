package client

import (
	"context"

	"davit/orchestrator"
)

// Claim is a claim and whether devices can be made with it. Username, Token and Note are
// told only when it is created.
type Claim struct {
	orchestrator.Claim
	State    orchestrator.ClaimState `json:"state"`
	Username string                  `json:"username,omitempty"`
	Token    string                  `json:"token,omitempty"`
	Note     string                  `json:"note,omitempty"`
}

// CreateClaim makes a claim; its token is in the answer only.
func (c *Client) CreateClaim(ctx context.Context, n orchestrator.NewClaim) (Claim, error) {
	return post[Claim](ctx, c, n, "claims")
}

// RevokeClaim ends a claim; the devices that were made with it stay.
func (c *Client) RevokeClaim(ctx context.Context, id string) (Claim, error) {
	return post[Claim](ctx, c, nil, "claims", id, "revoke")
}

// Claim returns a claim.
func (c *Client) Claim(ctx context.Context, id string) (Claim, error) {
	return get[Claim](ctx, c, "claims", id)
}

// Claims lists the claims.
func (c *Client) Claims(ctx context.Context, p orchestrator.Page) ([]Claim, string, error) {
	return list[Claim](ctx, c, p, nil, "claims")
}
