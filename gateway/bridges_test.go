package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"davit/gateway"
	"davit/orchestrator"
)

// TestChangeBridge: the devices change, by whole lists and one by one; the password
// does not, and what is so already is not done again.
func TestChangeBridge(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	r.must("POST /v1/devices", `{"id":"pump-3","type":"pump"}`)
	r.must("POST /v1/bridges", `{"id":"rack","devices":["pump-1","pump-2"]}`)
	issued := r.credentials.issued
	for _, c := range []struct{ patch, want string }{
		{`{"add_devices":["pump-3","pump-1"]}`, `["pump-1","pump-2","pump-3"]`},
		{`{"add_devices":["pump-3"],"remove_devices":["pump-9"]}`, `["pump-1","pump-2","pump-3"]`},
		{`{}`, `["pump-1","pump-2","pump-3"]`},
		{`{"remove_devices":["pump-1","pump-3"]}`, `["pump-2"]`},
		{`{"devices":["pump-3","pump-1"]}`, `["pump-3","pump-1"]`},
		{`{"devices":[]}`, `[]`},
		{`{"add_devices":["pump-2"]}`, `["pump-2"]`},
	} {
		want := `{"id":"rack","devices":` + c.want + "}\n"
		if a := r.must("PATCH /v1/bridges/rack", c.patch); a.body != want || a.header.Get("ETag") != "" {
			t.Errorf("%s: %s%v", c.patch, a.body, a.header)
		}
		if a := r.must("GET /v1/bridges/rack", ""); a.body != want {
			t.Errorf("after %s: %s", c.patch, a.body)
		}
	}
	if r.credentials.issued != issued {
		t.Error("a password was made")
	}
	var page gateway.Page[orchestrator.AuditEntry]
	if err := json.Unmarshal([]byte(r.must("GET /v1/audit?kind=bridge&action=update", "").body), &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Items) != 5 {
		t.Fatalf("%d entries in the audit log for 5 changes: %+v", len(page.Items), page.Items)
	}
	first, err := json.Marshal(page.Items[4])
	if err != nil {
		t.Fatal(err)
	}
	if s := string(first); !strings.Contains(s, `["pump-1","pump-2"]`) || !strings.Contains(s, `["pump-1","pump-2","pump-3"]`) || page.Items[4].ID != "rack" {
		t.Errorf("the first change in the audit log: %s", s)
	}
}

// TestWrongChangesOfBridges leave the bridge as it is.
func TestWrongChangesOfBridges(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	r.must("POST /v1/bridges", `{"id":"rack","devices":["pump-1"]}`)
	var many []string
	for i := range 64 {
		many = append(many, fmt.Sprintf("%q", fmt.Sprintf("m-%d", i)))
		r.must("POST /v1/devices", fmt.Sprintf(`{"id":"m-%d","type":"pump"}`, i))
	}
	for _, c := range []struct {
		path, patch string
		status      int
		word        string
	}{
		{"none", `{"devices":["pump-1"]}`, http.StatusNotFound, "none"},
		{"pump-1", `{"devices":["pump-1"]}`, http.StatusNotFound, "pump-1"},
		{"rack", `{"devices":["pump-1","none"]}`, http.StatusUnprocessableEntity, `no device \"none\"`},
		{"rack", `{"devices":["pump-2","pump-2"]}`, http.StatusUnprocessableEntity, "twice"},
		{"rack", `{"add_devices":["none"]}`, http.StatusUnprocessableEntity, `no device \"none\"`},
		{"rack", `{"add_devices":["pump-2","pump-2"]}`, http.StatusUnprocessableEntity, "twice"},
		{"rack", `{"add_devices":["pump-2"],"remove_devices":["pump-2"]}`, http.StatusUnprocessableEntity, "choose one"},
		{"rack", `{"devices":["pump-2"],"add_devices":["pump-2"]}`, http.StatusUnprocessableEntity, "whole list"},
		{"rack", `{"add_devices":[` + strings.Join(many, ",") + `]}`, http.StatusUnprocessableEntity, "at most 64"},
		{"rack", `{"device":["pump-2"]}`, http.StatusUnprocessableEntity, "device"},
	} {
		if a := r.do("PATCH /v1/bridges/"+c.path, c.patch); a.status != c.status || !strings.Contains(a.body, c.word) {
			t.Errorf("%s %.60s: %d %s; want %d and %q", c.path, c.patch, a.status, a.body, c.status, c.word)
		}
	}
	if a := r.must("GET /v1/bridges/rack", ""); !strings.Contains(a.body, `["pump-1"]`) {
		t.Errorf("the bridge afterwards: %s", a.body)
	}
	if a := r.must("PATCH /v1/bridges/rack", `{"devices":[`+strings.Join(many, ",")+`]}`); strings.Count(a.body, "m-") != 64 {
		t.Errorf("64 devices: %s", a.body)
	}
}
