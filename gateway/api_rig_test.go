package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"davit/gateway"
	"davit/gateway/people"
	"davit/internal/logevent"
	"davit/internal/secrettest"
	"davit/orchestrator"
	"davit/orchestrator/fileblobs"
	"davit/orchestrator/memstore"
	"davit/schemas"
)

const adminToken = secrettest.Mark + "admin-token"

// nowhere is a Publisher that publishes to nobody.
type nowhere struct{}

func (nowhere) Offer(context.Context, string, schemas.Offer) error     { return nil }
func (nowhere) Withdraw(context.Context, string) error                 { return nil }
func (nowhere) Forget(context.Context, string) error                   { return nil }
func (nowhere) Ack(context.Context, string, schemas.Ack) error         { return nil }
func (nowhere) Profile(context.Context, string, schemas.Profile) error { return nil }
func (nowhere) Chunk(context.Context, string, []byte) error            { return nil }

// fakeCredentials keeps credentials in memory and fails when told to, after
// or before it has done its work.
type fakeCredentials struct {
	mu          sync.Mutex
	principals  map[string]gateway.Principal
	issued      int
	failBefore  bool
	failAfter   bool
	quarantined map[string]bool
	used        map[string]bool // devices that have logged in
	logins      map[string]gateway.LoginState
}

var errPower = errors.New("power failure")

func (f *fakeCredentials) Principal(_ context.Context, name string) (gateway.Principal, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.principals[name]
	return p, ok, nil
}

// change does work between the two points of failure.
func (f *fakeCredentials) change(work func()) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failBefore {
		return errPower
	}
	work()
	if f.failAfter {
		return errPower
	}
	return nil
}

func (f *fakeCredentials) put(p gateway.Principal) (password string, err error) {
	err = f.change(func() {
		f.issued++
		f.principals[p.Name] = p
		password = fmt.Sprintf(secrettest.Mark+"password-%d", f.issued)
	})
	return password, err
}

func (f *fakeCredentials) PutDevice(_ context.Context, device string) (string, error) {
	return f.put(gateway.Principal{Name: device})
}

func (f *fakeCredentials) PutClaimed(_ context.Context, device string, fresh bool) (string, error) {
	f.mu.Lock()
	_, known := f.principals[device]
	taken := known && !fresh && f.used[device]
	f.mu.Unlock()
	if taken {
		return "", orchestrator.ErrExists
	}
	return f.put(gateway.Principal{Name: device})
}

func (f *fakeCredentials) Login(_ context.Context, name string) (gateway.LoginState, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l, known := f.logins[name]
	return l, known, nil
}

func (f *fakeCredentials) Renew(_ context.Context, name string) (password string, until time.Time, err error) {
	err = f.change(func() {
		f.issued++
		password, until = fmt.Sprintf("password-%d", f.issued), time.Now().Add(time.Hour).UTC()
		f.logins[name] = gateway.LoginState{PendingUntil: until}
	})
	return password, until, err
}

func (f *fakeCredentials) Order(_ context.Context, which func(gateway.Principal, gateway.LoginState) bool) (n int, err error) {
	err = f.change(func() {
		for name, p := range f.principals {
			if which(p, f.logins[name]) {
				f.logins[name] = gateway.LoginState{RotateOrdered: time.Now()}
				n++
			}
		}
	})
	return n, err
}

func (f *fakeCredentials) PutDevices(_ context.Context, devices []string) (passwords map[string]string, err error) {
	passwords = map[string]string{}
	err = f.change(func() {
		for _, d := range devices {
			f.issued++
			f.principals[d] = gateway.Principal{Name: d}
			passwords[d] = fmt.Sprintf(secrettest.Mark+"password-%d", f.issued)
		}
	})
	return passwords, err
}

func (f *fakeCredentials) Forget(_ context.Context, device string) error {
	return f.change(func() {
		delete(f.principals, device)
		for name, p := range f.principals {
			p.Devices = slices.DeleteFunc(slices.Clone(p.Devices), func(d string) bool { return d == device })
			f.principals[name] = p
		}
	})
}

func (f *fakeCredentials) SetQuarantine(_ context.Context, device string, in bool) error {
	return f.change(func() {
		if f.quarantined == nil {
			f.quarantined = map[string]bool{}
		}
		f.quarantined[device] = in
	})
}

func (f *fakeCredentials) PutBridge(_ context.Context, bridge string, devices []string) (string, error) {
	return f.put(gateway.Principal{Name: bridge, Bridge: true, Devices: devices})
}

func (f *fakeCredentials) SetBridgeDevices(_ context.Context, bridge string, devices []string) error {
	return f.change(func() { f.principals[bridge] = gateway.Principal{Name: bridge, Bridge: true, Devices: devices} })
}

func (f *fakeCredentials) Remove(_ context.Context, name string) error {
	return f.change(func() { delete(f.principals, name) })
}

func (f *fakeCredentials) Bridges(context.Context) ([]gateway.Principal, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []gateway.Principal
	for _, p := range f.principals {
		if p.Bridge {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b gateway.Principal) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// fail sets the points of failure.
func (f *fakeCredentials) fail(before, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failBefore, f.failAfter = before, after
}

// apiRig is the API on a real orchestrator and a real HTTP server. Whatever it logs, refuses, audits and
// measures is searched for secrets.
type apiRig struct {
	t           testing.TB
	url         string
	service     *orchestrator.Service
	people      *people.Directory
	credentials *fakeCredentials
	registry    *prometheus.Registry
	logs        *logRecorder
	watch       *secrettest.Watch
	http        *http.Client
	stop        func() // stops the server and waits for it
}

// newAPI starts the rig; change may alter the options.
func newAPI(t testing.TB, change func(*gateway.APIOptions)) *apiRig {
	t.Helper()
	r := &apiRig{t: t, credentials: &fakeCredentials{principals: map[string]gateway.Principal{}, logins: map[string]gateway.LoginState{}}, registry: prometheus.NewRegistry(), logs: &logRecorder{}, watch: secrettest.New(t)}
	blobs, err := fileblobs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log := r.watch.Logger(slog.NewTextHandler(r.logs, nil))
	store, metrics := memstore.New(), gateway.NewMetrics(r.registry)
	r.service, err = orchestrator.New(orchestrator.Options{Store: store, Blobs: blobs, Publisher: nowhere{}, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	task := func(run func(context.Context) error) {
		tasks.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	task(r.service.Run)
	r.people, err = people.New(people.Options{Store: store, AdminToken: adminToken, Log: log, Hashing: cheapHashing(), OnSignIn: metrics.SignIn})
	if err != nil {
		t.Fatal(err)
	}
	levels, err := logevent.NewLevels("info", logevent.ServiceParts())
	if err != nil {
		t.Fatal(err)
	}
	o := gateway.APIOptions{Levels: levels, Service: r.service, Credentials: r.credentials, People: r.people, Metrics: metrics, Log: log, RequestRate: 1 << 20}
	if change != nil {
		change(&o)
	}
	api, err := gateway.NewAPI(o)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	task(func(ctx context.Context) error { return gateway.Serve(ctx, ln, api, log) })
	r.url = "http://" + ln.Addr().String()
	r.http = &http.Client{Transport: &http.Transport{}}
	r.stop = sync.OnceFunc(func() { cancel(); tasks.Wait() })
	t.Cleanup(func() { r.http.CloseIdleConnections(); r.stop(); r.sweep() })
	return r
}

// sweep searches what the service keeps for people to read.
func (r *apiRig) sweep() {
	entries, _, err := r.service.AuditEntries(context.Background(), orchestrator.AuditFilter{}, orchestrator.Page{Limit: 1000})
	if err != nil {
		return // the store failed, as the test wanted
	}
	for _, e := range entries {
		r.watch.Search("audit log", fmt.Sprintf("%s %s %s %s %s", e.Action, e.Kind, e.ID, e.Before, e.After))
	}
	page := httptest.NewRecorder()
	promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	r.watch.Search("/metrics", page.Body.String())
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) problem(t testing.TB) (p struct {
	Title, Detail, Instance string
	Status                  int
	Errors                  []struct{ Location, Message string }
}) {
	t.Helper()
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q, want a problem; body: %s", ct, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	if p.Status != a.status || p.Title == "" {
		t.Errorf("problem %+v under status %d", p, a.status)
	}
	return p
}

// do makes a request with the admin's token; call is "METHOD path".
func (r *apiRig) do(call, body string) answer {
	r.t.Helper()
	method, path, _ := strings.Cut(call, " ")
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return r.send(req)
}

func (r *apiRig) send(req *http.Request) answer {
	r.t.Helper()
	resp, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		r.watch.Search(fmt.Sprintf("%s %s answers %d", req.Method, req.URL.Path, resp.StatusCode), string(b)+fmt.Sprint(resp.Header))
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// must makes a request that has to succeed.
func (r *apiRig) must(call, body string) answer {
	r.t.Helper()
	a := r.do(call, body)
	if a.status >= 300 {
		r.t.Fatalf("%s %s: %d %s", call, body, a.status, a.body)
	}
	return a
}

// catalog makes an image type, a device type with a limit of 1000 bytes, and
// two devices.
func (r *apiRig) catalog() {
	r.t.Helper()
	r.must("POST /v1/image-types", `{"id":"app"}`)
	r.must("POST /v1/device-types", `{"id":"pump","dialect":"ayla","image_types":[{"id":"app","size_limit":1000}],"boot_timeout":"90s"}`)
	r.must("POST /v1/devices", `{"id":"pump-1","type":"pump"}`)
	r.must("POST /v1/devices", `{"id":"pump-2","type":"pump","labels":{"site":"north"}}`)
}

const uploadPath = "POST /v1/images?image_type=app&device_type=pump&format=binary&version="

// image uploads an image and returns its id.
func (r *apiRig) image(version string, content []byte) string {
	r.t.Helper()
	a := r.upload(version, bytes.NewReader(content))
	if a.status != http.StatusCreated {
		r.t.Fatalf("upload: %d %s", a.status, a.body)
	}
	var i orchestrator.Image
	if err := json.Unmarshal([]byte(a.body), &i); err != nil {
		r.t.Fatal(err)
	}
	return i.ID
}

func (r *apiRig) upload(version string, content io.Reader) answer {
	r.t.Helper()
	method, path, _ := strings.Cut(uploadPath, " ")
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path+version, content)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	return r.send(req)
}
