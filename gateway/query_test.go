package gateway_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestRequestsHaveOneReading: nothing of a request is dropped, or taken for something else than
// what was checked, so that a condition cannot get lost on the way.
func TestRequestsHaveOneReading(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	as := "Authorization: Bearer " + adminToken
	upload := "POST /v1/images?image_type=app&device_type=pump&version=1&min_version=0"
	const list = `[{"id":"p","type":"pump"}]`
	for name, c := range map[string]struct{ call, body, says string }{
		"a semicolon":                   {upload + ";9", "image", "malformed"},
		"a bare percent sign":           {upload + "&description=50%25%", "image", "malformed"},
		"an escape that is none":        {"POST /v1/images?image_type=app&device_type=pump&version=1&min_version=%zz", "image", "malformed"},
		"two values of one":             {upload + "&min_version=1", "image", "query.min_version: it stands more than once"},
		"the same value twice":          {upload + "&min_version=0", "image", "query.min_version: it stands more than once"},
		"in an escape":                  {upload + "&min%5Fversion=1", "image", "query.min_version: it stands more than once"},
		"a filter that gets lost":       {"GET /v1/devices?type=%zz", "", "malformed"},
		"a dry run that gets lost":      {"POST /v1/devices/import?dry_run=true%", list, "malformed"},
		"a dry run before another":      {"POST /v1/devices/import?dry_run&credentials=false", list, `"dry_run" has no value`},
		"a field in other letters":      {"POST /v1/image-types", `{"ID":"other"}`, "unexpected property"},
		"a field and its other letters": {"POST /v1/image-types", `{"id":"other","ID":"another"}`, "unexpected property"},
		"letters that are folded":       {"POST /v1/image-types", `{"id":"other","deſcription":"x"}`, "unexpected property"},
	} {
		a := r.with(c.call, c.body, as)
		if p := a.problem(t); a.status != http.StatusUnprocessableEntity || !strings.Contains(p.Detail, c.says) {
			t.Errorf("%s: %d %+v", name, a.status, p)
		}
	}
	for path, made := range map[string]string{"/v1/images": `"id"`, "/v1/devices": `"id":"p"`, "/v1/image-types": `other`} {
		if a := r.with("GET "+path, "", as); strings.Contains(a.body, made) {
			t.Errorf("made in spite of the refusal: %s", a.body)
		}
	}
	if a := r.with(upload+"&tag=a&tag=b&description=50%25%3B", "image", as); a.status != http.StatusCreated || !strings.Contains(a.body, `"50%;"`) {
		t.Errorf("a good one: %d %s", a.status, a.body)
	}
}
