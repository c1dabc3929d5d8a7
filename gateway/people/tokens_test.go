package people_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/gateway/people"
	"davit/orchestrator"
)

func (r *rig) token(user string, n people.NewToken) people.NewSecret {
	r.t.Helper()
	made, err := r.CreateToken(r.t.Context(), user, n)
	if err != nil {
		r.t.Fatal(err)
	}
	return made
}

func TestATokenActsForItsOwner(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.user("ann", people.RoleAdmin)
	r.user("bob", people.RoleOperator)
	made := r.token("bob", people.NewToken{Name: "lab", Scopes: []people.Scope{people.ScopeRead, people.ScopeDevices}})
	if !strings.HasPrefix(made.Secret, "davit_") || len(made.Secret) < 50 || !made.ExpiresAt.Equal(r.clock.Now().Add(people.TokenDefault)) {
		t.Errorf("%+v", made)
	}
	p, err := r.Bearer(ctx, made.Secret)
	if err != nil || p.User != "bob" || p.Token != made.ID || !p.Allowed("create-device") || p.Allowed("create-group") || p.Allowed("create-image") {
		t.Errorf("%+v, %v", p, err)
	}
	if a := p.Actor(here, "r"); a.Name != "bob/lab" || a.Kind != orchestrator.ActorToken {
		t.Errorf("%+v", a)
	}
	r.patch("bob", people.UserPatch{Role: pointer(people.RoleViewer)})
	if p, err = r.Bearer(ctx, made.Secret); err != nil || p.Allowed("create-device") || !p.Allowed("list-devices") {
		t.Errorf("of a viewer: %+v, %v", p, err)
	}
	for name, end := range map[string]func(people.NewSecret){
		"revoked":  func(s people.NewSecret) { r.wants(r.DeleteToken(ctx, "bob", s.ID), nil) },
		"expired":  func(people.NewSecret) { r.clock.pass(time.Hour) },
		"disabled": func(people.NewSecret) { r.patch("bob", people.UserPatch{Disabled: pointer(true)}) },
		"deleted":  func(people.NewSecret) { r.wants(r.DeleteUser(ctx, "bob"), nil); r.user("bob", people.RoleViewer) },
	} {
		made := r.token("bob", people.NewToken{Name: name, Expires: "1h"})
		if _, err := r.Bearer(ctx, made.Secret); err != nil {
			t.Fatal(err)
		}
		end(made)
		_, err := r.Bearer(ctx, made.Secret)
		r.wants(err, people.ErrNoSession)
		r.patch("bob", people.UserPatch{Disabled: pointer(false)})
	}
	for _, wrong := range []string{"", "davit_", made.Secret + "x", strings.ToLower(made.Secret), "davit_" + strings.Repeat("x", 100_000)} {
		_, err := r.Bearer(ctx, wrong)
		r.wants(err, people.ErrNoSession)
	}
	if p, err := r.Bearer(ctx, adminToken); err != nil || p.User != people.AdminTokenUser || p.Role != people.RoleAdmin {
		t.Errorf("the admin token: %+v, %v", p, err)
	}
}

func TestTheUseOfATokenIsKnownToTheHour(t *testing.T) {
	r := newRig(t)
	r.user("ann", people.RoleAdmin)
	made := r.token("ann", people.NewToken{Name: "ci"})
	for _, pass := range []time.Duration{0, time.Minute, 3 * time.Hour} {
		r.clock.pass(pass)
		if _, err := r.Bearer(t.Context(), made.Secret); err != nil {
			t.Fatal(err)
		}
		tok, err := r.Token(t.Context(), "ann", made.ID)
		if err != nil || !tok.UsedAt.Equal(r.clock.Now().Truncate(time.Hour)) {
			t.Errorf("%+v, %v", tok, err)
		}
	}
}

func TestTokensAreChecked(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.user("ann", people.RoleAdmin)
	r.user("bob", people.RoleOperator)
	scopes := func(s ...people.Scope) []people.Scope { return s }
	for _, c := range []struct {
		field string
		n     people.NewToken
	}{
		{"name", people.NewToken{}}, {"name", people.NewToken{Name: " "}}, {"name", people.NewToken{Name: "a\x00b"}}, {"name", people.NewToken{Name: strings.Repeat("x", 65)}},
		{"scopes/1", people.NewToken{Name: "x", Scopes: scopes(people.ScopeRead, "everything")}},
		{"scopes/1", people.NewToken{Name: "x", Scopes: scopes(people.ScopeRead, people.ScopeRead)}},
		{"scopes/0", people.NewToken{Name: "x", Scopes: scopes(people.ScopeRun)}}, // not an operator's
		{"expires", people.NewToken{Name: "x", Expires: "soon"}}, {"expires", people.NewToken{Name: "x", Expires: "8761h"}},
		{"expires", people.NewToken{Name: "x", Expires: "-1h"}}, {"expires", people.NewToken{Name: "x", Expires: "0s"}},
	} {
		_, err := r.CreateToken(ctx, "bob", c.n)
		r.wantsField(err, c.field)
	}
	_, err := r.CreateToken(ctx, "nobody", people.NewToken{Name: "x"})
	r.wants(err, orchestrator.ErrNotFound)
	_, err = r.CreateToken(ctx, people.AdminTokenUser, people.NewToken{Name: "x"})
	r.wants(err, orchestrator.ErrNotFound)

	// A restricted token makes no token that may do more.
	restricted := people.WithPrincipal(ctx, people.Principal{User: "ann", Role: people.RoleAdmin, Token: "tok-1", Restricted: true, Scopes: scopes(people.ScopeAccount, people.ScopeRead)})
	_, err = r.CreateToken(restricted, "ann", people.NewToken{Name: "x"})
	r.wantsField(err, "scopes")
	_, err = r.CreateToken(restricted, "ann", people.NewToken{Name: "x", Scopes: scopes(people.ScopeRead, people.ScopeRun)})
	r.wantsField(err, "scopes/1")
	if _, err = r.CreateToken(restricted, "ann", people.NewToken{Name: "x", Scopes: scopes(people.ScopeRead)}); err != nil {
		t.Error(err)
	}
}

func TestAUserHasFiftyTokensAtMost(t *testing.T) {
	r := newRig(t)
	r.user("ann", people.RoleAdmin)
	for i := range 50 {
		r.clock.pass(time.Millisecond)
		r.token("ann", people.NewToken{Name: fmt.Sprint(i), Expires: "1h"})
	}
	_, err := r.CreateToken(t.Context(), "ann", people.NewToken{Name: "one more"})
	r.wants(err, orchestrator.ErrConflict)
	var all []string
	for page := (orchestrator.Page{Limit: 20}); ; {
		tokens, next, err := r.Tokens(t.Context(), "ann", page)
		if err != nil {
			t.Fatal(err)
		}
		for _, tok := range tokens {
			all = append(all, tok.Name)
		}
		if page.After = next; next == "" {
			break
		}
	}
	if len(all) != 50 || all[0] != "0" || all[49] != "49" || !slices.Equal(all[:3], []string{"0", "1", "2"}) {
		t.Errorf("listed %q", all)
	}
	r.clock.pass(time.Hour)
	r.token("ann", people.NewToken{Name: "when they have expired"})
	if n := r.count("tokens"); n != 51 {
		t.Errorf("%d tokens; expired ones are shown for a week", n)
	}
	r.clock.pass(7 * 24 * time.Hour)
	for range 4 {
		r.token("ann", people.NewToken{Name: "sweeps"})
	}
	if n := r.count("tokens"); n != 5 {
		t.Errorf("%d tokens after a week", n)
	}
}

func TestOthersTokens(t *testing.T) {
	r := newRig(t)
	r.user("ann", people.RoleAdmin)
	r.user("bob", people.RoleViewer)
	made := r.token("bob", people.NewToken{Name: "x"})
	r.wants(r.DeleteToken(t.Context(), "ann", made.ID), orchestrator.ErrNotFound)
	_, err := r.Token(t.Context(), "ann", made.ID)
	r.wants(err, orchestrator.ErrNotFound)
	if tokens, _, err := r.Tokens(t.Context(), "", orchestrator.Page{}); err != nil || len(tokens) != 1 {
		t.Errorf("%+v, %v", tokens, err)
	}
	r.wants(r.DeleteToken(t.Context(), "", made.ID), nil)
}

// TestShortTokensDoNotPileUp: somebody who makes tokens that last a minute, day and
// night, neither gets around the limit of tokens nor leaves any to whoever has
// the name after them.
func TestShortTokensDoNotPileUp(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.user("ann", people.RoleAdmin)
	r.user("bob", people.RoleViewer)
	for round := range 4 {
		for i := range people.MaxTokens {
			r.token("bob", people.NewToken{Name: fmt.Sprintf("%d-%d", round, i), Expires: "1m"})
		}
		r.clock.pass(time.Minute)
	}
	items, _, err := r.Tokens(ctx, "bob", orchestrator.Page{Limit: orchestrator.MaxPageLimit})
	if err != nil || len(items) > 2*people.MaxTokens { // those that are valid, and as many that were
		t.Errorf("%d tokens are listed, %v", len(items), err)
	}
	var last people.NewSecret
	for i := range people.MaxTokens {
		last = r.token("bob", people.NewToken{Name: fmt.Sprint(i), Expires: "8760h"})
	}
	_, err = r.CreateToken(ctx, "bob", people.NewToken{Name: "one too many"})
	r.wants(err, orchestrator.ErrConflict)
	r.wants(r.DeleteUser(ctx, "bob"), nil)
	r.user("bob", people.RoleDeveloper)
	_, err = r.Bearer(ctx, last.Secret)
	r.wants(err, people.ErrNoSession)
}
