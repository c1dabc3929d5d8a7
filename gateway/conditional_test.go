package gateway_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// ask makes a request with headers, given as "Name: value".
func (r *apiRig) ask(call, body string, headers ...string) answer {
	r.t.Helper()
	method, path, _ := strings.Cut(call, " ")
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	return r.send(req)
}

// TestEditsHaveConditions goes through If-Match and If-None-Match on every kind
// of record that can be edited.
func TestEditsHaveConditions(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	image := r.image("1.0", []byte("firmware"))
	r.must("POST /v1/groups", `{"id":"g","devices":["pump-1"]}`)
	r.must("POST /v1/jobs", `{"name":"j","image":"`+image+`","devices":["pump-1"]}`)
	r.must("POST /v1/users", `{"name":"eve","role":"viewer"}`)
	for _, c := range []struct {
		path, method, body string
		live               bool // changes by itself, so If-None-Match is not honoured
	}{
		{"/v1/image-types/app", "PATCH", `{"name":"%d"}`, false},
		{"/v1/device-types/pump", "PATCH", `{"name":"%d"}`, false},
		{"/v1/images/" + image, "PATCH", `{"description":"%d"}`, false},
		{"/v1/devices/pump-1", "PATCH", `{"labels":{"n":"%d"}}`, true},
		{"/v1/groups/g", "PUT", `{"description":"%d","devices":["pump-1"]}`, false},
		{"/v1/jobs/j", "PATCH", `{"description":"%d"}`, true},
		{"/v1/users/eve", "PATCH", `{"display_name":"%d"}`, false},
	} {
		n := 0
		edit := func(match string) answer {
			n++
			return r.ask(c.method+" "+c.path, fmt.Sprintf(c.body, n), "If-Match: "+match)
		}
		first := r.must("GET "+c.path, "").header.Get("ETag")
		if first != `"1"` {
			t.Errorf("%s: a new record has the ETag %s", c.path, first)
		}
		a := edit(first)
		if a.status != 200 || a.header.Get("ETag") != `"2"` {
			t.Errorf("%s: an edit with the ETag: %d %v %s", c.path, a.status, a.header, a.body)
		}
		if a := edit(first); a.status != 412 || !strings.Contains(a.problem(t).Detail, "read it again") {
			t.Errorf("%s: an edit with an old ETag: %d %s", c.path, a.status, a.body)
		}
		for match, want := range map[string]int{"*": 200, `"3"`: 200, `"no number"`: 412, `W/"4"`: 422, "4": 422, `"4", "5"`: 422, `""`: 412} {
			if match == `"3"` {
				match = r.must("GET "+c.path, "").header.Get("ETag")
			}
			if a := edit(match); a.status != want {
				t.Errorf("%s: If-Match %s: %d, want %d: %s", c.path, match, a.status, want, a.body)
			}
		}
		tag := r.must("GET "+c.path, "").header.Get("ETag")
		for match, want := range map[string]int{tag: 304, `"x", W/` + tag: 304, "*": 304, `"1"`: 200} {
			if c.live {
				want = 200
			}
			if a := r.ask("GET "+c.path, "", "If-None-Match: "+match); a.status != want || want == 304 && (a.body != "" || a.header.Get("ETag") != tag) {
				t.Errorf("%s: If-None-Match %s: %d, want %d: %q", c.path, match, a.status, want, a.body)
			}
		}
	}
}

// TestConcurrentEdits: of many edits based on the same record one wins.
func TestConcurrentEdits(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	const n = 16
	statuses := make([]int, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			statuses[i] = r.ask("PATCH /v1/devices/pump-1", fmt.Sprintf(`{"labels":{"n":"%d"}}`, i), `If-Match: "1"`).status
		})
	}
	all.Wait()
	count := map[int]int{}
	for _, s := range statuses {
		count[s]++
	}
	if count[200] != 1 || count[412] != n-1 {
		t.Errorf("answers: %v", count)
	}
	if a := r.must("GET /v1/devices/pump-1", ""); a.header.Get("ETag") != `"2"` {
		t.Errorf("afterwards: %v", a.header)
	}
}
