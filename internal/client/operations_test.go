package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"davit/gateway"
	"davit/gateway/people"
	"davit/internal/client"
	"davit/internal/signtest"
	"davit/orchestrator"
	"davit/schemas"
)

// calls notes which requests reach the API with success.
type calls struct {
	mu   sync.Mutex
	made map[string]bool // METHOD path
	api  http.Handler
	url  string
}

func (c *calls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := r.Method + " " + r.URL.Path
	c.mu.Lock()
	c.url = "http://" + r.Host
	c.mu.Unlock()
	c.api.ServeHTTP(&noting{w, func(status int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if status < 300 {
			c.made[call] = true
		}
	}}, r)
}

type noting struct {
	http.ResponseWriter
	note func(status int)
}

func (n *noting) Unwrap() http.ResponseWriter { return n.ResponseWriter }

func (n *noting) WriteHeader(status int) {
	n.note(status)
	n.ResponseWriter.WriteHeader(status)
}

func (n *noting) Write(b []byte) (int, error) {
	n.note(http.StatusOK)
	return n.ResponseWriter.Write(b)
}

// operations are those whose method and path were called, by the API's document.
func (c *calls) operations(t *testing.T) map[string]bool {
	t.Helper()
	w := httptest.NewRecorder()
	c.api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	var doc struct {
		Paths map[string]map[string]struct {
			ID string `json:"operationId"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, methods := range doc.Paths {
		for method := range methods {
			mux.Handle(strings.ToUpper(method)+" "+path, http.NotFoundHandler())
		}
	}
	done := map[string]bool{}
	for call := range c.made {
		method, path, _ := strings.Cut(call, " ")
		_, pattern := mux.Handler(httptest.NewRequest(method, path, nil))
		_, path, _ = strings.Cut(pattern, " ")
		done[doc.Paths[path][strings.ToLower(method)].ID] = true
	}
	return done
}

// TestEveryOperation: the client has a call for each operation of the API, and
// what it sends and reads is what the API takes and says.
func TestEveryOperation(t *testing.T) {
	all := &calls{made: map[string]bool{}}
	c, service := serveThrough(t, func(api http.Handler) http.Handler { all.api = api; return all })
	catalog(t, c, "a", "b", "spare")
	callRecords(t, c)
	image := callImages(t, c)
	callJobs(t, c, service, image)
	callClaims(t, c)
	if done := ok[client.Rotation](t)(c.OrderRotation(t.Context(), client.NewRotation{AllDevices: true})); done.Ordered == 0 {
		t.Errorf("%+v", done)
	}
	callPeople(t, c, all.url)
	callLog(t, c)
	callStorage(t, c)
	for what, remove := range map[string]func() error{
		"device": func() error { return c.DeleteDevice(t.Context(), "spare") },
		"bridge": func() error { return c.DeleteBridge(t.Context(), "rack") },
		"group":  func() error { return c.DeleteGroup(t.Context(), "g") },
		"types": func() error {
			return errors.Join(c.DeleteDeviceType(t.Context(), "x"), c.DeleteImageType(t.Context(), "x"))
		},
	} {
		if err := remove(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	done := all.operations(t)
	for _, op := range people.Operations() {
		if !done[op.ID] {
			t.Errorf("no call of the client has carried out %s", op.ID)
		}
	}
}

func callClaims(t *testing.T, c *client.Client) {
	t.Helper()
	ctx := t.Context()
	made := ok[client.Claim](t)(c.CreateClaim(ctx, orchestrator.NewClaim{ID: "line-1", DeviceType: "x", Uses: 2}))
	if made.Token == "" || made.Username != "claim:line-1" || made.State != orchestrator.ClaimActive {
		t.Errorf("%+v", made)
	}
	if got := ok[client.Claim](t)(c.Claim(ctx, "line-1")); got.Token != "" || got.Uses != 2 {
		t.Errorf("%+v", got)
	}
	items, _, err := c.Claims(ctx, orchestrator.Page{})
	if err != nil || len(items) != 1 {
		t.Errorf("%+v, %v", items, err)
	}
	if got := ok[client.Claim](t)(c.RevokeClaim(ctx, "line-1")); got.State != orchestrator.ClaimRevoked {
		t.Errorf("%+v", got)
	}
}

func callRecords(t *testing.T, c *client.Client) {
	t.Helper()
	ctx, text := t.Context(), "changed"
	ok[orchestrator.ImageType](t)(c.CreateImageType(ctx, orchestrator.NewImageType{ID: "x"}))
	ok[orchestrator.DeviceType](t)(c.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "x", Dialect: "ayla"}))
	it := ok[orchestrator.ImageType](t)(c.ImageType(ctx, "x"))
	p := orchestrator.ImageTypePatch{Description: &text, Precondition: orchestrator.Precondition{IfRevision: &it.Revision}}
	ok[orchestrator.ImageType](t)(c.UpdateImageType(ctx, "x", p))
	if _, err := c.UpdateImageType(ctx, "x", p); !client.IsStatus(err, http.StatusPreconditionFailed) {
		t.Errorf("an edit of an old revision: %v", err)
	}
	ok[orchestrator.DeviceType](t)(c.UpdateDeviceType(ctx, "x", orchestrator.DeviceTypePatch{Description: &text}))
	ok[orchestrator.DeviceType](t)(c.DeviceType(ctx, "x"))
	labels := map[string]string{"site": "north"}
	ok[orchestrator.Device](t)(c.UpdateDevice(ctx, "a", orchestrator.DevicePatch{Labels: &labels}))
	ok[client.DeviceCredentials](t)(c.RotateCredentials(ctx, "a"))
	if d := ok[orchestrator.Device](t)(c.QuarantineDevice(ctx, "a", "stolen")); d.QuarantinedAt.IsZero() || d.QuarantineReason != "stolen" {
		t.Errorf("in quarantine: %+v", d)
	}
	if d := ok[orchestrator.Device](t)(c.ReleaseDevice(ctx, "a")); !d.QuarantinedAt.IsZero() || d.QuarantineReason != "" {
		t.Errorf("released: %+v", d)
	}
	report := ok[client.ImportReport](t)(c.ImportDevices(ctx, strings.NewReader("id,type,site\nc,pump,north\nd,pump,\n"), true, false))
	if report.Imported != 2 || report.Lines[0].Password == "" {
		t.Errorf("import: %+v", report)
	}
	var refused *client.Error
	if _, err := c.ImportDevices(ctx, strings.NewReader("id,type\nc,pump\n"), true, false); !errors.As(err, &refused) || len(refused.Fields) != 1 || refused.Fields[0].Location != "line 2" {
		t.Errorf("import of a device that exists: %v", err)
	}
	once := client.WithIdempotencyKey(ctx, "key")
	for range 2 {
		ok[orchestrator.Group](t)(c.CreateGroup(once, orchestrator.NewGroup{ID: "g", Query: `label.site == "north"`}))
	}
	if g := ok[orchestrator.Group](t)(c.ReplaceGroup(ctx, "g", orchestrator.GroupPatch{Description: &text, Query: ptr(`label.site == "north" and type == "pump"`)})); g.Description != text {
		t.Errorf("group: %+v", g)
	}
	ok[orchestrator.Group](t)(c.Group(ctx, "g"))
	if q := ok[orchestrator.QueryPreview](t)(c.PreviewQuery(ctx, `label.site == "north"`, 1)); q.Count != 2 || len(q.Sample) != 1 {
		t.Errorf("preview: %+v", q)
	}
	if d := ok[client.DeviceView](t)(c.DeviceDetail(ctx, "a")); !slices.Equal(d.Groups, []string{"g"}) {
		t.Errorf("device: %+v", d)
	}
	ok[client.Bridge](t)(c.CreateBridge(ctx, "rack", []string{"a"}))
	ok[client.Bridge](t)(c.Bridge(ctx, "rack"))
	ok[client.Bridge](t)(c.RotateBridge(ctx, "rack"))
	ok[client.Bridge](t)(c.ChangeBridge(ctx, "rack", client.BridgePatch{Devices: &[]string{"a"}}))
	count(t, 2, client.All(ctx, c.ImageTypes))
	count(t, 2, client.All(ctx, c.DeviceTypes))
	count(t, 1, client.All(ctx, c.Bridges))
	count(t, 1, client.All(ctx, c.Groups))
	offline := false
	count(t, 2, client.All(ctx, func(ctx context.Context, p orchestrator.Page) ([]client.DeviceView, string, error) {
		return c.Devices(ctx, orchestrator.DeviceFilter{Label: "site=north", Type: "pump", Online: &offline}, p)
	}))
	if list, _, err := c.Devices(ctx, orchestrator.DeviceFilter{}, orchestrator.Page{Limit: 1}); err != nil || len(list) != 1 || !slices.Equal(list[0].Groups, []string{"g"}) {
		t.Errorf("devices: %+v, %v", list, err)
	}
	count(t, 2, client.All(ctx, func(ctx context.Context, p orchestrator.Page) ([]orchestrator.Device, string, error) {
		return c.GroupDevices(ctx, "g", p)
	}))
	if f := ok[orchestrator.FleetSummary](t)(c.Fleet(ctx)); f.Devices != 5 || f.ByType["pump"] != 5 {
		t.Errorf("fleet: %+v", f)
	}
	if s := ok[client.ServiceStatus](t)(c.Status(ctx)); s.Fleet.Devices != 5 || !s.Ready || !s.Healthy || s.At.IsZero() || s.Failures == nil {
		t.Errorf("status: %+v", s)
	}
}

func ptr[T any](v T) *T { return &v }

// count goes through a listing and counts.
func count[T any](t *testing.T, want int, items func(func(T, error) bool)) {
	t.Helper()
	n := 0
	for _, err := range items {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != want {
		t.Errorf("the listing has %d, want %d", n, want)
	}
}

// callImages returns the id of an image.
func callImages(t *testing.T, c *client.Client) string {
	t.Helper()
	ctx := t.Context()
	n := orchestrator.NewImage{ImageType: "app", DeviceTypes: []string{"pump"}, Version: "1.0", Tags: []string{"blue"}, Format: "binary"}
	image := ok[orchestrator.Image](t)(c.UploadImage(ctx, n, bytes.NewReader([]byte("firmware"))))
	upload := ok[orchestrator.Upload](t)(c.StageUpload(ctx, orchestrator.NewUpload{FileName: "x.bin", Format: "binary"}, bytes.NewReader([]byte("firmware"))))
	if upload.FileName != "x.bin" || !slices.Equal(upload.Duplicates, []string{image.ID}) {
		t.Errorf("upload: %+v", upload)
	}
	ok[orchestrator.Upload](t)(c.Upload(ctx, upload.ID))
	n.Version, n.Format = "2.0", ""
	second := ok[orchestrator.Image](t)(c.CreateImage(ctx, upload.ID, n))
	other := ok[orchestrator.Upload](t)(c.StageUpload(ctx, orchestrator.NewUpload{}, strings.NewReader("thrown away")))
	if err := c.DiscardUpload(ctx, other.ID); err != nil {
		t.Error(err)
	}
	archived := true
	if i := ok[orchestrator.Image](t)(c.UpdateImage(ctx, second.ID, orchestrator.ImagePatch{Archived: &archived})); i.ArchivedAt.IsZero() {
		t.Errorf("archived: %+v", i)
	}
	for _, f := range []orchestrator.ImageFilter{{Archived: true}, {Tag: "blue", Text: "1.0"}} {
		count(t, 1, client.All(ctx, func(ctx context.Context, p orchestrator.Page) ([]orchestrator.Image, string, error) {
			return c.Images(ctx, f, p)
		}))
	}
	if err := c.DeleteImage(ctx, second.ID); err != nil {
		t.Error(err)
	}
	signed := signtest.Sign(t, []byte("firmware"), signtest.Terms("app", "pump", "1.0", time.Now()), signtest.Key(t))
	ok[orchestrator.Image](t)(c.AttachManifest(ctx, image.ID, orchestrator.NewManifest{Manifest: string(signed.Text), Signatures: string(signed.Signatures)}))
	if i := ok[orchestrator.Image](t)(c.Image(ctx, image.ID)); i.Manifest == nil || i.Manifest.Counter != 7 || len(i.Manifest.SignedBy) != 1 {
		t.Errorf("signed: %+v", i.Manifest)
	}
	content := ok[io.ReadCloser](t)(c.ImageContent(ctx, image.ID))
	if b, err := io.ReadAll(content); err != nil || string(b) != "firmware" {
		t.Errorf("content %q %v", b, err)
	}
	_ = content.Close()
	return image.ID
}

func callJobs(t *testing.T, c *client.Client, service *orchestrator.Service, image string) {
	t.Helper()
	ctx := t.Context()
	n := orchestrator.NewJob{Name: "j", Image: image, Devices: []string{"a", "b"}, Description: "first"}
	if p := ok[orchestrator.JobPreview](t)(c.PreviewJob(ctx, n)); p.Devices != 2 {
		t.Errorf("preview: %+v", p)
	}
	ok[orchestrator.Job](t)(c.CreateJob(ctx, n))
	text := "second"
	if j := ok[orchestrator.Job](t)(c.UpdateJob(ctx, "j", orchestrator.JobPatch{Description: &text})); j.Description != text {
		t.Errorf("job: %+v", j)
	}
	if j := ok[orchestrator.Job](t)(c.StartJob(ctx, "j")); j.State != orchestrator.JobRunning {
		t.Errorf("started: %+v", j)
	}
	if j := ok[orchestrator.Job](t)(c.PauseJob(ctx, "j")); j.State != orchestrator.JobPaused {
		t.Errorf("paused: %+v", j)
	}
	if j := ok[orchestrator.Job](t)(c.ResumeJob(ctx, "j")); j.State != orchestrator.JobRunning {
		t.Errorf("resumed: %+v", j)
	}
	id := failOne(t, c, service)
	if j := ok[orchestrator.Job](t)(c.RetryJob(ctx, "j", orchestrator.RetryRequest{Devices: []string{"a"}})); j.Name != "j" {
		t.Errorf("retried: %+v", j)
	}
	if e := ok[orchestrator.Execution](t)(c.Execution(ctx, id)); e.Device != "a" {
		t.Errorf("execution: %+v", e)
	}
	ok[orchestrator.JobHistory](t)(c.JobHistory(ctx, "j"))
	if j, list, err := c.Job(ctx, "j"); err != nil || len(list) != 2 || j.Image != image {
		t.Errorf("job: %+v %+v %v", j, list, err)
	}
	count(t, 2, client.All(ctx, func(ctx context.Context, p orchestrator.Page) ([]orchestrator.Execution, string, error) {
		return c.JobExecutions(ctx, "j", orchestrator.ExecutionFilter{}, p)
	}))
	count(t, 1, client.All(ctx, func(ctx context.Context, p orchestrator.Page) ([]orchestrator.Execution, string, error) {
		return c.DeviceExecutions(ctx, "a", p)
	}))
	count(t, 1, client.All(ctx, func(ctx context.Context, p orchestrator.Page) ([]orchestrator.Job, string, error) {
		return c.Jobs(ctx, orchestrator.JobFilter{State: orchestrator.JobRunning, Image: image, Text: "second"}, p)
	}))
	ok[orchestrator.Job](t)(c.CancelJob(ctx, "j", orchestrator.CancelRequest{Finish: true}))
	callRollouts(t, c, image)
}

func callRollouts(t *testing.T, c *client.Client, image string) {
	t.Helper()
	ctx := t.Context()
	start := func(name string, r orchestrator.Rollout) {
		n := orchestrator.NewJob{Name: name, Image: image, Devices: []string{"a", "b"}, Rollout: &r, Start: true}
		if j := ok[orchestrator.Job](t)(c.CreateJob(ctx, n)); len(j.Rollout.Waves) != len(r.Waves) || j.Rollout.Action != r.Action {
			t.Errorf("job %s: %+v", name, j.Rollout)
		}
	}
	start("waves", orchestrator.Rollout{Waves: []orchestrator.Wave{{Devices: []string{"a"}, Soak: orchestrator.Duration(time.Hour)}, {Percent: 100, Approve: true}}})
	count(t, 1, client.All(ctx, func(ctx context.Context, p orchestrator.Page) ([]orchestrator.WaveMember, string, error) {
		return c.WaveMembers(ctx, "waves", 2, p)
	}))
	if _, err := c.ApproveWave(ctx, "waves", orchestrator.ApproveRequest{Wave: 3, Force: true}); err == nil {
		t.Error("a wave that is not there is approved")
	}
	if j := ok[orchestrator.Job](t)(c.ApproveWave(ctx, "waves", orchestrator.ApproveRequest{Wave: 2, Force: true})); j.Name != "waves" {
		t.Errorf("approved: %+v", j)
	}
	start("asks", orchestrator.Rollout{Action: orchestrator.ActionConfirm})
	if j := ok[orchestrator.Job](t)(c.ConfirmJob(ctx, "asks", orchestrator.DevicesRequest{Devices: []string{"b"}})); j.Name != "asks" {
		t.Errorf("confirmed: %+v", j)
	}
	start("later", orchestrator.Rollout{Action: orchestrator.ActionDownload})
	if j := ok[orchestrator.Job](t)(c.InstallJob(ctx, "later", orchestrator.DevicesRequest{})); j.Name != "later" {
		t.Errorf("installed: %+v", j)
	}
}

// failOne waits until device a has been offered job j, fails it, and returns the
// execution's id.
func failOne(t *testing.T, c *client.Client, service *orchestrator.Service) string {
	t.Helper()
	var rev uint64
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		changes := ok[orchestrator.JobChanges](t)(c.Changes(t.Context(), "j", rev, 5*time.Second))
		rev = changes.Rev
		for _, e := range changes.Executions {
			if e.Device != "a" || e.State != schemas.StateOffered {
				continue
			}
			st := schemas.Status{V: 1, Execution: e.ID, Attempt: e.Attempt, Seq: 1, State: schemas.StateFailed, Cause: schemas.CauseTimeout}
			if err := service.Status(t.Context(), "a", st); err != nil {
				t.Fatal(err)
			}
			return e.ID
		}
	}
	t.Fatal("device a is not offered job j")
	return ""
}

func callPeople(t *testing.T, c *client.Client, url string) {
	t.Helper()
	ctx := t.Context()
	if u := ok[client.User](t)(c.CreateUser(ctx, client.NewUser{Name: "eve", Role: "viewer", Password: "the first password"})); u.Role != "viewer" {
		t.Errorf("user: %+v", u)
	}
	role := "operator"
	if u := ok[client.User](t)(c.UpdateUser(ctx, "eve", client.UserPatch{Role: &role})); u.Role != role {
		t.Errorf("user: %+v", u)
	}
	ok[client.User](t)(c.User(ctx, "eve"))
	count(t, 1, client.All(ctx, c.Users))
	secret := ok[client.NewSecret](t)(c.CreateToken(ctx, "eve", client.NewToken{Name: "laptop", Scopes: []string{"read", "account"}, Expires: "24h"}))
	eve, err := client.New(url, secret.Secret)
	if err != nil {
		t.Fatal(err)
	}
	defer eve.Close()
	if me := ok[client.Me](t)(eve.Me(ctx)); me.User != "eve" || me.TokenName != "laptop" || !slices.Equal(me.Scopes, []string{"account", "read"}) {
		t.Errorf("eve: %+v", me)
	}
	if err := eve.ChangePassword(ctx, "the first password", "the second password"); err != nil {
		t.Error(err)
	}
	own := ok[client.NewSecret](t)(eve.CreateToken(ctx, "", client.NewToken{Name: "own", Scopes: []string{"read"}}))
	count(t, 2, client.All(ctx, func(ctx context.Context, p orchestrator.Page) ([]client.Token, string, error) {
		return eve.Tokens(ctx, "", p)
	}))
	count(t, 2, client.All(ctx, func(ctx context.Context, p orchestrator.Page) ([]client.Token, string, error) {
		return c.Tokens(ctx, "*", p)
	}))
	if err := eve.DeleteToken(ctx, own.ID); err != nil {
		t.Error(err)
	}
	if err := c.DeleteUser(ctx, "eve"); err != nil {
		t.Error(err)
	}
	if _, err := eve.Me(ctx); !client.IsStatus(err, http.StatusUnauthorized) {
		t.Errorf("a deleted user's token: %v", err)
	}
	if me := ok[client.Me](t)(c.Me(ctx)); me.Role != "admin" || len(me.Scopes) != len(people.Scopes()) {
		t.Errorf("me: %+v", me)
	}
}

// folder is a data folder with one word in it.
type folder struct{}

func (folder) Usage(context.Context) (orchestrator.StorageUsage, error) {
	return orchestrator.StorageUsage{Records: 7}, nil
}
func (folder) Backup(context.Context) (gateway.Backup, error) { return folder{}, nil }
func (folder) Compact(context.Context) (orchestrator.Compaction, error) {
	return orchestrator.Compaction{Before: 2, After: 1}, nil
}
func (folder) Name() string { return "folder.tar" }
func (folder) Close() error { return nil }
func (folder) Send(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "word")
	return err
}

func callStorage(t *testing.T, c *client.Client) {
	t.Helper()
	if u := ok[orchestrator.StorageUsage](t)(c.Storage(t.Context())); u.Records != 7 {
		t.Errorf("%+v", u)
	}
	if got := ok[orchestrator.Compaction](t)(c.Compact(t.Context())); got.After != 1 {
		t.Errorf("%+v", got)
	}
	archive := ok[io.ReadCloser](t)(c.Backup(t.Context()))
	defer archive.Close()
	if b, err := io.ReadAll(archive); err != nil || string(b) != "word" {
		t.Errorf("%q %v", b, err)
	}
}

// callLog reads what the calls before have left.
func callLog(t *testing.T, c *client.Client) {
	t.Helper()
	ctx := t.Context()
	count(t, 1, client.All(ctx, func(ctx context.Context, p orchestrator.Page) ([]orchestrator.AuditEntry, string, error) {
		return c.AuditEntries(ctx, orchestrator.AuditFilter{Kind: "user", ID: "eve", Action: "create"}, p)
	}))
	if l := ok[client.LogLevel](t)(c.SetLogLevel(ctx, "warn")); l.Level != "warn" || l.Level != ok[client.LogLevel](t)(c.LogLevel(ctx)).Level {
		t.Errorf("%+v", l)
	}
	export := ok[io.ReadCloser](t)(c.ExportAudit(ctx, orchestrator.AuditFilter{Kind: "job"}))
	b, err := io.ReadAll(export)
	if err != nil || bytes.Count(b, []byte("\n")) < 5 {
		t.Errorf("export: %v %s", err, b)
	}
	_ = export.Close()
	enough, since, kinds := errors.New("enough"), uint64(0), map[string]bool{}
	err = c.Events(ctx, client.Follow{Since: &since, Event: func(e client.Event) error {
		if kinds[e.Kind] = true; len(kinds) == len(orchestrator.FeedKinds()) {
			return enough
		}
		return nil
	}})
	if !errors.Is(err, enough) {
		t.Errorf("events: %v, %v", err, slices.Sorted(maps.Keys(kinds)))
	}
}
