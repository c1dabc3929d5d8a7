// Package oidctest holds the tests of signing in through OpenID Connect: a browser, the
// HTTP API, and a provider made of ory/fosite, all over real connections. They have
// a folder of their own so that fosite is built for them only. It never is part of a
// program.
package oidctest

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"

	"davit/gateway"
	"davit/gateway/people"
	"davit/orchestrator"
	"davit/orchestrator/memstore"
)

const (
	password   = "a password of davit's own"
	adminToken = "the-admin-token-of-the-test"
)

// rig is the API with a provider.
type rig struct {
	t         *testing.T
	url       string
	provider  *provider
	directory *people.Directory
	store     *memstore.Store
	logs      *strings.Builder
	browser   *http.Client
}

func newRig(t *testing.T, change func(*people.OIDCOptions)) *rig {
	t.Helper()
	r := &rig{t: t, store: memstore.New(), logs: &strings.Builder{}}
	log := slog.New(slog.NewTextHandler(r.logs, nil))
	var api http.Handler
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { api.ServeHTTP(w, q) }))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	r.provider = newProvider(t, r.url+people.CallbackPath)
	var err error
	r.directory, err = people.New(people.Options{
		Store: r.store, AdminToken: adminToken, Log: log,
		Hashing: &argon2id.Params{Memory: 8, Iterations: 1, Parallelism: 1, SaltLength: 8, KeyLength: 16},
	})
	if err != nil {
		t.Fatal(err)
	}
	o := people.OIDCOptions{
		Issuer: r.provider.URL, ClientID: clientID, ClientSecret: clientSecret, RedirectURL: r.url + people.CallbackPath,
		RoleClaim: "groups", Roles: map[string]people.Role{"ota-admins": people.RoleAdmin, "ota-operators": people.RoleOperator, "staff": people.RoleViewer},
	}
	if change != nil {
		change(&o)
	}
	way, err := people.NewOIDC(r.directory, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = way.Close() })
	api, err = gateway.NewAPI(gateway.APIOptions{People: r.directory, OIDC: way, Log: log, Console: http.HandlerFunc(console)})
	if err != nil {
		t.Fatal(err)
	}
	r.newBrowser()
	t.Cleanup(r.check)
	return r
}

// console says who looks at it.
func console(w http.ResponseWriter, q *http.Request) {
	p, _ := people.PrincipalOf(q.Context())
	_, _ = io.WriteString(w, q.URL.Path+" "+p.User+" "+string(p.Role))
}

func (r *rig) newBrowser() {
	r.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.browser != nil {
		r.browser.CloseIdleConnections()
	}
	r.browser = &http.Client{Jar: jar, Transport: &http.Transport{}}
	r.t.Cleanup(r.browser.CloseIdleConnections)
}

// check is what davit check does, and looks for secrets in the log.
func (r *rig) check() {
	if err := r.store.View(context.Background(), func(tx orchestrator.Reader) error {
		violations, err := people.Check(tx)
		for _, v := range violations {
			r.t.Error(v)
		}
		return err
	}); err != nil {
		r.t.Error(err)
	}
	if strings.Contains(r.logs.String(), clientSecret) {
		r.t.Error("the log holds the client's secret")
	}
}

// get is one request of the browser, which follows redirects.
func (r *rig) get(address string) (status int, text string, at *url.URL) {
	r.t.Helper()
	resp, err := r.browser.Get(address)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Request.URL
}

func (r *rig) signIn() (int, string) {
	r.t.Helper()
	status, text, _ := r.get(r.url + "/sign-in/oidc?next=/jobs")
	return status, text
}

// goodSignIn expects to end at the console as somebody.
func (r *rig) goodSignIn(who string) {
	r.t.Helper()
	if status, text := r.signIn(); status != http.StatusOK || text != "/jobs "+who {
		r.t.Fatalf("%d %s, want /jobs %s\n%s", status, text, who, r.logs)
	}
}

// refused expects a page that says why, and nobody to be signed in.
func (r *rig) refused(status int, why string) {
	r.t.Helper()
	got, text := r.signIn()
	r.refusedPage(got, text, status, why)
}

func (r *rig) refusedPage(got int, text string, status int, why string) {
	r.t.Helper()
	if got != status || !strings.Contains(text, why) || !strings.Contains(text, `href="/sign-in"`) {
		r.t.Errorf("%d %s, want %d with %q", got, text, status, why)
	}
	if _, text, _ := r.get(r.url + "/"); text != "/  " {
		r.t.Errorf("somebody is signed in: %s", text)
	}
}

func TestSignIn(t *testing.T) {
	r := newRig(t, nil)
	r.goodSignIn("olga operator")
	u, err := r.directory.User(t.Context(), "olga")
	if err != nil || u.DisplayName != "Olga O" || u.Email != "olga@example.com" || u.HasPassword || u.External != r.provider.URL+" subject-1" || u.SignedInAt.IsZero() {
		t.Errorf("%+v, %v", u, err)
	}
	// The role is the claim's at each sign-in; a name that changes there makes no other user.
	r.provider.set(func() {
		r.provider.claims = map[string]any{"preferred_username": "olga-new", "groups": []string{"staff"}}
	})
	r.goodSignIn("olga viewer")
	// Somebody else may be called the same.
	r.provider.set(func() { r.provider.subject, r.provider.claims["preferred_username"] = "subject-2", "Olga" })
	r.newBrowser()
	status, text := r.signIn()
	if name := strings.TrimSuffix(strings.TrimPrefix(text, "/jobs "), " viewer"); status != http.StatusOK || !strings.HasPrefix(name, "Olga-") {
		t.Errorf("%d %s", status, text)
	}
}

func TestALocalUserIsNotTakenOver(t *testing.T) {
	r := newRig(t, nil)
	for _, n := range []people.NewUser{{Name: "olga", Role: people.RoleAdmin, Password: password}, {Name: "robot", Role: people.RoleAdmin}} {
		if _, err := r.directory.CreateUser(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	for subject, name := range map[string]string{"s-1": "olga", "s-2": "robot", "s-3": "admin.token", "s-4": "../../x", "s-5": ""} {
		r.newBrowser()
		r.provider.set(func() {
			r.provider.subject = subject
			r.provider.claims["preferred_username"], r.provider.claims["email"] = name, ""
		})
		status, text := r.signIn()
		got := strings.TrimSuffix(strings.TrimPrefix(text, "/jobs "), " operator")
		if status != http.StatusOK || got == name || strings.ContainsAny(got, "/ ") {
			t.Errorf("%q became %d %q", name, status, text)
		}
	}
	if u, err := r.directory.User(t.Context(), "olga"); err != nil || u.External != "" || u.Role != people.RoleAdmin {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t, nil)
	good := maps.Clone(r.provider.claims)
	other := newKey(t)
	r.goodSignIn("olga operator")
	for _, c := range []struct {
		name   string
		status int
		why    string
		change func(p *provider)
	}{
		{"no role", 403, "no role", func(p *provider) { p.claims["groups"] = []string{"cooks"} }},
		{"role of another type", 403, "no role", func(p *provider) { p.claims["groups"] = map[string]any{"ota-admins": true} }},
		{"no claim", 403, "no role", func(p *provider) { delete(p.claims, "groups") }},
		{"wrong audience", 502, "", func(p *provider) { p.forge = func(c map[string]any) { c["aud"] = []string{"another"} } }},
		{"one more audience", 502, "", func(p *provider) { p.forge = func(c map[string]any) { c["aud"] = []string{clientID, "another"} } }},
		{"another party", 502, "", func(p *provider) { p.forge = func(c map[string]any) { c["azp"] = "another" } }},
		{"wrong nonce", 502, "", func(p *provider) { p.forge = func(c map[string]any) { c["nonce"] = "another-nonce" } }},
		{"no nonce", 502, "", func(p *provider) { p.forge = func(c map[string]any) { delete(c, "nonce") } }},
		{"wrong issuer", 502, "", func(p *provider) { p.forge = func(c map[string]any) { c["iss"] = "https://another.example.com" } }},
		{"expired", 502, "", func(p *provider) { p.forge = func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() } }},
		{"another key", 502, "", func(p *provider) { p.forge, p.signer = func(map[string]any) {}, other }},
		{"no subject", 502, "", func(p *provider) { p.forge = func(c map[string]any) { c["sub"] = "" } }},
		{"another subject", 502, "", func(p *provider) {
			p.forge = func(c map[string]any) { c["sub"] = "another"; delete(c, "groups") }
			p.info = map[string]any{"groups": []string{"ota-admins"}}
		}},
		{"down", 502, "does not answer", func(p *provider) { p.down = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.newBrowser()
			r.provider.set(func() { c.change(r.provider) })
			defer r.provider.set(func() {
				p := r.provider
				p.claims, p.info, p.forge, p.signer, p.down = maps.Clone(good), nil, nil, nil, false
			})
			if c.name == "down" { // the browser does not even get back from there
				if status, _ := r.signIn(); status != http.StatusServiceUnavailable {
					t.Errorf("%d", status)
				}
				return
			}
			r.refused(c.status, c.why)
		})
	}
	r.newBrowser()
	r.goodSignIn("olga operator")
}

func TestTheUserInfoMaySayTheRole(t *testing.T) {
	r := newRig(t, func(o *people.OIDCOptions) { o.RoleClaim = "realm_access.roles" })
	r.provider.set(func() {
		r.provider.info = map[string]any{"realm_access": map[string]any{"roles": []string{"staff", "ota-admins", "ota-operators"}}}
	})
	r.goodSignIn("olga admin")
}

func TestADefaultRole(t *testing.T) {
	r := newRig(t, func(o *people.OIDCOptions) { o.RoleClaim, o.Roles, o.DefaultRole = "", nil, people.RoleViewer })
	r.goodSignIn("olga viewer")
}

func TestADisabledUserDoesNotGetIn(t *testing.T) {
	r := newRig(t, nil)
	r.goodSignIn("olga operator")
	disabled := true
	if _, err := r.directory.UpdateUser(t.Context(), "olga", people.UserPatch{Disabled: &disabled}); err != nil {
		t.Fatal(err)
	}
	r.refused(http.StatusForbidden, "disabled")
}

// callback does the flow until the provider has sent the browser back, and returns the
// address that it is sent to.
func (r *rig) callback() string {
	r.t.Helper()
	var back string
	follow := r.browser.CheckRedirect
	r.browser.CheckRedirect = func(q *http.Request, _ []*http.Request) error {
		if q.URL.Path == people.CallbackPath {
			back = q.URL.String()
			return http.ErrUseLastResponse
		}
		return nil
	}
	r.get(r.url + "/sign-in/oidc")
	r.browser.CheckRedirect = follow
	if back == "" {
		r.t.Fatalf("the provider did not send the browser back: %s", r.logs)
	}
	return back
}

func TestTheAnswerBelongsToTheBrowserAndServesOnce(t *testing.T) {
	r := newRig(t, nil)
	back := r.callback()
	for name, forged := range map[string]string{
		"wrong state": strings.Replace(back, "state=", "state=x", 1), "no state": strings.Replace(back, "state=", "x=", 1),
		"refused": r.url + people.CallbackPath + "?error=access_denied&state=x",
	} {
		t.Run(name, func(t *testing.T) {
			r.newBrowser()
			_ = r.callback() // the cookie of a flow is there
			status, text, _ := r.get(forged)
			r.refusedPage(status, text, http.StatusForbidden, "Begin again")
		})
	}
	// Another browser has begun nothing.
	r.newBrowser()
	status, text, _ := r.get(back)
	r.refusedPage(status, text, http.StatusForbidden, "Begin again")

	// The same answer twice: the cookie is gone, and with the cookie the provider knows the code.
	r.newBrowser()
	back = r.callback()
	site, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	kept := r.browser.Jar.Cookies(site)
	if len(kept) != 1 || kept[0].Name != "davit-oidc" {
		t.Fatalf("%v", kept)
	}
	if status, text, _ := r.get(back); status != http.StatusOK || text != "/ olga operator" {
		t.Errorf("%d %s", status, text)
	}
	r.newBrowser()
	r.browser.Jar.SetCookies(site, kept)
	status, text, _ = r.get(back)
	r.refusedPage(status, text, http.StatusForbidden, "used before")
	// And what the provider refuses is told.
	r.newBrowser()
	state, err := url.Parse(r.callback())
	if err != nil {
		t.Fatal(err)
	}
	status, text, _ = r.get(r.url + people.CallbackPath + "?error=access_denied&state=" + state.Query().Get("state"))
	r.refusedPage(status, text, http.StatusForbidden, "access_denied")
}

func TestWithoutTheProviderPasswordsStillWork(t *testing.T) {
	r := newRig(t, nil)
	r.provider.set(func() { r.provider.down = true })
	r.refused(http.StatusBadGateway, "does not answer")
	if _, err := r.directory.CreateUser(t.Context(), people.NewUser{Name: "ann", Role: people.RoleAdmin, Password: password}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.directory.SignIn(t.Context(), "ann", password, "192.0.2.1"); err != nil {
		t.Error(err)
	}
	r.provider.set(func() { r.provider.down = false })
	r.goodSignIn("olga operator") // it is asked again
}

func TestTheProviderMustNotLeadAway(t *testing.T) {
	r := newRig(t, nil) // what it refuses it does not keep
	for _, endpoint := range []string{"token_endpoint", "authorization_endpoint", "jwks_uri", "userinfo_endpoint", "issuer"} {
		r.provider.set(func() {
			r.provider.discovery = func(doc map[string]any) { doc[endpoint] = "http://192.0.2.1/" }
		})
		r.refused(http.StatusBadGateway, "does not answer")
	}
}

func TestNextIsAPathOfOurs(t *testing.T) {
	r := newRig(t, nil)
	for next, want := range map[string]string{
		"/devices": "/devices", "": "/", "//evil.example.com": "/", "https://evil.example.com": "/", `/\evil.example.com`: "/", "/\t/evil.example.com": "/", "javascript:alert(1)": "/",
	} {
		r.newBrowser()
		_, text, at := r.get(r.url + "/sign-in/oidc?next=" + url.QueryEscape(next))
		if at.Host != strings.TrimPrefix(r.url, "http://") || at.Path != want || text != want+" olga operator" {
			t.Errorf("%q leads to %s", next, at)
		}
	}
}
