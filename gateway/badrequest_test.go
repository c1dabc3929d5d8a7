package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"davit/gateway/people"
	"davit/orchestrator"
)

// TestGeneratedRequests makes thousands of good, odd and malicious requests out
// of the OpenAPI document, for every operation. Whatever comes: no panic and no
// 5xx; every answer is as the document says; and a request that is refused has
// changed nothing. DAVIT_TEST_REQUESTS asks for more of them, DAVIT_TEST_SEED for
// those of a run before.
func TestGeneratedRequests(t *testing.T) {
	n, seed := setting(t, "DAVIT_TEST_REQUESTS", 2000), setting(t, "DAVIT_TEST_SEED", uint64(time.Now().UnixNano()))
	t.Logf("DAVIT_TEST_SEED=%d", seed)
	f := newFuzz(t, seed)
	operations := f.doc.operations()
	for i := range n {
		if i%200 == 0 {
			f.furnish()
		}
		op := operations[i%uint64(len(operations))]
		spoil := 0
		if f.chance(75) {
			spoil = 1 + f.IntN(2)
		}
		f.try(f.request(op, spoil))
		if t.Failed() {
			return
		}
	}
	f.coverage(operations)
	report, err := f.service.Check(t.Context())
	if err != nil || !report.OK() {
		t.Errorf("afterwards the check finds %v %v", report.Violations, err)
	}
}

func setting(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// fuzz is the API without a socket, without anything that works by itself, and
// with its document.
type fuzz struct {
	*generator
	t       *testing.T
	api     http.Handler
	service *orchestrator.Service
	token   string // of an administrator
	schemas *jsonschema.Compiler
	text    any // the document
	// statuses counts answers by operation and class of status.
	statuses map[string]map[int]int
}

func newFuzz(t *testing.T, seed uint64) *fuzz {
	f := &fuzz{t: t, statuses: map[string]map[int]int{}}
	idle := idleAPI(t)
	f.api, f.service = idle.api, idle.service
	if _, err := idle.people.CreateUser(t.Context(), people.NewUser{Name: "root", Role: people.RoleAdmin}); err != nil {
		t.Fatal(err)
	}
	secret, err := idle.people.CreateToken(t.Context(), "root", people.NewToken{Name: "all"})
	if err != nil {
		t.Fatal(err)
	}
	f.token = secret.Secret
	w := f.send(httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	doc := &document{}
	if err := json.Unmarshal(w.Body.Bytes(), doc); err != nil {
		t.Fatal(err)
	}
	f.generator = &generator{Rand: rand.New(rand.NewPCG(seed, 0)), doc: doc, known: map[string][]any{
		"id": {"app", "pump", "pump-1", "pump-2", "g", "j-1"}, "image_type": {"app"}, "device_type": {"pump"}, "type": {"pump"}, "name": {"j-1", "nobody"},
		"device": {"pump-1", "pump-2"}, "group": {"g"}, "dialect": {"ayla"}, "role": {"viewer"}, "level": {"warn", "info,http=error"}, "query": {"online", `type == "pump"`},
		"expires": {"24h"}, "zone": {"UTC"}, "cron": {"0 1 * * *"}, "wave": {1, 2, 3}, "factor": {1.5, 2},
		"wait": {"0s", "1ms"}, "after": {""}, "password": {"long enough to be one"}, "size_limit": {0, 4096}, "numeric_type": {0, 101}, "kind": {"device", "job"},
		"last_event_id": {"0", "1"}, "Last-Event-ID": {"0"}, "If-Match": {`"1"`, "*"}, "If-None-Match": {`"1"`}, "Idempotency-Key": {"k1", "k2", "k3"}, "label": {"site", "site=north"},
		"scope": {"read"}, "format": {"binary"}, "tag": {"blue"}, "min_version": {"", "0.9"},
	}}
	if f.text, err = jsonschema.UnmarshalJSON(w.Body); err != nil {
		if f.text, err = jsonschema.UnmarshalJSON(bytes.NewReader(f.send(httptest.NewRequest(http.MethodGet, "/openapi.json", nil)).Body.Bytes())); err != nil {
			t.Fatal(err)
		}
	}
	f.schemas = jsonschema.NewCompiler()
	if err := f.schemas.AddResource("openapi.json", f.text); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fuzz) send(r *http.Request) *httptest.ResponseRecorder {
	r.Header.Set("Authorization", "Bearer "+f.token)
	w := httptest.NewRecorder()
	f.api.ServeHTTP(w, r)
	return w
}

// furnish makes sure that there are records to be named.
func (f *fuzz) furnish() {
	send := func(method, path, body string) map[string]any {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := f.send(r)
		if w.Code >= 500 {
			f.t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		var v map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			f.t.Fatal(err)
		}
		return v
	}
	post := func(path, body string) map[string]any { return send(http.MethodPost, path, body) }
	post("/v1/image-types", `{"id":"app"}`)
	post("/v1/device-types", `{"id":"pump","dialect":"ayla","image_types":[{"id":"app","size_limit":4096}]}`)
	// A request before may have said that, and then no job of an unsigned image is made.
	send(http.MethodPatch, "/v1/device-types/pump", `{"require_signature":false}`)
	post("/v1/devices", `{"id":"pump-1","type":"pump"}`)
	post("/v1/devices", `{"id":"pump-2","type":"pump","labels":{"site":"north"}}`)
	post("/v1/groups", `{"id":"g","devices":["pump-1"]}`)
	post("/v1/claims", `{"id":"pump-1","device_type":"pump"}`)
	image := post("/v1/images?image_type=app&device_type=pump&version=1.0&format=binary", "firmware")["id"]
	upload := post("/v1/uploads?format=binary", "another")["id"]
	if image == nil || upload == nil {
		f.t.Fatal("no image could be uploaded")
	}
	f.fresh++
	job, running, spare := fmt.Sprintf("j-%d", f.fresh), fmt.Sprintf("r-%d", f.fresh), fmt.Sprintf("spare-%d", f.fresh)
	post("/v1/jobs", fmt.Sprintf(`{"name":%q,"image":%q,"devices":["pump-1"]}`, job, image))
	post("/v1/jobs", fmt.Sprintf(`{"name":%q,"image":%q,"devices":["pump-2"],"start":true}`, running, image))
	post("/v1/devices", fmt.Sprintf(`{"id":%q,"type":"pump"}`, spare))
	waves, asks, later := fmt.Sprintf("w-%d", f.fresh), fmt.Sprintf("a-%d", f.fresh), fmt.Sprintf("l-%d", f.fresh)
	for name, rollout := range map[string]string{waves: `{"waves":[{"percent":50,"soak":"1h"},{"percent":100,"approve":true}]}`, asks: `{"action":"confirm"}`, later: `{"action":"download"}`} {
		post("/v1/jobs", fmt.Sprintf(`{"name":%q,"image":%q,"devices":["pump-1","pump-2"],"rollout":%s,"start":true}`, name, image, rollout))
	}
	post("/v1/groups", fmt.Sprintf(`{"id":%q,"query":"online"}`, spare))
	post("/v1/image-types", fmt.Sprintf(`{"id":%q}`, spare))
	post("/v1/device-types", fmt.Sprintf(`{"id":%q,"dialect":"ayla"}`, spare))
	post("/v1/bridges", `{"id":"b","devices":["pump-1"]}`)
	post("/v1/users", `{"name":"eve","role":"viewer"}`)
	other := post("/v1/images?image_type=app&device_type=pump&version=1.1&format=binary", "firmware")["id"]
	token := post("/v1/tokens", `{"name":"of the test"}`)["id"]
	for path, known := range map[string][]any{
		"image": {image}, "via": {image}, "name": {job, running, "nobody"}, "id": {"app", "pump", "pump-1", "g", image},
		"/v1/image-types/": {"app", spare, "none"}, "/v1/device-types/": {"pump", spare, "none"}, "/v1/devices/": {"pump-1", "pump-2", spare, "none"},
		"/v1/images/": {image, other, "none"}, "/v1/uploads/": {upload, "none"}, "/v1/groups/": {"g", spare, "none"}, "/v1/bridges/": {"b", "none"},
		"/v1/users/": {"eve", "none"}, "/v1/tokens/": {token, "none"}, "/v1/jobs/": {job, running, running, waves, asks, later, "none"},
	} {
		f.known[path] = known
	}
}

// state is what a refused request must leave as it is.
type state struct{ rev, audit uint64 }

func (f *fuzz) state() (s state) {
	var err error
	if s.rev, err = f.service.LastRev(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	last, _, err := f.service.AuditEntries(f.t.Context(), orchestrator.AuditFilter{}, orchestrator.Page{Limit: 1})
	if err != nil {
		f.t.Fatal(err)
	}
	if len(last) > 0 {
		s.audit = last[0].Seq
	}
	return s
}

// try makes a request and judges the answer.
func (f *fuzz) try(m made) {
	f.t.Helper()
	before := f.state()
	ctx := f.t.Context()
	if m.op.ID == "watch-events" { // else it does not end
		limited, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
		defer cancel()
		ctx = limited
	}
	r := httptest.NewRequestWithContext(ctx, m.op.method, "/", bytes.NewReader(m.body))
	r.URL.Opaque, r.URL.RawQuery = "", m.query
	if path, err := url.Parse(m.path); err == nil { // not resolved: its dots are the server's to see
		r.URL.Path, r.URL.RawPath = path.Path, path.RawPath
	} else {
		r.URL.Path = m.path
	}
	r.RequestURI = r.URL.RequestURI()
	for name, values := range m.header {
		r.Header[name] = values
	}
	if m.contentType != "" {
		r.Header.Set("Content-Type", m.contentType)
	}
	w := f.send(r)
	if f.statuses[m.op.ID] == nil {
		f.statuses[m.op.ID] = map[int]int{}
	}
	f.statuses[m.op.ID][w.Code]++
	switch {
	case w.Code == http.StatusServiceUnavailable && ctx.Err() != nil:
		return // it was the test that gave up
	case w.Code >= 500:
		f.t.Errorf("%v\nwas answered %d %s", m, w.Code, w.Body)
	case w.Code >= 400:
		if after := f.state(); after != before {
			f.t.Errorf("%v\nwas refused with %d %s and changed something: %+v before, %+v after", m, w.Code, w.Body, before, after)
		}
	}
	f.judge(m, w)
}

// judge holds an answer against the document.
func (f *fuzz) judge(m made, w *httptest.ResponseRecorder) {
	f.t.Helper()
	contentType, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
	if w.Code >= 300 && w.Code < 309 && w.Code != 304 {
		return // net/http leads to the tidy form of a path
	}
	if w.Code >= 400 && contentType != "application/problem+json" {
		f.t.Errorf("%v\nwas answered %d as %q: %.200s", m, w.Code, contentType, w.Body)
		return
	}
	status := strconv.Itoa(w.Code)
	if _, ok := m.op.Responses[status]; !ok {
		status = "default"
		if w.Code < 400 {
			f.t.Errorf("%v\nwas answered %d, which the document does not have", m, w.Code)
			return
		}
	}
	if len(m.op.Responses[status].Content) == 0 {
		if w.Body.Len() > 0 {
			f.t.Errorf("%v\nwas answered %d with a body that the document does not have: %.200s", m, w.Code, w.Body)
		}
		return
	}
	if _, ok := m.op.Responses[status].Content[contentType]; !ok {
		f.t.Errorf("%v\nwas answered %d as %q, which the document does not have", m, w.Code, contentType)
		return
	}
	if strings.HasSuffix(contentType, "json") {
		f.matches(m, w, fmt.Sprintf("openapi.json#/paths/%s/%s/responses/%s/content/%s/schema",
			strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(m.op.path), strings.ToLower(m.op.method), status, strings.ReplaceAll(contentType, "/", "~1")))
	}
}

// matches validates an answer against a schema of the document.
func (f *fuzz) matches(m made, w *httptest.ResponseRecorder, where string) {
	f.t.Helper()
	s, err := f.schemas.Compile(where)
	if err != nil {
		f.t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(w.Body.Bytes()))
	if err == nil {
		err = s.Validate(v)
	}
	if err != nil {
		f.t.Errorf("%v\nwas answered %d %.2000s, which is not as the document says: %v", m, w.Code, w.Body, err)
	}
}

// coverage: the generator would prove nothing if its requests were all refused
// for the same reason, so each operation has to grant some and to refuse some; one
// that has not yet gets more requests.
func (f *fuzz) coverage(operations []*operation) {
	for _, op := range operations {
		// Nothing goes wrong with an execution here, so there is none to read or to
		// retry; root has no password to change; and no luck makes a signature.
		if slices.Contains([]string{"change-own-password", "retry-job", "get-execution", "attach-manifest"}, op.ID) {
			continue
		}
		for i := 0; f.answers(op, 200, 399) == 0 && i < 300; i++ {
			if i%20 == 0 {
				f.furnish()
			}
			f.try(f.request(op, 0))
		}
		for i := 0; f.answers(op, 400, 499) == 0 && i < 300; i++ {
			f.try(f.request(op, 2))
		}
		if f.answers(op, 200, 399) == 0 || f.answers(op, 400, 499) == 0 {
			f.t.Errorf("%s: requests were not both granted and refused: %v", op.ID, f.statuses[op.ID])
		}
	}
}

// answers counts the answers to an operation with a status between two.
func (f *fuzz) answers(op *operation, from, to int) (n int) {
	for status, count := range f.statuses[op.ID] {
		if status >= from && status <= to {
			n += count
		}
	}
	return n
}
