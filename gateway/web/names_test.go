package web

import (
	"net/http"
	"strings"
	"testing"

	"davit/gateway/people"
	"davit/orchestrator"
)

// TestRecordsOfAnyName: forms have paths that no record can have, so that what is
// called like a form has its page nevertheless.
func TestRecordsOfAnyName(t *testing.T) {
	r := newRig(t)
	r.start()
	s := r.seed()
	admin := people.RoleAdmin
	leads(t, r.post(admin, "/new/device-type", "id", "new", "dialect", "ayla", "enable", "application"), "/device-types", "")
	for _, id := range []string{"new", "import"} {
		wants(t, r.post(admin, "/new/device", "id", id, "type", "thermostat"), http.StatusOK, "planted-secret-password-")
	}
	leads(t, r.post(admin, "/new/group", "kind", "static", "id", "new", "devices", "new import"), "/groups/new", "created")
	leads(t, r.post(admin, "/new/job", "image", s.image, "name", "new", "target", "devices", "device", "new"), "/jobs/new", "created")
	wants(t, r.post(admin, "/bridges", "id", "rack", "devices", "import"), http.StatusOK, "planted-secret-password-")
	for path, words := range map[string][]string{
		"/device-types/new": {"<h1>new</h1>", `action="/device-types/new/delete"`},
		"/devices/new":      {"<h1>new</h1>", `action="/devices/new/delete"`},
		"/devices/import":   {"<h1>import</h1>", `action="/devices/import/delete"`},
		"/groups/new":       {"<h1>new</h1>", `action="/groups/new/delete"`},
		"/jobs/new":         {"<h1>new</h1>", `action="/jobs/new/start"`},

		"/new/device-type": {"<h1>New device type</h1>"}, "/new/device": {"<h1>New device</h1>"}, "/import/devices": {"<h1>Import devices</h1>"},
		"/new/group": {"<h1>New group</h1>"}, "/new/job": {"<h1>New job</h1>"}, "/new/image": {"<h1>Upload an image</h1>"},
	} {
		t.Log(path)
		wants(t, r.get(admin, path), http.StatusOK, words...)
	}
	leads(t, r.post(admin, "/jobs/new/start"), "/jobs/new", "started")
	if j, err := r.Job(t.Context(), "new"); err != nil || j.State != orchestrator.JobRunning {
		t.Errorf("the job called new: %+v %v", j, err)
	}
}

// TestNoPageHidesARecord: where a wildcard stands in a route's path, no other route
// has a word.
func TestNoPageHidesARecord(t *testing.T) {
	routes := newRig(t).console.routes
	for _, wild := range routes {
		for _, word := range routes {
			if hides(word.pattern, wild.pattern) {
				t.Errorf("%q hides records of %q", word.pattern, wild.pattern)
			}
		}
	}
	if !hides("GET /jobs/new", "GET /jobs/{name}") || hides("GET /jobs/{name}", "GET /jobs/{name}") || hides("POST /jobs/new", "GET /jobs/{name}") {
		t.Error("the test would not see it")
	}
}

// hides says whether the pattern one takes paths away from the pattern other.
func hides(one, other string) bool {
	a, b := strings.Split(one, "/"), strings.Split(other, "/")
	if len(a) != len(b) || a[0] != b[0] {
		return false
	}
	stricter := false
	for i := range a {
		wildA, wildB := strings.HasPrefix(a[i], "{"), strings.HasPrefix(b[i], "{") && b[i] != "{$}"
		switch {
		case wildB && !wildA:
			stricter = true
		case wildB != wildA, !wildB && a[i] != b[i]:
			return false
		}
	}
	return stricter
}
