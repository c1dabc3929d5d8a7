package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// pointers are the fields that a problem names.
func (a answer) pointers(t *testing.T) []string {
	t.Helper()
	var p struct {
		Errors []struct{ Pointer, Message string }
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	var list []string
	for _, e := range p.Errors {
		list = append(list, e.Pointer+": "+e.Message)
	}
	slices.Sort(list)
	return list
}

// TestRolloutsThatAreWrittenBadly: each mistake is told with its place, by the schema,
// before the service sees anything.
func TestRolloutsThatAreWrittenBadly(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	image := r.image("1.0", []byte("firmware"))
	for _, c := range []struct{ rollout, want string }{
		{`{"waves":[{"percent":101}]}`, "/rollout/waves/0/percent: expected number <= 100"},
		{`{"waves":[{"percent":5},{"percent":"5%"}]}`, "/rollout/waves/1/percent: expected number"},
		{`{"waves":[{"of":"some"}]}`, `/rollout/waves/0/of: expected value to be one of "all, online"`},
		{`{"waves":[{"soak":"1d"}]}`, "/rollout/waves/0/soak: expected string to be a duration such as 90s or 2m"},
		{`{"waves":[{"soak":3600}]}`, "/rollout/waves/0/soak: expected string"},
		{`{"waves":[{"wide":1}]}`, "/rollout/waves/0/wide: unexpected property"},
		{`{"waves":5}`, "/rollout/waves: expected array"},
		{`{"stop":[{"causes":["boot","fire"]}]}`, "/rollout/stop/0/causes/1: expected value to be one of"},
		{`{"stop":[{"action":"explode"}]}`, `/rollout/stop/0/action: expected value to be one of "pause, abort, recall"`},
		{`{"retry":{"attempts":101}}`, "/rollout/retry/attempts: expected number <= 100"},
		{`{"retry":{"causes":{"fire":{}}}}`, "/rollout/retry/causes/fire: unexpected property"},
		{`{"retry":{"causes":{"boot":{"attempts":-1}}}}`, "/rollout/retry/causes/boot/attempts: expected number >= 0"},
		{`{"retry":{"causes":{"min_version":{"backoff":{"max":"-1s"}}}}}`, "/rollout/retry/causes/min_version/backoff/max: expected string to be a duration"},
		{`{"schedule":{"start":"tomorrow"}}`, "/rollout/schedule/start: expected string to be RFC 3339 date-time"},
		{`{"schedule":{"windows":[{"duration":"1h"}]}}`, "/rollout/schedule/windows/0/cron: expected required property cron to be present"},
		{`{"timeouts":{"boot":""}}`, "/rollout/timeouts/boot: expected string to be a duration"},
		{`{"pace":{"ramp":{"start":0,"after":1}}}`, "/rollout/pace/ramp/start: expected number >= 1"},
		{`{"priority":-101}`, "/rollout/priority: expected number >= -100"},
		{`{"action":"force"}`, "/rollout/action: expected value to be one of"},
		{`{"seed":"` + strings.Repeat("x", 65) + `"}`, "/rollout/seed: expected length <= 64"},
		{`[]`, "/rollout: expected object"},
	} {
		body := fmt.Sprintf(`{"name":"j","image":%q,"devices":["pump-1"],"rollout":%s}`, image, c.rollout)
		for _, call := range []string{"POST /v1/jobs", "POST /v1/jobs/preview"} {
			a := r.do(call, body)
			if a.status != http.StatusUnprocessableEntity {
				t.Errorf("%s %s: %d %s", call, c.rollout, a.status, a.body)
				continue
			}
			if got := a.pointers(t); len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
				t.Errorf("%s %s: %q, want %q", call, c.rollout, got, c.want)
			}
		}
	}
}

// TestRequestsAboutRolloutsThatAreWrittenBadly are the same of what is done to jobs.
func TestRequestsAboutRolloutsThatAreWrittenBadly(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	image := r.image("1.0", []byte("firmware"))
	r.must("POST /v1/jobs", fmt.Sprintf(`{"name":"j","image":%q,"devices":["pump-1"]}`, image))
	for _, c := range []struct {
		call, body string
		status     int
		want       string
	}{
		{"POST /v1/jobs/j/approve", "", http.StatusBadRequest, "request body is required"},
		{"POST /v1/jobs/j/approve", `{}`, http.StatusUnprocessableEntity, "/wave"},
		{"POST /v1/jobs/j/approve", `{"wave":1}`, http.StatusUnprocessableEntity, "/wave"},
		{"POST /v1/jobs/j/approve", `{"wave":"2"}`, http.StatusUnprocessableEntity, "/wave"},
		{"POST /v1/jobs/j/approve", `{"wave":2,"forced":true}`, http.StatusUnprocessableEntity, "/forced"},
		{"POST /v1/jobs/j/install", `{"devices":"pump-1"}`, http.StatusUnprocessableEntity, "/devices"},
		{"POST /v1/jobs/j/confirm", `{"device":["pump-1"]}`, http.StatusUnprocessableEntity, "/device"},
		{"POST /v1/jobs/j/cancel", `{"finish":"yes"}`, http.StatusUnprocessableEntity, "/finish"},
		{"GET /v1/jobs/j/waves/0/devices", "", http.StatusUnprocessableEntity, "path.wave"},
		{"GET /v1/jobs/j/waves/first/devices", "", http.StatusUnprocessableEntity, "path.wave"},
		{"GET /v1/jobs/j/waves/1/devices?limit=0", "", http.StatusUnprocessableEntity, "query.limit"},
	} {
		a := r.do(c.call, c.body)
		if a.status != c.status || !strings.Contains(a.problem(t).Detail, c.want) {
			t.Errorf("%s %s: %d %s; want %d with %q", c.call, c.body, a.status, a.body, c.status, c.want)
		}
	}
	// The job is as it was: none of that has reached it.
	if a := r.must("GET /v1/jobs/j", ""); !strings.Contains(a.body, `"state":"draft"`) {
		t.Errorf("the job is %s", a.body)
	}
}
