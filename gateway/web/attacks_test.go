package web

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"davit/gateway"
	"davit/gateway/people"
	"davit/orchestrator"
)

// site is the console behind the API, as it is served.
type site struct {
	*rig
	url  string
	made seeded
}

// browse is one request, which follows no redirect. Its headers are "Name: value".
func (s *site) browse(method, path, form string, headers ...string) *http.Response {
	s.t.Helper()
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(form))
	s.ok(err)
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if req.Header.Add(name, value); name == "Host" {
			req.Host = value
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	s.ok(err)
	body, err := io.ReadAll(resp.Body)
	s.ok(err)
	s.ok(resp.Body.Close())
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	return resp
}

func newSite(t *testing.T) *site {
	t.Helper()
	r := newRig(t)
	r.start()
	made := r.seed()
	api, err := gateway.NewAPI(gateway.APIOptions{
		Service: r.Service, Credentials: &keyring{principals: map[string]gateway.Principal{}}, People: r.people, Console: r.console, Log: slog.New(slog.DiscardHandler),
	})
	r.ok(err)
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	return &site{rig: r, url: server.URL, made: made}
}

// from says that a form is this site's own.
const from = "Sec-Fetch-Site: same-origin"

// signIn signs somebody in with the cookies that the browser has, and returns the
// session's cookie.
func (s *site) signIn(role people.Role, cookies string) string {
	s.t.Helper()
	form := url.Values{"name": {"the-" + string(role)}, "password": {"planted-secret-of-" + string(role)}}.Encode()
	headers := []string{from}
	if cookies != "" {
		headers = append(headers, "Cookie: "+cookies)
	}
	resp := s.browse("POST", "/sign-in", form, headers...)
	for _, c := range resp.Cookies() {
		if c.Name == "davit" && c.Value != "" {
			return c.Name + "=" + c.Value
		}
	}
	s.t.Fatalf("signing in as %s: %d without a session", role, resp.StatusCode)
	return ""
}

// pages are some of every kind, with one that is not there.
func (s *site) pages() []string {
	return []string{
		"/", "/sign-in", "/devices", "/devices/lab-00", "/images", "/images/" + s.made.image, "/jobs", "/jobs/first", "/new/job", "/new/image", "/groups/lab",
		"/people", "/account", "/audit", "/help", "/no/such/page", s.console.static.url("app.css"),
	}
}

// Every page has the policy, and nothing in it that the policy would have to allow:
// no script or style in the page itself, no handler in an attribute.
func TestContentSecurityPolicy(t *testing.T) {
	s := newSite(t)
	ann := s.signIn(people.RoleAdmin, "")
	inline := regexp.MustCompile(`(?i)<script(?:[^>]*\ssrc=)?[^>]*>[^<]|<style|\sstyle=|\son[a-z]+=["']|javascript:|<base|<iframe|<object`)
	for _, path := range s.pages() {
		resp := s.browse("GET", path, "", "Cookie: "+ann)
		got := resp.Header.Values("Content-Security-Policy")
		if len(got) != 1 || got[0] != policy {
			t.Errorf("%s: policy %q", path, got)
		}
		body, _ := io.ReadAll(resp.Body)
		if strings.Contains(resp.Header.Get("Content-Type"), "text/html") {
			if found := inline.Find(body); found != nil {
				t.Errorf("%s: %q in the page", path, found)
			}
		}
	}
	for _, word := range []string{"unsafe", "*", "http:", "https:"} {
		if strings.Contains(policy, word) {
			t.Errorf("the policy allows %q", word)
		}
	}
	for _, path := range []string{"/v1/jobs", "/livez", "/openapi.json"} {
		if got := s.browse("GET", path, "").Header.Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none'") {
			t.Errorf("%s: policy %q", path, got)
		}
	}
}

// No page lets itself be shown inside one of another site, nor does an answer of the
// API.
func TestClickjacking(t *testing.T) {
	s := newSite(t)
	ann := s.signIn(people.RoleAdmin, "")
	for _, path := range append(s.pages(), "/v1/jobs", "/livez") {
		h := s.browse("GET", path, "", "Cookie: "+ann).Header
		if !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %q, %q", path, h.Get("Content-Security-Policy"), h.Get("X-Frame-Options"))
		}
	}
}

// A form that another site has a browser send changes nothing, whatever it says of where
// it comes from, and signs nobody in.
func TestCrossSiteRequestForgery(t *testing.T) {
	s := newSite(t)
	ann := "Cookie: " + s.signIn(people.RoleAdmin, "")
	origin := "Origin: " + s.url
	for _, headers := range [][]string{
		{"Origin: https://evil.example.com"}, {"Origin: null"}, {"Sec-Fetch-Site: cross-site"}, {"Sec-Fetch-Site: same-site"}, {},
		{"Origin: " + s.url + ".evil.example.com"}, {"Referer: " + s.url + "/groups"}, {origin, "Sec-Fetch-Site: cross-site"},
		{"Origin: https://evil.example.com", "X-Forwarded-Host: evil.example.com"}, {"Origin: https://evil.example.com", "X-HTTP-Method-Override: GET"},
	} {
		if resp := s.browse("POST", "/groups/lab/delete", "x=y", append(headers, ann)...); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%q: %d", headers, resp.StatusCode)
		}
		if _, err := s.Group(background, "lab"); err != nil {
			t.Fatalf("%q: %v", headers, err)
		}
	}
	if resp := s.browse("POST", "/sign-in", "name=the-admin&password=planted-secret-of-admin", "Origin: https://evil.example.com"); resp.StatusCode != http.StatusForbidden || len(resp.Cookies()) > 0 {
		t.Errorf("a sign-in from another site: %d", resp.StatusCode)
	}
	if resp := s.browse("GET", "/groups/lab/delete", "", ann, origin); resp.StatusCode < 400 {
		t.Errorf("GET deletes: %d", resp.StatusCode)
	}
	if resp := s.browse("POST", "/groups/lab/delete", "x=y", ann, origin); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the site's own form: %d", resp.StatusCode)
	}
}

// A session never has an id that the browser brought along. Signing in ends the session
// that it had, and a new password ends all of the user's.
func TestSessionFixation(t *testing.T) {
	s := newSite(t)
	works := func(cookie string) bool {
		return s.browse("GET", "/devices", "", "Cookie: "+cookie).StatusCode == http.StatusOK
	}
	planted := "davit=planted-by-the-attacker-0123456789abcdef"
	if got := s.signIn(people.RoleViewer, planted); got == planted || works(planted) {
		t.Error("the planted id became a session")
	}
	attackers := s.signIn(people.RoleViewer, "")
	victims := s.signIn(people.RoleAdmin, attackers)
	if victims == attackers || works(attackers) || !works(victims) {
		t.Errorf("the attacker's session: the same %t, works %t; the victim's works %t", victims == attackers, works(attackers), works(victims))
	}
	other := s.signIn(people.RoleAdmin, "")
	change := url.Values{"old": {"planted-secret-of-admin"}, "new": {"planted-secret-horse"}, "again": {"planted-secret-horse"}}.Encode()
	if resp := s.browse("POST", "/account/password", change, from, "Cookie: "+victims); resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("changing the password: %d", resp.StatusCode)
	}
	if works(victims) || works(other) {
		t.Error("sessions live on after the password was changed")
	}
}

// After signing in one goes on at a path of this site, however another is written.
func TestOpenRedirect(t *testing.T) {
	s := newSite(t)
	ann := s.signIn(people.RoleViewer, "")
	for next, want := range map[string]string{
		"/devices": "/devices", "/devices?type=a&page=2": "/devices?type=a&page=2", "": "/",
		"//evil.example.com": "/", "///evil.example.com": "/", `/\evil.example.com`: "/", `\\evil.example.com`: "/", `\/evil.example.com`: "/",
		"https://evil.example.com": "/", "https:evil.example.com": "/", "https:/evil.example.com": "/", "HTTPS://evil.example.com": "/",
		"javascript:alert(1)": "/", "data:text/html,x": "/", "evil.example.com": "/", "@evil.example.com": "/", ".evil.example.com": "/",
		"/\t/evil.example.com": "/", "/\n/evil.example.com": "/", "/\r\n/evil.example.com": "/", "\t//evil.example.com": "/", " //evil.example.com": "/", "/\x00/evil.example.com": "/",
		"/devices\r\nSet-Cookie: a=b": "/", "?next=//evil.example.com": "/", "#//evil.example.com": "/",
	} {
		// httptest resolves nothing: what stands in the header is what a browser gets.
		got := s.browse("GET", "/sign-in?"+url.Values{"next": {next}}.Encode(), "", "Cookie: "+ann).Header.Get("Location")
		form := url.Values{"name": {"the-viewer"}, "password": {"planted-secret-of-viewer"}, "next": {next}}.Encode()
		posted := s.browse("POST", "/sign-in", form, from)
		if got != want || posted.Header.Get("Location") != want {
			t.Errorf("%q leads to %q, and after signing in with %d to %q; want %q", next, got, posted.StatusCode, posted.Header.Get("Location"), want)
		}
	}
	// What is only written in percent signs stays a path.
	for _, next := range []string{"/%2f%2fevil.example.com", "/%5cevil.example.com", "/%09/evil.example.com", "/.//evil.example.com", "/x/..//evil.example.com"} {
		at, err := url.Parse(s.url + "/sign-in")
		s.ok(err)
		to, err := at.Parse(s.browse("GET", "/sign-in?"+url.Values{"next": {next}}.Encode(), "", "Cookie: "+ann).Header.Get("Location"))
		s.ok(err)
		if to.Host != at.Host {
			t.Errorf("%q leads to %s", next, to)
		}
	}
}

// raw sends a request line as it is, which no client of Go's would.
func (s *site) raw(target, cookie string) *http.Response {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	s.ok(err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: davit\r\nCookie: %s\r\nConnection: close\r\n\r\n", target, cookie)
	s.ok(err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	s.ok(err)
	body, err := io.ReadAll(resp.Body)
	s.ok(err)
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	return resp
}

// No way of writing a path leads out of what is served, nor to another site.
func TestPathTraversal(t *testing.T) {
	s := newSite(t)
	ann := s.signIn(people.RoleAdmin, "")
	up := []string{"../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%252f", "%252e%252e%252f", `..\`, "..%5c", "..%255c", "..;/", "....//", "..%c0%af", "%00../"}
	for _, base := range []string{"/static/", "/v1/images/", "/v1/uploads/", "/images/", "/devices/", "/"} {
		for _, u := range up {
			for _, file := range []string{"etc/passwd", "davit.db", "admin.token", "credentials.json", "go.mod"} {
				target := base + strings.Repeat(u, 6) + file
				if base == "/v1/images/" {
					target += "/content"
				}
				resp := s.raw(target, ann)
				if resp.StatusCode < 300 {
					t.Errorf("%s: %d", target, resp.StatusCode)
				}
				if to := resp.Header.Get("Location"); strings.HasPrefix(to, "//") || strings.HasPrefix(to, `/\`) || strings.Contains(to, "://") {
					t.Errorf("%s leads to %s", target, to)
				}
			}
		}
	}
	for _, target := range []string{"//evil.example.com/..", "//evil.example.com/%2e%2e", "///evil.example.com/../", `/\evil.example.com/..`} {
		if to := s.raw(target, ann).Header.Get("Location"); strings.HasPrefix(to, "//") || strings.HasPrefix(to, `/\`) || strings.Contains(to, "://") {
			t.Errorf("%s leads to %s", target, to)
		}
	}
}

// What people upload is handed out as bytes to be saved, whatever it looks like, and
// no browser is to guess what anything is.
func TestContentSniffing(t *testing.T) {
	s := newSite(t)
	ann := s.signIn(people.RoleAdmin, "")
	ctx := as(background, people.RoleAdmin)
	image := must[orchestrator.Image](t)(s.UploadImage(ctx, orchestrator.NewImage{
		ImageType: "application", DeviceTypes: []string{"thermostat"}, Version: "6.6.6", Format: "binary", FileName: "page.html",
	}, strings.NewReader("<!DOCTYPE html><script>alert(1)</script>")))
	h := s.browse("GET", "/v1/images/"+image.ID+"/content", "", "Cookie: "+ann).Header
	if h.Get("Content-Type") != "application/octet-stream" || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment") {
		t.Errorf("a download: %v", h)
	}
	for _, path := range append(s.pages(), "/v1/jobs", "/v1/nothing", "/livez", "/v1/images/"+image.ID+"/content") {
		h := s.browse("GET", path, "", "Cookie: "+ann).Header
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Type") == "" && h.Get("Location") == "" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

// No other site may read an answer or is told what it may ask.
func TestCORSIsClosed(t *testing.T) {
	s := newSite(t)
	ann := s.signIn(people.RoleAdmin, "")
	for _, path := range []string{"/", "/devices", "/v1/jobs", "/v1/events", "/livez", "/openapi.json", "/sign-in"} {
		for _, method := range []string{"OPTIONS", "HEAD"} {
			resp := s.browse(method, path, "", "Cookie: "+ann, "Origin: https://evil.example.com", "Access-Control-Request-Method: DELETE", "Access-Control-Request-Headers: authorization")
			for name := range resp.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s %s: %s", method, path, name)
				}
			}
			if method == "OPTIONS" && resp.StatusCode < 400 {
				t.Errorf("OPTIONS %s: %d", path, resp.StatusCode)
			}
		}
	}
}

// What a request says of the host that it asks stands in no answer, so that nobody is led
// there, by a cache or otherwise.
func TestHostHeaderLeadsNowhere(t *testing.T) {
	s := newSite(t)
	ann := s.signIn(people.RoleAdmin, "")
	for _, path := range append(s.pages(), "/v1/jobs", "/v1", "/static", "/devices/", "/favicon.ico") {
		for _, cookie := range []string{"", ann} {
			resp := s.browse("GET", path, "", "Cookie: "+cookie, "Host: evil.example.com", "X-Forwarded-Host: evil.example.com", "Forwarded: host=evil.example.com", "X-Original-URL: //evil.example.com")
			body, _ := io.ReadAll(resp.Body)
			if strings.Contains(string(body), "evil.example") || strings.Contains(fmt.Sprint(resp.Header), "evil.example") {
				t.Errorf("%s: %v %.300s", path, resp.Header, body)
			}
		}
	}
}

// Neither a browser nor a proxy keeps what only who has signed in may see.
func TestPrivatePagesAreNotCached(t *testing.T) {
	s := newSite(t)
	ann := s.signIn(people.RoleAdmin, "")
	for _, path := range append(s.pages(), "/v1/jobs", "/v1/me", "/v1/images/"+s.made.image+"/content") {
		got := s.browse("GET", path, "", "Cookie: "+ann).Header.Get("Cache-Control")
		if static := strings.HasPrefix(path, "/static/"); !static && got != "no-store" || static && !strings.HasPrefix(got, "public") {
			t.Errorf("%s: Cache-Control %q", path, got)
		}
	}
}
