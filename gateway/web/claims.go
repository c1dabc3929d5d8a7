package web

import (
	"strconv"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

const claimsPath = "/claims"

func (c *Console) claimRoutes() {
	c.handle("GET /claims", "list-claims", (*visit).claimList, "get-claim")
	c.handle("POST /claims", "create-claim", (*visit).createClaim)
	c.handle("POST /claims/{id}/revoke", "revoke-claim", (*visit).revokeClaim)
}

// claimRow is a claim and whether devices can be made with it now.
type claimRow struct {
	orchestrator.Claim
	State orchestrator.ClaimState
}

// Active says whether it can be revoked with any effect.
func (r claimRow) Active() bool {
	return r.State != orchestrator.ClaimExpired && r.State != orchestrator.ClaimRevoked
}

func claimForm() *form { return newForm("uses", "1", "expires", "720h") }

func (v *visit) claimList() error { return v.showClaims(claimForm(), nil) }

// showClaims shows the claims: with the form that was refused, or with a new token.
func (v *visit) showClaims(f *form, made *orchestrator.ClaimSecret) error {
	data := struct {
		Claims   []claimRow
		Types    []option
		Expiries []option
		Made     *orchestrator.ClaimSecret
		Username string
		Pager    pager
	}{Expiries: expiryOptions(), Made: made}
	if made != nil {
		data.Username = schemas.ClaimUserPrefix + made.ID
	}
	claims, next, err := v.service.Claims(v.ctx(), orchestrator.Page{After: v.after(), Limit: pageSize})
	if err != nil {
		return err
	}
	for _, c := range claims {
		data.Claims = append(data.Claims, claimRow{c, c.State(v.now())})
	}
	data.Pager = v.pager(next)
	types, _, err := v.service.DeviceTypes(v.ctx(), orchestrator.Page{Limit: orchestrator.MaxPageLimit})
	if err != nil {
		return err
	}
	for _, t := range types {
		data.Types = append(data.Types, option{t.ID, t.Name})
	}
	return v.render("claims", page{
		Title: "Claims", Nav: claimsPath, Form: f, Data: data,
		Lead: "Tokens with which modules that have no password yet make themselves devices.",
	})
}

func (v *visit) createClaim() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	n := orchestrator.NewClaim{
		ID: f.Get("id"), DeviceType: f.Get("device_type"), Devices: f.Get("devices"), Groups: f.Words("groups"), Description: f.Get("description"), Unlimited: f.Has("unlimited"),
	}
	if n.Labels, err = parseLabels(f.Get("labels")); err != nil {
		f.Reject("labels", err.Error())
		return v.showClaims(f, nil)
	}
	if !n.Unlimited {
		if n.Uses, err = strconv.Atoi(f.Get("uses")); err != nil || n.Uses < 1 {
			f.Reject("uses", "this is not a number of devices")
			return v.showClaims(f, nil)
		}
	}
	valid, err := time.ParseDuration(f.Get("expires"))
	if err != nil {
		f.Reject("expires", "this is not a duration such as 720h")
		return v.showClaims(f, nil)
	}
	n.Expires = orchestrator.Duration(valid)
	made, err := v.service.CreateClaim(v.ctx(), n)
	if f.Take(err) {
		return v.showClaims(f, nil)
	}
	if err != nil {
		return err
	}
	return v.showClaims(claimForm(), &made)
}

func (v *visit) revokeClaim() error {
	id := v.path("id")
	_, err := v.service.RevokeClaim(v.ctx(), id)
	return v.outcome(err, claimsPath, "Claim "+id+" is revoked; devices that were made with it stay.")
}
