package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/gateway"
	"davit/gateway/people"
	"davit/internal/secrettest"
	"davit/internal/signtest"
	"davit/orchestrator"
	"davit/schemas"
	"davit/trust"
)

// failedOnce makes a device refuse what the job offers it, so that the job can be
// retried.
func (r *apiRig) failedOnce(job, device string) {
	r.t.Helper()
	eventually(r.t, func() bool {
		list, _, err := r.service.JobExecutions(r.t.Context(), job, orchestrator.ExecutionFilter{}, orchestrator.Page{})
		if err != nil {
			r.t.Fatal(err)
		}
		i := slices.IndexFunc(list, func(x orchestrator.Execution) bool { return x.Device == device && x.State == schemas.StateOffered })
		if i < 0 {
			return false
		}
		err = r.service.Status(r.t.Context(), device, schemas.Status{V: schemas.Version, Execution: list[i].ID, Attempt: list[i].Attempt, Seq: 1, State: schemas.StateFailed, Cause: schemas.CauseFlash})
		if err != nil {
			r.t.Fatal(err)
		}
		return true
	})
}

// rollout starts a job with a rollout on device d.
func (r *apiRig) rollout(job, rollout string) func() {
	return func() {
		r.t.Helper()
		images, _, err := r.service.Images(r.t.Context(), orchestrator.ImageFilter{}, orchestrator.Page{Limit: 1})
		if err != nil || len(images) != 1 {
			r.t.Fatal(images, err)
		}
		r.must("POST /v1/jobs", fmt.Sprintf(`{"name":%q,"image":%q,"devices":["d"],"rollout":%s,"start":true}`, job, images[0].ID, rollout))
	}
}

const newPassword = secrettest.Mark + "new"

// change is an operation that changes something, and what the audit log says of it. ID
// stands for the id of what was created last.
type change struct {
	operation, call, body, entry string
	before                       func()
}

// manifestBody is a request with a signed manifest.
func manifestBody(t testing.TB, s trust.Signed) string {
	t.Helper()
	b, err := json.Marshal(orchestrator.NewManifest{Manifest: string(s.Text), Signatures: string(s.Signatures)})
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "ID", `I\u0044`) // which stands for an id here
}

// changes are all of them, in an order in which they can be done.
func (r *apiRig) changes() []change {
	return []change{
		{"create-image-type", "POST /v1/image-types", `{"id":"app"}`, "create image_type app", nil},
		{"change-image-type", "PATCH /v1/image-types/app", `{"name":"App"}`, "update image_type app", nil},
		{"create-device-type", "POST /v1/device-types", `{"id":"pump","dialect":"ayla","image_types":[{"id":"app"}]}`, "create device_type pump", nil},
		{"change-device-type", "PATCH /v1/device-types/pump", `{"name":"Pump"}`, "update device_type pump", nil},
		{"set-log-level", "PUT /v1/log-level", `{"level":"warn,broker=debug"}`, "update log level", nil},
		{"create-device", "POST /v1/devices", `{"id":"d","type":"pump"}`, "create device d", nil},
		{"change-device", "PATCH /v1/devices/d", `{"labels":{"a":"b"}}`, "update device d", nil},
		{"rotate-device-credentials", "POST /v1/devices/d/credentials", "", "rotate device d", nil},
		{"order-rotation", "POST /v1/rotations", `{"devices":["d"]}`, "order-rotation device d", nil},
		{"quarantine-device", "POST /v1/devices/d/quarantine", `{"reason":"stolen"}`, "quarantine device d", nil},
		{"release-device", "POST /v1/devices/d/release", "", "release device d", nil},
		{"import-devices", "POST /v1/devices/import", `[{"id":"e","type":"pump"}]`, "import device ", nil},
		{"create-bridge", "POST /v1/bridges", `{"id":"b","devices":["d"]}`, "create bridge b", nil},
		{"change-bridge", "PATCH /v1/bridges/b", `{"devices":["d","e"]}`, "update bridge b", nil},
		{"rotate-bridge-credentials", "POST /v1/bridges/b/credentials", "", "rotate bridge b", nil},
		{"delete-bridge", "DELETE /v1/bridges/b", "", "delete bridge b", nil},
		{"delete-device", "DELETE /v1/devices/e", "", "delete device e", nil},
		{"create-claim", "POST /v1/claims", `{"id":"line-1","device_type":"pump"}`, "create claim line-1", nil},
		{"revoke-claim", "POST /v1/claims/line-1/revoke", "", "revoke claim line-1", nil},
		{"create-group", "POST /v1/groups", `{"id":"g","devices":["d"]}`, "create group g", nil},
		{"replace-group", "PUT /v1/groups/g", `{"description":"x","devices":["d"]}`, "update group g", nil},
		{"delete-group", "DELETE /v1/groups/g", "", "delete group g", nil},
		{"create-upload", "POST /v1/uploads?format=binary", "one", "create upload ID", nil},
		{"delete-upload", "DELETE /v1/uploads/ID", "", "delete upload ID", nil},
		{"create-upload", "POST /v1/uploads?format=binary", "two", "create upload ID", nil},
		{"create-image-from-upload", "POST /v1/uploads/ID/image", `{"image_type":"app","device_types":["pump"],"version":"1"}`, "create image ID", nil},
		{"delete-image", "DELETE /v1/images/ID", "", "delete image ID", nil},
		{"create-image", "POST /v1/images?image_type=app&device_type=pump&format=binary&version=2", "three", "create image ID", nil},
		{"change-image", "PATCH /v1/images/ID", `{"description":"x"}`, "update image ID", nil},
		{"attach-manifest", "PUT /v1/images/ID/manifest", manifestBody(r.t, signtest.Sign(r.t, []byte("three"), signtest.Terms("app", "pump", "2", time.Now()), signtest.Key(r.t))), "sign image ID", nil},
		{"create-job", "POST /v1/jobs", `{"name":"j","image":"ID","devices":["d"]}`, "create job j", nil},
		{"change-job", "PATCH /v1/jobs/j", `{"description":"x"}`, "update job j", nil},
		{"start-job", "POST /v1/jobs/j/start", "", "start job j", nil},
		{"pause-job", "POST /v1/jobs/j/pause", "", "pause job j", nil},
		{"resume-job", "POST /v1/jobs/j/resume", "", "resume job j", nil},
		{"retry-job", "POST /v1/jobs/j/retry", `{}`, "retry job j", func() { r.failedOnce("j", "d") }},
		{"cancel-job", "POST /v1/jobs/j/cancel", `{"finish":true}`, "cancel job j", nil},
		{"approve-wave", "POST /v1/jobs/waves/approve", `{"wave":2,"force":true}`, "approve job waves", r.rollout("waves", `{"waves":[{"percent":1},{"percent":100,"approve":true}]}`)},
		{"confirm-job", "POST /v1/jobs/asks/confirm", `{"devices":["d"]}`, "confirm job asks", r.rollout("asks", `{"action":"confirm"}`)},
		{"install-job", "POST /v1/jobs/later/install", "", "install job later", r.rollout("later", `{"action":"download"}`)},
		{"delete-device-type", "DELETE /v1/device-types/fan", "", "delete device_type fan", func() { r.must("POST /v1/device-types", `{"id":"fan","dialect":"ayla"}`) }},
		{"delete-image-type", "DELETE /v1/image-types/boot", "", "delete image_type boot", func() { r.must("POST /v1/image-types", `{"id":"boot"}`) }},
		{"create-user", "POST /v1/users", `{"name":"bob","role":"viewer","password":"` + newPassword + `"}`, "create user bob", nil},
		{"change-user", "PATCH /v1/users/bob", `{"password":"` + newPassword + `2","role":"operator"}`, "update user bob", nil},
		{"delete-user", "DELETE /v1/users/bob", "", "delete user bob", nil},
		{"create-token", "POST /v1/tokens", `{"name":"other"}`, "create token ID", nil},
		{"delete-token", "DELETE /v1/tokens/ID", "", "delete token ID", nil},
		{"change-own-password", "POST /v1/me/password", `{"old":"` + userPassword + `","new":"` + newPassword + `"}`, "update user ann", nil},
	}
}

// TestEveryChangeIsAudited carries out every operation that changes something, and finds
// in the audit log who did it, from where, and no secret.
func TestEveryChangeIsAudited(t *testing.T) {
	r := newAPI(t, nil)
	ctx := t.Context()
	r.signedIn("ann")
	secret, err := r.people.CreateToken(ctx, "ann", people.NewToken{Name: "ci"})
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{secret.Secret, userPassword, newPassword, "argon2id", "password-"}
	id := "" // of what was made last
	tried := map[string]bool{}
	for _, c := range r.changes() {
		if c.before != nil {
			c.before()
		}
		a := r.with(strings.ReplaceAll(c.call, "ID", id), strings.ReplaceAll(c.body, "ID", id), "Authorization: Bearer "+secret.Secret)
		if a.status >= 300 {
			t.Errorf("%s: %d %s", c.operation, a.status, a.body)
			continue
		}
		var answered struct{ ID, Secret, Token string }
		if strings.Contains(c.entry, "create") && json.Unmarshal([]byte(a.body), &answered) == nil && answered.ID != "" {
			id = answered.ID
			for _, s := range []string{answered.Secret, answered.Token} {
				if s != "" {
					secrets = append(secrets, s)
				}
			}
		}
		var page gateway.Page[orchestrator.AuditEntry]
		if err := json.Unmarshal([]byte(r.must("GET /v1/audit?limit=1", "").body), &page); err != nil {
			t.Fatal(err)
		}
		e := page.Items[0]
		if got := e.Action + " " + e.Kind + " " + e.ID; got != strings.ReplaceAll(c.entry, "ID", id) {
			t.Errorf("%s: the audit log has %q, want %q", c.operation, got, c.entry)
		}
		if e.Actor.Name != "ann/ci" || e.Actor.Kind != orchestrator.ActorToken || e.Actor.Role != "admin" || e.Actor.Address != "127.0.0.1" || e.Actor.Request != a.header.Get("X-Request-Id") {
			t.Errorf("%s: done by %+v", c.operation, e.Actor)
		}
		tried[c.operation] = true
	}
	log := r.must("GET /v1/audit/export", "").body
	for _, s := range secrets {
		if strings.Contains(log, s) {
			t.Errorf("the audit log has the secret %q", s)
		}
	}
	at := endpoints(t, r)
	for _, op := range people.Operations() {
		looks := at[op.ID].method == http.MethodGet || strings.HasPrefix(op.ID, "preview-")
		if looks == tried[op.ID] {
			t.Errorf("%s: only looks %v, tried %v", op.ID, looks, tried[op.ID])
		}
	}
}
