package web

import (
	"errors"
	"slices"

	"davit/gateway/people"
	"davit/orchestrator"
)

const accountPath = "/account"

func (c *Console) accountRoutes() {
	c.handle("GET /account", "get-me", (*visit).accountPage, "list-tokens")
	c.handle("POST /account/password", "change-own-password", (*visit).changePassword)
	c.handle("POST /account/tokens", "create-token", (*visit).createToken)
	c.handle("POST /account/tokens/{id}/delete", "delete-token", (*visit).deleteOwnToken)
}

// scopeChoice is a scope that a token of the visitor's can have.
type scopeChoice struct {
	Scope people.Scope
	Text  string
}

func scopeText(s people.Scope) string {
	return map[people.Scope]string{
		people.ScopeAccount:    "its owner's name, password and tokens",
		people.ScopeRead:       "look at everything but people and the audit log",
		people.ScopeDevices:    "register, import, change and decommission devices and bridges, create and revoke claims",
		people.ScopeGroups:     "create, change and delete groups",
		people.ScopePause:      "pause jobs",
		people.ScopeQuarantine: "put devices in quarantine and release them",
		people.ScopeTypes:      "create, change and delete image types and device types",
		people.ScopeImages:     "upload, change, archive and delete images",
		people.ScopeDownload:   "download images",
		people.ScopeRun:        "create, start, resume, retry and cancel jobs",
		people.ScopeAudit:      "read the audit log",
		people.ScopePeople:     "users, and everybody's tokens",
		people.ScopeService:    "the levels of the service's log",
	}[s]
}

func expiryOptions() []option {
	return []option{{"24h", "1 day"}, {"168h", "1 week"}, {"720h", "30 days"}, {"2160h", "90 days"}, {"8760h", "1 year"}}
}

func (v *visit) accountPage() error { return v.showAccount(newForm("expires", "2160h"), nil, nil) }

// showAccount shows the visitor's account: with the form of the part that was
// refused, or with the secret of a new token.
func (v *visit) showAccount(f, password *form, secret *people.NewSecret) error {
	data := struct {
		User     people.User
		Known    bool
		Password *form
		Tokens   []people.Token
		Scopes   []scopeChoice
		Expiries []option
		Secret   *people.NewSecret
		Pager    pager
	}{Password: password, Expiries: expiryOptions(), Secret: secret}
	if data.Password == nil {
		data.Password = newForm()
	}
	u, err := v.people.User(v.ctx(), v.who.User)
	if err != nil && !errors.Is(err, orchestrator.ErrNotFound) {
		return err
	}
	data.User, data.Known = u, err == nil
	for _, s := range people.Scopes() {
		if v.who.May(s) {
			data.Scopes = append(data.Scopes, scopeChoice{s, scopeText(s)})
		}
	}
	if data.Known {
		tokens, next, err := v.people.Tokens(v.ctx(), v.who.User, orchestrator.Page{After: v.after(), Limit: pageSize})
		if err != nil {
			return err
		}
		data.Tokens, data.Pager = tokens, v.pager(next)
	}
	p := page{Title: "Your account", Nav: accountPath, Form: f, Data: data}
	if password.Bad() {
		p.Form = password
		data.Password = password
		p.Data = data
	}
	return v.render("account", p)
}

func (v *visit) changePassword() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	if f.Raw("new") != f.Raw("again") {
		f.Reject("again", "the two new passwords differ")
		return v.showAccount(newForm("expires", "2160h"), f, nil)
	}
	err = v.people.ChangePassword(v.ctx(), v.who.User, f.Raw("old"), f.Raw("new"))
	if errors.Is(err, people.ErrSignIn) {
		f.Reject("old", "this is not your present password")
		return v.showAccount(newForm("expires", "2160h"), f, nil)
	}
	if f.Take(err) {
		return v.showAccount(newForm("expires", "2160h"), f, nil)
	}
	if err != nil {
		return err
	}
	return v.redirect(accountPath, "Your password is changed.")
}

func (v *visit) createToken() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	n := people.NewToken{Name: f.Get("name"), Expires: f.Get("expires")}
	for _, s := range f.All("scope") {
		if !slices.Contains(people.Scopes(), people.Scope(s)) {
			f.Reject("scopes", "there is no scope "+s)
			return v.showAccount(f, nil, nil)
		}
		n.Scopes = append(n.Scopes, people.Scope(s))
	}
	secret, err := v.people.CreateToken(v.ctx(), v.who.User, n)
	if f.Take(err) {
		return v.showAccount(f, nil, nil)
	}
	if err != nil {
		return err
	}
	return v.showAccount(newForm("expires", "2160h"), nil, &secret)
}

func (v *visit) deleteOwnToken() error {
	return v.outcome(v.people.DeleteToken(v.ctx(), v.who.User, v.path("id")), accountPath, "The token is revoked.")
}
