package gateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"davit/gateway/people"
	"davit/orchestrator"
)

// TestEventsEndWithTheRightToSeeThem: a stream ends when its token is revoked, its
// session is over, or its user is disabled or deleted, without telling anything
// that changed after.
func TestEventsEndWithTheRightToSeeThem(t *testing.T) {
	type who struct {
		people  *people.Directory
		token   people.NewSecret
		session people.Session
	}
	yes := true
	for name, c := range map[string]struct {
		cookie bool
		end    func(context.Context, who) error
	}{
		"revoked":    {false, func(ctx context.Context, w who) error { return w.people.DeleteToken(ctx, "bob", w.token.ID) }},
		"signed out": {true, func(ctx context.Context, w who) error { return w.people.SignOut(ctx, w.session.Token) }},
		"deleted":    {false, func(ctx context.Context, w who) error { return w.people.DeleteUser(ctx, "bob") }},
		"disabled": {true, func(ctx context.Context, w who) error {
			_, err := w.people.UpdateUser(ctx, "bob", people.UserPatch{Disabled: &yes})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := idleAPI(t)
				ctx := t.Context()
				w := who{people: r.people}
				var err error
				if _, err = r.people.CreateUser(ctx, people.NewUser{Name: "bob", Role: people.RoleViewer, Password: userPassword}); err != nil {
					t.Fatal(err)
				}
				if w.token, err = r.people.CreateToken(ctx, "bob", people.NewToken{Name: "x", Scopes: []people.Scope{people.ScopeRead}}); err != nil {
					t.Fatal(err)
				}
				if w.session, err = r.people.SignIn(ctx, "bob", userPassword, "192.0.2.1"); err != nil {
					t.Fatal(err)
				}
				req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/events", nil)
				if c.cookie {
					req.AddCookie(&http.Cookie{Name: "davit", Value: w.session.Token})
				} else {
					req.Header.Set("Authorization", "Bearer "+w.token.Secret)
				}
				answer := httptest.NewRecorder()
				ended := make(chan struct{})
				go func() { defer close(ended); r.api.ServeHTTP(answer, req) }()
				synctest.Wait()
				before := answer.Body.Len()
				if answer.Code != http.StatusOK || before == 0 {
					t.Fatalf("%d %s", answer.Code, answer.Body)
				}
				if err := c.end(ctx, w); err != nil {
					t.Fatal(err)
				}
				if _, err := r.service.CreateImageType(ctx, orchestrator.NewImageType{ID: "secret"}); err != nil {
					t.Fatal(err)
				}
				<-ended // the test's time would stand still for ever
				if answer.Body.Len() != before {
					t.Errorf("told after the end: %s", answer.Body.Bytes()[before:])
				}
			})
		})
	}
}
