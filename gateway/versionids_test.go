package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestVersionIDsInTheAPI: images, executions and device types show the numbers,
// and a number that does not fit is refused with the field that it stands in.
func TestVersionIDsInTheAPI(t *testing.T) {
	r := newAPI(t, nil)
	r.must("POST /v1/image-types", `{"id":"app"}`)
	if a := r.must("POST /v1/device-types", `{"id":"lamp","dialect":"afero","attribute_size":510,"image_types":[{"id":"app","numeric_type":101}]}`); !strings.Contains(a.body, `"attribute_size":510`) {
		t.Errorf("device type %s", a.body)
	}
	if a := r.must("PATCH /v1/device-types/lamp", `{"attribute_size":2046}`); !strings.Contains(a.body, `"attribute_size":2046`) {
		t.Errorf("device type %s", a.body)
	}
	push := func(query string) answer {
		return r.do("POST /v1/images?image_type=app&device_type=lamp&"+query, "firmware")
	}
	for _, query := range []string{"version=1&version_id=40", "version=1", "version=1&version_id=0"} {
		if a := push(query); a.status != 201 || !strings.Contains(a.body, `"version_id":40,`) {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
	for _, c := range []struct {
		query  string
		status int
		says   string
	}{
		{"version=2&version_id=40", 409, `40 is the number of version "1"`},
		{"version=1&version_id=41", 409, `has the number 40`},
		{"version=2&version_id=9007199254740992", 422, "9007199254740991"},
		{"version=2&version_id=-1", 422, "invalid integer"},
		{"version=2&version_id=x", 422, "invalid integer"},
	} {
		a := push(c.query)
		p := a.problem(t)
		if a.status != c.status || len(p.Errors) != 1 || p.Errors[0].Location != "query.version_id" || !strings.Contains(p.Errors[0].Message, c.says) {
			t.Errorf("%s: %d %s", c.query, a.status, a.body)
		}
	}
	if a := push("version=%2312"); a.status != 422 || a.problem(t).Errors[0].Location != "query.version" {
		t.Errorf("a version that looks like a number: %d %s", a.status, a.body)
	}

	id := func(a answer) string {
		var made struct{ ID string }
		if err := json.Unmarshal([]byte(a.body), &made); err != nil {
			t.Fatalf("%v in %s", err, a.body)
		}
		return made.ID
	}
	second := "POST /v1/uploads/" + id(r.must("POST /v1/uploads", "firmware")) + "/image"
	if a := r.do(second, `{"image_type":"app","device_types":["lamp"],"version":"2","version_id":40}`); a.status != 409 || !strings.Contains(a.body, `"pointer":"/version_id"`) {
		t.Errorf("second step: %d %s", a.status, a.body)
	}
	a := r.must(second, `{"image_type":"app","device_types":["lamp"],"version":"2"}`)
	if !strings.Contains(a.body, `"version_id":41,`) {
		t.Errorf("image %s", a.body)
	}
	r.must("POST /v1/devices", `{"id":"l1","type":"lamp"}`)
	r.must("POST /v1/jobs", `{"name":"j","image":"`+id(a)+`","devices":["l1"],"start":true}`)
	if a := r.must("GET /v1/jobs/j/executions", ""); !strings.Contains(a.body, `"version":"2","version_id":41,`) {
		t.Errorf("execution %s", a.body)
	}
}
