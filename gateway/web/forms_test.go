package web

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"davit/gateway/people"
	"davit/orchestrator"
)

// wants fails the test unless the answer has the status and the words.
func wants(t testing.TB, w *httptest.ResponseRecorder, status int, words ...string) {
	t.Helper()
	if w.Code != status {
		t.Errorf("status %d, want %d; to %q: %.600s", w.Code, status, w.Header().Get("Location"), w.Body)
	}
	for _, word := range words {
		if !strings.Contains(w.Body.String(), word) {
			_, main, _ := strings.Cut(w.Body.String(), "<main")
			t.Errorf("the page does not say %q: %.3000s", word, main)
		}
	}
}

// leads fails the test unless the answer leads to a path with the message.
func leads(t testing.TB, w *httptest.ResponseRecorder, to, message string) {
	t.Helper()
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != to {
		t.Errorf("%d to %q, want %q: %.300s", w.Code, w.Header().Get("Location"), to, w.Body)
	}
	said := ""
	for _, c := range w.Result().Cookies() {
		if c.Name == flashCookie {
			b, err := base64.RawURLEncoding.DecodeString(c.Value)
			if err != nil {
				t.Error(err)
			}
			said = string(b)
		}
	}
	if !strings.Contains(said, message) {
		t.Errorf("the next page would say %q, want %q", said, message)
	}
}

func TestFirstRun(t *testing.T) {
	r := newRig(t)
	if w := r.get("", "/devices"); w.Header().Get("Location") != "/welcome" {
		t.Errorf("a system without users leads to %q", w.Header().Get("Location"))
	}
	form := []string{"admin_token", "planted-secret-guess", "name", "ada", "display_name", "Ada L", "password", "planted-secret-horse", "again", "planted-secret-horse"}
	wants(t, r.post("", "/welcome", form...), http.StatusUnprocessableEntity, "admin.token", `value="ada"`)
	form[1] = adminToken
	w := r.post("", "/welcome", form...)
	leads(t, w, wizardPath, "")
	if c := w.Result().Cookies(); len(c) == 0 || !c[0].HttpOnly {
		t.Errorf("no session cookie: %v", c)
	}
	leads(t, r.post("", "/welcome", form...), "/", "") // somebody else was first
	wants(t, r.get(people.RoleAdmin, wizardPath), http.StatusOK, "application", "bootloader", "graphics")
	wants(t, r.post(people.RoleAdmin, wizardPath), http.StatusUnprocessableEntity, "Tick at least one")
	wants(t, r.post(people.RoleAdmin, wizardPath, "suggested", "application", "id-1", "not an id"), http.StatusUnprocessableEntity, "not an id")
	leads(t, r.post(people.RoleAdmin, wizardPath, "suggested", "application", "suggested", "graphics", "id-1", "radio", "name-1", "Radio"), "/", "image types are there")
	types, _, err := r.ImageTypes(background, orchestrator.Page{})
	r.ok(err)
	if len(types) != 3 {
		t.Errorf("image types %v", types)
	}
}

func TestSignIn(t *testing.T) {
	r := newRig(t)
	must[people.User](t)(r.people.CreateUser(background, people.NewUser{Name: "ada", Role: people.RoleViewer, Password: "planted-secret-horse"}))
	must[orchestrator.ImageType](t)(r.CreateImageType(background, orchestrator.NewImageType{ID: "app"}))
	if w := r.get("", "/jobs?state=running"); w.Header().Get("Location") != "/sign-in?next=%2Fjobs%3Fstate%3Drunning" {
		t.Errorf("leads to %q", w.Header().Get("Location"))
	}
	wants(t, r.post("", "/sign-in", "name", "ada", "password", "planted-secret-wrong", "next", "/jobs"), http.StatusUnauthorized, "The name or the password is wrong", `value="ada"`, `value="/jobs"`)
	leads(t, r.post("", "/sign-in", "name", "ada", "password", "planted-secret-horse", "next", "/jobs"), "/jobs", "")
	for _, elsewhere := range []string{"https://evil.example", "//evil.example", "/\\evil.example", "evil"} {
		leads(t, r.post("", "/sign-in", "name", "ada", "password", "planted-secret-horse", "next", elsewhere), "/", "")
	}
	locked := false
	for range 12 {
		w := r.post("", "/sign-in", "name", "ada", "password", "planted-secret-wrong")
		locked = locked || w.Code == http.StatusTooManyRequests && strings.Contains(w.Body.String(), "locked for another")
	}
	if !locked {
		t.Error("wrong passwords do not lock the name")
	}
	leads(t, r.post(people.RoleViewer, "/sign-out"), "/sign-in", "signed out")
}

// TestStrangersSendShortForms: whoever has not signed in cannot fill the memory.
func TestStrangersSendShortForms(t *testing.T) {
	r := newRig(t)
	must[people.User](t)(r.people.CreateUser(background, people.NewUser{Name: "ada", Role: people.RoleViewer, Password: "planted-secret-horse"}))
	for _, path := range []string{"/sign-in", "/welcome"} {
		body := strings.NewReader("name=ada&password=" + strings.Repeat("x", 8<<20))
		whole := body.Len()
		req := httptest.NewRequest(http.MethodPost, path, body)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := r.do("", req)
		if read := whole - body.Len(); w.Code < 400 || read > 64<<10 {
			t.Errorf("%s: %d after %d bytes were read", path, w.Code, read)
		}
	}
}

// TestTheConsoleIsForSessions: a token, which may be restricted, opens no page, whatever
// its owner may do.
func TestTheConsoleIsForSessions(t *testing.T) {
	r := newRig(t)
	must[people.User](t)(r.people.CreateUser(background, people.NewUser{Name: "ada", Role: people.RoleAdmin, Password: "planted-secret-horse"}))
	for _, p := range []people.Principal{
		{User: "ada", Role: people.RoleAdmin, Token: "tok-1", Restricted: true, Scopes: []people.Scope{people.ScopeDevices}},
		{User: people.AdminTokenUser, Role: people.RoleAdmin, Token: people.AdminTokenUser},
	} {
		for _, path := range []string{"/", "/new/device", "/help", "/account"} {
			req := httptest.NewRequest(http.MethodGet, path, nil)
			w := httptest.NewRecorder()
			r.console.ServeHTTP(w, req.WithContext(people.WithPrincipal(background, p)))
			if w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/sign-in") {
				t.Errorf("%s with a token: %d, %q", path, w.Code, w.Header().Get("Location"))
			}
		}
	}
}

func TestDeviceForms(t *testing.T) {
	r := newRig(t)
	r.start()
	r.seed()
	wants(t, r.post(people.RoleOperator, "/new/device", "id", "bad id", "type", "thermostat"), http.StatusUnprocessableEntity, `aria-invalid="true"`, `id="f-id-error"`, `value="bad id"`)
	wants(t, r.post(people.RoleOperator, "/new/device", "id", "x", "type", "thermostat", "labels", "=berlin"), http.StatusUnprocessableEntity, "no name before the =", "f-labels-error")
	w := r.post(people.RoleOperator, "/new/device", "id", "new-1", "type", "thermostat", "labels", "site=oslo\n\nrack = 3")
	wants(t, w, http.StatusOK, "shown only now", "planted-secret-password-")
	if w.Header().Get("Cache-Control") != "no-store" {
		t.Error("a password may be cached")
	}
	d := must[orchestrator.Device](t)(r.Device(background, "new-1"))
	if d.Labels["site"] != "oslo" || d.Labels["rack"] != "3" {
		t.Errorf("labels %v", d.Labels)
	}
	leads(t, r.post(people.RoleOperator, "/devices/new-1/labels", "labels", "site=bergen", "revision", "1"), "/devices/new-1", "saved")
	wants(t, r.post(people.RoleOperator, "/devices/new-1/labels", "labels", "site=rome", "revision", "1"),
		http.StatusPreconditionFailed, "Somebody else has changed this", "site=rome", `name="revision" value="2"`)
	leads(t, r.post(people.RoleOperator, "/devices/new-1/labels", "labels", "site=rome", "revision", "2"), "/devices/new-1", "saved")
	wants(t, r.post(people.RoleOperator, "/devices/new-1/rotate"), http.StatusOK, "shown only now", "not accepted any more")
	leads(t, r.post(people.RoleOperator, "/devices/lab-01/delete"), "/devices/lab-01", "in use")
	leads(t, r.post(people.RoleOperator, "/devices/new-1/delete"), "/devices", "decommissioned")
	wants(t, r.get(people.RoleOperator, "/devices/new-1"), http.StatusNotFound, "does not exist")
	wants(t, r.post(people.RoleViewer, "/devices/lab-05/delete"), http.StatusForbidden, "takes the role operator", "yours is viewer")
	wants(t, r.get(people.RoleViewer, "/devices?query=bogus+%3D"), http.StatusUnprocessableEntity, "query")
	wants(t, r.get(people.RoleViewer, "/devices?label=rack=1&online=yes"), http.StatusOK, "lab-01", "lab-04")
}

func TestImport(t *testing.T) {
	r := newRig(t)
	r.start()
	r.seed()
	const list = "id,type,label.site\nimp-1,thermostat,oslo\nlab-00,thermostat,oslo\nimp-2,nonsense,oslo\n"
	wants(t, r.post(people.RoleOperator, "/import/devices", "csv", list, "do", "import"), http.StatusOK, "nothing was imported", "imp-2", "lab-00")
	const good = "id,type,label.site\nimp-1,thermostat,oslo\nimp-2,thermostat,bergen\n"
	wants(t, r.post(people.RoleOperator, "/import/devices", "csv", good, "do", "check", "credentials", "on"), http.StatusOK, "not imported yet")
	if _, err := r.Device(background, "imp-1"); err == nil {
		t.Error("a check has imported")
	}
	wants(t, r.post(people.RoleOperator, "/import/devices", "csv", good, "do", "import", "credentials", "on"), http.StatusOK, "imp-1,planted-secret-password-", "imp-2,planted-secret-password-")
	wants(t, r.post(people.RoleOperator, "/import/devices", "csv", "", "do", "check"), http.StatusUnprocessableEntity, "empty")
}

func TestGroupForms(t *testing.T) {
	r := newRig(t)
	r.start()
	r.seed()
	wants(t, r.get(people.RoleOperator, "/new/group?query=label.rack+%3D%3D+%221%22"), http.StatusOK, "<strong>4 devices</strong>", "lab-01")
	wants(t, r.get(people.RoleOperator, "/new/group?query=nonsense+%28"), http.StatusOK, "field-error")
	wants(t, r.post(people.RoleOperator, "/new/group", "kind", "dynamic", "id", "q", "query", "bogus and"), http.StatusUnprocessableEntity, "query-error", "bogus and")
	leads(t, r.post(people.RoleOperator, "/new/group", "kind", "static", "id", "s", "devices", "lab-01\nlab-02", "device", "lab-03"), "/groups/s", "created")
	if g := must[orchestrator.Group](t)(r.Group(background, "s")); len(g.Devices) != 3 {
		t.Errorf("members %v", g.Devices)
	}
	wants(t, r.get(people.RoleOperator, "/new/group?kind=static&find=lab-07&device=lab-02"), http.StatusOK, `value="lab-02" checked`, `value="lab-07"`)
	wants(t, r.get(people.RoleOperator, "/groups/s/edit"), http.StatusOK, "lab-02", `value="1"`)
	leads(t, r.post(people.RoleOperator, "/groups/s/edit", "kind", "static", "devices", "lab-09", "description", "d", "revision", "1"), "/groups/s", "saved")
	wants(t, r.post(people.RoleOperator, "/groups/s/edit", "kind", "static", "devices", "lab-08", "revision", "1"), http.StatusPreconditionFailed, "Somebody else", "lab-08", `value="2"`)
	leads(t, r.post(people.RoleOperator, "/groups/s/delete"), "/groups", "deleted")
}

func TestPeopleForms(t *testing.T) {
	r := newRig(t)
	r.start()
	r.seed()
	wants(t, r.post(people.RoleAdmin, "/people", "name", "eve", "role", "operator", "password", "short"), http.StatusUnprocessableEntity, "f-password-error", `value="eve"`)
	leads(t, r.post(people.RoleAdmin, "/people", "name", "eve", "role", "operator", "password", "planted-secret-eve"), "/people", "eve")
	leads(t, r.post(people.RoleAdmin, "/people/eve", "display_name", "Eve", "role", "developer", "revision", "1"), "/people/eve", "saved")
	wants(t, r.post(people.RoleAdmin, "/people/eve", "display_name", "Ev", "role", "viewer", "revision", "1"), http.StatusPreconditionFailed, "Somebody else", `value="Ev"`)
	leads(t, r.post(people.RoleAdmin, "/people/eve/disabled", "disabled", "yes"), "/people/eve", "may not sign in")
	wants(t, r.get(people.RoleAdmin, "/people"), http.StatusOK, "disabled")
	leads(t, r.post(people.RoleAdmin, "/people/the-admin/disabled", "disabled", "yes"), "/people/the-admin", "admin")
	leads(t, r.post(people.RoleAdmin, "/people/eve/delete"), "/people", "deleted")
	wants(t, r.post(people.RoleViewer, "/account/password", "old", "nonsense", "new", "planted-secret-another", "again", "planted-secret-another"), http.StatusUnprocessableEntity, "not your present password")
	leads(t, r.post(people.RoleViewer, "/account/password", "old", "planted-secret-of-viewer", "new", "planted-secret-another", "again", "planted-secret-another"), "/account", "changed")
	w := r.post(people.RoleViewer, "/account/tokens", "name", "laptop", "expires", "24h", "scope", "read")
	wants(t, w, http.StatusOK, "shown only now", "laptop")
	wants(t, r.post(people.RoleViewer, "/account/tokens", "name", "too much", "expires", "24h", "scope", "jobs:run"), http.StatusUnprocessableEntity, "field-error")
	tokens, _, err := r.people.Tokens(background, "the-viewer", orchestrator.Page{})
	r.ok(err)
	leads(t, r.post(people.RoleViewer, "/account/tokens/"+tokens[0].ID+"/delete"), "/account", "revoked")
}

func TestAuditShowsChanges(t *testing.T) {
	r := newRig(t)
	r.start()
	r.seed()
	r.post(people.RoleOperator, "/devices/lab-05/labels", "labels", "site=oslo", "revision", "1")
	wants(t, r.get(people.RoleAdmin, "/audit?kind=device&id=lab-05&action=update"), http.StatusOK, "the-operator", "labels / site", "berlin", "oslo", "/v1/audit/export?")
	wants(t, r.get(people.RoleAdmin, "/audit?from=yesterday"), http.StatusUnprocessableEntity, "2026-03-31")
	wants(t, r.get(people.RoleAdmin, "/audit?from=2001-01-01&to=2001-01-02"), http.StatusOK, "Nothing fits")
}

func TestStaticFiles(t *testing.T) {
	r := newRig(t)
	path := r.console.static.url("app.css")
	w := r.get("", path)
	wants(t, w, http.StatusOK, "light-dark")
	if !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || !strings.Contains(w.Header().Get("Content-Type"), "text/css") {
		t.Errorf("headers %v", w.Header())
	}
	req := httptest.NewRequest(http.MethodGet, path, nil)
	req.Header.Set("If-None-Match", w.Header().Get("ETag"))
	wants(t, r.do("", req), http.StatusNotModified)
	wants(t, r.get("", "/static/app.css"), http.StatusNotFound)
	wants(t, r.get(people.RoleViewer, "/no/such/page"), http.StatusNotFound, "There is nothing here")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} {
		if got := w.Header().Get("Content-Security-Policy"); !strings.Contains(got, want) {
			t.Errorf("policy %q lacks %q", got, want)
		}
	}
}

func TestFlashIsShownOnce(t *testing.T) {
	r := newRig(t)
	r.start()
	r.seed()
	w := r.post(people.RoleOperator, "/groups/berlin/delete")
	req := httptest.NewRequest(http.MethodGet, "/groups", nil)
	for _, c := range w.Result().Cookies() {
		req.AddCookie(c)
	}
	shown := r.do(people.RoleOperator, req)
	wants(t, shown, http.StatusOK, "Group berlin is deleted")
	if c := shown.Result().Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("the message stays: %v", c)
	}
	req = httptest.NewRequest(http.MethodGet, "/groups", nil)
	req.AddCookie(&http.Cookie{Name: flashCookie, Value: base64.RawURLEncoding.EncodeToString([]byte(`{"kind":"ok","text":"<script>alert(1)</script>"}`))})
	if strings.Contains(r.do(people.RoleOperator, req).Body.String(), "<script>alert") {
		t.Error("a message is not escaped")
	}
}

func TestFieldsHaveNamesThatPeopleRead(t *testing.T) {
	for field, want := range map[string]string{
		"admin_token":                    "Admin token",
		"again":                          "Password again",
		"device_types/0":                 "Device types 1",
		"image_types/1/version_property": "Image types 2, version property",
		"":                               "The form",
		"csv":                            "The list",
		"name":                           "Name",
		"limits/answer_timeout":          "Limits, answer timeout",
	} {
		if got := fieldName(field); got != want {
			t.Errorf("%q: got %q, want %q", field, got, want)
		}
	}
}
