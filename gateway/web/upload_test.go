package web

import (
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"davit/gateway"
	"davit/gateway/people"
	"davit/orchestrator"
)

// sendFile sends the wizard's plain form with a file that is made on the way;
// sent is called now and then while it is.
func sendFile(r *rig, name string, size int, sent func()) *httptest.ResponseRecorder {
	r.t.Helper()
	body, out := io.Pipe()
	form := multipart.NewWriter(out)
	go func() {
		err := form.WriteField("image_type", "application")
		if err == nil {
			var file io.Writer
			if file, err = form.CreateFormFile("file", name); err == nil {
				piece := []byte(strings.Repeat("firmware", 8<<10))
				for done := 0; done < size && err == nil; done += len(piece) {
					_, err = file.Write(piece[:min(len(piece), size-done)])
					sent()
				}
			}
		}
		out.CloseWithError(errors.Join(err, form.Close()))
	}()
	req := httptest.NewRequest(http.MethodPost, uploadPath, body)
	req.Header.Set("Content-Type", form.FormDataContentType())
	w := r.do(people.RoleDeveloper, req)
	if err := body.Close(); err != nil { // ends the writer, whatever was read
		r.t.Error(err)
	}
	return w
}

func TestUploadByFormIsNotHeldInMemory(t *testing.T) {
	r := newRig(t)
	must[orchestrator.ImageType](t)(r.CreateImageType(background, orchestrator.NewImageType{ID: "application"}))
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	runtime.GC()
	before, most, pieces := heap(), uint64(0), 0
	const size = 64 << 20
	w := sendFile(r, "large.bin", size, func() {
		if pieces++; pieces%64 == 0 {
			most = max(most, heap())
		}
	})
	if w.Code != http.StatusSeeOther {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	const allowed = 20 << 20
	if most > before+allowed {
		t.Errorf("an upload of 64 MiB adds %d MiB of memory", (most-before)>>20)
	}
	to := must[*url.URL](t)(url.Parse(w.Header().Get("Location")))
	u := must[orchestrator.Upload](t)(r.Upload(background, to.Query().Get("upload")))
	if u.Size != size || u.FileName != "large.bin" || to.Query().Get("image_type") != "application" {
		t.Errorf("%+v at %s", u, to)
	}
}

func TestUploadFormsThatAreWrongSaySo(t *testing.T) {
	r := newRig(t)
	must[orchestrator.ImageType](t)(r.CreateImageType(background, orchestrator.NewImageType{ID: "application"}))
	if w := sendFile(r, "", 0, func() {}); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "Choose a file first") {
		t.Errorf("no file: %d", w.Code)
	}
	if w := sendFile(r, "empty.bin", 0, func() {}); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "empty") {
		t.Errorf("empty file: %d %s", w.Code, w.Body)
	}
	if w := r.post(people.RoleDeveloper, uploadPath, "file", "text"); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("not multipart: %d", w.Code)
	}
	fields := &strings.Builder{}
	for i := range 10_000 {
		fmt.Fprintf(fields, "--x\r\nContent-Disposition: form-data; name=\"f%d\"\r\n\r\nvalue\r\n", i)
	}
	req := httptest.NewRequest(http.MethodPost, uploadPath, strings.NewReader(fields.String()))
	req.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	if w := r.do(people.RoleDeveloper, req); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "more fields") {
		t.Errorf("fields without end: %d %s", w.Code, w.Body)
	}
	for range 6 {
		give, ok := r.console.options.Uploads.Take(as(background, people.RoleDeveloper))
		if !ok {
			t.Fatal("there are fewer slots for uploads")
		}
		defer give()
	}
	if w := sendFile(r, "one-too-many.bin", 10, func() {}); w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), "under way") {
		t.Errorf("uploads without end: %d %s", w.Code, w.Body)
	}
	r.console.options.Uploads = gateway.NewUploadSlots()
	r.console.options.MaxUpload = 1 << 20
	if w := sendFile(r, "longest.bin", 1<<20, func() {}); w.Code != http.StatusSeeOther {
		t.Errorf("a file as long as may be: %d %s", w.Code, w.Body)
	}
	if w := sendFile(r, "longer.bin", 1<<20+1, func() {}); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a byte too long: %d %s", w.Code, w.Body)
	}
	if w := sendFile(r, "long.bin", 2<<20, func() {}); w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "longer than this server takes") {
		t.Errorf("too long: %d %s", w.Code, w.Body)
	}
	if w := r.post(people.RoleOperator, uploadPath); w.Code != http.StatusForbidden {
		t.Errorf("an operator uploads: %d", w.Code)
	}
}

func TestWizardKeepsWhatWasTyped(t *testing.T) {
	r := newRig(t)
	for _, id := range []string{"application", "graphics"} {
		must[orchestrator.ImageType](t)(r.CreateImageType(background, orchestrator.NewImageType{ID: id}))
	}
	must[orchestrator.DeviceType](t)(r.CreateDeviceType(background, orchestrator.NewDeviceType{
		ID: "small", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "application", SizeLimit: 1000}}}))
	must[orchestrator.DeviceType](t)(r.CreateDeviceType(background, orchestrator.NewDeviceType{
		ID: "large", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "application"}}}))
	u := must[orchestrator.Upload](t)(r.StageUpload(background, orchestrator.NewUpload{FileName: "a.bin"}, strings.NewReader(strings.Repeat("x", 5000))))
	step := func(pairs ...string) (int, string) {
		q := url.Values{"upload": {u.ID}, "step": {"3"}}
		for i := 0; i < len(pairs); i += 2 {
			q.Set(pairs[i], pairs[i+1])
		}
		w := r.get(people.RoleDeveloper, uploadPath+"?"+q.Encode())
		return w.Code, w.Body.String()
	}
	if code, page := step("image_type", "application", "tags", "night"); code != http.StatusUnprocessableEntity || !strings.Contains(page, "Type the version") || !strings.Contains(page, `value="night"`) {
		t.Errorf("without a version: %d", code)
	}
	if _, page := step("image_type", "graphics", "version", "1.0"); !strings.Contains(page, "No device type takes graphics") {
		t.Error("nobody takes it, and the page does not say so")
	}
	code, page := step("image_type", "application", "name", "Pump control", "version", "1.0", "description", `a "quoted" text`)
	if code != http.StatusOK || !strings.Contains(page, "name=Pump") || !strings.Contains(page, "the image is larger") || !strings.Contains(page, "%22quoted%22") {
		t.Errorf("step 3: %d", code)
	}
	// What the last step is refused for comes back where it can be mended.
	w := sendCreate(r, people.RoleDeveloper, nil, "upload", u.ID, "image_type", "application", "version", "1.0", "tags", "no/slash", "device_type", "large")
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), `name="tags"`) || !strings.Contains(w.Body.String(), "field-error") {
		t.Errorf("a bad tag: %d", w.Code)
	}
	w = sendCreate(r, people.RoleDeveloper, nil, "upload", u.ID, "image_type", "application", "name", "Pump control", "version", "1.0", "tags", "a b, c", "device_type", "large")
	if w.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	m := must[orchestrator.Image](t)(r.Image(background, strings.TrimPrefix(w.Header().Get("Location"), "/images/")))
	if m.Name != "Pump control" || m.Version != "1.0" || strings.Join(m.Tags, " ") != "a b c" || m.FileName != "a.bin" {
		t.Errorf("%+v", m)
	}
	if w := r.get(people.RoleViewer, "/images/"+m.ID); !strings.Contains(w.Body.String(), "Pump control 1.0</h1>") {
		t.Error("the image is not called by its name")
	}
	if w := r.get(people.RoleDeveloper, uploadPath+"?upload="+u.ID); !strings.Contains(w.Body.String(), "This upload is gone") {
		t.Error("a used upload is offered again")
	}
}
