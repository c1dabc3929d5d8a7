package web

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
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
	return sendParts(r, role, "/images/"+image+"/manifest", pairs)
}

// sendCreate sends the form of the wizard's last step with files, field, content, ..., and
// values, of which those of the device types are typed there and the others in the query.
func sendCreate(r *rig, role people.Role, files []string, values ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	query, typed := url.Values{}, []string{}
	for i := 0; i+1 < len(values); i += 2 {
		if values[i] == "device_type" {
			typed = append(typed, values[i:i+2]...)
		} else {
			query.Add(values[i], values[i+1])
		}
	}
	return sendParts(r, role, uploadPath+"/create?"+query.Encode(), files, typed...)
}

// sendParts sends a form of files and values.
func sendParts(r *rig, role people.Role, path string, files []string, values ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for i := 0; i+1 < len(files); i += 2 {
		file, err := form.CreateFormFile(files[i], "file")
		r.ok(err)
		_, err = file.Write([]byte(files[i+1]))
		r.ok(err)
	}
	for i := 0; i+1 < len(values); i += 2 {
		r.ok(form.WriteField(values[i], values[i+1]))
	}
	r.ok(form.Close())
	req := httptest.NewRequest(http.MethodPost, path, &body)
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

// TestSignedUploadByForm: the wizard's last step takes manifest and signatures, and makes no image when they
// do not belong to it.
func TestSignedUploadByForm(t *testing.T) {
	r := newRig(t)
	must[orchestrator.ImageType](t)(r.CreateImageType(background, orchestrator.NewImageType{ID: "app"}))
	must[orchestrator.DeviceType](t)(r.CreateDeviceType(background, orchestrator.NewDeviceType{ID: "pump", Dialect: "ayla", RequireSignature: true, ImageTypes: []orchestrator.EnabledImageType{{ID: "app"}}}))
	data := []byte(strings.Repeat("firmware", 500))
	u := must[orchestrator.Upload](t)(r.StageUpload(background, orchestrator.NewUpload{FileName: "fw.bin", Format: "binary"}, bytes.NewReader(data)))
	key := signtest.Key(t)
	signed, other := signtest.Sign(t, data, signtest.Terms("app", "pump", "2", time.Now()), key), signtest.Sign(t, data, signtest.Terms("app", "pump", "3", time.Now()), key)
	values := []string{"upload", u.ID, "image_type", "app", "version", "2", "tags", "night", "device_type", "pump"}
	if page := r.get(people.RoleDeveloper, uploadPath+"?step=3&upload="+u.ID+"&image_type=app&version=2").Body.String(); !strings.Contains(page, `name="manifest" type="file"`) || !strings.Contains(page, "pump requires it") {
		t.Errorf("step 3: %s", page)
	}
	good := []string{"manifest", string(signed.Text), "signatures", string(signed.Signatures)}
	for name, c := range map[string]struct {
		files, values []string
		says          string
	}{
		"no signature":        {good[:2], values, "hoose the file"},
		"no manifest":         {good[2:], values, "hoose the file"},
		"another version":     {[]string{"manifest", string(other.Text), "signatures", string(other.Signatures)}, values, "do not belong together"},
		"too long":            {[]string{"manifest", strings.Repeat("x", schemas.MaxManifestSize+maxAroundFile+1)}, values, "longer than 2 MiB"},
		"no device type":      {good, values[:len(values)-2], "hoose at least one device type"},
		"no signature format": {[]string{"manifest", string(signed.Text), "signatures", "x"}, values, "ignature"},
	} {
		w := sendCreate(r, people.RoleDeveloper, c.files, c.values...)
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), c.says) || !strings.Contains(w.Body.String(), `name="manifest" type="file"`) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if !strings.Contains(w.Body.String(), "tags=night") {
			t.Errorf("%s: what was typed is lost", name)
		}
	}
	if w := sendCreate(r, people.RoleOperator, good, values...); w.Code != http.StatusForbidden {
		t.Errorf("an operator makes an image: %d", w.Code)
	}
	if images, _, err := r.Images(background, orchestrator.ImageFilter{}, orchestrator.Page{}); err != nil || len(images) != 0 {
		t.Fatalf("an image was made of what was refused: %+v %v", images, err)
	}
	w := sendCreate(r, people.RoleDeveloper, good, values...)
	if w.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	m := must[orchestrator.Image](t)(r.Image(background, strings.TrimPrefix(w.Header().Get("Location"), "/images/")))
	if m.Manifest == nil || m.Manifest.Counter != 7 || m.Version != "2" || strings.Join(m.Tags, " ") != "night" {
		t.Errorf("%+v", m)
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
