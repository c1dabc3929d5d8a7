package gateway

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"davit/orchestrator"
	"davit/schemas"
)

// ClaimView is a claim, and whether devices can be made with it now.
type ClaimView struct {
	orchestrator.Claim
	State orchestrator.ClaimState `json:"state" enum:"active,used_up,expired,not_yet,revoked" doc:"Whether devices can be made with it; not_yet if it was made at a time that is still to come, because the clock was ahead then or was set back since"`
}

// ClaimCreated is a claim with its token, which is shown this once.
type ClaimCreated struct {
	ClaimView
	Username string `json:"username" doc:"The MQTT user name with which the token is used"`
	Token    string `json:"token,omitempty" doc:"The MQTT password of modules that claim themselves; it is kept nowhere and shown this once"`
	Note     string `json:"note,omitempty" doc:"Why there is no token"`
}

func viewClaim(c orchestrator.Claim) ClaimView {
	return ClaimView{c, c.State(time.Now())}
}

func (a *API) claimRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "POST /v1/claims", "create claim", a.createClaim,
		describe("A claim lets modules that have no credentials make themselves devices: they log in to the broker with its token and are given a password of their own. The token is in this answer only."))
	route(a, api, "GET /v1/claims", "list claims",
		func(ctx context.Context, in *PageQuery) (*bodyOf[Page[ClaimView]], error) {
			items, next, err := s.Claims(ctx, in.page())
			views := make([]ClaimView, len(items))
			for i, c := range items {
				views[i] = viewClaim(c)
			}
			return listing(views, next, err)
		})
	route(a, api, "GET /v1/claims/{id}", "get claim",
		func(ctx context.Context, in *ID) (*taggedOf[ClaimView], error) {
			c, err := s.Claim(ctx, in.ID)
			return tagged(viewClaim(c), c.Revision, err)
		})
	route(a, api, "POST /v1/claims/{id}/revoke", "revoke claim",
		func(ctx context.Context, in *ID) (*bodyOf[ClaimView], error) {
			c, err := s.RevokeClaim(ctx, in.ID)
			return one(viewClaim(c), err)
		}, describe("Ends a claim for good: its token is refused from now on. Devices that were made with it stay. Repeating it changes nothing."))
}

func (a *API) createClaim(ctx context.Context, in *createOf[orchestrator.NewClaim]) (*created[ClaimCreated], error) {
	s := a.options.Service
	show := func(c orchestrator.Claim, token, note string) ClaimCreated {
		return ClaimCreated{viewClaim(c), schemas.ClaimUserPrefix + c.ID, token, note}
	}
	return maker[orchestrator.NewClaim, ClaimCreated]{
		"create-claim",
		func(ctx context.Context, n orchestrator.NewClaim) (ClaimCreated, error) {
			made, err := s.CreateClaim(ctx, n)
			return show(made.Claim, made.Token, ""), err
		},
		func(ctx context.Context, id string) (ClaimCreated, error) {
			c, err := s.Claim(ctx, id)
			return show(c, "", "The token was shown in the first answer and is kept nowhere. Revoke the claim and create another."), err
		},
		func(c ClaimCreated) place { return place{"/v1/claims/" + c.ID, c.Revision} },
	}.answer(ctx, in)
}
