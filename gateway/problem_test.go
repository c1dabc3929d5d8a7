package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"

	"davit/gateway"
)

// TestProblemsPointAtTheField: whoever finds the fault, the document's schema or
// the service, the problem says where in the request it stands.
func TestProblemsPointAtTheField(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		call, body, header string
		pointer, location  string
	}{
		{call: "POST /v1/device-types", body: `{"id":"x","dialect":"ayla","image_types":[{"id":"app"},{"id":5}]}`, pointer: "/image_types/1/id"},
		{call: "POST /v1/device-types", body: `{"id":"x","dialect":"ayla","image_types":[{"id":"app"},{"version_property":"v"}]}`, pointer: "/image_types/1/id"},
		{call: "POST /v1/device-types", body: `{"id":"x","dialect":"ayla","image_types":[{"id":"app"},{"id":"none","version_property":"v"}]}`, pointer: "/image_types/1/id"},
		{call: "POST /v1/device-types", body: `{"id":"x"}`, pointer: "/dialect"},
		{call: "POST /v1/devices", body: `{"id":"x","type":"pump","labels":{"a.b":5}}`, pointer: "/labels/a.b"},
		{call: "POST /v1/devices", body: `{"id":"x","type":"pump","a/b~c.d":5}`, pointer: "/a~1b~0c.d"},
		{call: "POST /v1/devices", body: `{"id":"x y","type":"pump"}`, pointer: "/id"},
		{call: "POST /v1/devices", body: `{"id":"x","type":"none"}`, pointer: "/type"},
		{call: "POST /v1/devices", body: `{"id":"pump-1","type":"pump"}`, pointer: "/id"},
		{call: "POST /v1/devices", body: `[]`, location: "body"},
		{call: "POST /v1/image-types", body: `{"id":"y","description":"` + long + `"}`, pointer: "/description"},
		{call: "PATCH /v1/image-types/app", body: `{"description":"` + long + `"}`, pointer: "/description"},
		{call: "PATCH /v1/image-types/app", body: `{"name":"y"}`, header: "If-Match: x", location: "header.If-Match"},
		{call: "GET /v1/devices?limit=0", location: "query.limit"},
		{call: "GET /v1/devices?colour=red", location: "query.colour"},
		{call: "GET /v1/devices?query=online+and", location: "query.query"},
		{call: "GET /v1/image-types/" + strings.Repeat("x", 65), location: "path.id"},
		{call: "POST /v1/images?image_type=none&device_type=pump&version=1", body: "x", location: "query.image_type"},
		{call: "POST /v1/images?image_type=app&device_type=pump&version=1&description=" + long, body: "x", location: "query.description"},
		{call: "GET /v1/events?kind=none", location: "query.kind[0]"},
		{call: "GET /v1/events?last_event_id=x", location: "query.last_event_id"},
		{call: "GET /v1/jobs/j/changes?wait=x", location: "query.wait"},
	} {
		a := r.ask(c.call, c.body, "Accept: */*")
		if c.header != "" {
			a = r.ask(c.call, c.body, c.header)
		}
		var p gateway.Problem
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.status < 400 || a.status >= 500 {
			t.Errorf("%.80s %.80s: %d %s", c.call, c.body, a.status, a.body)
			continue
		}
		if len(p.Errors) != 1 || p.Errors[0].Pointer != c.pointer || p.Errors[0].Location != c.location || p.Errors[0].Message == "" || p.Detail == "" {
			t.Errorf("%.80s %.80s: want %q %q: %d %s", c.call, c.body, c.pointer, c.location, a.status, a.body)
		}
	}
}
