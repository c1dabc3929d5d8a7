package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"davit/gateway/people"
	"davit/orchestrator"
)

// jobRig is a rig with an image, three devices that it fits and one that it does not.
func jobRig(t *testing.T) (*rig, orchestrator.Image) {
	t.Helper()
	r := newRig(t)
	r.start()
	must[orchestrator.ImageType](t)(r.CreateImageType(background, orchestrator.NewImageType{ID: "application"}))
	for _, id := range []string{"board", "other"} {
		must[orchestrator.DeviceType](t)(r.CreateDeviceType(background, orchestrator.NewDeviceType{ID: id, Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "application"}}}))
	}
	for id, kind := range map[string]string{"b-1": "board", "b-2": "board", "b-3": "board", "o-1": "other"} {
		must[orchestrator.Device](t)(r.CreateDevice(background, orchestrator.NewDevice{ID: id, Type: kind}))
	}
	must[orchestrator.Group](t)(r.CreateGroup(background, orchestrator.NewGroup{ID: "pair", Devices: []string{"b-1", "b-2"}}))
	m := must[orchestrator.Image](t)(r.UploadImage(background, orchestrator.NewImage{ImageType: "application", DeviceTypes: []string{"board"}, Version: "2.0/β"}, strings.NewReader("firmware")))
	return r, m
}

func contains(t *testing.T, w *httptest.ResponseRecorder, status int, words ...string) {
	t.Helper()
	if w.Code != status {
		t.Errorf("status %d, want %d", w.Code, status)
	}
	for _, word := range words {
		if !strings.Contains(w.Body.String(), word) {
			t.Errorf("no %q on the page", word)
		}
	}
}

func TestNewJobCountsBeforeItIsMade(t *testing.T) {
	r, m := jobRig(t)
	admin := people.RoleAdmin
	// The suggested name has only characters that a name may have.
	contains(t, r.get(admin, "/new/job?image="+m.ID), http.StatusOK, `value="application-2.0--"`, "b-3", "Push now")
	if w := r.get(admin, "/new/job?image="+m.ID); strings.Contains(w.Body.String(), "pick-o-1") {
		t.Error("a device that the image does not fit is offered")
	}
	contains(t, r.post(admin, "/new/job/preview", "image", m.ID, "target", "groups", "group", "pair", "device", "b-3"), http.StatusOK, `<p class="big-number">2</p>`)
	contains(t, r.post(admin, "/new/job/preview", "image", m.ID, "target", "query", "query", `id startsWith "b-"`), http.StatusOK, `<p class="big-number">3</p>`)
	contains(t, r.post(admin, "/new/job/preview", "image", m.ID, "target", "query", "query", `id startsWith`), http.StatusOK, "field-error")
	contains(t, r.post(admin, "/new/job/preview", "image", m.ID, "target", "devices", "device", "o-1"), http.StatusOK, "1 device does not fit the image")
	contains(t, r.post(admin, "/new/job/preview", "image", m.ID, "target", "devices", "find", "b-2", "device", "b-1"), http.StatusOK, `id="pick-b-1" checked`, "pick-b-2")
}

func TestNewJobUsesOnlyTheChosenTarget(t *testing.T) {
	r, m := jobRig(t)
	admin := people.RoleAdmin
	contains(t, r.post(admin, "/new/job", "image", m.ID, "name", "roll"), http.StatusUnprocessableEntity, "Choose who gets the image")
	contains(t, r.post(admin, "/new/job", "image", m.ID, "name", "bad name", "device", "b-1"), http.StatusUnprocessableEntity, "field-error")
	contains(t, r.post(people.RoleDeveloper, "/new/job", "image", m.ID, "name", "roll", "device", "b-1"), http.StatusForbidden)
	w := r.post(admin, "/new/job", "image", m.ID, "name", "roll", "target", "groups", "group", "pair", "device", "b-3", "query", "online", "start", "on")
	if contains(t, w, http.StatusSeeOther); w.Header().Get("Location") != "/jobs/roll" {
		t.Errorf("leads to %q", w.Header().Get("Location"))
	}
	job := must[orchestrator.Job](t)(r.Job(background, "roll"))
	if job.Targets != 2 || len(job.Devices) != 0 || job.Query != "" || job.State != orchestrator.JobRunning {
		t.Errorf("%+v", job)
	}
	contains(t, r.post(admin, "/new/job", "image", m.ID, "name", "roll", "device", "b-1"), http.StatusConflict)
	contains(t, r.get(admin, "/jobs/roll"), http.StatusOK, "2 waiting", "Cancel job", "Created", "by the-admin")
	// Only those who may read the audit log see names.
	viewer := r.get(people.RoleViewer, "/jobs/roll").Body.String()
	if strings.Contains(viewer, "by the-admin") || !strings.Contains(viewer, "Started") || strings.Contains(viewer, "Pause") {
		t.Error("a viewer sees another timeline, or buttons")
	}
	contains(t, r.post(admin, "/jobs/roll/cancel"), http.StatusSeeOther)
	contains(t, r.get(admin, "/jobs/roll?show=canceled"), http.StatusOK, "b-1", "b-2")
	// What cannot be done is said, and changes nothing.
	w = r.post(admin, "/jobs/roll/resume")
	contains(t, w, http.StatusSeeOther)
	if len(w.Result().Cookies()) == 0 {
		t.Error("nothing is said of what was refused")
	}
}

func TestStaleEditOfAnImageIsRefusedOnce(t *testing.T) {
	r, m := jobRig(t)
	edit := func(revision, text string) *httptest.ResponseRecorder {
		return r.post(people.RoleDeveloper, "/images/"+m.ID, "revision", revision, "version", m.Version, "description", text, "device_type", "board")
	}
	contains(t, edit("1", "first"), http.StatusSeeOther)
	contains(t, edit("1", "second"), http.StatusPreconditionFailed, "Somebody else", "second", `name="revision" value="2"`)
	contains(t, edit("2", "second"), http.StatusSeeOther)
	if got := must[orchestrator.Image](t)(r.Image(background, m.ID)); got.Description != "second" {
		t.Errorf("%+v", got)
	}
}

func TestDeviceTypeErrorsStandAtTheirRow(t *testing.T) {
	r, _ := jobRig(t)
	must[orchestrator.ImageType](t)(r.CreateImageType(background, orchestrator.NewImageType{ID: "graphics"}))
	for name, c := range map[string]struct{ field, value, words string }{
		"size":    {"limit-graphics", "a lot", "is not a size"},
		"number":  {"numeric-graphics", "many", "is not a number"},
		"service": {"numeric-graphics", "7", "field-error"},
	} {
		w := r.post(people.RoleDeveloper, "/new/device-type", "id", "third", "dialect", "ayla", "enable", "application", "enable", "graphics", c.field, c.value)
		contains(t, w, http.StatusUnprocessableEntity, c.words)
		page := w.Body.String()
		bad, row := strings.Index(page, `<tr class="has-error">`), strings.Index(page, `value="graphics"`)
		if bad < 0 || row < bad || strings.Index(page, `value="application"`) > bad {
			t.Errorf("%s: the error is not at the row of graphics", name)
		}
	}
	w := r.post(people.RoleDeveloper, "/new/device-type", "id", "third", "dialect", "ayla", "boot_timeout", "soon")
	contains(t, w, http.StatusUnprocessableEntity, "is not a length of time")
	w = r.post(people.RoleDeveloper, "/new/device-type", "id", "third", "dialect", "ayla", "boot_timeout", "1m30s", "enable", "graphics", "limit-graphics", "1.5 MiB")
	contains(t, w, http.StatusSeeOther)
	dt := must[orchestrator.DeviceType](t)(r.DeviceType(background, "third"))
	if time.Duration(dt.BootTimeout) != 90*time.Second || dt.ImageTypes[0].SizeLimit != 3<<19 {
		t.Errorf("%+v", dt)
	}
}

func TestImageTypeInUseSaysByWhat(t *testing.T) {
	r, _ := jobRig(t)
	contains(t, r.get(people.RoleDeveloper, "/image-types/application"), http.StatusOK, "1 image of this type", "2 device types (board, other)")
	contains(t, r.post(people.RoleDeveloper, "/image-types/application/delete"), http.StatusSeeOther)
	must[orchestrator.ImageType](t)(r.ImageType(background, "application"))
}

func TestImageFoldersKeepTheOtherFilters(t *testing.T) {
	r, m := jobRig(t)
	q := url.Values{"text": {"2.0"}, "type": {"application"}}
	contains(t, r.get(people.RoleViewer, "/images?"+q.Encode()), http.StatusOK, m.ID, `href="/images?text=2.0"`, `href="/images?text=2.0&amp;type=application" aria-current="page"`)
	contains(t, r.get(people.RoleViewer, "/images?text=nothing"), http.StatusOK, "No image fits")
	contains(t, r.get(people.RoleViewer, "/images?tag=a/b"), http.StatusUnprocessableEntity)
}
