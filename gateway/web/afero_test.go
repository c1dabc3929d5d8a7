package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"davit/gateway/people"
	"davit/orchestrator"
	"davit/schemas"
)

// TestAferoInTheConsole goes from the device type to the device with host MCUs
// that know versions by number.
func TestAferoInTheConsole(t *testing.T) {
	r := newRig(t)
	r.start()
	developer := people.RoleDeveloper
	for _, id := range []string{"application", "bootloader"} {
		must[orchestrator.ImageType](t)(r.CreateImageType(background, orchestrator.NewImageType{ID: id, Name: id}))
	}
	lamp := func(size string) []string {
		return []string{"id", "lamp", "name", "Lamp", "dialect", "afero", "attribute_size", size,
			"enable", "application", "numeric-application", "101", "enable", "bootloader", "numeric-bootloader", "102"}
	}
	for size, says := range map[string]string{"large": "is not a number of bytes", "4": "allowed are 5 to 2046"} {
		wants(t, r.post(developer, "/new/device-type", lamp(size)...), http.StatusUnprocessableEntity, says, `value="`+size+`"`, "Attribute size")
	}
	leads(t, r.post(developer, "/new/device-type", lamp("510")...), "/device-types", "created")
	wants(t, r.get(developer, "/device-types/lamp"), http.StatusOK, `value="afero"`, `value="510"`, `<option value="2046">`, "version in attribute 2101", "version in attribute 2102")
	wants(t, r.get(developer, "/device-types"), http.StatusOK, `application <span class="muted">101</span>`)
	leads(t, r.post(developer, "/device-types/lamp", lamp("")...), "/device-types", "saved")
	if dt := must[orchestrator.DeviceType](t)(r.DeviceType(background, "lamp")); dt.AttributeSize != 0 || dt.ImageTypes[1].NumericType != 102 {
		t.Errorf("device type %+v", dt)
	}

	image := r.pushedByForm("1.0", "40", "")
	wants(t, r.get(developer, "/images/"+image), http.StatusOK, "id 40</span>")
	wants(t, r.get(developer, "/images"), http.StatusOK, `id 40</span>`)
	if m := must[orchestrator.Image](t)(r.Image(background, r.pushedByForm("1.1", "", ""))); m.VersionID != 41 {
		t.Errorf("image %+v", m)
	}
	r.pushedByForm("1.2", "x", "is not a number from 1 to 9007199254740991")
	r.pushedByForm("1.2", "9007199254740992", "9007199254740991")
	r.pushedByForm("1.2", "40", "40 is the number of version")

	must[orchestrator.Device](t)(r.CreateDevice(background, orchestrator.NewDevice{ID: "lamp-1", Type: "lamp"}))
	wants(t, r.get(developer, "/devices/lamp-1"), http.StatusOK, "<dt>Dialect</dt><dd>afero</dd>", "not reported")
	r.ok(r.Hello(background, "lamp-1", schemas.Hello{V: 1, Dialect: "none", HostVersions: map[string]string{"2101": "40", "2102": "7"}}))
	wants(t, r.get(developer, "/devices/lamp-1"), http.StatusOK, `<strong>1.0</strong> <span class="muted">id 40</span>`,
		"<strong>#7</strong>", "No image has this version id", `the module says none`)
	must[orchestrator.Job](t)(r.CreateJob(background, orchestrator.NewJob{Name: "j", Image: image, Devices: []string{"lamp-1"}, IgnoreValidation: true, Start: true}))
	wants(t, r.get(developer, "/executions/"+r.execution("j", "lamp-1").ID), http.StatusOK, `application 1.0</a> <span class="muted">id 40</span>`)
}

// TestAylaDevicesShowNoNumbers: their host MCUs do not know them.
func TestAylaDevicesShowNoNumbers(t *testing.T) {
	r := newRig(t)
	r.start()
	r.seed()
	w := r.get(people.RoleViewer, "/devices/lab-00")
	wants(t, w, http.StatusOK, "<dt>Dialect</dt><dd>ayla</dd>", "<strong>1.0.0</strong></span>")
	if strings.Contains(w.Body.String(), "version id") {
		t.Error("the page speaks of version ids")
	}
}

// pushedByForm uploads an image by the wizard's forms, with the text as the
// number of its version, and returns its id; or expects the page to refuse it.
func (r *rig) pushedByForm(version, number, says string) string {
	r.t.Helper()
	u := must[orchestrator.Upload](r.t)(r.StageUpload(as(background, people.RoleDeveloper), orchestrator.NewUpload{FileName: "a.bin", Format: "binary"}, strings.NewReader("firmware "+version)))
	values := []string{"upload", u.ID, "image_type", "application", "version", version, "version_id", number}
	query := url.Values{"step": {"3"}}
	for i := 0; i < len(values); i += 2 {
		query.Set(values[i], values[i+1])
	}
	w := r.get(people.RoleDeveloper, uploadPath+"?"+query.Encode())
	if w.Code == http.StatusOK {
		wants(r.t, w, http.StatusOK, "version_id="+number)
		w = sendCreate(r, people.RoleDeveloper, nil, append(values, "device_type", "lamp")...)
	}
	if says != "" {
		if w.Code != http.StatusUnprocessableEntity && w.Code != http.StatusConflict {
			r.t.Errorf("%q: status %d", number, w.Code)
		}
		wants(r.t, w, w.Code, says, "<details open>", `value="`+number+`"`)
		return ""
	}
	to := w.Header().Get("Location")
	if w.Code != http.StatusSeeOther || !strings.HasPrefix(to, imagesPath+"/") {
		r.t.Fatalf("%d to %q: %.300s", w.Code, to, w.Body)
	}
	return strings.TrimPrefix(to, imagesPath+"/")
}
