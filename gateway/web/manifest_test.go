package web

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"davit/gateway/people"
	"davit/internal/signtest"
	"davit/orchestrator"
	"davit/schemas"
)

// sendManifest sends the form of an image's page with files: field, content, ...
func sendManifest(r *rig, role people.Role, image string, pairs ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for i := 0; i+1 < len(pairs); i += 2 {
		file, err := form.CreateFormFile(pairs[i], "file")
		r.ok(err)
		_, err = file.Write([]byte(pairs[i+1]))
		r.ok(err)
	}
	r.ok(form.Close())
	req := httptest.NewRequest(http.MethodPost, "/images/"+image+"/manifest", &body)
	req.Header.Set("Content-Type", form.FormDataContentType())
	return r.do(role, req)
}

func TestManifestByForm(t *testing.T) {
	r := newRig(t)
	must[orchestrator.ImageType](t)(r.CreateImageType(background, orchestrator.NewImageType{ID: "app"}))
	must[orchestrator.DeviceType](t)(r.CreateDeviceType(background, orchestrator.NewDeviceType{ID: "pump", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app"}}}))
	data := []byte(strings.Repeat("firmware", 500))
	m := must[orchestrator.Image](t)(r.UploadImage(background, orchestrator.NewImage{ImageType: "app", DeviceTypes: []string{"pump"}, Version: "2", Format: "binary"}, bytes.NewReader(data)))
	key := signtest.Key(t)
	terms := signtest.Terms("app", "pump", "2", time.Now())
	signed := signtest.Sign(t, data, terms, key)
	if page := r.get(people.RoleDeveloper, "/images/"+m.ID).Body.String(); !strings.Contains(page, "no signed manifest") {
		t.Errorf("an image without a manifest: %s", page)
	}
	other := signtest.Sign(t, data, signtest.Terms("app", "pump", "3", time.Now()), key)
	for name, c := range map[string]struct {
		pairs  []string
		status int
		says   string
	}{
		"no files":        {nil, 422, "hoose the file"},
		"no signature":    {[]string{"manifest", string(signed.Text)}, 422, "hoose the file"},
		"another version": {[]string{"manifest", string(other.Text), "signatures", string(other.Signatures)}, 422, "do not belong together"},
		"no manifest":     {[]string{"manifest", "{}", "signatures", string(signed.Signatures)}, 422, "one form"},
		"too long":        {[]string{"manifest", strings.Repeat("x", schemas.MaxManifestSize+maxAroundFile+1)}, 422, "longer than 2 MiB"},
	} {
		if w := sendManifest(r, people.RoleDeveloper, m.ID, c.pairs...); w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if w := r.post(people.RoleDeveloper, "/images/"+m.ID+"/manifest", "manifest", "text"); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("not multipart: %d", w.Code)
	}
	good := []string{"manifest", string(signed.Text), "signatures", string(signed.Signatures)}
	if w := sendManifest(r, people.RoleOperator, m.ID, good...); w.Code != http.StatusForbidden {
		t.Errorf("an operator attaches a manifest: %d", w.Code)
	}
	if w := sendManifest(r, people.RoleDeveloper, m.ID, good...); w.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	page := r.get(people.RoleOperator, "/images/"+m.ID).Body.String()
	for _, want := range []string{key.Public().ID.String(), "nobody: the service had no keys", "<dt>Counter</dt><dd>7"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if log := r.get(people.RoleAdmin, "/audit").Body.String(); !strings.Contains(log, "attached a signed manifest to") {
		t.Error("the audit log does not say so")
	}
}

// TestRequireSignatureByForm: the box stays as it was saved.
func TestRequireSignatureByForm(t *testing.T) {
	r := newRig(t)
	must[orchestrator.ImageType](t)(r.CreateImageType(background, orchestrator.NewImageType{ID: "app"}))
	create := r.post(people.RoleDeveloper, "/new/device-type", "id", "pump", "dialect", "ayla", "enable", "app", "require_signature", "on")
	if dt := must[orchestrator.DeviceType](t)(r.DeviceType(background, "pump")); !dt.RequireSignature {
		t.Fatalf("%d %+v", create.Code, dt)
	}
	page := r.get(people.RoleDeveloper, "/device-types/pump").Body.String()
	if !strings.Contains(page, `name="require_signature" type="checkbox" value="on" checked`) {
		t.Error("the box is not ticked")
	}
	if page := r.get(people.RoleViewer, "/device-types/pump").Body.String(); !strings.Contains(page, `name="require_signature" type="checkbox" value="on" checked disabled`) {
		t.Error("a viewer may tick the box")
	}
	r.post(people.RoleDeveloper, "/device-types/pump", "dialect", "ayla", "enable", "app", "revision", "1")
	if dt := must[orchestrator.DeviceType](t)(r.DeviceType(background, "pump")); dt.RequireSignature {
		t.Errorf("%+v", dt)
	}
}
