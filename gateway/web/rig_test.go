package web

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"
	"go.uber.org/goleak"

	"davit/gateway"
	"davit/gateway/people"
	"davit/internal/secrettest"
	"davit/orchestrator"
	"davit/orchestrator/fileblobs"
	"davit/orchestrator/memstore"
	"davit/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const adminToken = secrettest.Mark + "admin-token"

// nowhere is a Publisher that publishes to nobody.
type nowhere struct{}

func (nowhere) Offer(context.Context, string, schemas.Offer) error     { return nil }
func (nowhere) Withdraw(context.Context, string) error                 { return nil }
func (nowhere) Forget(context.Context, string) error                   { return nil }
func (nowhere) Ack(context.Context, string, schemas.Ack) error         { return nil }
func (nowhere) Profile(context.Context, string, schemas.Profile) error { return nil }
func (nowhere) Chunk(context.Context, string, []byte) error            { return nil }

// keyring keeps credentials in memory.
type keyring struct {
	mu         sync.Mutex
	principals map[string]gateway.Principal
	issued     int
}

func (k *keyring) put(p gateway.Principal) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.issued++
	k.principals[p.Name] = p
	return fmt.Sprintf(secrettest.Mark+"password-%d", k.issued)
}

func (k *keyring) Principal(_ context.Context, name string) (gateway.Principal, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, ok := k.principals[name]
	return p, ok, nil
}

func (k *keyring) PutDevice(_ context.Context, device string) (string, error) {
	return k.put(gateway.Principal{Name: device}), nil
}

func (k *keyring) Login(context.Context, string) (gateway.LoginState, bool, error) {
	return gateway.LoginState{PasswordSince: time.Now().Add(-24 * time.Hour)}, true, nil
}

func (k *keyring) Renew(context.Context, string) (string, time.Time, error) {
	return "renewed", time.Now().Add(time.Hour), nil
}

func (k *keyring) Order(context.Context, func(gateway.Principal, gateway.LoginState) bool) (int, error) {
	return 1, nil
}

func (k *keyring) PutClaimed(ctx context.Context, device string, _ bool) (string, error) {
	return k.PutDevice(ctx, device)
}

func (k *keyring) PutDevices(_ context.Context, devices []string) (map[string]string, error) {
	passwords := map[string]string{}
	for _, d := range devices {
		passwords[d] = k.put(gateway.Principal{Name: d})
	}
	return passwords, nil
}

func (k *keyring) PutBridge(_ context.Context, bridge string, devices []string) (string, error) {
	return k.put(gateway.Principal{Name: bridge, Bridge: true, Devices: devices}), nil
}

func (k *keyring) SetBridgeDevices(_ context.Context, bridge string, devices []string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.principals[bridge] = gateway.Principal{Name: bridge, Bridge: true, Devices: devices}
	return nil
}

func (k *keyring) Remove(_ context.Context, name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.principals, name)
	return nil
}

func (k *keyring) Forget(ctx context.Context, device string) error { return k.Remove(ctx, device) }

func (k *keyring) SetQuarantine(context.Context, string, bool) error { return nil }

func (k *keyring) Bridges(context.Context) ([]gateway.Principal, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []gateway.Principal
	for _, p := range k.principals {
		if p.Bridge {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b gateway.Principal) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// rig is a console over a service in memory.
type rig struct {
	*orchestrator.Service
	t       testing.TB
	console *Console
	people  *people.Directory
	logged  *bytes.Buffer
	watch   *secrettest.Watch
	store   *counted
	// staged is the service as the console sees it.
	staged *stage
}

func newRig(t testing.TB) *rig {
	t.Helper()
	blobs, err := fileblobs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, logged: &bytes.Buffer{}, store: &counted{Store: memstore.New()}}
	watch := secrettest.New(t)
	store, log := r.store, watch.Logger(slog.NewTextHandler(r.logged, &slog.HandlerOptions{Level: slog.LevelError}))
	r.Service, err = orchestrator.New(orchestrator.Options{Store: store, Blobs: blobs, Publisher: nowhere{}, Logger: watch.Logger(nil)})
	if err != nil {
		t.Fatal(err)
	}
	r.people, err = people.New(people.Options{
		Store: store, AdminToken: adminToken, Log: watch.Logger(nil),
		Hashing: &argon2id.Params{Memory: 8, Iterations: 1, Parallelism: 1, SaltLength: 8, KeyLength: 16},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.watch = watch
	r.staged = &stage{Service: r.Service}
	r.console, err = New(Options{
		Storage: noted{}, Service: r.staged, People: r.people, Provision: gateway.NewProvisioner(r.Service, &keyring{principals: map[string]gateway.Principal{}}), Version: "test", Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// start runs the service until the end of the test.
func (r *rig) start() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("run: %v", err)
		}
	})
	<-r.Ready()
}

var background = context.Background() //nolint:gochecknoglobals // never changed

// as is the context of somebody with a role, empty for nobody.
func as(ctx context.Context, role people.Role) context.Context {
	if role == "" {
		return ctx
	}
	p := people.Principal{User: "the-" + string(role), DisplayName: "The " + string(role), Role: role}
	return orchestrator.WithActor(people.WithPrincipal(ctx, p), p.Actor("192.0.2.1", "r"))
}

func (r *rig) do(role people.Role, req *http.Request) *httptest.ResponseRecorder {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.console.ServeHTTP(w, req.WithContext(as(req.Context(), role)))
	if w.Code >= http.StatusBadRequest { // a form that is shown again must not have the password that was typed
		r.watch.Search(fmt.Sprintf("%s %s answers %d", req.Method, req.URL.Path, w.Code), w.Body.String())
	}
	if r.logged.Len() > 0 {
		r.t.Errorf("%s %s: %s", req.Method, req.URL, r.logged)
		r.logged.Reset()
	}
	return w
}

func (r *rig) get(role people.Role, path string) *httptest.ResponseRecorder {
	r.t.Helper()
	return r.do(role, httptest.NewRequest(http.MethodGet, path, nil))
}

// post sends a form: name, value, name, value.
func (r *rig) post(role people.Role, path string, pairs ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Add(pairs[i], pairs[i+1])
	}
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(values.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r.do(role, req)
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// seeded are the ids of what seed made that tests need.
type seeded struct{ image, upload, execution, failed string }

// seed fills the service with something of every kind; the service has to run.
func (r *rig) seed() seeded {
	r.t.Helper()
	ctx := as(background, people.RoleAdmin)
	for _, role := range people.Roles() {
		must[people.User](r.t)(r.people.CreateUser(ctx, people.NewUser{Name: "the-" + string(role), DisplayName: "The " + string(role), Role: role, Password: "planted-secret-of-" + string(role)}))
	}
	must[people.NewSecret](r.t)(r.people.CreateToken(ctx, "the-admin", people.NewToken{Name: "build server", Scopes: []people.Scope{people.ScopeRead, people.ScopeImages}}))
	for _, id := range []string{"application", "bootloader"} {
		must[orchestrator.ImageType](r.t)(r.CreateImageType(ctx, orchestrator.NewImageType{ID: id, Name: strings.ToUpper(id[:1]) + id[1:]}))
	}
	must[orchestrator.DeviceType](r.t)(r.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: "thermostat", Name: "Thermostat", Dialect: "ayla",
		ImageTypes: []orchestrator.EnabledImageType{{ID: "application", SizeLimit: 1 << 20}, {ID: "bootloader", VersionProperty: "boot_version"}},
	}))
	for i := range 12 {
		id := fmt.Sprintf("lab-%02d", i)
		must[orchestrator.Device](r.t)(r.CreateDevice(ctx, orchestrator.NewDevice{ID: id, Type: "thermostat", Labels: map[string]string{"site": "berlin", "rack": fmt.Sprint(i % 3)}}))
		if i%4 != 3 {
			r.ok(r.Presence(ctx, id, true))
			r.ok(r.Hello(ctx, id, schemas.Hello{V: schemas.Version, Module: "davit-module 1.0", Dialect: "ayla", HostVersions: map[string]string{
				orchestrator.DefaultVersionProperty: []string{"1.0.0", "1.1.0", "2.0.0"}[i%3], "boot_version": "0.9"}}))
		}
	}
	must[orchestrator.Group](r.t)(r.CreateGroup(ctx, orchestrator.NewGroup{ID: "lab", Description: "The rack in the lab", Devices: []string{"lab-00", "lab-01", "lab-02"}}))
	must[orchestrator.Group](r.t)(r.CreateGroup(ctx, orchestrator.NewGroup{ID: "berlin", Query: `label.site == "berlin" and online`}))
	image := must[orchestrator.Image](r.t)(r.UploadImage(ctx, orchestrator.NewImage{
		ImageType: "application", DeviceTypes: []string{"thermostat"}, Version: "2.1.0", Description: "Faster display", Tags: []string{"stable"}, Format: "binary", FileName: "app.bin",
	}, bytes.NewReader(bytes.Repeat([]byte("davit"), 40_000))))
	upload := must[orchestrator.Upload](r.t)(r.StageUpload(ctx, orchestrator.NewUpload{FileName: "next.bin", Format: "binary"}, strings.NewReader(strings.Repeat("next", 5000))))
	must[orchestrator.Job](r.t)(r.CreateJob(ctx, orchestrator.NewJob{Name: "first", Image: image.ID, Groups: []string{"lab"}, Description: "In the lab", Start: true}))
	must[orchestrator.Job](r.t)(r.CreateJob(ctx, orchestrator.NewJob{Name: "draft", Image: image.ID, Devices: []string{"lab-05"}}))
	failed := r.execution("first", "lab-00")
	r.ok(r.Status(ctx, "lab-00", schemas.Status{V: schemas.Version, Execution: failed.ID, Attempt: failed.Attempt, Seq: 1, State: schemas.StateFailed, Cause: schemas.CauseSerial, Detail: "The line to the host MCU was lost."}))
	running := r.execution("first", "lab-01")
	r.ok(r.Status(ctx, "lab-01", schemas.Status{V: schemas.Version, Execution: running.ID, Attempt: running.Attempt, Seq: 1, State: schemas.StateInstalling, BytesDone: 90_000}))
	return seeded{image.ID, upload.ID, running.ID, failed.ID}
}

// execution waits until the job has offered its image to the device.
func (r *rig) execution(job, device string) orchestrator.Execution {
	r.t.Helper()
	for since, deadline := uint64(0), time.Now().Add(10*time.Second); time.Now().Before(deadline); {
		list, _, err := r.JobExecutions(background, job, orchestrator.ExecutionFilter{}, orchestrator.Page{})
		r.ok(err)
		for _, x := range list {
			if x.Device == device && x.State == schemas.StateOffered {
				return x
			}
		}
		changes, err := r.Changes(background, job, since, time.Second)
		r.ok(err)
		since = changes.Rev
	}
	r.t.Fatalf("job %s offers nothing to %s", job, device)
	return orchestrator.Execution{}
}
