package gateway_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/alexedwards/argon2id"

	"davit/gateway"
	"davit/gateway/people"
	"davit/orchestrator"
)

// cheapHashing makes sign-ins in tests fast.
func cheapHashing() *argon2id.Params {
	return &argon2id.Params{Memory: 8, Iterations: 1, Parallelism: 1, SaltLength: 8, KeyLength: 16}
}

// signedIn makes an admin and returns the token of a session.
func (r *apiRig) signedIn(name string) string {
	r.t.Helper()
	if _, err := r.people.CreateUser(r.t.Context(), people.NewUser{Name: name, Role: people.RoleAdmin, Password: userPassword}); err != nil {
		r.t.Fatal(err)
	}
	s, err := r.people.SignIn(r.t.Context(), name, userPassword, "192.0.2.1")
	if err != nil {
		r.t.Fatal(err)
	}
	return s.Token
}

// with makes a request with headers, given as "Name: value".
func (r *apiRig) with(call, body string, headers ...string) answer {
	r.t.Helper()
	method, path, _ := strings.Cut(call, " ")
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	return r.send(req)
}

func TestOtherSitesCannotUseASession(t *testing.T) {
	r := newAPI(t, nil)
	cookie := "Cookie: davit=" + r.signedIn("ann")
	const create = `{"id":"app"}`
	for _, c := range []struct {
		call, body string
		headers    []string
		status     int
	}{
		{"GET /v1/image-types", "", []string{cookie}, 200},
		{"POST /v1/image-types", create, []string{cookie}, 403},
		{"POST /v1/image-types", create, []string{cookie, "Sec-Fetch-Site: cross-site"}, 403},
		{"POST /v1/image-types", create, []string{cookie, "Sec-Fetch-Site: same-site"}, 403},
		{"POST /v1/image-types", create, []string{cookie, "Origin: https://evil.example.com"}, 403},
		{"POST /v1/image-types", create, []string{cookie, "Origin: null"}, 403},
		{"DELETE /v1/image-types/app", "", []string{cookie}, 403},
		{"POST /v1/image-types", create, []string{cookie, "Origin: " + r.url}, 201},
		{"DELETE /v1/image-types/app", "", []string{cookie, "Sec-Fetch-Site: same-origin"}, 204},
		// No browser adds a token by itself; a wrong one is not made good by a cookie.
		{"POST /v1/image-types", create, []string{"Authorization: Bearer " + adminToken, "Sec-Fetch-Site: cross-site"}, 201},
		{"GET /v1/image-types", "", []string{cookie, "Authorization: Bearer wrong"}, 401},
		{"GET /v1/image-types", "", []string{"Cookie: davit=wrong"}, 401},
		// The cookie of a connection without TLS is not that of one with it.
		{"GET /v1/image-types", "", []string{strings.Replace(cookie, "davit=", "__Host-davit=", 1)}, 401},
	} {
		if a := r.with(c.call, c.body, c.headers...); a.status != c.status {
			t.Errorf("%s with %q: %d %s, want %d", c.call, c.headers, a.status, a.body, c.status)
		}
	}
}

func TestWhoDidItIsInTheAuditLog(t *testing.T) {
	r := newAPI(t, func(o *gateway.APIOptions) { o.TrustedProxies = []string{"127.0.0.0/8", "10.1.0.0/16"} })
	token := r.signedIn("ann")
	for forwarded, want := range map[string]string{
		"192.0.2.9":                          "192.0.2.9",
		"6.6.6.6, 192.0.2.9":                 "192.0.2.9", // what a client wrote itself is not believed
		"192.0.2.9, 10.1.2.3":                "192.0.2.9",
		"2001:db8::1":                        "2001:db8::1",
		"192.0.2.9, not an address":          "127.0.0.1",
		"not an address, 10.1.2.3, 10.1.2.4": "10.1.2.3",
		"":                                   "127.0.0.1",
	} {
		a := r.with("POST /v1/image-types", `{"id":"app"}`, "Cookie: davit="+token, "Sec-Fetch-Site: same-origin", "X-Forwarded-For: "+forwarded)
		if a.status != http.StatusCreated {
			t.Fatalf("%d %s", a.status, a.body)
		}
		entries, _, err := r.service.AuditEntries(t.Context(), orchestrator.AuditFilter{}, orchestrator.Page{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		who := orchestrator.Actor{Name: "ann", Kind: orchestrator.ActorUser, Role: "admin", Address: want, Request: a.header.Get("X-Request-Id")}
		if entries[0].Actor != who {
			t.Errorf("%q: %+v, want %+v", forwarded, entries[0].Actor, who)
		}
		r.must("DELETE /v1/image-types/app", "")
	}
}

// TestCookies sets and reads the session's cookie as the console does, with TLS, without,
// and behind a proxy that is trusted or not.
func TestCookies(t *testing.T) {
	for _, c := range []struct {
		name    string
		proxies []string
		header  string
		tls     bool
		cookie  string
		secure  bool
	}{
		{name: "plain", cookie: "davit"},
		{name: "TLS", tls: true, cookie: "__Host-davit", secure: true},
		{name: "proxy", proxies: []string{"192.0.2.1"}, header: "https", cookie: "__Host-davit", secure: true},
		{name: "proxy without TLS", proxies: []string{"192.0.2.1"}, header: "http", tls: true, cookie: "davit"},
		{name: "stranger", header: "https", cookie: "davit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var token, address string
			r := newAPI(t, func(o *gateway.APIOptions) {
				o.TrustedProxies = c.proxies
				o.Console = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
					token, address = gateway.SessionToken(q), gateway.ClientAddress(q)
					gateway.SetSessionCookie(w, q, people.Session{Token: "secret"})
					gateway.ClearSessionCookie(w, q)
				})
				api, err := gateway.NewAPI(*o)
				if err != nil {
					t.Fatal(err)
				}
				q := httptest.NewRequest(http.MethodGet, "/", nil) // from 192.0.2.1
				q.AddCookie(&http.Cookie{Name: c.cookie, Value: "the token"})
				q.Header.Set("X-Forwarded-Proto", c.header)
				if c.tls {
					q.TLS = &tls.ConnectionState{}
				}
				w := httptest.NewRecorder()
				api.ServeHTTP(w, q)
				set := w.Result().Cookies()
				if len(set) != 2 || set[1].MaxAge >= 0 || set[1].Name != c.cookie {
					t.Fatalf("%+v", set)
				}
				if k := set[0]; k.Name != c.cookie || k.Value != "secret" || k.Secure != c.secure || !k.HttpOnly || k.SameSite != http.SameSiteLaxMode || k.Path != "/" || k.Domain != "" {
					t.Errorf("%+v", k)
				}
			})
			r.stop()
			if token != "the token" || address != "192.0.2.1" {
				t.Errorf("token %q, address %q", token, address)
			}
		})
	}
}

func TestEveryAnswerHasItsHeaders(t *testing.T) {
	r := newAPI(t, func(o *gateway.APIOptions) {
		o.Console = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			_, ok := people.PrincipalOf(q.Context())
			_, _ = io.WriteString(w, "console "+map[bool]string{true: "known", false: "unknown"}[ok])
		})
	})
	for call, body := range map[string]string{
		"GET /v1/jobs": "", "GET /v1/nothing": "", "GET /v1": "", "GET /livez": "", "GET /readyz": "", "GET /openapi.yaml": "", "GET /metrics": "",
		"GET /": "console known", "GET /devices/x": "console known", "POST /sign-in": "console known", "GET /v1x": "console known",
	} {
		a := r.do(call, "")
		if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Referrer-Policy") != "same-origin" {
			t.Errorf("%s: %v", call, a.header)
		}
		if fresh := strings.Contains(call, "/v1/") || strings.HasSuffix(call, "livez") || strings.HasSuffix(call, "readyz"); fresh != (a.header.Get("Cache-Control") == "no-store") {
			t.Errorf("%s: Cache-Control %q", call, a.header.Get("Cache-Control"))
		}
		if isConsole := strings.HasPrefix(a.body, "console"); isConsole != (body != "") || body != "" && a.body != body {
			t.Errorf("%s: %.40q, want %q", call, a.body, body)
		}
	}
	if a := r.with("GET /devices", ""); a.body != "console unknown" {
		t.Errorf("%s", a.body)
	}
	if a := r.with("POST /sign-in", "", "Origin: https://evil.example.com"); a.status != http.StatusForbidden {
		t.Errorf("a sign-in from another site: %d", a.status)
	}
}

func TestBehindAProxyThePublicURLIsOurs(t *testing.T) {
	r := newAPI(t, func(o *gateway.APIOptions) { o.PublicURL = "https://davit.example.com" })
	cookie := "Cookie: davit=" + r.signedIn("ann")
	if a := r.with("POST /v1/image-types", `{"id":"app"}`, cookie, "Origin: https://davit.example.com"); a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestPeopleOverHTTP(t *testing.T) {
	r := newAPI(t, nil)
	a := r.must("POST /v1/users", `{"name":"bob","role":"operator","password":"`+userPassword+`"}`)
	if a.header.Get("Location") != "/v1/users/bob" || a.header.Get("ETag") != `"1"` || strings.Contains(a.body, "argon2id") {
		t.Errorf("%v %s", a.header, a.body)
	}
	if a := r.with("PATCH /v1/users/bob", `{"role":"viewer"}`, "Authorization: Bearer "+adminToken, `If-Match: "7"`); a.status != http.StatusPreconditionFailed {
		t.Errorf("%d %s", a.status, a.body)
	}
	a = r.do("POST /v1/users", `{"name":"eve","role":"viewer","password":"short"}`)
	if p := a.problem(t); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `"/password"`) {
		t.Errorf("%d %+v", a.status, p)
	}
	var made people.NewSecret
	if err := json.Unmarshal([]byte(r.must("POST /v1/tokens?user=bob", `{"name":"lab","scopes":["account","read"]}`).body), &made); err != nil {
		t.Fatal(err)
	}
	bob := "Authorization: Bearer " + made.Secret
	if a := r.with("GET /v1/me", "", bob); a.status != 200 || !strings.Contains(a.body, `"scopes":["account","read"]`) || !strings.Contains(a.body, `"role":"operator"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := r.with("POST /v1/tokens", `{"name":"more"}`, bob); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a restricted token made one that is not: %d %s", a.status, a.body)
	}
	for _, call := range []string{"GET /v1/tokens?user=ann", "GET /v1/tokens?user=*", "DELETE /v1/tokens/x?user=ann"} {
		if a := r.with(call, "", bob); a.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", call, a.status, a.body)
		}
	}
	if a := r.do("GET /v1/tokens?user=*", ""); a.status != 200 || !strings.Contains(a.body, made.ID) || strings.Contains(a.body, made.Secret) {
		t.Errorf("%d %s", a.status, a.body)
	}
	for range 4 {
		if a := r.with("POST /v1/me/password", `{"old":"a wrong password","new":"another password"}`, bob); a.status != http.StatusForbidden {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if a := r.with("POST /v1/me/password", `{"old":"`+userPassword+`","new":"another password"}`, bob); a.status != http.StatusNoContent {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := r.do("POST /v1/me/password", `{"old":"x","new":"another password"}`); a.status != http.StatusConflict || !strings.Contains(a.body, "a token of your own") || !strings.Contains(a.body, "PATCH /v1/users/NAME") {
		t.Errorf("with the token of the data folder: %d %s", a.status, a.body)
	}
	r.must("DELETE /v1/users/bob", "")
	if a := r.with("GET /v1/me", "", bob); a.status != http.StatusUnauthorized || !strings.Contains(a.header.Get("WWW-Authenticate"), "invalid_token") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestCreationsOfPeopleHappenOnceForAKey(t *testing.T) {
	r := newAPI(t, nil)
	admin := "Authorization: Bearer " + adminToken
	r.must("POST /v1/users", `{"name":"ann","role":"admin"}`)
	for _, c := range []struct{ call, body, once string }{
		{"POST /v1/users", `{"name":"bob","role":"viewer"}`, ""}, {"POST /v1/tokens?user=ann", `{"name":"ci"}`, "davit_"},
	} {
		first := r.with(c.call, c.body, admin, "Idempotency-Key: k")
		again := r.with(c.call, c.body, admin, "Idempotency-Key: k")
		if first.status != 201 || again.status != 201 || again.header.Get("Idempotency-Replayed") != "true" || again.header.Get("Location") != first.header.Get("Location") {
			t.Errorf("%s: %d %s, then %d %s", c.call, first.status, first.body, again.status, again.body)
		}
		if c.once != "" && (!strings.Contains(first.body, c.once) || strings.Contains(again.body, c.once)) {
			t.Errorf("%s: the secret is not shown once: %s, then %s", c.call, first.body, again.body)
		}
	}
}
