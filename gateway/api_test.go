package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"davit/gateway"
	"davit/orchestrator"
)

func TestTokenIsNeeded(t *testing.T) {
	r := newAPI(t, nil)
	cases := []struct {
		header string
		status int
	}{
		{"", 401}, {"Bearer", 401}, {"Bearer wrong", 401}, {"Basic " + adminToken, 401}, {adminToken, 401},
		{"Bearer " + adminToken + "x", 401}, {"Bearer " + adminToken, 200}, {"bearer " + adminToken, 200},
	}
	for _, c := range cases {
		for _, path := range []string{"/v1/jobs", "/v1/nowhere"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.header != "" {
				req.Header.Set("Authorization", c.header)
			}
			a := r.send(req)
			want := c.status
			if want == 200 && path == "/v1/nowhere" {
				want = 404
			}
			if a.status != want {
				t.Errorf("%s with %q: %d, want %d", path, c.header, a.status, want)
			}
			if a.status == 401 {
				if p := a.problem(t); !strings.Contains(p.Detail, "token") || a.header.Get("WWW-Authenticate") == "" {
					t.Errorf("%q got %+v %v", c.header, p, a.header)
				}
			}
		}
	}
	if n := metric(t, r.registry, "davit_http_auth_failures_total"); n != 12 {
		t.Errorf("counted %v failures, want 12", n)
	}
}

// TestNoWayAroundTheToken writes paths in ways that mean the API to some.
func TestNoWayAroundTheToken(t *testing.T) {
	r := newAPI(t, nil)
	host := strings.TrimPrefix(r.url, "http://")
	for _, line := range []string{
		"GET //v1/jobs", "GET /./v1/jobs", "GET /x/../v1/jobs", "GET /%76%31/jobs", "GET /v1%2fjobs", "GET /%2fv1/jobs", "GET /livez/../v1/jobs",
		"GET /%2e/v1/jobs", "GET /V1/jobs", "GET " + r.url + "//v1/jobs", "CONNECT //v1/jobs", "HEAD //v1/jobs", "GET /v1", "GET v1/jobs", "GET *",
	} {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", line, host)
		answer, err := io.ReadAll(conn)
		_ = conn.Close()
		if err != nil || strings.HasPrefix(string(answer), "HTTP/1.1 2") || strings.Contains(string(answer), "items") {
			t.Errorf("%s: %v: %.300s", line, err, answer)
		}
	}
}

// refusal is a request that is wrong, and what its answer has to be.
type refusal struct {
	call, body string
	status     int
	says       string // in the detail
}

func refusals(img string) []refusal {
	return []refusal{
		{"GET /v1/nowhere", "", 404, "/v1/nowhere"},
		{"DELETE /v1/jobs", "", 405, "GET, HEAD, POST"},
		{"GET /elsewhere", "", 404, "openapi.yaml"},
		{"GET /v1/devices/none", "", 404, "none"},
		{"GET /v1/bridges/pump-1", "", 404, "pump-1"},
		{"GET /v1/devices?colour=red", "", 422, "colour"},
		{"GET /v1/devices?limit=1001", "", 422, "limit"},
		{"GET /v1/devices?limit=x", "", 422, "limit"},
		{"POST /v1/image-types", `{"id":"app"}`, 409, "app"},
		{"POST /v1/image-types", `{"id":"a/b"}`, 422, "a/b"},
		{"POST /v1/image-types", `{"id":"x","colour":"red"}`, 422, "colour"},
		{"POST /v1/image-types", `{"name":"no id"}`, 422, "id"},
		{"POST /v1/image-types", `{"id":"x"} {}`, 400, "body"},
		{"POST /v1/image-types", `{"id":`, 400, "body"},
		{"POST /v1/image-types", `{"id":"` + strings.Repeat("x", 9<<20) + `"}`, 413, "limit"},
		{"POST /v1/device-types", `{"id":"x","dialect":"ayla","boot_timeout":"soon"}`, 422, "/boot_timeout: expected string to be a duration such as 90s"},
		{"POST /v1/device-types", `{"id":"x","dialect":"ayla","boot_timeout":90}`, 422, "boot_timeout"},
		{"POST /v1/device-types", `{"id":"x","dialect":"ayla","image_types":[{"id":"none"}]}`, 422, "none"},
		{"POST /v1/devices", `{"id":"pump-1","type":"pump"}`, 409, "pump-1"},
		{"POST /v1/devices", `{"id":"pump-9","type":"none"}`, 422, "none"},
		{"POST /v1/bridges", `{"id":"rack","devices":["pump-1","none"]}`, 422, "none"},
		{"POST /v1/bridges", `{"id":"rack","devices":["pump-1","pump-1"]}`, 422, "twice"},
		{"POST /v1/bridges", `{"id":"rack","devices":[]}`, 422, "devices"},
		{"POST /v1/bridges", `{"id":"pump-1","devices":["pump-1"]}`, 409, "pump-1"},
		{"POST /v1/jobs", `{"name":"j1","image":"` + img + `","devices":["pump-1"]}`, 409, "j1"},
		{"POST /v1/jobs", `{"name":"j2","image":"none","devices":["pump-1"]}`, 422, "none"},
		{"POST /v1/jobs/none/start", "", 404, "none"},
		{"GET /v1/jobs/j1/changes?wait=2h", "", 422, "2h"},
		{"GET /v1/jobs/j1/changes?wait=soon", "", 422, "soon"},
		{"DELETE /v1/image-types/app", "", 409, "app"},
		{"DELETE /v1/devices/none", "", 404, "none"},
	}
}

// TestRefusals goes through requests that are wrong; each gets its status and
// a sentence that says what is wrong.
func TestRefusals(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	img := r.image("1.0", []byte("firmware"))
	r.must("POST /v1/jobs", `{"name":"j1","image":"`+img+`","devices":["pump-1"]}`)
	for _, c := range refusals(img) {
		a := r.do(c.call, c.body)
		if a.status != c.status {
			t.Errorf("%s %.60s: %d, want %d: %.300s", c.call, c.body, a.status, c.status, a.body)
			continue
		}
		if p := a.problem(t); !strings.Contains(p.Detail, c.says) {
			t.Errorf("%s %.60s: the detail %q does not mention %q", c.call, c.body, p.Detail, c.says)
		}
		if len(a.body) > 4<<10 {
			t.Errorf("%s: the problem has %d bytes", c.call, len(a.body))
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/v1/image-types", strings.NewReader("id=app"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if a := r.send(req); a.status != 415 {
		t.Errorf("a form: %d, want 415", a.status)
	}
}

// brokenService fails in ways that the orchestrator does not promise.
type brokenService struct {
	gateway.Service
	err   error
	panic bool
}

func (b brokenService) Jobs(context.Context, orchestrator.JobFilter, orchestrator.Page) ([]orchestrator.Job, string, error) {
	if b.panic {
		panic("a bug")
	}
	return nil, "", b.err
}

// TestInternalErrors: what nobody foresaw is told to the log, not to the client.
func TestInternalErrors(t *testing.T) {
	for _, panics := range []bool{false, true} {
		r := newAPI(t, func(o *gateway.APIOptions) {
			o.Service = brokenService{Service: o.Service, err: errors.New("secret path /var/x"), panic: panics}
		})
		a := r.do("GET /v1/jobs", "")
		p := a.problem(t)
		id := a.header.Get("X-Request-Id")
		if a.status != 500 || strings.Contains(a.body, "secret") || id == "" || p.Instance != "urn:davit:request:"+id {
			t.Errorf("got %d %s", a.status, a.body)
		}
		if r.logs.count(id) != 1 {
			t.Errorf("the log does not have request %s once:\n%s", id, r.logs)
		}
		if n := metric(t, r.registry, "davit_http_requests_total", "method", "GET", "route", "/v1/jobs", "status", "500"); n != 1 {
			t.Errorf("counted %v", n)
		}
	}
}

func TestHealth(t *testing.T) {
	var broken error
	r := newAPI(t, func(o *gateway.APIOptions) {
		o.Checks = []gateway.Check{
			{Name: "store", Healthy: func(context.Context) error { return nil }},
			{Name: "broker", Healthy: func(context.Context) error { return broken }},
		}
		o.MetricsHandler = promhttp.Handler()
	})
	get := func(path string) answer {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r.send(req)
	}
	if a := get("/livez"); a.status != 200 {
		t.Errorf("livez: %d", a.status)
	}
	if a := get("/readyz"); a.status != 200 || !strings.Contains(a.body, `"ready":true`) {
		t.Errorf("readyz: %d %s", a.status, a.body)
	}
	broken = errors.New("no broker at 127.0.0.1:1")
	var ready gateway.Readiness
	a := get("/readyz")
	if err := json.Unmarshal([]byte(a.body), &ready); err != nil || a.status != 503 || ready.Ready || ready.Checks["broker"] != broken.Error() || ready.Checks["store"] != "ok" {
		t.Errorf("readyz: %d %s %v", a.status, a.body, err)
	}
	if a := get("/metrics"); a.status != 200 || !strings.Contains(a.body, "go_goroutines") {
		t.Errorf("metrics: %d", a.status)
	}
	var fromJSON, fromYAML struct {
		OpenAPI string         `json:"openapi" yaml:"openapi"`
		Paths   map[string]any `json:"paths" yaml:"paths"`
	}
	if err := json.Unmarshal([]byte(get("/openapi.json").body), &fromJSON); err != nil {
		t.Error(err)
	}
	if err := yaml.Unmarshal([]byte(get("/openapi.yaml").body), &fromYAML); err != nil {
		t.Error(err)
	}
	if fromJSON.OpenAPI != "3.1.0" || fromYAML.OpenAPI != "3.1.0" || len(fromJSON.Paths) < 20 || len(fromJSON.Paths) != len(fromYAML.Paths) {
		t.Errorf("OpenAPI %s with %d paths as JSON, %s with %d as YAML", fromJSON.OpenAPI, len(fromJSON.Paths), fromYAML.OpenAPI, len(fromYAML.Paths))
	}
}

// TestDownload covers ETag, ranges and conditional requests.
func TestDownload(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	content := bytes.Repeat([]byte("0123456789"), 50)
	id := r.image("1.0", content)
	get := func(name, value string) answer {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/v1/images/"+id+"/content", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+adminToken)
		if name != "" {
			req.Header.Set(name, value)
		}
		return r.send(req)
	}
	whole := get("", "")
	etag := whole.header.Get("ETag")
	if whole.status != 200 || whole.body != string(content) || len(etag) != 66 || whole.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("download: %d, %d bytes, %v", whole.status, len(whole.body), whole.header)
	}
	if a := get("Range", "bytes=5-14"); a.status != 206 || a.body != "5678901234" {
		t.Errorf("range: %d %q", a.status, a.body)
	}
	if a := get("Range", "bytes=600-"); a.status != 416 {
		t.Errorf("range beyond the end: %d", a.status)
	}
	if a := get("If-None-Match", etag); a.status != 304 || a.body != "" {
		t.Errorf("if-none-match: %d", a.status)
	}
}

// TestFileNameOfADownload: whatever the name is, it is one parameter of one header.
func TestFileNameOfADownload(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	for name, status := range map[string]int{
		`fw.bin`: 201, `a"; filename="evil.exe`: 201, `a\"b;c`: 201, "Größe 2.bin": 201, "../../etc/passwd": 201, "\u202egnp.exe": 201,
		"a\r\nSet-Cookie: x=1": 422, "a\x00b": 422, "\xff\xfe": 422, strings.Repeat("x", 256): 422,
	} {
		a := r.upload("1&file_name="+url.QueryEscape(name), strings.NewReader("content"))
		if a.status != status {
			t.Errorf("%q: %d, want %d: %s", name, a.status, status, a.body)
		}
		if a.status != 201 {
			continue
		}
		path := a.header.Get("Location")
		got := r.must("GET "+path+"/content", "").header
		kind, params, err := mime.ParseMediaType(got.Get("Content-Disposition"))
		if err != nil || kind != "attachment" || len(params) != 1 || params["filename"] != name {
			t.Errorf("%q: Content-Disposition %q: %v %v", name, got.Get("Content-Disposition"), params, err)
		}
	}
}

// TestLongPoll: an answer comes with the change, at the time limit, and at
// once when the server shuts down.
func TestLongPoll(t *testing.T) {
	var counting countingService
	r := newAPI(t, func(o *gateway.APIOptions) {
		counting.Service = o.Service
		o.Service = &counting
	})
	r.catalog()
	img := r.image("1.0", []byte("firmware"))
	r.must("POST /v1/jobs", `{"name":"j1","image":"`+img+`","devices":["pump-1","pump-2"]}`)
	changes := func(since uint64, wait string) orchestrator.JobChanges {
		t.Helper()
		var c orchestrator.JobChanges
		a := r.must(fmt.Sprintf("GET /v1/jobs/j1/changes?since=%d&wait=%s", since, wait), "")
		if err := json.Unmarshal([]byte(a.body), &c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := changes(0, "0s")
	if first.Job.Name != "j1" || first.Rev == 0 {
		t.Fatalf("changes from the start: %+v", first)
	}
	if c := changes(first.Rev, "10ms"); len(c.Executions) != 0 || c.Rev != first.Rev {
		t.Errorf("after the wait without a change: %+v", c)
	}
	got := make(chan orchestrator.JobChanges, 1)
	go func() { got <- changes(first.Rev, "30s") }()
	r.must("POST /v1/jobs/j1/start", "")
	started := <-got
	if started.Rev <= first.Rev {
		t.Errorf("after the start: %+v", started)
	}
	for len(started.Executions) < 2 {
		more := changes(started.Rev, "30s")
		started.Rev = more.Rev
		started.Executions = append(started.Executions, more.Executions...)
	}
	since := started.Rev
	for c := changes(since, "100ms"); c.Rev > since; c = changes(since, "100ms") {
		since = c.Rev
	}
	go func() { got <- changes(since, "60s") }()
	eventually(t, func() bool { return counting.waiting.Load() == 1 })
	begin := time.Now()
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.stop() }()
	if c := <-got; c.Job.Name != "j1" || c.Rev != since {
		t.Errorf("at shutdown the poll got %+v", c)
	}
	// The end of the server is not timed: net/http waits five seconds for a connection on which nothing was
	// asked yet, and a client that dials twice at a time leaves such a one.
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the poll was answered after %v at shutdown", took)
	}
	<-stopped
}

// countingService counts long polls that wait.
type countingService struct {
	gateway.Service
	waiting atomic.Int32
}

func (c *countingService) Changes(ctx context.Context, job string, since uint64, wait time.Duration) (orchestrator.JobChanges, error) {
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	return c.Service.Changes(ctx, job, since, wait)
}
