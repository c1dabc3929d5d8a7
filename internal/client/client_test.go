package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"davit/gateway"
	"davit/gateway/people"
	"davit/internal/client"
	"davit/internal/logevent"
	"davit/orchestrator"
	"davit/orchestrator/fileblobs"
	"davit/orchestrator/memstore"
	"davit/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "token-of-the-test"

// nowhere is a Publisher that publishes to nobody.
type nowhere struct{}

func (nowhere) Offer(context.Context, string, schemas.Offer) error     { return nil }
func (nowhere) Withdraw(context.Context, string) error                 { return nil }
func (nowhere) Forget(context.Context, string) error                   { return nil }
func (nowhere) Ack(context.Context, string, schemas.Ack) error         { return nil }
func (nowhere) Profile(context.Context, string, schemas.Profile) error { return nil }
func (nowhere) Chunk(context.Context, string, []byte) error            { return nil }

// principals are credentials without passwords worth the name.
type principals map[string]gateway.Principal

func (p principals) Principal(_ context.Context, name string) (gateway.Principal, bool, error) {
	v, ok := p[name]
	return v, ok, nil
}

func (p principals) PutDevice(_ context.Context, d string) (string, error) {
	p[d] = gateway.Principal{Name: d}
	return "secret of " + d, nil
}

func (p principals) PutBridge(_ context.Context, b string, devices []string) (string, error) {
	p[b] = gateway.Principal{Name: b, Bridge: true, Devices: devices}
	return "secret of " + b, nil
}

func (p principals) SetBridgeDevices(_ context.Context, b string, devices []string) error {
	p[b] = gateway.Principal{Name: b, Bridge: true, Devices: devices}
	return nil
}

func (p principals) PutDevices(ctx context.Context, devices []string) (map[string]string, error) {
	made := map[string]string{}
	for _, d := range devices {
		made[d], _ = p.PutDevice(ctx, d) // which has no errors
	}
	return made, nil
}

func (p principals) Login(context.Context, string) (gateway.LoginState, bool, error) {
	return gateway.LoginState{PasswordSince: time.Now().Add(-24 * time.Hour)}, true, nil
}

func (p principals) Renew(context.Context, string) (string, time.Time, error) {
	return "renewed", time.Now().Add(time.Hour), nil
}

func (p principals) Order(context.Context, func(gateway.Principal, gateway.LoginState) bool) (int, error) {
	return 1, nil
}

func (p principals) PutClaimed(ctx context.Context, d string, _ bool) (string, error) {
	return p.PutDevice(ctx, d)
}

func (p principals) SetQuarantine(context.Context, string, bool) error { return nil }

func (p principals) Forget(ctx context.Context, device string) error { return p.Remove(ctx, device) }

func (p principals) Remove(_ context.Context, name string) error {
	delete(p, name)
	return nil
}

func (p principals) Bridges(context.Context) ([]gateway.Principal, error) {
	var all []gateway.Principal
	for _, v := range p {
		if v.Bridge {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b gateway.Principal) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// serve starts the real API on a real orchestrator and returns a client of it.
func serve(t *testing.T) (*client.Client, *orchestrator.Service) {
	t.Helper()
	return serveThrough(t, func(api http.Handler) http.Handler { return api })
}

// serveThrough is serve with something in front of the API.
func serveThrough(t *testing.T, front func(http.Handler) http.Handler) (*client.Client, *orchestrator.Service) {
	t.Helper()
	blobs, err := fileblobs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	store := memstore.New()
	service, err := orchestrator.New(orchestrator.Options{Store: store, Blobs: blobs, Publisher: nowhere{}, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := service.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	directory, err := people.New(people.Options{Store: store, AdminToken: token, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	levels, err := logevent.NewLevels("info", logevent.ServiceParts())
	if err != nil {
		t.Fatal(err)
	}
	api, err := gateway.NewAPI(gateway.APIOptions{Levels: levels, Service: service, Storage: folder{}, Credentials: principals{}, People: directory, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(front(api))
	c, err := client.New(srv.URL, token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); srv.Close(); cancel(); running.Wait() })
	return c, service
}

// ok fails the test if a call failed.
func ok[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func catalog(t *testing.T, c *client.Client, devices ...string) {
	t.Helper()
	ctx := t.Context()
	ok[orchestrator.ImageType](t)(c.CreateImageType(ctx, orchestrator.NewImageType{ID: "app"}))
	ok[orchestrator.DeviceType](t)(c.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "pump", Dialect: "ayla",
		ImageTypes: []orchestrator.EnabledImageType{{ID: "app", SizeLimit: 1 << 20}}, BootTimeout: orchestrator.Duration(90 * time.Second)}))
	for _, d := range devices {
		cred := ok[client.DeviceCredentials](t)(c.CreateDevice(ctx, orchestrator.NewDevice{ID: d, Type: "pump"}))
		if cred.Username != d || cred.Password != "secret of "+d || cred.Device.ID != d {
			t.Errorf("credentials %+v", cred)
		}
	}
}

// TestRecords goes through every call on types, devices, bridges and groups.
func TestRecords(t *testing.T) {
	c, _ := serve(t)
	ctx := t.Context()
	catalog(t, c, "a", "b", "c")
	name := "Application"
	if v := ok[orchestrator.ImageType](t)(c.UpdateImageType(ctx, "app", orchestrator.ImageTypePatch{Name: &name})); v.Name != name {
		t.Errorf("changed image type: %+v", v)
	}
	boot := orchestrator.Duration(2 * time.Minute)
	ok[orchestrator.DeviceType](t)(c.UpdateDeviceType(ctx, "pump", orchestrator.DeviceTypePatch{BootTimeout: &boot}))
	dt := ok[orchestrator.DeviceType](t)(c.DeviceType(ctx, "pump"))
	if dt.BootTimeout != boot || len(dt.ImageTypes) != 1 || dt.ImageTypes[0].VersionProperty != orchestrator.DefaultVersionProperty {
		t.Errorf("changed device type: %+v", dt)
	}
	labels := map[string]string{"site": "north"}
	if d := ok[orchestrator.Device](t)(c.UpdateDevice(ctx, "a", orchestrator.DevicePatch{Labels: &labels})); d.Labels["site"] != "north" {
		t.Errorf("changed device: %+v", d)
	}
	if r := ok[client.DeviceCredentials](t)(c.RotateCredentials(ctx, "a")); r.Password == "" || r.Device.Labels["site"] != "north" {
		t.Errorf("rotated: %+v", r)
	}
	if b := ok[client.Bridge](t)(c.CreateBridge(ctx, "rack", []string{"a", "b"})); b.Username != "rack" || b.Password == "" || len(b.Devices) != 2 {
		t.Errorf("bridge: %+v", b)
	}
	ok[client.Bridge](t)(c.RotateBridge(ctx, "rack"))
	if b := ok[client.Bridge](t)(c.ChangeBridge(ctx, "rack", client.BridgePatch{RemoveDevices: []string{"a"}})); b.Password != "" || !slices.Equal(b.Devices, []string{"b"}) {
		t.Errorf("bridge without a: %+v", b)
	}
	if b := ok[client.Bridge](t)(c.ChangeBridge(ctx, "rack", client.BridgePatch{Devices: &[]string{}})); len(b.Devices) != 0 {
		t.Errorf("bridge for nobody: %+v", b)
	}
	ok[client.Bridge](t)(c.ChangeBridge(ctx, "rack", client.BridgePatch{AddDevices: []string{"b", "a"}}))
	if b := ok[client.Bridge](t)(c.Bridge(ctx, "rack")); b.Password != "" || len(b.Devices) != 2 {
		t.Errorf("bridge: %+v", b)
	}
	ok[orchestrator.Group](t)(c.CreateGroup(ctx, orchestrator.NewGroup{ID: "g", Devices: []string{"a"}}))
	if g := ok[orchestrator.Group](t)(c.ReplaceGroup(ctx, "g", orchestrator.GroupPatch{Description: new("all"), Devices: &[]string{"b", "c"}})); g.Description != "all" || len(g.Devices) != 2 {
		t.Errorf("group: %+v", g)
	}
	for what, remove := range map[string]func() error{
		"group":  func() error { return c.DeleteGroup(ctx, "g") },
		"bridge": func() error { return c.DeleteBridge(ctx, "rack") },
	} {
		if err := remove(); err != nil {
			t.Errorf("delete %s: %v", what, err)
		}
		if err := remove(); !client.IsStatus(err, http.StatusNotFound) {
			t.Errorf("delete %s twice: %v", what, err)
		}
	}
	for _, d := range []string{"a", "b", "c"} {
		if err := c.DeleteDevice(ctx, d); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(c.DeleteDeviceType(ctx, "pump"), c.DeleteImageType(ctx, "app")); err != nil {
		t.Error(err)
	}
}

// TestListings: iterators go through all pages and stop when told to.
func TestListings(t *testing.T) {
	c, service := serve(t)
	ctx := t.Context()
	catalog(t, c)
	const n = 2300 // three pages of the iterator
	for i := range n {
		if _, err := service.CreateDevice(ctx, orchestrator.NewDevice{ID: fmt.Sprintf("d%04d", i), Type: "pump"}); err != nil {
			t.Fatal(err)
		}
	}
	i := 0
	devices := func(ctx context.Context, p orchestrator.Page) ([]client.DeviceView, string, error) {
		return c.Devices(ctx, orchestrator.DeviceFilter{}, p)
	}
	for d, err := range client.All(ctx, devices) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("d%04d", i); d.ID != want {
			t.Fatalf("item %d is %s, want %s", i, d.ID, want)
		}
		i++
	}
	if i != n {
		t.Errorf("listed %d devices, there are %d", i, n)
	}
	for range client.All(ctx, devices) {
		break
	}
	items, next, err := c.Devices(ctx, orchestrator.DeviceFilter{}, orchestrator.Page{After: "d0009", Limit: 2})
	if err != nil || len(items) != 2 || items[0].ID != "d0010" || next == "" {
		t.Errorf("page: %v %q %v", items, next, err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range client.All(cancelled, devices) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("listing with a dead context: %v", err)
		}
	}
}

func TestImages(t *testing.T) {
	c, _ := serve(t)
	ctx := t.Context()
	catalog(t, c)
	content := bytes.Repeat([]byte("firmware"), 20_000)
	file := filepath.Join(t.TempDir(), "app.bin")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	n := orchestrator.NewImage{ImageType: "app", DeviceTypes: []string{"pump"}, Version: "2.0 beta/1", MinVersion: "1.0", Description: "a & b", Tags: []string{"x", "y"}, FileName: "app.bin", Format: "binary"}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var sent []int64
	img := ok[orchestrator.Image](t)(c.UploadImage(ctx, n, f, func(b int64) { sent = append(sent, b) }))
	if img.Size != uint64(len(content)) || img.Version != n.Version || img.MinVersion != "1.0" || img.Description != "a & b" || !slices.Equal(img.Tags, n.Tags) || img.FileName != "app.bin" {
		t.Errorf("image: %+v", img)
	}
	if !slices.IsSorted(sent) || len(sent) < 2 || sent[len(sent)-1] != int64(len(content)) {
		t.Errorf("progress: %v", sent)
	}
	// A reader of unknown length is sent all the same.
	other := ok[orchestrator.Image](t)(c.UploadImage(ctx, orchestrator.NewImage{ImageType: "app", DeviceTypes: []string{"pump"}, Version: "3"}, io.MultiReader(strings.NewReader("x"))))
	if got, _, err := c.Images(ctx, orchestrator.ImageFilter{Tag: "x", ImageType: "app", DeviceType: "pump"}, orchestrator.Page{}); err != nil || len(got) != 1 || got[0].ID != img.ID {
		t.Errorf("images with tag x: %v %v", got, err)
	}
	r := ok[io.ReadCloser](t)(c.ImageContent(ctx, img.ID))
	defer func() { _ = r.Close() }()
	if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, content) {
		t.Errorf("downloaded %d bytes, %v", len(b), err)
	}
	large := orchestrator.NewImage{ImageType: "app", DeviceTypes: []string{"pump"}, Version: "4", Format: "binary"}
	_, err = c.UploadImage(ctx, large, io.LimitReader(zeros{}, 64<<20))
	if !client.IsStatus(err, http.StatusRequestEntityTooLarge) || !strings.Contains(err.Error(), "1048576 bytes") {
		t.Errorf("too large: %v", err)
	}
	large.ImageType = "none"
	begin := &countingReader{}
	if _, err := c.UploadImage(ctx, large, begin); !client.IsStatus(err, http.StatusUnprocessableEntity) {
		t.Errorf("unknown image type: %v", err)
	}
	if begin.n > 0 {
		t.Errorf("%d bytes were sent of an upload that was refused by its metadata", begin.n)
	}
	if err := errors.Join(c.DeleteImage(ctx, img.ID), c.DeleteImage(ctx, other.ID)); err != nil {
		t.Error(err)
	}
	if _, err := c.Image(ctx, img.ID); !client.IsStatus(err, http.StatusNotFound) {
		t.Errorf("deleted image: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type countingReader struct{ n int }

func (c *countingReader) Read(p []byte) (int, error) { c.n += len(p); return len(p), nil }

// TestJobs follows a job by long polls while its devices report.
func TestJobs(t *testing.T) {
	c, service := serve(t)
	ctx := t.Context()
	catalog(t, c, "a", "b")
	ok[orchestrator.Group](t)(c.CreateGroup(ctx, orchestrator.NewGroup{ID: "g", Devices: []string{"a", "b"}}))
	img := ok[orchestrator.Image](t)(c.UploadImage(ctx, orchestrator.NewImage{ImageType: "app", DeviceTypes: []string{"pump"}, Version: "2"}, strings.NewReader("firmware")))
	job := ok[orchestrator.Job](t)(c.CreateJob(ctx, orchestrator.NewJob{Name: "j", Image: img.ID, Groups: []string{"g"}}))
	if job.State != orchestrator.JobDraft {
		t.Errorf("created: %+v", job)
	}
	ok[orchestrator.Job](t)(c.StartJob(ctx, "j"))
	last := map[string]orchestrator.Execution{}
	reported := map[string]bool{}
	var rev uint64
	for deadline := time.Now().Add(20 * time.Second); job.State != orchestrator.JobCompleted; {
		if time.Now().After(deadline) {
			t.Fatalf("the job does not end: %+v %+v", job, last)
		}
		changes := ok[orchestrator.JobChanges](t)(c.Changes(ctx, "j", rev, 5*time.Second))
		rev, job = changes.Rev, changes.Job
		for _, e := range changes.Executions {
			last[e.Device] = e
			if e.State.Final() || reported[e.Device] || e.Attempt == 0 {
				continue
			}
			reported[e.Device] = true
			go func() {
				st := schemas.Status{V: 1, Execution: e.ID, Attempt: e.Attempt, Seq: 1, State: schemas.StateSucceeded, HostVersion: "2"}
				if err := service.Status(ctx, e.Device, st); err != nil {
					t.Error(err)
				}
			}()
		}
	}
	detail, executions, err := c.Job(ctx, "j")
	if err != nil || detail.Counts[schemas.StateSucceeded] != 2 || len(executions) != 2 {
		t.Errorf("job: %+v %+v %v", detail, executions, err)
	}
	if e := ok[orchestrator.Execution](t)(c.Execution(ctx, executions[0].ID)); e.State != schemas.StateSucceeded || e.HostVersion != "2" {
		t.Errorf("execution: %+v", e)
	}
	checkExecutions(t, c)
	if _, err := c.CancelJob(ctx, "j", orchestrator.CancelRequest{}); !client.IsStatus(err, http.StatusConflict) {
		t.Errorf("canceling a completed job: %v", err)
	}
	if jobs, _, err := c.Jobs(ctx, orchestrator.JobFilter{}, orchestrator.Page{}); err != nil || len(jobs) != 1 {
		t.Errorf("jobs: %v %v", jobs, err)
	}
}

// checkExecutions lists the executions of job j, which has the devices a and b.
func checkExecutions(t *testing.T, c *client.Client) {
	t.Helper()
	for what, l := range map[string]client.Listing[orchestrator.Execution]{
		"job's": func(ctx context.Context, p orchestrator.Page) ([]orchestrator.Execution, string, error) {
			return c.JobExecutions(ctx, "j", orchestrator.ExecutionFilter{}, p)
		},
		"device's": func(ctx context.Context, p orchestrator.Page) ([]orchestrator.Execution, string, error) {
			return c.DeviceExecutions(ctx, "a", p)
		},
	} {
		n := 0
		for e, err := range client.All(t.Context(), l) {
			if err != nil || e.Job != "j" {
				t.Errorf("%s execution: %+v %v", what, e, err)
			}
			n++
		}
		if want := map[string]int{"job's": 2, "device's": 1}[what]; n != want {
			t.Errorf("%d %s executions, want %d", n, what, want)
		}
	}
}

// TestErrors: problems become errors with their sentence; so does what is not
// davit at all.
func TestErrors(t *testing.T) {
	c, _ := serve(t)
	_, err := c.CreateImageType(t.Context(), orchestrator.NewImageType{ID: strings.Repeat("x", 100)})
	var p *client.Error
	if !errors.As(err, &p) || p.Status != http.StatusUnprocessableEntity || p.Title == "" || !strings.Contains(p.Error(), "64") {
		t.Errorf("got %#v", err)
	}
	for _, u := range []string{"", "127.0.0.1:80", "ftp://x", "http://"} {
		if _, err := client.New(u, token); err == nil || !strings.Contains(err.Error(), "URL") {
			t.Errorf("%q: %v", u, err)
		}
	}
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/jobs") {
			_, _ = io.WriteString(w, "<html>welcome</html>")
			return
		}
		http.Error(w, "gateway timeout", http.StatusGatewayTimeout)
	}))
	other, err := client.New(stranger.URL, token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Device(t.Context(), "a"); !client.IsStatus(err, http.StatusGatewayTimeout) || !strings.Contains(err.Error(), "gateway timeout") {
		t.Errorf("a proxy's error: %v", err)
	}
	if _, _, err := other.Jobs(t.Context(), orchestrator.JobFilter{}, orchestrator.Page{}); err == nil || !strings.Contains(err.Error(), "not understood") {
		t.Errorf("a page for people: %v", err)
	}
	other.Close()
	stranger.Close()
	if _, err := other.Device(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("nobody there: %v", err)
	}
}
